//! Blocks by name: from memory, from a flight that is under way, or by a new one, from the disk or the object store.
//!
//! A flight is a future that all who want one of its blocks poll together. It fails for all of them or for none,
//! goes on while anybody is left who waits for it, and is dropped with the last. Nothing else runs or is queued. So whoever
//! waits must go on polling, or drop: a future that is only kept would keep its charge. What is read ahead is polled by tasks of
//! `read_ahead`. Small blocks of objects that hold many logs come with their neighbours, by flights of their own (`parts`).

use super::{
    key::BlockKey,
    memory::{Memory, OnEvicted},
    parts::{PartFlight, PartFlights, PartSource, block_of},
};
use crate::{
    disk::DiskCache,
    metrics::{BlockCacheMetrics, InFlight},
};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thalweg_metadata::{BlockRef, IndexError, ObjectIndex};
use thalweg_runtime::{Budget, Charge, Runtime};
use thalweg_segment::{Purpose, ReadError, Store, check_block};

/// Most bytes of one GET (beside a block that is larger).
const MAX_GET_BYTES: u64 = 4 * 1024 * 1024;

/// The block cache, and what fills it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Blocks(Arc<Inner>);

pub(super) struct Inner {
    runtime: Runtime,
    store: Store,
    pub(super) index: ObjectIndex,
    budget: Budget,
    memory: Memory,
    disk: Option<DiskCache>,
    pub(super) parts: PartFlights,
    flights: Mutex<BTreeMap<BlockKey, Seat>>,
    flight_ids: AtomicU64,
    metrics: BlockCacheMetrics,
}

/// What came of one flight: its blocks, each checked by itself. Their seats stay taken for as long as anybody holds this, so
/// what is held ahead of its reader is found, even when memory has let go of it.
pub(super) struct Landing {
    blocks: Vec<Result<Bytes, Arc<ReadError>>>,
    _seats: Seats,
}

/// Blocks on their way from the disk or the store, or arrived.
pub(super) type Flight = Shared<BoxFuture<'static, Arc<Landing>>>;

/// A block's place in the flight that brings it.
struct Seat {
    flight: WeakShared<BoxFuture<'static, Arc<Landing>>>,
    flight_id: u64,
    at: usize,
    ahead: bool,
}

/// Where the bytes of a block come from.
enum Source {
    Cached(Bytes),
    Flying(Passage),
    InPart(PartFlight),
}

struct Passage {
    flight: Flight,
    at: usize,
    /// Nobody had asked for the block when the flight began, so it is not in memory's cache yet.
    ahead: bool,
}

/// A run of blocks that is brought before anybody asks for it.
pub(super) struct AheadRun<C> {
    /// Which of the blocks.
    pub range: Range<usize>,
    /// Who holds this finds them, once they are there.
    pub flight: Flight,
    /// What they are charged to.
    pub charge: C,
}

impl Blocks {
    pub(super) fn new(
        runtime: Runtime,
        store: Store,
        index: ObjectIndex,
        capacity: usize,
        budget: Budget,
        disk: Option<DiskCache>,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let metrics = BlockCacheMetrics::new(registry);
        // What the disk had no time for when it came is offered once more when it goes.
        let offer = |disk: DiskCache| -> OnEvicted { Box::new(move |key, block| disk.offer(key, block)) };
        let memory = Memory::new(capacity, disk.clone().map(offer));
        let (parts, flights, flight_ids) = (PartFlights::default(), Mutex::default(), AtomicU64::new(0));
        let inner =
            Inner { runtime, store, index, budget, memory, disk, parts, flights, flight_ids, metrics };
        Self(Arc::new(inner))
    }

    /// The bytes of `blocks`, verified, in their order.
    pub(super) async fn get(&self, blocks: &[BlockRef]) -> Vec<Result<Bytes, IndexError>> {
        // Together, not one after the other: a GET that holds a charge must never wait to be polled behind one that waits
        // for a charge.
        join_all(
            self.sources(blocks).into_iter().zip(blocks).map(|(source, block)| self.bytes(source, block)),
        )
        .await
    }

    /// Drops blocks from memory: whoever has read them will not come again.
    pub(super) fn forget(&self, blocks: &[BlockRef]) {
        blocks.iter().for_each(|block| self.0.memory.remove(&BlockKey::of(block)));
        self.0.show_usage();
    }

