mod ahead;
mod disk;
mod parts;

use super::*;
use futures::{future::join_all, poll};
use object_store::{
    memory::InMemory,
    path::Path,
    throttle::{ThrottleConfig, ThrottledStore},
};
use prometheus_client::registry::Registry;
use std::time::Duration;
use thalweg_metadata::{
    Commit,
    testing::{Flushes, runtime},
};
use thalweg_segment::{
    Batch, FormatError, Method, Purpose, segment_path, split_batches, testing::BatchBuilder,
};

const LOG: LogId = LogId(7);
const FOREVER: Offset = Offset(i64::MAX);
/// Two of these make a block.
const LARGE: usize = 300_000;

/// A batch of two records.
fn batch(base: i64, bytes: usize) -> Batch {
    BatchBuilder::new().base_offset(base).records(2, bytes / 2).build()
}

fn batches(bases: impl IntoIterator<Item = i64>, bytes: usize) -> Vec<Batch> {
    bases.into_iter().map(|base| batch(base, bytes)).collect()
}

/// A reader of logs in a store whose GETs take 50 ms (of virtual time).
struct World {
    flushes: Flushes,
    index: ObjectIndex,
    reader: BlockReader,
    budget: Budget,
}

impl World {
    async fn new() -> Self {
        Self::with(64 << 20, 64 << 20).await
    }

    async fn with(capacity: usize, budget: usize) -> Self {
        let config =
            ThrottleConfig { wait_get_per_call: Duration::from_millis(50), ..ThrottleConfig::default() };
        let flushes = Flushes::into(Arc::new(ThrottledStore::new(InMemory::new(), config))).await;
        let index = flushes.load().await;
        let budget = Budget::new("fetch", budget);
        let reader = reader(&flushes, &index, settings(capacity, &budget));
        Self { flushes, index, reader, budget }
    }

    /// Adds a log segment, and reads its index block into the index's cache. Returns where it lies.
    async fn segment(&mut self, batches: Vec<Batch>) -> Path {
        let record = self.flushes.log(LOG, batches).await;
        self.index.add(&Commit { logs: vec![record], ..Commit::default() }, None);
        self.index.blocks_at(LOG, record.base_offset, 1).await.expect("readable");
        segment_path(record.id)
    }

    fn gets(&self) -> u64 {
        self.flushes.store.requests().of_method(Method::Get)
    }

    async fn read(&self, from: i64, max_bytes: usize) -> Vec<Run> {
        self.reader.read(LOG, Offset(from), FOREVER, max_bytes, true).await.expect("readable")
    }

    /// Replaces the byte at `position` of an object.
    async fn damage(&self, path: &Path, position: usize) {
        let mut bytes = self.flushes.store.get(path, Purpose::Fetch).await.expect("there").to_vec();
        bytes[position] ^= 1;
        self.flushes.store.put(path, bytes.into(), Purpose::Flush).await.expect("written");
    }
}

/// In memory alone, and nothing is read ahead.
fn settings(memory: usize, reads: &Budget) -> BlockCacheSettings {
    BlockCacheSettings {
        memory,
        disk: None,
        cluster_id: "test".to_owned(),
        reads: reads.clone(),
        read_ahead: Budget::new("read_ahead", 1),
    }
}

fn reader(flushes: &Flushes, index: &ObjectIndex, settings: BlockCacheSettings) -> BlockReader {
    let (store, index) = (flushes.store.clone(), index.clone());
    BlockReader::new(runtime(), store, index, settings, &mut Registry::default())
}

fn bases(runs: &[Run]) -> Vec<i64> {
    let mut found = Vec::new();
    for run in runs {
        let batches = split_batches(run.bytes.clone()).expect("whole batches");
        assert_eq!(batches.last().map(|batch| batch.end_offset()), Some(run.end));
        found.extend(batches.iter().map(|batch| batch.base_offset().0));
    }
    found
}

