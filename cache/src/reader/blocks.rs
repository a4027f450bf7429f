//! Blocks by name: from the cache, from a GET that is under way, or by a new one.
//!
//! A GET under way is a future that all who want one of its blocks poll together. It fails for all of them or for none,
//! goes on while anybody is left who waits for it, and is dropped with the last. Nothing else runs or is queued. So whoever
//! waits must go on polling, or drop: a future that is only kept would keep its charge.

use crate::metrics::BlockCacheMetrics;
use bytes::Bytes;
use foyer::{Cache, LruConfig};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use object_store::path::Path;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thalweg_metadata::{BlockRef, IndexError};
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{Purpose, ReadError, Store, check_block};

/// Most bytes of one GET (beside a block that is larger).
const MAX_GET_BYTES: u64 = 4 * 1024 * 1024;

/// A shard of the cache is at least this large, so that blocks of the usual size spread evenly.
const MIN_SHARD_BYTES: usize = 32 * 1024 * 1024;
const MAX_SHARDS: usize = 16;

/// The block cache, and the GETs that fill it.
pub(super) struct Blocks(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    store: Store,
    budget: Budget,
    cache: Cache<BlockKey, Bytes>,
    flights: Mutex<BTreeMap<BlockKey, Seat>>,
    flight_ids: AtomicU64,
    metrics: BlockCacheMetrics,
}

/// Where a block lies. Objects never change, so this stands for its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct BlockKey {
    path: Path,
    position: u64,
}

/// The blocks of one GET, each checked by itself.
type Landed = Arc<Vec<Result<Bytes, Arc<ReadError>>>>;
type Flight = Shared<BoxFuture<'static, Landed>>;

/// A block's place in the GET that brings it.
struct Seat {
    flight: WeakShared<BoxFuture<'static, Landed>>,
    flight_id: u64,
    at: usize,
}

/// Where the bytes of a block come from.
enum Source {
    Cached(Bytes),
    Flying(Flight, usize),
}

impl Blocks {
    pub(super) fn new(
        runtime: Runtime,
        store: Store,
        capacity: usize,
        budget: Budget,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let metrics = BlockCacheMetrics::new(registry);
        let (cache, flights) = (block_cache(capacity), Mutex::default());
        let flight_ids = AtomicU64::new(0);
        Self(Arc::new(Inner { runtime, store, budget, cache, flights, flight_ids, metrics }))
    }

    /// The bytes of `blocks`, verified, in their order.
    pub(super) async fn get(&self, blocks: &[BlockRef]) -> Vec<Result<Bytes, IndexError>> {
        // Together, not one after the other: a GET that holds a charge must never wait to be polled behind one that waits
        // for a charge.
        join_all(self.sources(blocks).into_iter().map(Source::bytes)).await
    }

    fn sources(&self, blocks: &[BlockRef]) -> Vec<Source> {
        let mut sources: Vec<_> = blocks.iter().map(|block| self.cached(&BlockKey::of(block))).collect();
        let missing = sources.iter().filter(|source| source.is_none()).count();
        self.0.metrics.hits.inc_by((blocks.len() - missing) as u64);
        self.0.metrics.misses.inc_by(missing as u64);
        if missing > 0 {
            let mut flights = self.0.flights.lock();
            self.board(&mut flights, blocks, &mut sources);
            self.take_off(&mut flights, blocks, &mut sources);
        }
        sources.into_iter().flatten().collect()
    }

    fn cached(&self, key: &BlockKey) -> Option<Source> {
        self.0.cache.get(key).map(|entry| Source::Cached(entry.value().clone()))
    }

    /// Joins GETs that are under way.
    fn board(
        &self,
        flights: &mut BTreeMap<BlockKey, Seat>,
        blocks: &[BlockRef],
        sources: &mut [Option<Source>],
    ) {
        for (block, source) in blocks.iter().zip(sources).filter(|(_, source)| source.is_none()) {
            let key = BlockKey::of(block);
            let flying =
                flights.get(&key).and_then(|seat| Some(Source::Flying(seat.flight.upgrade()?, seat.at)));
            // A GET puts its blocks into the cache before it leaves the map; one may have done both since we looked.
            *source = flying.or_else(|| self.cached(&key));
        }
    }

    /// Begins a GET for each run of adjacent blocks that still have no source.
    fn take_off(
        &self,
        flights: &mut BTreeMap<BlockKey, Seat>,
        blocks: &[BlockRef],
        sources: &mut [Option<Source>],
    ) {
        let mut from = 0;
        while let Some(skipped) = sources[from..].iter().position(Option::is_none) {
            let start = from + skipped;
            let free = sources[start..].iter().take_while(|source| source.is_none()).count();
            let run = &blocks[start..start + run_length(&blocks[start..start + free])];
            let flight_id = self.0.flight_ids.fetch_add(1, Ordering::Relaxed);
            let flight = self.0.clone().flight(flight_id, run.to_vec());
            let weak = flight.downgrade().expect("a future that was never polled has not ended");
            for (at, block) in run.iter().enumerate() {
                flights.insert(BlockKey::of(block), Seat { flight: weak.clone(), flight_id, at });
                sources[start + at] = Some(Source::Flying(flight.clone(), at));
            }
            from = start + run.len();
        }
    }
}

