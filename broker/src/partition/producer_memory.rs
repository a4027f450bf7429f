//! What the producer states of all logs take in memory, and the bell for when that is too much.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// A log's state is there twice: as it is, and, in the write-ahead log, as of its last flush.
const COPIES: usize = 2;

/// Counts the memory of producer states. Cheap to clone.
#[derive(Clone)]
pub struct ProducerMemory(Arc<Inner>);

struct Inner {
    limit: usize,
    used: AtomicUsize,
    crowded: Notify,
}

impl ProducerMemory {
    /// Producer states may take `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), crowded: Notify::new() }))
    }

    /// Most bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes they take.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes beyond the limit.
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.0.limit)
    }

    /// Returns once there are more than there may be.
    pub async fn crowded(&self) {
        while self.excess() == 0 {
            self.0.crowded.notified().await;
        }
    }

    /// The part of a log that has none yet.
    pub fn part(&self) -> ProducerMemoryPart {
        ProducerMemoryPart { memory: self.clone(), bytes: 0 }
    }
}

/// What one log's producers take; nothing more when it is dropped.
pub struct ProducerMemoryPart {
    memory: ProducerMemory,
    bytes: usize,
}

impl ProducerMemoryPart {
    /// A copy of the log's state takes `bytes`.
    pub fn set(&mut self, bytes: usize) {
        let (before, now) = (std::mem::replace(&mut self.bytes, bytes * COPIES), bytes * COPIES);
        if now == before {
            return;
        }
        let Inner { limit, used, crowded } = &*self.memory.0;
        if now < before {
            used.fetch_sub(before - now, Ordering::Relaxed);
        } else if used.fetch_add(now - before, Ordering::Relaxed) + (now - before) > *limit {
            crowded.notify_one();
        }
    }
}

impl Drop for ProducerMemoryPart {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_take_is_counted_until_they_are_dropped() {
        let memory = ProducerMemory::new(100);
        let (mut first, mut second) = (memory.part(), memory.part());
        first.set(40);
        second.set(30);
        assert_eq!((memory.used(), memory.excess()), (140, 40));
        first.set(10);
        assert_eq!((memory.used(), memory.excess()), (80, 0));
        drop(second);
        assert_eq!(memory.used(), 20);
    }
}