fn is_bad_crc<T>(result: &Result<T, IndexError>) -> bool {
    matches!(result, Err(IndexError::Read(ReadError::Format { source: FormatError::BadCrc { .. }, .. })))
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_over_blocks_and_extents_from_the_batch_that_holds_the_offset() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    world.segment(batches([8, 10], LARGE)).await;
    assert_eq!(bases(&world.read(3, usize::MAX).await), [2, 4, 6, 8, 10]);
    assert_eq!(bases(&world.read(11, usize::MAX).await), [10]);
    assert!(world.read(12, usize::MAX).await.is_empty());
    assert!(world.reader.read(LogId(1), Offset(0), FOREVER, 1, true).await.expect("no such log").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_read_stops_at_the_limit_and_at_max_bytes() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let read = |limit, max_bytes, at_least_one| {
        world.reader.read(LOG, Offset(0), Offset(limit), max_bytes, at_least_one)
    };
    let one = batch(0, LARGE).len();
    for (limit, max_bytes, at_least_one, expected) in [
        (100, 2 * one, false, vec![0, 2]),
        (100, 3 * one, false, vec![0, 2, 4]),
        (100, 3 * one - 1, true, vec![0, 2]),
        (5, usize::MAX, true, vec![0, 2]),
        (6, usize::MAX, true, vec![0, 2, 4]),
        (1, usize::MAX, true, vec![]),
        (0, usize::MAX, true, vec![]),
        (100, one - 1, true, vec![0]),
        (100, one - 1, false, vec![]),
        (100, 0, true, vec![0]),
        (100, 0, false, vec![]),
    ] {
        let runs = read(limit, max_bytes, at_least_one).await.expect("readable");
        assert_eq!(bases(&runs), expected, "limit {limit}, {max_bytes} bytes, {at_least_one}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_reads_no_more_than_its_cap_in_gets_of_bounded_size() {
    let mut world = World::new().await;
    world.segment(batches((0..100).map(|n| 2 * n), LARGE)).await;
    let before = world.gets();
    let runs = world.read(0, usize::MAX).await;
    let bytes: usize = runs.iter().map(|run| run.bytes.len()).sum();
    assert!((MAX_READ_BYTES - LARGE..=MAX_READ_BYTES).contains(&bytes), "{bytes}");
    assert_eq!(world.gets() - before, 3, "of about 4 MiB each");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_beyond_what_max_bytes_has_room_for() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let before = world.gets();
    assert_eq!(bases(&world.read(0, 2 * batch(0, LARGE).len()).await), [0, 2]);
    assert_eq!(world.gets() - before, 1, "the first block alone");
    assert!(
        world.reader.read(LOG, Offset(4), FOREVER, 0, false).await.expect("nothing asked for").is_empty()
    );
    assert_eq!(world.gets() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn readers_of_the_same_blocks_share_one_get_and_then_the_cache() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let before = world.gets();
    for runs in join_all((0..10).map(|_| world.read(0, usize::MAX))).await {
        assert_eq!(bases(&runs), [0, 2, 4, 6]);
    }
    assert_eq!(bases(&world.read(4, usize::MAX).await), [4, 6]);
    assert_eq!(world.gets() - before, 1);
    assert_eq!(world.budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_leaves_its_get_to_those_who_wait_for_it() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let before = world.gets();
    let mut first = Box::pin(world.read(0, usize::MAX));
    assert!(poll!(&mut first).is_pending());
    let mut second = Box::pin(world.read(0, usize::MAX));
    assert!(poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(bases(&second.await), [0, 2, 4, 6]);
    assert_eq!(world.gets() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_get_that_nobody_waits_for_is_dropped_with_its_charge() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let mut only = Box::pin(world.read(0, usize::MAX));
    assert!(poll!(&mut only).is_pending());
    assert!(world.budget.used() > 0, "charged before the GET");
    drop(only);
    assert_eq!(world.budget.used(), 0);
    assert_eq!(bases(&world.read(0, usize::MAX).await), [0, 2, 4, 6]);
}

#[tokio::test(start_paused = true)]
async fn reads_wait_for_memory_and_a_budget_smaller_than_a_block_still_lets_them_through() {
    let mut world = World::with(64 << 20, 1000).await;
    world.segment(batches((0..30).map(|n| 2 * n), LARGE)).await;
    let charge = world.budget.charge(1).await;
    let mut waiting = Box::pin(world.read(0, usize::MAX));
    let before = world.gets();
    assert!(tokio::time::timeout(Duration::from_secs(9), &mut waiting).await.is_err());
    assert_eq!(world.gets(), before);
    drop(charge);
    assert_eq!(bases(&waiting.await).len(), 27, "in several GETs, one at a time");
}

#[tokio::test(start_paused = true)]
async fn a_block_with_a_bad_checksum_is_an_error_for_itself_alone_and_is_not_kept() {
    let mut world = World::new().await;
    let path = world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let second_block = 8 + 2 * batch(0, LARGE).len() + 1000;
    world.damage(&path, second_block).await;
    assert_eq!(bases(&world.read(0, usize::MAX).await), [0, 2], "what is before it is still served");
    let reads = (0..3).map(|_| world.reader.read(LOG, Offset(4), FOREVER, usize::MAX, true));
    assert!(join_all(reads).await.iter().all(is_bad_crc));
    world.damage(&path, second_block).await;
    assert_eq!(bases(&world.read(4, usize::MAX).await), [4, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_get_fails_all_who_waited_and_none_who_come_later() {
    let mut world = World::new().await;
    let path = world.segment(batches([0, 2], LARGE)).await;
    let good = world.flushes.store.get(&path, Purpose::Fetch).await.expect("there");
    world.flushes.store.delete(vec![path.clone()], Purpose::Cleanup).await.expect("deleted");
    let before = world.gets();
    let reads = (0..5).map(|_| world.reader.read(LOG, Offset(0), FOREVER, usize::MAX, true));
    assert!(join_all(reads).await.iter().all(|read| read.as_ref().is_err_and(is_gone)));
    assert_eq!(world.gets() - before, 2, "asked for once more, in case that the index has changed");
    world.flushes.store.put(&path, good.into(), Purpose::Flush).await.expect("written");
    assert_eq!(bases(&world.read(0, usize::MAX).await), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_cache_smaller_than_a_block_serves_without_keeping() {
    let mut world = World::with(1000, 64 << 20).await;
    world.segment(batches([0, 2], LARGE)).await;
    let before = world.gets();
    for _ in 0..2 {
        assert_eq!(bases(&world.read(0, usize::MAX).await), [0, 2]);
    }
    assert_eq!(world.gets() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_cached_block_does_not_keep_its_neighbours_in_memory() {
    let mut world = World::new().await;
    world.segment(batches([0, 2, 4, 6], LARGE)).await;
    let runs = world.read(0, usize::MAX).await;
    let block = 2 * batch(0, LARGE).len();
    let distance = runs[1].bytes.as_ptr().addr().abs_diff(runs[0].bytes.as_ptr().addr());
    assert_ne!(distance, block, "not two slices of one buffer");
}

#[tokio::test(start_paused = true)]
async fn batches_that_the_index_leaves_out_of_a_block_are_not_served() {
    let mut world = World::new().await;
    let (manifest, mut index) = world.flushes.adopted(&[&[(LOG, batches([0, 2, 4, 6], 100))]]).await;
    let block = &mut Arc::make_mut(&mut index).blocks[0];
    (block.base_offset, block.end_offset) = (Offset(2), Offset(6));
    block.batches = block.batches[1..3].to_vec();
    world.index.add_manifest(&manifest, index);
    assert_eq!(bases(&world.read(0, usize::MAX).await), [2, 4]);
    assert!(world.read(6, usize::MAX).await.is_empty());
}
