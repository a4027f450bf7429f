//! Reads through the object index: block cache, else one range GET per run of adjacent blocks, single-flight per block.

use bytes::Bytes;
use std::sync::Arc;
use thalweg_metadata::{IndexError, ObjectIndex};
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{LogId, Offset, Store};

/// The way to data that is no longer in the log cache. Cheap to clone.
#[derive(Clone)]
pub struct BlockReader {
    _inner: Arc<()>,
}

/// Whole batches, contiguous in memory, from the one that holds the asked-for offset on.
#[derive(Clone, Debug)]
pub struct Run {
    /// The batches' bytes: a slice of a cached block.
    pub bytes: Bytes,
    /// Offset after the last batch.
    pub end: Offset,
}

impl BlockReader {
    /// A reader with a block cache of `capacity` bytes. Blocks in flight from the store are charged to `budget`.
    pub fn new(
        _runtime: Runtime,
        _store: Store,
        _index: ObjectIndex,
        _capacity: usize,
        _budget: Budget,
        _registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        todo!()
    }

    /// Batches of `log` from the one that holds `from`, all below `limit`, until `max_bytes` are reached; the first even where
    /// it alone is larger, if `at_least_one`. Empty where the index holds nothing at or behind `from`.
    pub async fn read(
        &self,
        _log: LogId,
        _from: Offset,
        _limit: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
    ) -> Result<Vec<Run>, IndexError> {
        todo!()
    }
}
