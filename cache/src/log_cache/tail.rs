//! What the cache holds of one log: a contiguous end of it.

use std::collections::VecDeque;
use thalweg_segment::{Batch, Offset};

/// A log's newest batches. Stays when the last of them has gone, so that a consumer at the log's end needs no index.
pub(super) struct LogTail {
    life: u64,
    /// From here on, every batch of the log is held.
    start: Offset,
    /// Batches below are in the object index.
    flushed: Offset,
    end: Offset,
    batches: VecDeque<Batch>,
}

/// The oldest batch of a log, as eviction finds it.
pub(super) enum Oldest {
    Flushed(Batch),
    Pinned,
}

impl LogTail {
    pub(super) fn new(life: u64, start: Offset) -> Self {
        Self { life, start, flushed: Offset(0), end: start, batches: VecDeque::new() }
    }

    /// Which life of the log this is.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn batches(&self) -> impl ExactSizeIterator<Item = &Batch> {
        self.batches.iter()
    }

    pub(super) fn push(&mut self, batch: Batch) {
        let (base, end) = (batch.base_offset(), self.end);
        assert!(base >= end, "batch at {base} is before the log's end {end}");
        self.end = batch.end_offset();
        self.batches.push_back(batch);
    }

    pub(super) fn unpin(&mut self, below: Offset) {
        self.flushed = self.flushed.max(below);
    }

    /// Takes the oldest batch off, unless it is pinned (or not there: then its append is about to end).
    pub(super) fn pop_oldest(&mut self) -> Oldest {
        let flushed = self.flushed;
        let Some(batch) = self.batches.pop_front_if(|batch| batch.end_offset() <= flushed) else {
            return Oldest::Pinned;
        };
        self.start = batch.end_offset();
        // Room for twice what is there: a log that was busy once doesn't keep its queue for ever.
        if self.batches.len() < self.batches.capacity() / 4 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
        Oldest::Flushed(batch)
    }

    /// None where `from` is older than what is held.
    pub(super) fn read(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Batch>> {
        if from < self.start {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.end_offset() <= from);
        let mut found = Vec::new();
        let mut bytes = 0usize;
        for batch in self.batches.range(first..).take_while(|batch| batch.end_offset() <= limit) {
            bytes += batch.len();
            if bytes > max_bytes && !(at_least_one && found.is_empty()) {
                break;
            }
            found.push(batch.clone());
        }
        Some(found)
    }
}
