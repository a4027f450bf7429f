//! The running write-ahead log of one incarnation.

use crate::WalConfig;
use std::sync::Arc;
use thalweg_metadata::{Commit, IncarnationRecord, Metadata};
use thalweg_runtime::Runtime;
use thalweg_segment::{Batch, Index, LogId, LogState, Offset, Store};

/// What the owner of the logs is told. Called from the WAL's tasks; must not block.
pub trait Observer: Send + Sync + 'static {
    /// Every batch of each log below its offset is durable: the high watermark may move there, producers be answered.
    fn durable(&self, advanced: &[(LogId, Offset)]);

    /// A flush was committed: the object index has these objects now. `flushed` gives, for each log in it, the offset below
    /// which its batches need not be held in memory any more.
    fn flushed(&self, commit: &Commit, shared: Option<Arc<Index>>, flushed: &[(LogId, Offset)]);

    /// This incarnation can neither acknowledge nor commit any more. Called once; nothing follows it.
    fn fenced(&self, why: &str);
}

/// A handle on the write-ahead log. Cheap to clone.
#[derive(Clone)]
pub struct Wal {
    _config: Arc<WalConfig>,
}

impl Wal {
    /// Starts the tasks that cut, upload and flush. `record` is the incarnation's, open.
    pub fn start(
        _runtime: Runtime,
        _store: Store,
        _metadata: Metadata,
        _record: IncarnationRecord,
        _config: WalConfig,
        _observer: Arc<dyn Observer>,
        _registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        todo!()
    }

    /// Tells the state of `log` at its committed end, from which flushes compute state blocks. Before its first append.
    pub fn open_log(&self, _log: LogId, _committed: LogState) {
        todo!()
    }

    /// Forgets a deleted log; what is in flight of it becomes garbage.
    pub fn close_log(&self, _log: LogId) {
        todo!()
    }

    /// Queues `batch`, whose offset and leader epoch are set. The caller holds the lock of its log, so that batches come in
    /// offset order. Never waits: memory is bounded by the charge of the batch. After a fencing it does nothing.
    pub fn append(&self, _log: LogId, _batch: Batch) {
        todo!()
    }

    /// Bytes that are appended and not yet flushed.
    pub fn unflushed_bytes(&self) -> usize {
        todo!()
    }

    /// Asks for a flush now (memory pressure); returns at once.
    pub fn request_flush(&self) {
        todo!()
    }

    /// Waits until everything appended so far is durable, then flushes and commits it.
    pub async fn flush(&self) -> Result<(), WalError> {
        todo!()
    }

    /// The orderly end: flushes everything, closes the incarnation's record (so that nobody needs to recover it), stops the
    /// tasks. Nothing may be appended any more.
    pub async fn close(&self) -> Result<(), WalError> {
        todo!()
    }
}

/// Why the write-ahead log gave up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// This incarnation is fenced.
    #[error("fenced: {why}")]
    Fenced {
        /// What showed it.
        why: String,
    },
}
