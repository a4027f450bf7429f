//! The tail of every log, in memory, from the append on. What isn't flushed stays; the rest goes oldest first, by order of
//! append over all logs, so that the buffers that batches are slices of are freed as a whole.

use std::sync::Arc;
use thalweg_segment::{Batch, LogId, Offset};

/// The log cache. Cheap to clone.
#[derive(Clone)]
pub struct LogCache {
    _inner: Arc<()>,
}

/// What the log cache has at an offset.
#[derive(Debug)]
pub enum Tail {
    /// Batches from the one that holds the offset on.
    Hit(Vec<Batch>),
    /// The offset is older than what the cache holds (or the log isn't in it): ask the object index.
    Older,
}

impl LogCache {
    /// A cache that keeps flushed batches up to `capacity` bytes in all.
    pub fn new(_capacity: usize, _registry: &mut prometheus_client::registry::Registry) -> Self {
        todo!()
    }

    /// Adds the next batch of `log`, in offset order. May make room by dropping the oldest flushed batches of any log.
    pub fn append(&self, _log: LogId, _batch: Batch) {
        todo!()
    }

    /// Batches of `log` from the one that holds `from`, up to and without the first that ends beyond `limit`, until
    /// `max_bytes` are reached. The first is returned even where it alone is larger, if `at_least_one`.
    pub fn read(
        &self,
        _log: LogId,
        _from: Offset,
        _limit: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
    ) -> Tail {
        todo!()
    }

    /// Batches of `log` below `end` are in the object index and may go.
    pub fn flushed(&self, _log: LogId, _end: Offset) {
        todo!()
    }

    /// Drops the oldest flushed batches until `bytes` less are held, or none is left. Returns how much went.
    pub fn shrink(&self, _bytes: usize) -> usize {
        todo!()
    }

    /// Forgets a log.
    pub fn remove(&self, _log: LogId) {
        todo!()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
