//! What is read ahead of consumers, in virtual time. A GET takes 50 ms.

use super::*;
use crate::{LogCache, Tail};
use tokio::time::Instant;

const MIB: usize = 1 << 20;
const BATCHES: i64 = 120;
const AHEAD: usize = 16 * MIB;

/// 36 MB of a log, none of it in memory.
async fn cold(read_ahead: &Budget) -> World {
    let mut world = World::new().await;
    for part in 0..4 {
        let bases = (0..BATCHES / 4).map(|n| 2 * (part * BATCHES / 4 + n));
        world.segment(batches(bases, LARGE)).await;
    }
    let settings =
        BlockCacheSettings { memory: 8 * MIB, read_ahead: read_ahead.clone(), ..settings(0, &world.budget) };
    world.reader = reader(&world.flushes, &world.index, settings);
    world
}

fn fetched(world: &World) -> u64 {
    world.reader.0.blocks.fetched_bytes()
}

/// Bytes of the data, and of the blocks that hold it.
fn data_bytes() -> u64 {
    BATCHES as u64 * batch(0, LARGE).len() as u64
}

/// Reads all there is, `max_bytes` at a time. Returns how many reads that took.
async fn read_all(world: &World, max_bytes: usize) -> usize {
    let (mut at, mut reads) = (0, 0);
    while at < 2 * BATCHES {
        let runs = world.read(at, max_bytes).await;
        assert_eq!(bases(&runs)[0], at);
        at = runs.last().expect("there is more").end.0;
        reads += 1;
    }
    reads
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_and_on_gets_cold_data_by_few_large_gets_in_parallel() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    let (before, began) = (world.gets(), Instant::now());
    let reads = read_all(&world, MIB).await;
    let gets = world.gets() - before;
    assert!(reads >= 36 && gets <= 20, "{gets} GETs for {reads} reads");
    assert_eq!(fetched(&world), data_bytes());
    let elapsed = began.elapsed();
    assert!(elapsed <= Duration::from_millis(50 * 6), "{elapsed:?}: as long as six GETs");
}

#[tokio::test(start_paused = true)]
async fn who_reads_here_and_there_gets_what_was_asked_for_and_no_more() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    for n in 0..20 {
        world.read(n * 77 % BATCHES * 2, LARGE).await;
    }
    assert!(fetched(&world) <= 20 * 2 * batch(0, LARGE).len() as u64);
}

#[tokio::test(start_paused = true)]
async fn consumers_at_about_the_same_place_share_what_is_read_ahead() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    join_all((0..5).map(|_| read_all(&world, MIB))).await;
    assert_eq!(fetched(&world), data_bytes());
}

#[tokio::test(start_paused = true)]
async fn what_is_read_ahead_stays_in_its_budget_and_goes_when_nobody_comes_for_it() {
    let budget = Budget::new("read_ahead", 5 * MIB);
    let world = cold(&budget).await;
    for start in [0, 60, 120] {
        let mut at = start;
        for _ in 0..8 {
            at = world.read(at, MIB).await.last().expect("there is more").end.0;
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(budget.used() <= 5 * MIB);
        }
        assert!(budget.used() > 0, "something is held for the next read");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((budget.used(), world.budget.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_starts_gets_the_memory_of_one_that_has_stopped() {
    let budget = Budget::new("read_ahead", 8 * MIB);
    let world = cold(&budget).await;
    let mut at = 0;
    for _ in 0..8 {
        at = world.read(at, MIB).await.last().expect("there is more").end.0;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (held, before) = (budget.used(), world.gets());
    assert!(held > 4 * MIB, "{held} bytes for the one that stopped");
    let mut at = 120;
    for _ in 0..20 {
        at = world.read(at, MIB).await.last().expect("there is more").end.0;
    }
    assert!(world.gets() - before <= 16, "{} GETs for 20 reads", world.gets() - before);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_ahead_while_readers_wait_for_memory() {
    let budget = Budget::new("read_ahead", AHEAD);
    let world = cold(&budget).await;
    let mut at = 0;
    for _ in 0..2 {
        at = world.read(at, MIB).await.last().expect("there is more").end.0;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = budget.used();
    let all = world.budget.charge(usize::MAX).await;
    let mut waiting = Box::pin(world.read(120, MIB));
    assert!(poll!(&mut waiting).is_pending());
    // What is held serves these, and a plan follows.
    world.read(at, MIB).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(budget.used() <= held);
    drop(all);
    assert_eq!(bases(&waiting.await)[0], 120);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_the_limit_is_read_ahead() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    let limit = Offset(40);
    let mut at = Offset(0);
    while at < limit {
        let runs = world.reader.read(LOG, at, limit, MIB, true).await.expect("readable");
        at = runs.last().expect("there is more").end;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fetched(&world), 20 * batch(0, LARGE).len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_under_what_is_read_ahead_fails_nobody_who_comes_when_it_is_well_again() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    let (_, at) = (world.read(0, MIB).await, 6);
    let paths: Vec<_> = world.index.extents(LOG).iter().map(|extent| extent.object.path.clone()).collect();
    let mut saved = Vec::new();
    for path in paths.iter().skip(1) {
        saved.push((path.clone(), world.flushes.store.get(path, Purpose::Flush).await.expect("there")));
        world.flushes.store.delete(vec![path.clone()], Purpose::Cleanup).await.expect("deleted");
    }
    let mut at = at;
    while at < BATCHES / 4 * 2 {
        at = world.read(at, MIB).await.last().expect("there is more").end.0;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (path, bytes) in saved {
        world.flushes.store.put(&path, bytes.into(), Purpose::Flush).await.expect("written");
    }
    assert_eq!(bases(&world.read(at, MIB).await)[0], at);
}

#[tokio::test(start_paused = true)]
async fn cold_readers_never_push_the_tail_out_of_memory() {
    let world = cold(&Budget::new("read_ahead", AHEAD)).await;
    let tail = LogCache::new(MIB, &mut Registry::default());
    let end = 2 * BATCHES;
    (0..3).for_each(|n| tail.append(LOG, batch(end + 2 * n, LARGE)));
    tail.flushed(LOG, Offset(end + 6));
    join_all([read_all(&world, MIB), read_all(&world, 4 * MIB)]).await;
    assert_eq!(tail.first_offset(LOG), Some(Offset(end)));
    let read = tail.read(LOG, Offset(end), FOREVER, usize::MAX, true);
    assert!(matches!(read, Tail::Hit(batches) if batches.len() == 3));
}