    /// Begins to bring those of `blocks` that are neither in memory nor on their way, as long as `charge` gives something for
    /// the bytes of each run. Returns them, and whether all were begun. Somebody must poll the flights.
    pub(super) fn ahead<C>(
        &self,
        blocks: &[BlockRef],
        mut charge: impl FnMut(u64) -> Option<C>,
    ) -> (Vec<AheadRun<C>>, bool) {
        let mut runs = Vec::new();
        let mut sources: Vec<_> = blocks.iter().map(|block| self.cached(&BlockKey::of(block))).collect();
        let mut not_taken = Vec::new();
        let mut flights = self.0.flights.lock();
        self.board(&mut flights, blocks, &mut sources, &mut not_taken);
        let mut from = 0;
        while let Some((range, on_disk)) = self.next_run(blocks, &sources, from) {
            let Some(charge) = charge(bytes_of(&blocks[range.clone()])) else { return (runs, false) };
            let flight = self.begin(&mut flights, &blocks[range.clone()], on_disk, true);
            from = range.end;
            runs.push(AheadRun { range, flight, charge });
        }
        (runs, true)
    }

    #[cfg(test)]
    pub(super) fn fetched_bytes(&self) -> u64 {
        self.0.metrics.fetched_bytes.get()
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> Option<&DiskCache> {
        self.0.disk.as_ref()
    }

    /// Whether readers wait for memory to bring their blocks.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.0.budget.waiting() > 0
    }

    fn sources(&self, blocks: &[BlockRef]) -> Vec<Source> {
        let mut sources: Vec<_> = blocks.iter().map(|block| self.cached(&BlockKey::of(block))).collect();
        let missing = sources.iter().filter(|source| source.is_none()).count();
        self.0.metrics.hits.inc_by((blocks.len() - missing) as u64);
        self.0.metrics.misses.inc_by(missing as u64);
        // Dropped after the lock: the last to drop a flight gives its seats up.
        let mut not_taken = Vec::new();
        if missing > 0 {
            let mut flights = self.0.flights.lock();
            self.board(&mut flights, blocks, &mut sources, &mut not_taken);
            self.board_parts(blocks, &mut sources);
            self.take_off(&mut flights, blocks, &mut sources);
        }
        sources.into_iter().flatten().collect()
    }

    fn cached(&self, key: &BlockKey) -> Option<Source> {
        self.0.memory.get(key).map(Source::Cached)
    }

    /// Finds sources for those blocks that still have none, are read with their neighbours, and are not on the disk.
    fn board_parts(&self, blocks: &[BlockRef], sources: &mut [Option<Source>]) {
        for (block, source) in blocks.iter().zip(sources).filter(|(_, source)| source.is_none()) {
            let Some(part) = block.part().filter(|_| !self.is_on_disk(block)) else { continue };
            *source = Some(match self.0.board_part(part, block) {
                PartSource::Cached(bytes) => Source::Cached(bytes),
                PartSource::Flying(flight) => Source::InPart(flight),
            });
        }
    }

    fn is_on_disk(&self, block: &BlockRef) -> bool {
        self.0.disk.as_ref().is_some_and(|disk| disk.holds(&BlockKey::of(block)))
    }

    /// Joins flights that are under way. One that has failed is left to those who were there before.
    fn board(
        &self,
        flights: &mut BTreeMap<BlockKey, Seat>,
        blocks: &[BlockRef],
        sources: &mut [Option<Source>],
        not_taken: &mut Vec<Flight>,
    ) {
        for (block, source) in blocks.iter().zip(sources).filter(|(_, source)| source.is_none()) {
            let key = BlockKey::of(block);
            let seat = flights.get(&key).and_then(|seat| Some((seat, seat.flight.upgrade()?)));
            *source = match seat {
                Some((&Seat { at, ahead, .. }, flight)) => {
                    if flight.peek().is_none_or(|landing| landing.blocks[at].is_ok()) {
                        Some(Source::Flying(Passage { flight, at, ahead }))
                    } else {
                        not_taken.push(flight);
                        None
                    }
                }
                None => None,
            };
            // A flight puts its blocks into the cache before it leaves the map; one may have done both since we looked.
            if source.is_none() {
                *source = self.cached(&key);
            }
        }
    }

