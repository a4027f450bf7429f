//! The block cache's part in memory: two queues.
//!
//! What is asked for the first time goes into a queue of half of the cache (all of it, while nothing has come back); what comes
//! back after it was pushed out goes into the other half, where what is read once can't push it out. So
//! - consumers that follow one another through a log, some distance apart, share what the first one reads: it stays in its
//!   queue, however often it is asked for (least recently used first out);
//! - a backfill pushes out what nobody has come back for, and no more.
//!
//! Measured by `cargo bench -p thalweg-benches --bench block_cache_policy`, hits without → with a one-time backfill that reads
//! as fast as all others together, for a cache of 20,000 blocks (what the readers are stands there):
//!
//! | | hot | hotter | followers | near |
//! |---|---|---|---|---|
//! | LRU | 98.0 → 0.0 % | 99.5 → 99.5 % | 74.6 → 74.6 % | 66.7 → 66.7 % |
//! | LRU, foyer's default | 98.0 → 0.0 % | 99.5 → 99.5 % | 74.6 → 62.1 % | 66.7 → 66.7 % |
//! | segmented LRU, half protected | 98.0 → 0.0 % | 99.5 → 99.5 % | 74.6 → 1.8 % | 66.7 → 66.7 % |
//! | w-TinyLFU | 98.0 → 0.0 % | 99.5 → 99.5 % | 56.8 → 5.1 % | 66.7 → 66.7 % |
//! | S3-FIFO | 98.0 → 54.2 % | 99.5 → 99.5 % | 48.9 → 47.0 % | 66.7 → 66.7 % |
//! | SIEVE | 98.0 → 0.0 % | 99.5 → 99.5 % | 4.9 → 1.8 % | 5.7 → 11.1 % |
//! | two queues | 98.0 → 96.0 % | 99.5 → 99.5 % | 74.6 → 49.7 % | 66.7 → 66.7 % |
//!
//! 74.6 is all that followers can have (three of four of them), 66.7 all that those near the tail can.

use super::key::BlockKey;
use bytes::Bytes;
use foyer::{Cache, CacheProperties, Event, EventListener, Hint, LruConfig};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// A shard of the cache is at least this large, so that blocks of the usual size spread evenly.
const MIN_SHARD_BYTES: usize = 32 * 1024 * 1024;
const MAX_SHARDS: usize = 16;

/// The part of the cache for what came back.
const CAME_BACK_RATIO: f64 = 0.5;

/// How far what was pushed out is remembered, in bytes read since, as a multiple of the cache; and how many blocks at most.
const REMEMBERED: usize = 2;
const MOST_REMEMBERED: usize = 1 << 16;

/// What a block takes in the cache beside its bytes and its path: its entry, its place in the table, what `Bytes` counts its
/// owners in, and what the allocator rounds up.
const ENTRY_BYTES: usize = 256;

/// Is told of blocks that were pushed out.
pub(super) type OnEvicted = Box<dyn Fn(&BlockKey, &Bytes) + Send + Sync>;

/// Blocks in memory.
pub(super) struct Memory {
    cache: Cache<BlockKey, Bytes>,
    seen: Mutex<Seen>,
}

impl Memory {
    pub(super) fn new(capacity: usize, on_evicted: Option<OnEvicted>) -> Self {
        let shards = (capacity / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        let largest = capacity / shards / 2;
        let mut cache = Cache::builder(capacity)
            .with_shards(shards)
            // Hints tell the queues apart: `Normal` goes into the protected one.
            .with_eviction_config(LruConfig { high_priority_pool_ratio: CAME_BACK_RATIO })
            .with_weighter(|key: &BlockKey, block: &Bytes| {
                ENTRY_BYTES + key.path.as_ref().len() + block.len()
            })
            // A giant block is served, but not kept in place of everything else.
            .with_filter(move |_, block: &Bytes| block.len() <= largest);
        if let Some(on_evicted) = on_evicted {
            cache = cache.with_event_listener(Arc::new(Listener(on_evicted)));
        }
        let seen = Mutex::new(Seen::new(capacity.saturating_mul(REMEMBERED)));
        Self { cache: cache.build(), seen }
    }

    pub(super) fn get(&self, key: &BlockKey) -> Option<Bytes> {
        self.cache.get(key).map(|entry| entry.value().clone())
    }

    /// Keeps a block that somebody has asked for.
    pub(super) fn insert(&self, key: &BlockKey, block: &Bytes) {
        if self.cache.contains(key) {
            return;
        }
        let came_back = self.seen.lock().note(self.cache.hash(key), block.len());
        let hint = if came_back { Hint::Normal } else { Hint::Low };
        let properties = CacheProperties::default().with_hint(hint);
        self.cache.insert_with_properties(key.clone(), block.clone(), properties);
    }

    /// Forgets a block that nobody will ask for again.
    pub(super) fn remove(&self, key: &BlockKey) {
        drop(self.cache.remove(key));
    }

    /// Bytes held.
    pub(super) fn usage(&self) -> usize {
        self.cache.usage()
    }
}

/// Blocks that were put into the cache for the first time lately, by their hashes, oldest first.
struct Seen {
    order: VecDeque<u64>,
    sizes: BTreeMap<u64, usize>,
    bytes: usize,
    most_bytes: usize,
}

impl Seen {
    fn new(most_bytes: usize) -> Self {
        Self { order: VecDeque::new(), sizes: BTreeMap::new(), bytes: 0, most_bytes }
    }

