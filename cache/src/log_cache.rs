//! The tail of every log, in memory, from the append on. What isn't flushed stays; the rest goes oldest first, by order of
//! append over all logs, so that the buffers that batches are slices of are freed as a whole.
//!
//! The capacity bounds what is flushed, whatever else is held. So while the object store is away, when nothing can be flushed
//! and appends take all the memory they get, consumers near the ends of their logs still find there what they ask for.
//!
//! Each log has a queue of its batches, and one queue over all logs has an entry for each batch in order of append. As a
//! log's batches come in offset order, its n-th entry in that queue stands for its n-th batch; so what goes is always a
//! log's oldest batch, and what stays is a contiguous end of the log.
//!
//! A batch that isn't flushed stops the eviction of everything appended after it. That costs little: a flush takes all
//! logs up to one point of the WAL, so batches become flushed in about the order in which they were appended. In return,
//! eviction looks at one entry for each batch that goes.
//!
//! Locks: a log's shard is never held while the order is taken. Eviction and removal hold the order and take shards below it.

mod tail;

use crate::metrics::LogCacheMetrics;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tail::{LogTail, Oldest};
use thalweg_segment::{Batch, LogId, Offset};

/// Log ids of a topic are consecutive, so the remainder spreads them evenly.
const SHARDS: usize = 64;

/// What a batch costs beside its bytes: itself in its log's queue, and its entry in the order.
const BATCH_OVERHEAD: usize = mem::size_of::<Batch>() + mem::size_of::<Entry>();

/// Entries of removed logs are swept from the order once there are this many, and more of them than of others.
const SWEEP_ABOVE: usize = 1024;

/// The log cache. Cheap to clone.
#[derive(Clone)]
pub struct LogCache(Arc<Inner>);

struct Inner {
    capacity: usize,
    bytes: AtomicUsize,
    /// Those of batches that are flushed.
    flushed_bytes: AtomicUsize,
    /// Tells a log from one with the same id that was removed before.
    next_life: AtomicU64,
    shards: Vec<Mutex<BTreeMap<LogId, LogTail>>>,
    order: Mutex<Order>,
    metrics: LogCacheMetrics,
}

/// All batches of all logs, oldest first.
#[derive(Default)]
struct Order {
    entries: VecDeque<Entry>,
    /// How many of them belong to logs that were removed.
    stale: usize,
}

struct Entry {
    log: LogId,
    life: u64,
}

/// What the log cache has at an offset.
#[derive(Debug)]
pub enum Tail {
    /// Batches from the one that holds the offset on; none where the offset is the log's end (or beyond `limit`).
    Hit(Vec<Batch>),
    /// The offset is older than what the cache holds (or the log isn't in it): ask the object index.
    Older,
}

/// What became of the oldest entry of the order.
enum Evicted {
    Batch(Batch),
    /// Its log was removed, and its batches with it.
    Stale,
    Pinned,
}

impl LogCache {
    /// A cache that keeps up to `capacity` bytes of flushed batches, beside all that aren't flushed.
    pub fn new(capacity: usize, registry: &mut prometheus_client::registry::Registry) -> Self {
        Self(Arc::new(Inner {
            capacity,
            bytes: AtomicUsize::new(0),
            flushed_bytes: AtomicUsize::new(0),
            next_life: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            order: Mutex::default(),
            metrics: LogCacheMetrics::new(registry),
        }))
    }

    /// Adds the next batch of `log`, in offset order: the caller holds the log's lock.
    ///
    /// Panics where the batch begins before the log's end.
    pub fn append(&self, log: LogId, batch: Batch) {
        let inner = &*self.0;
        inner.grown(cost(&batch));
        let life = {
            let mut shard = inner.shard(log).lock();
            let tail = shard.entry(log).or_insert_with(|| inner.new_tail(&batch));
            tail.push(batch);
            tail.life()
        };
        inner.order.lock().entries.push_back(Entry { log, life });
    }