    /// Begins a flight for each run of adjacent blocks that still have no source.
    fn take_off(
        &self,
        flights: &mut BTreeMap<BlockKey, Seat>,
        blocks: &[BlockRef],
        sources: &mut [Option<Source>],
    ) {
        while let Some((range, on_disk)) = self.next_run(blocks, sources, 0) {
            let flight = self.begin(flights, &blocks[range.clone()], on_disk, false);
            for (at, source) in sources[range].iter_mut().enumerate() {
                *source = Some(Source::Flying(Passage { flight: flight.clone(), at, ahead: false }));
            }
        }
    }

    /// The first run of blocks from `from` on that have no source, and whether it is to be read from the disk.
    fn next_run(
        &self,
        blocks: &[BlockRef],
        sources: &[Option<Source>],
        from: usize,
    ) -> Option<(Range<usize>, bool)> {
        let start = from + sources[from..].iter().position(Option::is_none)?;
        let first_on_disk = self.is_on_disk(&blocks[start]);
        let alike = blocks[start..].iter().zip(&sources[start..]).enumerate();
        let alike = alike.take_while(|(n, (block, source))| {
            source.is_none() && (*n == 0 || self.is_on_disk(block) == first_on_disk)
        });
        let alike = alike.count();
        Some((start..start + run_length(&blocks[start..start + alike]), first_on_disk))
    }

    fn begin(
        &self,
        flights: &mut BTreeMap<BlockKey, Seat>,
        run: &[BlockRef],
        on_disk: bool,
        ahead: bool,
    ) -> Flight {
        let flight_id = self.0.flight_ids.fetch_add(1, Ordering::Relaxed);
        let flight = self.0.clone().flight(flight_id, run.to_vec(), on_disk, ahead);
        let weak = flight.downgrade().expect("a future that was never polled has not ended");
        for (at, block) in run.iter().enumerate() {
            flights.insert(BlockKey::of(block), Seat { flight: weak.clone(), flight_id, at, ahead });
        }
        flight
    }

    async fn bytes(&self, source: Source, block: &BlockRef) -> Result<Bytes, IndexError> {
        let Passage { flight, at, ahead } = match source {
            Source::Cached(bytes) => return Ok(bytes),
            Source::Flying(passage) => passage,
            Source::InPart(flight) => return block_of(flight, block).await,
        };
        match &flight.await.blocks[at] {
            Ok(bytes) => {
                if ahead {
                    self.0.memory.insert(&BlockKey::of(block), bytes);
                    self.0.show_usage();
                }
                Ok(bytes.clone())
            }
            Err(error) => Err(IndexError::for_another(error)),
        }
    }
}

impl Inner {
    /// One flight for `run`. Its seats are given up with what it brought, or when nobody waits for it any more.
    fn flight(self: Arc<Self>, flight_id: u64, run: Vec<BlockRef>, on_disk: bool, ahead: bool) -> Flight {
        let keys = run.iter().map(BlockKey::of).collect();
        let seats = Seats { inner: self.clone(), flight_id, keys };
        let flight = async move {
            let blocks = self.fetch(run, on_disk).await;
            if !ahead {
                self.keep(&seats.keys, &blocks);
            }
            Arc::new(Landing { blocks, _seats: seats })
        };
        flight.boxed().shared()
    }

    /// The block, where memory has it.
    pub(super) fn cached(&self, block: &BlockRef) -> Option<Bytes> {
        self.memory.get(&BlockKey::of(block))
    }

    fn keep(&self, keys: &[BlockKey], blocks: &[Result<Bytes, Arc<ReadError>>]) {
        for (key, block) in keys.iter().zip(blocks) {
            if let Ok(bytes) = block {
                self.memory.insert(key, bytes);
            }
        }
        self.show_usage();
    }

    /// Brings the blocks of a part, and keeps them in memory. The disk is offered them when they are pushed out of there: most are
    /// not what was asked for.
    pub(super) async fn bring_part(&self, run: Vec<BlockRef>) -> Vec<Result<Bytes, Arc<ReadError>>> {
        let keys: Vec<_> = run.iter().map(BlockKey::of).collect();
        let _charge = self.charge(&run).await;
        let blocks = self.get(run).await;
        self.keep(&keys, &blocks);
        blocks
    }