impl Inner {
    /// One GET for `run`. Its seats are given up when it ends, or when nobody waits for it any more.
    fn flight(self: Arc<Self>, flight_id: u64, run: Vec<BlockRef>) -> Flight {
        let keys = run.iter().map(BlockKey::of).collect();
        let seats = Seats { inner: self.clone(), flight_id, keys };
        let flight = async move {
            let landed = self.fetch(run).await;
            for (key, block) in seats.keys.iter().zip(&landed) {
                if let Ok(bytes) = block {
                    self.cache.insert(key.clone(), bytes.clone());
                }
            }
            self.metrics.bytes.set(self.cache.usage() as i64);
            drop(seats);
            Arc::new(landed)
        };
        flight.boxed().shared()
    }

    async fn fetch(&self, run: Vec<BlockRef>) -> Vec<Result<Bytes, Arc<ReadError>>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Vec::new() };
        let (path, range) = (first.path.clone(), first.entry.position..last.entry.end_position());
        let size = range.end - range.start;
        let _charge = self.budget.charge(usize::try_from(size).unwrap_or(usize::MAX)).await;
        let _in_flight = self.metrics.in_flight(size);
        match self.store.get_range(&path, range, Purpose::Fetch).await {
            Ok(bytes) => {
                self.metrics.fetched_bytes.inc_by(bytes.len() as u64);
                self.runtime.compute(move || take_apart(bytes, &run)).await
            }
            Err(error) => {
                let error = Arc::new(ReadError::Store(error));
                run.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}

/// The seats of a GET. Dropping it gives them up, unless another GET has them by now.
struct Seats {
    inner: Arc<Inner>,
    flight_id: u64,
    keys: Vec<BlockKey>,
}

impl Drop for Seats {
    fn drop(&mut self) {
        let mut flights = self.inner.flights.lock();
        for key in &self.keys {
            if flights.get(key).is_some_and(|seat| seat.flight_id == self.flight_id) {
                flights.remove(key);
            }
        }
    }
}

impl Source {
    async fn bytes(self) -> Result<Bytes, IndexError> {
        match self {
            Self::Cached(bytes) => Ok(bytes),
            Self::Flying(flight, at) => match &flight.await[at] {
                Ok(bytes) => Ok(bytes.clone()),
                Err(error) => Err(IndexError::for_another(error)),
            },
        }
    }
}

impl BlockKey {
    fn of(block: &BlockRef) -> Self {
        Self { path: block.path.clone(), position: block.entry.position }
    }
}

/// Least recently used goes first: consumers that follow one another through a log, some distance apart, then share what
/// the first one reads. A policy that wants to see a block twice before it keeps it would fail just those.
fn block_cache(capacity: usize) -> Cache<BlockKey, Bytes> {
    let shards = (capacity / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
    let largest = capacity / shards / 2;
    Cache::builder(capacity)
        .with_shards(shards)
        .with_eviction_config(LruConfig::default())
        .with_weighter(|key: &BlockKey, block: &Bytes| key.path.as_ref().len() + block.len())
        // A giant block is served, but not kept in place of everything else.
        .with_filter(move |_, block| block.len() <= largest)
        .build()
}

/// How many blocks at the front of `blocks` (at least one) make one GET.
fn run_length(blocks: &[BlockRef]) -> usize {
    let follows = |pair: &&[BlockRef]| {
        let (one, next) = (&pair[0], &pair[1]);
        let adjacent = one.path == next.path && one.entry.end_position() == next.entry.position;
        adjacent && next.entry.end_position() - blocks[0].entry.position <= MAX_GET_BYTES
    };
    1 + blocks.windows(2).take_while(follows).count()
}

/// Splits what a GET gave into its blocks, and checks each.
fn take_apart(bytes: Bytes, run: &[BlockRef]) -> Vec<Result<Bytes, Arc<ReadError>>> {
    let mut rest = bytes;
    run.iter().map(|block| take_block(&mut rest, block, run.len() > 1)).collect()
}

fn take_block(rest: &mut Bytes, block: &BlockRef, copy: bool) -> Result<Bytes, Arc<ReadError>> {
    let size = (block.entry.size as usize).min(rest.len());
    let bytes = rest.split_to(size);
    match check_block(&bytes, &block.entry) {
        // A block that stays in the cache must not keep the others' memory from being freed.
        Ok(()) if copy => Ok(Bytes::copy_from_slice(&bytes)),
        Ok(()) => Ok(bytes),
        Err(source) => Err(Arc::new(ReadError::Format { path: block.path.clone(), source })),
    }
}
