//! Small blocks of many logs that lie in few objects.

use super::*;
use thalweg_segment::{WalSequence, wal_path};

const LOGS: u64 = 50;
const OBJECTS: i64 = 12;
const ALL: usize = usize::MAX;

/// A reader, and `OBJECTS` adopted WAL objects with a small batch of each of `LOGS` logs in each. Returns where they lie.
async fn adopted(capacity: usize) -> (World, Vec<Path>) {
    let mut world = World::with(capacity, 64 << 20).await;
    let content = |object: i64| -> Vec<(LogId, Vec<Batch>)> {
        (0..LOGS).map(|log| (LogId(log), vec![batch(2 * object, 300)])).collect()
    };
    let contents: Vec<_> = (0..OBJECTS).map(content).collect();
    let contents: Vec<_> = contents.iter().map(Vec::as_slice).collect();
    let (manifest, index) = world.flushes.adopted(&contents).await;
    world.index.add_manifest(&manifest, index);
    let dead = manifest.adopts.expect("a manifest");
    let paths = (0..OBJECTS).map(|sequence| wal_path(dead, WalSequence(sequence as u64)));
    (world, paths.collect())
}

fn everything() -> Vec<i64> {
    (0..OBJECTS).map(|object| 2 * object).collect()
}

async fn read_once(world: &World, log: u64) -> Result<Vec<Run>, IndexError> {
    world.reader.read_once(LogId(log), Offset(0), FOREVER, ALL).await
}

#[tokio::test(start_paused = true)]
async fn many_logs_are_read_from_few_small_objects_with_one_get_for_each_object() {
    let (world, _) = adopted(64 << 20).await;
    let before = world.gets();
    for runs in join_all((0..LOGS).map(|log| read_once(&world, log))).await {
        assert_eq!(bases(&runs.expect("readable")), everything());
    }
    assert_eq!(world.gets() - before, OBJECTS as u64);
    assert_eq!(world.budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn logs_that_are_read_one_after_the_other_find_what_came_with_the_first() {
    let (world, _) = adopted(64 << 20).await;
    let before = world.gets();
    for log in 0..LOGS {
        assert_eq!(bases(&read_once(&world, log).await.expect("readable")), everything());
    }
    assert_eq!(world.gets() - before, OBJECTS as u64);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_once_does_not_stay_in_the_cache_and_what_others_may_read_does() {
    let (world, _) = adopted(64 << 20).await;
    for log in 0..LOGS / 2 {
        read_once(&world, log).await.expect("readable");
    }
    let before = world.gets();
    for log in LOGS / 2..LOGS {
        for _ in 0..2 {
            let runs = world.reader.read(LogId(log), Offset(0), FOREVER, ALL, true).await.expect("readable");
            assert_eq!(bases(&runs), everything());
        }
    }
    assert_eq!(world.gets() - before, 0);
    assert_eq!(bases(&read_once(&world, 0).await.expect("readable")), everything());
    assert_eq!(world.gets() - before, OBJECTS as u64, "read again, as nothing was kept");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_was_read_in_part_is_kept_for_the_rest() {
    let mut world = World::new().await;
    let content = [(LOG, batches([0, 2, 4], 300)), (LogId(8), batches([0], 300))];
    let (manifest, index) = world.flushes.adopted(&[&content]).await;
    world.index.add_manifest(&manifest, index);
    let before = world.gets();
    let one = batch(0, 300).len();
    for base in [0, 2, 4] {
        let runs = world.reader.read_once(LOG, Offset(base), FOREVER, one).await.expect("readable");
        assert_eq!(bases(&runs), [base]);
    }
    assert_eq!(world.gets() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_cache_those_who_come_together_still_share_their_gets() {
    let (world, _) = adopted(0).await;
    let before = world.gets();
    for runs in join_all((0..LOGS).map(|log| read_once(&world, log))).await {
        assert_eq!(bases(&runs.expect("readable")), everything());
    }
    assert_eq!(world.gets() - before, OBJECTS as u64);
}

#[tokio::test(start_paused = true)]
async fn damage_to_a_block_of_a_part_is_an_error_for_its_log_alone() {
    let (world, paths) = adopted(64 << 20).await;
    let one = batch(0, 300).len();
    // The blocks lie in the order of their logs behind the object's header.
    world.damage(&paths[0], 8 + 3 * one + 100).await;
    for (log, read) in (0..).zip(join_all((0..LOGS).map(|log| read_once(&world, log))).await) {
        match log {
            3 => assert!(is_bad_crc(&read)),
            _ => assert_eq!(bases(&read.expect("readable")), everything()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_gone_is_an_error_for_all_who_wait_for_it_and_for_none_who_come_later() {
    let (world, paths) = adopted(64 << 20).await;
    let store = &world.flushes.store;
    let good = store.get(&paths[0], Purpose::Fetch).await.expect("there");
    store.delete(vec![paths[0].clone()], Purpose::Cleanup).await.expect("deleted");
    let reads = join_all((0..LOGS).map(|log| read_once(&world, log))).await;
    assert!(reads.iter().all(|read| read.as_ref().is_err_and(is_gone)));
    store.put(&paths[0], good.into(), Purpose::Flush).await.expect("written");
    assert_eq!(bases(&read_once(&world, 0).await.expect("readable")), everything());
}

#[tokio::test(start_paused = true)]
async fn a_part_outlives_who_asked_first_and_is_dropped_with_who_waits_last() {
    let (world, _) = adopted(64 << 20).await;
    let before = world.gets();
    let mut first = Box::pin(read_once(&world, 0));
    let mut second = Box::pin(read_once(&world, 1));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(bases(&second.await.expect("readable")), everything());
    assert_eq!(world.gets() - before, OBJECTS as u64);
    let (world, _) = adopted(64 << 20).await;
    let mut only = Box::pin(read_once(&world, 0));
    assert!(poll!(&mut only).is_pending());
    assert!(world.budget.used() > 0, "charged before the GETs");
    drop(only);
    assert_eq!(world.budget.used(), 0);
    assert_eq!(bases(&read_once(&world, 1).await.expect("readable")), everything());
}

#[tokio::test(start_paused = true)]
async fn small_blocks_of_a_shared_segment_are_read_with_their_neighbours_too() {
    let mut world = World::new().await;
    let content: Vec<_> = (0..LOGS).map(|log| (LogId(log), vec![batch(0, 300)])).collect();
    let (record, index) = world.flushes.shared(&content).await;
    world.index.add(&Commit { shared: Some(record), ..Commit::default() }, Some(index));
    let before = world.gets();
    for log in 0..LOGS {
        let runs = world.reader.read(LogId(log), Offset(0), FOREVER, ALL, true).await.expect("readable");
        assert_eq!(bases(&runs), [0]);
    }
    assert_eq!(world.gets() - before, 1);
}
