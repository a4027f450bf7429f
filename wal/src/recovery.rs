//! Take-over of a dead incarnation: fence its WAL, keep what continues, adopt it by reference.

use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{IncarnationRecord, Metadata, MetadataError, SharedRecord};
use thalweg_runtime::Runtime;
use thalweg_segment::{Incarnation, Index, LeaderEpoch, LogId, Offset, ReadError, Store, StoreError};

/// What a recoverer must know of the logs of the dead incarnation.
pub trait Logs: Send + Sync {
    /// The log's committed end in the object index and its current leader epoch, if the dead incarnation still owns it.
    fn owned(&self, log: LogId) -> Option<(Offset, LeaderEpoch)>;
}

/// What a take-over has done.
#[derive(Debug)]
pub struct Recovered {
    /// The manifest that the object index now has; none where nothing was kept.
    pub manifest: Option<(SharedRecord, Arc<Index>)>,
    /// Each log that the WAL held something of, and its recovered end.
    pub ends: BTreeMap<LogId, Offset>,
    /// WAL objects that were read.
    pub objects: usize,
    /// Fences that were written or found.
    pub fences: usize,
}

/// Why a take-over did not end.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The metadata store failed, or another recoverer has a higher ballot.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the WAL can't be read. It is not a gap: its logs must not be opened without it.
    #[error("the write-ahead log of {incarnation} can't be read: {source}")]
    Unreadable {
        /// Whose.
        incarnation: Incarnation,
        /// Why.
        source: ReadError,
    },
}

/// Takes over `dead` in the name of `recoverer` (an open incarnation). Safe to repeat, and to run in several brokers at once.
pub async fn take_over(
    _runtime: &Runtime,
    _store: &Store,
    _metadata: &Metadata,
    _dead: Incarnation,
    _recoverer: &IncarnationRecord,
    _logs: &dyn Logs,
) -> Result<Recovered, RecoveryError> {
    todo!()
}