    /// Batches of `log` from the one that holds `from`, up to and without the first that ends beyond `limit`, as many as fit
    /// into `max_bytes`. The first is returned even where it alone is larger, if `at_least_one`.
    pub fn read(
        &self,
        log: LogId,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Tail {
        let found = {
            let shard = self.0.shard(log).lock();
            shard.get(&log).and_then(|tail| tail.read(from, limit, max_bytes, at_least_one))
        };
        match found {
            Some(batches) => {
                self.0.metrics.hits.inc();
                Tail::Hit(batches)
            }
            None => {
                self.0.metrics.misses.inc();
                Tail::Older
            }
        }
    }

    /// Where what the cache holds of `log` begins, if it holds any batch of it.
    pub fn first_offset(&self, log: LogId) -> Option<Offset> {
        let shard = self.0.shard(log).lock();
        let first = shard.get(&log)?.batches().next()?;
        Some(first.base_offset())
    }

    /// Bytes of those batches of `log` that end behind `from`.
    pub fn bytes_from(&self, log: LogId, from: Offset) -> usize {
        let shard = self.0.shard(log).lock();
        shard.get(&log).map_or(0, |tail| tail.bytes_from(from))
    }

    /// Batches of `log` below `end` are in the object index. Drops the oldest flushed batches of any log for which there is
    /// no room.
    pub fn flushed(&self, log: LogId, end: Offset) {
        if let Some(tail) = self.0.shard(log).lock().get_mut(&log) {
            let bytes = tail.unpin(end).map(cost).sum();
            self.0.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.0.evict_down_to(self.0.capacity);
    }

    /// Drops the oldest flushed batches until `bytes` less are held, or none is left that may go. Returns how much went.
    pub fn shrink(&self, bytes: usize) -> usize {
        self.0.evict_down_to(self.0.flushed_bytes().saturating_sub(bytes))
    }

    /// Drops the flushed batches of `log` below `end`: what replaces them in the object index is to be read from now on.
    pub fn replaced(&self, log: LogId, end: Offset) {
        let (gone, life) = {
            let mut shard = self.0.shard(log).lock();
            let Some(tail) = shard.get_mut(&log) else { return };
            let gone = tail.pop_below(end);
            if gone.is_empty() {
                return;
            }
            let bytes = gone.iter().map(cost).sum();
            self.0.flushed_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.0.shrunk(bytes);
            (gone, tail.life())
        };
        // As many entries as batches, whichever of them eviction has taken meanwhile.
        let mut left = gone.len();
        let mut order = self.0.order.lock();
        order.entries.retain(|entry| {
            let goes = left > 0 && entry.log == log && entry.life == life;
            left -= usize::from(goes);
            !goes
        });
        drop(order);
        // Here, without a lock, the buffers behind the batches are freed.
        drop(gone);
    }

    /// Forgets a log.
    pub fn remove(&self, log: LogId) {
        let removed = {
            let mut shard = self.0.shard(log).lock();
            let removed = shard.remove(&log);
            // Under the lock, so that what is flushed is never counted as less than nothing.
            let flushed = removed.iter().flat_map(LogTail::flushed_batches).map(cost).sum();
            self.0.flushed_bytes.fetch_sub(flushed, Ordering::Relaxed);
            removed
        };
        if let Some(tail) = removed {
            self.0.shrunk(tail.batches().map(cost).sum());
            self.0.note_stale(tail.batches().len());
        }
    }

    /// Bytes held: the batches' own, and what it takes to hold them.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn shard(&self, log: LogId) -> &Mutex<BTreeMap<LogId, LogTail>> {
        &self.shards[(log.0 % SHARDS as u64) as usize]
    }

    fn new_tail(&self, first: &Batch) -> LogTail {
        LogTail::new(self.next_life.fetch_add(1, Ordering::Relaxed), first.base_offset())
    }

    fn grown(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.bytes.inc_by(bytes as i64);
    }

    fn shrunk(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.bytes.dec_by(bytes as i64);
    }

    fn flushed_bytes(&self) -> usize {
        self.flushed_bytes.load(Ordering::Relaxed)
    }

    /// Drops the oldest batches until at most `target` bytes of flushed ones are held or the oldest is pinned. Returns how
    /// much went.
    fn evict_down_to(&self, target: usize) -> usize {
        if self.flushed_bytes() <= target {
            return 0;
        }
        let mut gone = Vec::new();
        let mut freed = 0;
        let mut order = self.order.lock();
        while self.flushed_bytes() > target {
            match self.evict_oldest(&mut order) {
                Some(Evicted::Batch(batch)) => {
                    freed += cost(&batch);
                    self.shrunk(cost(&batch));
                    gone.push(batch);
                }
                Some(Evicted::Stale) => {}
                Some(Evicted::Pinned) | None => break,
            }
        }
        drop(order);
        self.metrics.evicted_bytes.inc_by(freed as u64);
        // Here, without a lock, the buffers behind the batches are freed.
        drop(gone);
        freed
    }

    fn evict_oldest(&self, order: &mut Order) -> Option<Evicted> {
        let Entry { log, life } = order.entries.front()?;
        let evicted = match self.shard(*log).lock().get_mut(log).filter(|tail| tail.life() == *life) {
            None => Evicted::Stale,
            Some(tail) => match tail.pop_oldest() {
                Oldest::Flushed(batch) => {
                    self.flushed_bytes.fetch_sub(cost(&batch), Ordering::Relaxed);
                    Evicted::Batch(batch)
                }
                Oldest::Pinned => return Some(Evicted::Pinned),
            },
        };
        order.entries.pop_front();
        if matches!(evicted, Evicted::Stale) {
            order.stale = order.stale.saturating_sub(1);
        }
        Some(evicted)
    }

    /// Counts entries of a removed log. Once most are such, all of them go; so each costs O(1), and the order is never
    /// longer than twice the number of batches held (and a constant).
    fn note_stale(&self, entries: usize) {
        let mut order = self.order.lock();
        order.stale += entries;
        if order.stale < SWEEP_ABOVE || order.stale * 2 < order.entries.len() {
            return;
        }
        order.entries.retain(|entry| self.is_live(entry));
        order.entries.shrink_to_fit();
        order.stale = 0;
    }

    fn is_live(&self, entry: &Entry) -> bool {
        self.shard(entry.log).lock().get(&entry.log).is_some_and(|tail| tail.life() == entry.life)
    }
}

fn cost(batch: &Batch) -> usize {
    batch.len() + BATCH_OVERHEAD
}

#[cfg(test)]
mod tests;
