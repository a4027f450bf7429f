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
    /// How many of them are below `flushed`.
    flushed_batches: usize,
}

/// The oldest batch of a log, as eviction finds it.
pub(super) enum Oldest {
    Flushed(Batch),
    Pinned,
}

impl LogTail {
    pub(super) fn new(life: u64, start: Offset) -> Self {
        Self { life, start, flushed: Offset(0), end: start, batches: VecDeque::new(), flushed_batches: 0 }
    }

    /// Which life of the log this is.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn batches(&self) -> impl ExactSizeIterator<Item = &Batch> {
        self.batches.iter()
    }

    /// Those of them that may go.
    pub(super) fn flushed_batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.range(..self.flushed_batches)
    }

    /// Adds a batch that isn't flushed.
    pub(super) fn push(&mut self, batch: Batch) {
        let (base, end) = (batch.base_offset(), self.end);
        assert!(base >= end, "batch at {base} is before the log's end {end}");
        self.end = batch.end_offset();
        self.batches.push_back(batch);
    }

    /// Batches below `end` may go from now on. Returns those of them that might not before.
    pub(super) fn unpin(&mut self, end: Offset) -> impl Iterator<Item = &Batch> {
        self.flushed = self.flushed.max(end.min(self.end));
        let (before, flushed) = (self.flushed_batches, self.flushed);
        let pinned = self.batches.range(before..);
        self.flushed_batches += pinned.take_while(|batch| batch.end_offset() <= flushed).count();
        self.batches.range(before..self.flushed_batches)
    }

    /// Takes the oldest batch off, unless it is pinned (or not there: then its append is about to end).
    pub(super) fn pop_oldest(&mut self) -> Oldest {
        if self.flushed_batches == 0 {
            return Oldest::Pinned;
        }
        let Some(batch) = self.batches.pop_front() else { return Oldest::Pinned };
        self.flushed_batches -= 1;
        self.start = batch.end_offset();
        // Room for twice what is there: a log that was busy once doesn't keep its queue for ever.
        if self.batches.len() < self.batches.capacity() / 4 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
        Oldest::Flushed(batch)
    }

    /// Takes off the batches below `end` that may go.
    pub(super) fn pop_below(&mut self, end: Offset) -> Vec<Batch> {
        let count = self.flushed_batches().take_while(|batch| batch.end_offset() <= end).count();
        let gone: Vec<_> = self.batches.drain(..count).collect();
        self.flushed_batches -= count;
        self.start = gone.last().map_or(self.start, Batch::end_offset);
        gone
    }

    /// Bytes of the batches that end behind `from`.
    pub(super) fn bytes_from(&self, from: Offset) -> usize {
        let first = self.batches.partition_point(|batch| batch.end_offset() <= from);
        self.batches.range(first..).map(Batch::len).sum()
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
