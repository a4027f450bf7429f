//! Puts batches together into one object without copying them.

use crate::{AbortedTransaction, Batch, Footer, Incarnation, Index, Kind, LogId, LogState};
use bytes::Bytes;
use object_store::PutPayload;

/// A data block is cut once it has this many bytes.
pub const BLOCK_TARGET_BYTES: usize = 512 * 1024;

/// Builds one object. Logs are given in rising order of their id, the batches of one log in offset order.
pub struct SegmentWriter {
    _kind: Kind,
}

/// A finished object, ready for its PUT.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The object's bytes: slices of the batches between small blocks of our own. Cheap to clone, so a PUT can be repeated.
    pub payload: PutPayload,
    /// Its size in bytes.
    pub size: u64,
    /// What it ends with.
    pub footer: Footer,
    /// What it holds.
    pub index: Index,
}

impl SegmentWriter {
    /// Begins an object of `kind`, the `number`th of `writer`.
    pub fn new(_kind: Kind, _writer: Incarnation, _number: u64) -> Self {
        todo!()
    }

    /// Adds the next batch of `log`. The batch's header must already hold its base offset and leader epoch.
    pub fn batch(&mut self, _log: LogId, _batch: &Batch) {
        todo!()
    }

    /// Adds a run of batches read from another object, contiguous in memory, to `log`. Returns an error where they are not
    /// whole batches.
    pub fn batches(&mut self, _log: LogId, _batches: Bytes) -> Result<(), crate::BatchError> {
        todo!()
    }

    /// Adds the state of `log` at the end of what this object holds of it.
    pub fn state(&mut self, _log: LogId, _state: &LogState) {
        todo!()
    }

    /// Notes a transaction whose abort marker is in this object.
    pub fn aborted(&mut self, _log: LogId, _transaction: AbortedTransaction) {
        todo!()
    }

    /// Bytes of data so far.
    pub fn data_size(&self) -> u64 {
        todo!()
    }

    /// Cuts the last block, adds index and footer.
    pub fn finish(self) -> Encoded {
        todo!()
    }

    /// An object of `kind` with a prepared index and no data of its own: a manifest, whose blocks lie elsewhere.
    pub fn index_only(_kind: Kind, _writer: Incarnation, _number: u64, _index: Index) -> Encoded {
        todo!()
    }
}
