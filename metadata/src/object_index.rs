//! The object index in memory: for each log, which object holds which offsets. Grows by commits, is loaded at start.

use crate::{Commit, Metadata, MetadataError, ObjectShape};
use object_store::path::Path;
use std::sync::Arc;
use thalweg_segment::{
    AbortedTransaction, BatchEntry, BlockEntry, Index, LogId, LogState, Offset, ReadError, SegmentId, Store,
};

/// Why something could not be read through the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The metadata store failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// An object could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Offsets of one log that lie in one object.
#[derive(Clone, Debug)]
pub struct Extent {
    /// First offset.
    pub base: Offset,
    /// Offset after the last.
    pub end: Offset,
    /// Highest timestamp of its records.
    pub max_timestamp: i64,
    /// The object whose index block describes it.
    pub object: Arc<ObjectRef>,
}

/// An object of the index.
#[derive(Debug)]
pub struct ObjectRef {
    /// Its name.
    pub id: SegmentId,
    /// Its key in the store.
    pub path: Path,
    /// Where its index lies.
    pub shape: ObjectShape,
    /// For a manifest: whose WAL objects its blocks lie in.
    pub adopts: Option<thalweg_segment::Incarnation>,
}

/// One block, and the object that its bytes lie in.
#[derive(Clone, Debug)]
pub struct BlockRef {
    /// The object that holds the bytes: for a manifest, the WAL object.
    pub path: Path,
    /// What and where.
    pub entry: BlockEntry,
}

/// The index of all logs that this broker serves. Index blocks are read when needed and cached. Cheap to clone.
#[derive(Clone)]
pub struct ObjectIndex {
    _store: Store,
}

impl ObjectIndex {
    /// Loads the index: every record, and the index blocks of shared segments and manifests, in parallel.
    pub async fn load(_metadata: &Metadata, _store: Store) -> Result<Self, IndexError> {
        todo!()
    }

    /// Takes in a commit of this broker. `shared` is the decoded index of the commit's shared segment.
    pub fn add(&self, _commit: &Commit, _shared: Option<Arc<Index>>) {
        todo!()
    }

    /// Takes in what a take-over has adopted.
    pub fn add_manifest(&self, _record: &crate::SharedRecord, _index: Arc<Index>) {
        todo!()
    }

    /// The end of what the index holds of `log`: 0 where nothing.
    pub fn committed_end(&self, _log: LogId) -> Offset {
        todo!()
    }

    /// The extents of `log` in order. Adjacent, without overlap as a reader sees them.
    pub fn extents(&self, _log: LogId) -> Vec<Extent> {
        todo!()
    }

    /// The extent that holds `offset`, or the next one behind it.
    pub fn extent_at(&self, _log: LogId, _offset: Offset) -> Option<Extent> {
        todo!()
    }

    /// Blocks of `log` from the one that holds `offset` on, within one extent, until `max_bytes` are covered (at least one).
    pub async fn blocks_at(
        &self,
        _log: LogId,
        _offset: Offset,
        _max_bytes: usize,
    ) -> Result<Vec<BlockRef>, IndexError> {
        todo!()
    }

    /// All block entries of `log` in one extent (for searches by timestamp).
    pub async fn blocks_of(&self, _log: LogId, _extent: &Extent) -> Result<Vec<BlockRef>, IndexError> {
        todo!()
    }

    /// Aborted transactions that a reader of `[from, to)` needs: those with a marker at or behind `from`, until one's last
    /// stable offset is at or behind `to`.
    pub async fn aborted(
        &self,
        _log: LogId,
        _from: Offset,
        _to: Offset,
    ) -> Result<Vec<AbortedTransaction>, IndexError> {
        todo!()
    }

    /// The state of each log at its committed end: its newest state block and the batch entries behind it. Reads each object
    /// once, however many of the logs it holds.
    pub async fn states(&self, _logs: &[LogId]) -> Result<Vec<(LogId, LogState)>, IndexError> {
        todo!()
    }

    /// Forgets a deleted log.
    pub fn remove(&self, _log: LogId) {
        todo!()
    }

    /// Entries are exposed for checks in tests.
    pub async fn entries(&self, _log: LogId, _extent: &Extent) -> Result<Vec<BatchEntry>, IndexError> {
        todo!()
    }
}