    /// Waits until there is memory for a run, which is on its way from then on.
    async fn charge(&self, run: &[BlockRef]) -> (Charge, InFlight) {
        let size = bytes_of(run);
        let charge = self.budget.charge(usize::try_from(size).unwrap_or(usize::MAX)).await;
        (charge, self.metrics.in_flight(size))
    }

    fn show_usage(&self) {
        self.metrics.bytes.set(self.memory.usage() as i64);
    }

    /// The blocks of a run, from the disk where it has them, and what it does not give from the store.
    async fn fetch(&self, run: Vec<BlockRef>, on_disk: bool) -> Vec<Result<Bytes, Arc<ReadError>>> {
        let _charge = self.charge(&run).await;
        let found = match &self.disk {
            Some(disk) if on_disk => self.read_disk(disk, &run).await,
            _ => return self.get_and_offer(run).await,
        };
        let mut blocks = Vec::with_capacity(run.len());
        while blocks.len() < run.len() {
            let from = blocks.len();
            let missing = found[from..].iter().take_while(|block| block.is_none()).count();
            if missing > 0 {
                blocks.extend(self.get_and_offer(run[from..from + missing].to_vec()).await);
            }
            let there = found[from + missing..].iter().map_while(Option::clone);
            blocks.extend(there.map(Ok));
        }
        blocks
    }

    async fn read_disk(&self, disk: &DiskCache, run: &[BlockRef]) -> Vec<Option<Bytes>> {
        let reads =
            run.iter().map(|block| async move { disk.read(&BlockKey::of(block), &block.entry).await });
        join_all(reads).await
    }

    /// One GET for all of `run`; what came is offered to the disk.
    async fn get_and_offer(&self, run: Vec<BlockRef>) -> Vec<Result<Bytes, Arc<ReadError>>> {
        let keys: Vec<_> = run.iter().map(BlockKey::of).collect();
        let blocks = self.get(run).await;
        if let Some(disk) = &self.disk {
            let good = keys.iter().zip(&blocks).filter_map(|(key, block)| Some((key, block.as_ref().ok()?)));
            good.for_each(|(key, block)| disk.offer(key, block));
        }
        blocks
    }

    /// One GET for all of `run`: blocks of one object in the order of their places.
    async fn get(&self, run: Vec<BlockRef>) -> Vec<Result<Bytes, Arc<ReadError>>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Vec::new() };
        let (path, range) = (first.path.clone(), first.entry.position..last.entry.end_position());
        match self.store.get_range(&path, range, Purpose::Fetch).await {
            Ok(bytes) => {
                self.metrics.fetched_bytes.inc_by(bytes.len() as u64);
                self.runtime.compute(move || take_apart(&bytes, &run)).await
            }
            Err(error) => {
                let error = Arc::new(ReadError::Store(error));
                run.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}

/// The seats of a flight. Dropping it gives them up, unless another flight has them by now.
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

/// Bytes from the beginning of the first to the end of the last of adjacent blocks.
fn bytes_of(run: &[BlockRef]) -> u64 {
    match (run.first(), run.last()) {
        (Some(first), Some(last)) => last.entry.end_position() - first.entry.position,
        _ => 0,
    }
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
fn take_apart(bytes: &Bytes, run: &[BlockRef]) -> Vec<Result<Bytes, Arc<ReadError>>> {
    let start = run.first().map_or(0, |block| block.entry.position);
    run.iter().map(|block| take_block(bytes, start, block, run.len() > 1)).collect()
}

/// The bytes of `block` out of those of its object from `start` on.
fn take_block(bytes: &Bytes, start: u64, block: &BlockRef, copy: bool) -> Result<Bytes, Arc<ReadError>> {
    let place =
        |position: u64| usize::try_from(position - start).map_or(bytes.len(), |at| at.min(bytes.len()));
    let bytes = bytes.slice(place(block.entry.position)..place(block.entry.end_position()));
    match check_block(&bytes, &block.entry) {
        // A block that stays in the cache must not keep the others' memory from being freed.
        Ok(()) if copy => Ok(Bytes::copy_from_slice(&bytes)),
        Ok(()) => Ok(bytes),
        Err(source) => Err(Arc::new(ReadError::Format { path: block.path.clone(), source })),
    }
}
