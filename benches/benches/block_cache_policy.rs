//! Which policy the block cache should have: what each keeps of a mix of readers, with a one-time backfill among them and
//! without. `cargo bench -p thalweg-benches --bench block_cache_policy` prints the tables; `cache/src/reader/memory.rs` and
//! `cache/src/disk/second_chance.rs` are chosen by them.
//!
//! Readers, in blocks of a cache of `capacity` of them, all of which go round in turn:
//! - *hot*: a job that reads the same part of a log, a fifth of the cache, again and again;
//! - *hotter*: another, of a twentieth of the cache;
//! - *followers*: four consumers that follow one another through a log, a tenth of the cache apart;
//! - *near*: three consumers that fell a little behind the tail and read each block within a few steps;
//! - *backfill*: one that reads a log of ten caches, once, as fast as all the others together.

use foyer::{
    Cache, CacheProperties, EvictionConfig, FifoConfig, Hint, LfuConfig, LruConfig, S3FifoConfig, SieveConfig,
};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// A reader's kind, and the block that it asks for.
type Ask = (&'static str, u64);

fn main() {
    for (title, capacity) in [("100 blocks (memory)", 100), ("20,000 blocks (disk)", 20_000)] {
        println!("{title}: hits of each kind of reader, without → with a backfill");
        for (name, make) in policies(capacity) {
            let hits = |backfill| play(&mut *make(), trace(capacity, backfill));
            let (without, with) = (hits(false), hits(true));
            let of_kind = |kind| format!("{kind} {:>4.1} → {:>4.1} %", without[kind], with[kind]);
            println!("  {name:<34} {}", ["hot", "hotter", "followers", "near"].map(of_kind).join("   "));
        }
    }
}

trait Policy {
    /// Asks for a block, which is brought where it is missing. Returns whether it was there.
    fn ask(&mut self, block: u64) -> bool;
}

type Make = Box<dyn Fn() -> Box<dyn Policy>>;

fn policies(capacity: u64) -> Vec<(&'static str, Make)> {
    let capacity = capacity as usize;
    let foyers = |config: EvictionConfig| -> Make {
        Box::new(move || Box::new(Foyers(cache(capacity, config.clone()))))
    };
    let segmented = |ratio: f64| -> Make {
        Box::new(move || {
            let config = LruConfig { high_priority_pool_ratio: ratio };
            Box::new(Segmented(cache(capacity, config.into())))
        })
    };
    let two_queues = |ratio: f64| -> Make {
        Box::new(move || {
            let config = LruConfig { high_priority_pool_ratio: ratio };
            Box::new(TwoQueues {
                cache: cache(capacity, config.into()),
                ghosts: VecDeque::new(),
                is_ghost: HashSet::new(),
                capacity,
            })
        })
    };
    vec![
        ("FIFO", foyers(FifoConfig::default().into())),
        ("LRU", foyers(LruConfig { high_priority_pool_ratio: 0.0 }.into())),
        ("LRU, foyer's default (0.9)", foyers(LruConfig::default().into())),
        ("segmented LRU, 50 % protected", segmented(0.5)),
        ("segmented LRU, 30 % protected", segmented(0.3)),
        ("two queues, 50 % for what came back", two_queues(0.5)),
        ("two queues, 30 % for what came back", two_queues(0.3)),
        ("LFU (w-TinyLFU)", foyers(LfuConfig::default().into())),
        ("S3-FIFO", foyers(S3FifoConfig::default().into())),
        ("S3-FIFO, small queue 50 %", {
            let config = S3FifoConfig { small_queue_capacity_ratio: 0.5, ..S3FifoConfig::default() };
            foyers(config.into())
        }),
        ("SIEVE", foyers(SieveConfig {}.into())),
        ("FIFO with a second chance, bounded", {
            Box::new(move || Box::new(Rounds { capacity, ..Rounds::default() }))
        }),
    ]
}

fn cache(capacity: usize, config: EvictionConfig) -> Cache<u64, bool> {
    Cache::builder(capacity).with_shards(1).with_eviction_config(config).build()
}

/// A policy of foyer's, as it is.
struct Foyers(Cache<u64, bool>);

impl Policy for Foyers {
    fn ask(&mut self, block: u64) -> bool {
        let there = self.0.get(&block).is_some();
        if !there {
            self.0.insert(block, false);
        }
        there
    }
}

/// What is asked for a second time moves to a part of the cache that what is asked for once can't push it out of.
struct Segmented(Cache<u64, bool>);

impl Policy for Segmented {
    fn ask(&mut self, block: u64) -> bool {
        let protected = self.0.get(&block).map(|entry| *entry.value());
        let hint = if protected.is_some() { Hint::Normal } else { Hint::Low };
        if protected != Some(true) {
            let properties = CacheProperties::default().with_hint(hint);
            self.0.insert_with_properties(block, protected.is_some(), properties);
        }
        protected.is_some()
    }
}

/// What comes back after it went moves to a part of the cache of its own; what is asked for again while it is there stays where
/// it is.
struct TwoQueues {
    cache: Cache<u64, bool>,
    /// What was asked for lately and was missing.
    ghosts: VecDeque<u64>,
    is_ghost: HashSet<u64>,
    capacity: usize,
}

impl Policy for TwoQueues {
    fn ask(&mut self, block: u64) -> bool {
        if self.cache.get(&block).is_some() {
            return true;
        }
        let hint = if self.is_ghost.remove(&block) { Hint::Normal } else { Hint::Low };
        self.cache.insert_with_properties(block, false, CacheProperties::default().with_hint(hint));
        if hint == Hint::Low && self.is_ghost.insert(block) {
            self.ghosts.push_back(block);
            if self.ghosts.len() > 2 * self.capacity {
                let oldest = self.ghosts.pop_front().expect("it is not empty");
                self.is_ghost.remove(&oldest);
            }
        }
        false
    }
}

/// Written round and round; what was asked for since it was written is written again, as long as that is no more than what
/// comes in.
#[derive(Default)]
struct Rounds {
    capacity: usize,
    blocks: VecDeque<u64>,
    there: HashSet<u64>,
    asked: HashSet<u64>,
    credit: usize,
}

impl Policy for Rounds {
    fn ask(&mut self, block: u64) -> bool {
        if self.there.contains(&block) {
            self.asked.insert(block);
            return true;
        }
        self.credit = (self.credit + 1).min(self.capacity / 100);
        self.blocks.push_back(block);
        self.there.insert(block);
        while self.blocks.len() > self.capacity {
            let oldest = self.blocks.pop_front().expect("it is not empty");
            if self.asked.remove(&oldest) && self.credit > 0 {
                self.credit -= 1;
                self.blocks.push_back(oldest);
            } else {
                self.there.remove(&oldest);
            }
        }
        false
    }
}

/// What the readers ask for, in order.
fn trace(capacity: u64, backfill: bool) -> impl Iterator<Item = Ask> {
    const LOG: u64 = 1 << 32;
    let (hot, hotter, apart) = (capacity / 5, capacity / 20, capacity / 10);
    (0..capacity * 10).flat_map(move |step| {
        let mut asks = vec![("hot", step % hot), ("hotter", 4 * LOG + step % hotter)];
        // Each follower asks for a block of the log in every second step.
        if step % 2 == 0 {
            let followers = (0..4).filter_map(|n| (step / 2).checked_sub(n * apart / 2));
            asks.extend(followers.map(|block| ("followers", LOG + block)));
        } else {
            let near = [0, 2, 5].into_iter().filter_map(|behind| (step / 2).checked_sub(behind));
            asks.extend(near.map(|block| ("near", 2 * LOG + block)));
        }
        if backfill {
            let times = asks.len() as u64;
            asks.extend((0..times).map(|n| ("backfill", 3 * LOG + step * 8 + n)));
        }
        asks
    })
}

/// Hits in percent by kind of reader.
fn play(policy: &mut dyn Policy, trace: impl Iterator<Item = Ask>) -> BTreeMap<&'static str, f64> {
    let mut counts: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for (kind, block) in trace {
        let (hits, asks) = counts.entry(kind).or_default();
        *hits += u64::from(policy.ask(block));
        *asks += 1;
    }
    counts.into_iter().map(|(kind, (hits, asks))| (kind, 100.0 * hits as f64 / asks as f64)).collect()
}