    /// Takes note of a block. Returns whether it was known; it is forgotten then.
    fn note(&mut self, block: u64, size: usize) -> bool {
        if let Some(size) = self.sizes.remove(&block) {
            self.bytes -= size;
            return true;
        }
        self.sizes.insert(block, size);
        self.order.push_back(block);
        self.bytes += size;
        while self.bytes > self.most_bytes || self.order.len() > MOST_REMEMBERED {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.sizes.remove(&oldest).unwrap_or(0);
        }
        false
    }
}

struct Listener(OnEvicted);

impl EventListener for Listener {
    type Key = BlockKey;
    type Value = Bytes;

    fn on_leave(&self, reason: Event, key: &BlockKey, block: &Bytes) {
        if reason == Event::Evict {
            (self.0)(key, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 1000;
    const BLOCKS: u64 = 100;

    fn key(log: &str, position: u64) -> BlockKey {
        BlockKey { path: log.into(), position }
    }

    fn memory() -> Memory {
        Memory::new((BLOCK + 10 + ENTRY_BYTES) * BLOCKS as usize, None)
    }

    /// Whether it was there; brings it where not.
    fn ask(memory: &Memory, log: &str, position: u64) -> bool {
        let key = key(log, position);
        let there = memory.get(&key).is_some();
        memory.insert(&key, &Bytes::from_static(&[7; BLOCK]));
        there
    }

    #[test]
    fn consumers_that_follow_one_another_share_what_the_first_one_reads() {
        let memory = memory();
        // What the last one wants was asked for 20 steps ago by the one before it; 90 blocks were asked for since.
        for step in 0..10 * BLOCKS {
            assert!(!ask(&memory, "log", step));
            for behind in [25, 50, 70].into_iter().filter(|behind| *behind <= step) {
                assert!(ask(&memory, "log", step - behind), "step {step}, {behind} behind");
            }
        }
    }

    #[test]
    fn a_backfill_does_not_push_out_what_came_back() {
        let memory = memory();
        for round in 0..10 {
            for n in 0..BLOCKS / 5 {
                let there = ask(&memory, "hot", n);
                assert!(there || round < 2, "round {round}, block {n}");
                (0..6)
                    .for_each(|more| assert!(!ask(&memory, "backfill", (round * BLOCKS / 5 + n) * 6 + more)));
            }
        }
    }

    #[test]
    fn what_is_pushed_out_is_told_of() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let on_evicted: OnEvicted = Box::new(move |key, _| tell.lock().push(key.position));
        let memory = Memory::new((BLOCK + 10 + ENTRY_BYTES) * 3, Some(on_evicted));
        (0..5).for_each(|position| assert!(!ask(&memory, "log", position)));
        assert_eq!(*told.lock(), [0, 1]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::new(1000);
        assert!((0..100).all(|block| !seen.note(block, 100)));
        assert!(!seen.note(0, 100), "long forgotten");
        assert!(seen.note(99, 100) && seen.note(95, 100));
        assert!(!seen.note(99, 100), "it came back once");
        assert!(seen.bytes <= 1000 && seen.sizes.len() <= 10);
        for block in 0..2 * MOST_REMEMBERED as u64 {
            seen.note(block << 8, 0);
        }
        assert!(seen.order.len() <= MOST_REMEMBERED);
    }
}
