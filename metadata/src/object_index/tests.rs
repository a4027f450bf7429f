use super::{testing::Flushes, *};
use object_store::{memory::InMemory, throttle::ThrottleConfig, throttle::ThrottledStore};
use std::time::Duration;
use thalweg_segment::{Batch, LogState, Method, ProducerId, Purpose, StoreError, testing::BatchBuilder};

const A: LogId = LogId(1);
const B: LogId = LogId(2);

async fn flushes() -> Flushes {
    Flushes::into(Arc::new(InMemory::new())).await
}

fn batch(base: i64, records: usize) -> Batch {
    BatchBuilder::new().base_offset(base).timestamp(base).records(records, 100).build()
}

fn transactional(base: i64, producer: i64) -> Batch {
    BatchBuilder::new().base_offset(base).producer(producer, 0, 0).transactional().records(1, 10).build()
}

fn marker(base: i64, producer: i64, committed: bool) -> Batch {
    BatchBuilder::new().base_offset(base).producer(producer, 0, -1).marker(committed, 0).build()
}

fn shape_of(index: &ObjectIndex, log: LogId) -> Vec<(i64, i64, Kind)> {
    index.extents(log).iter().map(|extent| (extent.base.0, extent.end.0, extent.object.kind)).collect()
}

fn gets(store: &Store) -> u64 {
    store.requests().of_method(Method::Get)
}

#[tokio::test]
async fn a_loaded_index_is_the_same_as_one_that_grew_by_commits() {
    let mut flushes = flushes().await;
    let grown = flushes.load().await;
    let (shared, index) = flushes.shared(&[(A, vec![batch(0, 5)]), (B, vec![batch(0, 2)])]).await;
    let logs = vec![flushes.log(A, vec![batch(5, 5)]).await];
    let commit = Commit { shared: Some(shared), logs, ..Commit::default() };
    flushes.commit(&commit).await;
    grown.add(&commit, Some(index.clone()));
    grown.add(&commit, Some(index));
    for index in [grown, flushes.load().await] {
        assert_eq!(shape_of(&index, A), [(0, 5, Kind::Shared), (5, 10, Kind::Log)]);
        assert_eq!(shape_of(&index, B), [(0, 2, Kind::Shared)]);
        assert_eq!(index.committed_end(A), Offset(10));
        assert_eq!(index.extent_at(A, Offset(7)).map(|extent| extent.base), Some(Offset(5)));
        assert!(index.extent_at(A, Offset(10)).is_none());
        assert_eq!(index.committed_end(LogId(3)), Offset(0));
    }
}

#[tokio::test]
async fn a_log_segment_hides_what_an_adopted_wal_object_holds_too() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let wal = [(A, vec![batch(0, 5), batch(5, 5), batch(10, 5)])];
    let log = flushes.log(A, vec![batch(5, 5)]).await;
    let (manifest, adopted) = flushes.adopted(&[&wal]).await;
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    index.add_manifest(&manifest, adopted);
    let expected = [(0, 5, Kind::Manifest), (5, 10, Kind::Log), (10, 15, Kind::Manifest)];
    assert_eq!(shape_of(&index, A), expected);
    for extent in index.extents(A) {
        let entries = index.entries(A, &extent).await.expect("readable");
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].base_offset, entries[0].end_offset()), (extent.base, extent.end));
    }
    let last = index.blocks_at(A, Offset(10), 1).await.expect("readable");
    assert_eq!((last[0].entry.base_offset, last[0].entry.end_offset), (Offset(10), Offset(15)));
    assert_eq!(flushes.state(A), index.states(&[A]).await.expect("readable")[0].1);
}

#[tokio::test]
async fn blocks_of_a_manifest_lie_in_the_wal_objects() {
    let mut flushes = flushes().await;
    let (first, second) = ([(A, vec![batch(0, 5)])], [(A, vec![batch(5, 5)])]);
    let (manifest, adopted) = flushes.adopted(&[&first, &second]).await;
    let index = flushes.load().await;
    index.add_manifest(&manifest, adopted);
    let blocks = index.blocks_at(A, Offset(2), usize::MAX).await.expect("readable");
    let bases: Vec<_> = blocks.iter().map(|block| block.entry.base_offset.0).collect();
    assert_eq!(bases, [0, 5]);
    let dead = manifest.adopts.expect("a manifest");
    assert_eq!(blocks[1].path, wal_path(dead, WalSequence(1)));
    assert!(blocks[0].entry.batches.is_empty());
    assert_eq!(index.blocks_at(A, Offset(2), 1).await.expect("readable").len(), 1);
    let extent = index.extent_at(A, Offset(0)).expect("there");
    assert_eq!(index.blocks_of(A, &extent).await.expect("readable")[1].entry.batches.len(), 1);
}

#[tokio::test]
async fn the_state_is_the_newest_state_block_and_the_entries_behind_it() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let logs: Vec<_> = (0..50).map(LogId).collect();
    let all =
        |base| logs.iter().map(|log| (*log, vec![transactional(base, log.0 as i64)])).collect::<Vec<_>>();
    for base in [0, 1] {
        let (shared, blocks) = flushes.shared(&all(base)).await;
        index.add(&Commit { shared: Some(shared), ..Commit::default() }, Some(blocks));
    }
    let (manifest, adopted) = flushes.adopted(&[&all(2), &all(3)]).await;
    index.add_manifest(&manifest, adopted);
    let before = gets(&flushes.store);
    let mut states = index.states(&[&logs[..], &[LogId(99)]].concat()).await.expect("readable");
    assert!(
        gets(&flushes.store) - before <= 3,
        "the newest shared segment's index and states, the manifest's index"
    );
    assert_eq!(states.pop(), Some((LogId(99), LogState::default())));
    for (log, state) in states {
        assert_eq!(state.end, Offset(4));
        assert_eq!(state, flushes.state(log));
    }
}

#[tokio::test]
async fn a_state_block_keeps_the_end_of_a_log_whose_batches_are_gone() {
    let mut flushes = flushes().await;
    flushes.log(A, vec![batch(0, 5)]).await;
    let (shared, blocks) = flushes.shared(&[(A, Vec::new())]).await;
    let index = flushes.load().await;
    index.add(&Commit { shared: Some(shared), ..Commit::default() }, Some(blocks));
    assert!(index.extents(A).is_empty());
    assert_eq!(index.committed_end(A), Offset(5));
    assert_eq!(index.states(&[A]).await.expect("readable"), [(A, flushes.state(A))]);
}

#[tokio::test]
async fn aborted_transactions_are_those_whose_marker_a_reader_has_before_it() {
    let mut flushes = flushes().await;
    let first = vec![transactional(0, 1), transactional(1, 2), marker(2, 1, false), batch(3, 1)];
    let logs = vec![
        flushes.log(A, first).await,
        flushes.log(A, vec![batch(4, 1), marker(5, 2, false)]).await,
        flushes.log(A, vec![transactional(6, 3), marker(7, 3, false)]).await,
    ];
    let index = flushes.load().await;
    index.add(&Commit { logs, ..Commit::default() }, None);
    for (from, to, expected) in [
        (0, 1, vec![1]),
        (0, 2, vec![1, 2]),
        (0, 4, vec![1, 2]),
        (3, 4, vec![2]),
        (3, 8, vec![2, 3]),
        (6, 7, vec![3]),
        (8, 9, vec![]),
    ] {
        let aborted = index.aborted(A, Offset(from), Offset(to)).await.expect("readable");
        let producers: Vec<_> = aborted.iter().map(|one| one.producer_id.0).collect();
        assert_eq!(producers, expected, "from {from} to {to}");
    }
}

#[tokio::test]
async fn a_reader_without_open_transactions_before_its_end_looks_no_further() {
    let mut flushes = flushes().await;
    let mut logs = Vec::new();
    for base in 0..20 {
        logs.push(flushes.log(A, vec![batch(base, 1)]).await);
    }
    let index = flushes.load().await;
    index.add(&Commit { logs, ..Commit::default() }, None);
    let before = gets(&flushes.store);
    assert!(index.aborted(A, Offset(3), Offset(4)).await.expect("readable").is_empty());
    assert_eq!(gets(&flushes.store) - before, 2, "one index block and one state block");
}

#[tokio::test]
async fn transactions_aborted_in_adopted_wal_objects_begin_where_earlier_objects_say() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let log = flushes.log(A, vec![batch(0, 1), transactional(1, 7)]).await;
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    for wal in [vec![(A, vec![batch(2, 1)])], vec![(A, vec![marker(3, 7, false)])]] {
        let (manifest, adopted) = flushes.adopted(&[&wal]).await;
        index.add_manifest(&manifest, adopted);
    }
    let aborted = index.aborted(A, Offset(0), Offset(4)).await.expect("readable");
    assert_eq!(aborted.len(), 1);
    let expected = (ProducerId(7), Offset(1), Offset(3));
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset, aborted[0].last_offset), expected);
}

#[tokio::test]
async fn a_deleted_log_stays_forgotten_when_a_commit_in_flight_holds_some_of_it() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let (shared, blocks) = flushes.shared(&[(A, vec![batch(0, 1)]), (B, vec![batch(0, 1)])]).await;
    index.remove(A);
    index.add(&Commit { shared: Some(shared), ..Commit::default() }, Some(blocks));
    assert_eq!((index.committed_end(A), index.committed_end(B)), (Offset(0), Offset(1)));
    index.retain(|log| log != B);
    assert!(index.extents(B).is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_for_an_index_block_share_one_get() {
    let config = ThrottleConfig { wait_get_per_call: Duration::from_millis(50), ..ThrottleConfig::default() };
    let mut flushes = Flushes::into(Arc::new(ThrottledStore::new(InMemory::new(), config))).await;
    let log = flushes.log(A, vec![batch(0, 1)]).await;
    let index = flushes.load().await;
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    let before = gets(&flushes.store);
    let reads = (0..10).map(|_| index.blocks_at(A, Offset(0), 1));
    for blocks in futures::future::join_all(reads).await {
        assert_eq!(blocks.expect("readable").len(), 1);
    }
    assert_eq!(gets(&flushes.store) - before, 1);
}

#[tokio::test]
async fn an_index_block_that_is_gone_or_another_objects_is_an_error_and_is_not_kept() {
    let mut flushes = flushes().await;
    let log = flushes.log(A, vec![batch(0, 1)]).await;
    let index = flushes.load().await;
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    let path = segment_path(log.id);
    let good = flushes.store.get(&path, Purpose::Fetch).await.expect("there");

    flushes.store.delete(vec![path.clone()], Purpose::Cleanup).await.expect("deleted");
    let gone = index.blocks_at(A, Offset(0), 1).await;
    assert!(matches!(gone, Err(IndexError::Read(ReadError::Store(StoreError::NotFound { .. })))));

    let other = flushes.log(A, vec![batch(0, 1)]).await;
    let other = flushes.store.get(&segment_path(other.id), Purpose::Fetch).await.expect("there");
    flushes.store.put(&path, other.into(), Purpose::Flush).await.expect("written");
    let wrong = index.blocks_at(A, Offset(0), 1).await;
    assert!(matches!(wrong, Err(IndexError::Read(ReadError::Format { .. }))));

    flushes.store.put(&path, good.into(), Purpose::Flush).await.expect("written");
    assert_eq!(index.blocks_at(A, Offset(0), 1).await.expect("readable").len(), 1);
}

#[tokio::test]
async fn a_rewrite_takes_the_place_of_what_it_removes_also_after_a_restart() {
    let mut flushes = flushes().await;
    let (one, two) = (LogId(1), LogId(2));
    let (first, first_index) = flushes.shared(&[(one, vec![batch(0, 5)]), (two, vec![batch(0, 1)])]).await;
    let (second, second_index) = flushes.shared(&[(one, vec![batch(5, 5)])]).await;
    let index = flushes.load().await;
    for (record, contents) in [(first, first_index), (second, second_index)] {
        let commit = Commit { shared: Some(record), ..Commit::default() };
        flushes.commit(&commit).await;
        index.add(&commit, Some(contents));
    }
    let replacement = flushes.log(one, vec![batch(0, 5), batch(5, 5)]).await;
    let (rest, rest_index) = flushes.shared(&[(two, vec![batch(0, 1)])]).await;
    let rewrite = Commit {
        shared: Some(rest),
        logs: vec![replacement],
        removed: vec![ObjectRecord::Shared(first), ObjectRecord::Shared(second)],
        ..Commit::default()
    };
    assert!(index.keeps_ends(&rewrite, Some(&rest_index)));
    flushes.commit(&rewrite).await;
    assert_eq!((index.rewrites(one), index.rewrites(two)), (0, 0), "a flush replaces nothing");
    index.rewrite(&rewrite, Some(rest_index));
    assert_eq!((index.rewrites(one), index.rewrites(two)), (1, 1));
    for index in [index, flushes.load().await] {
        assert_eq!(shape_of(&index, one), [(0, 10, Kind::Log)]);
        assert_eq!(shape_of(&index, two), [(0, 1, Kind::Shared)]);
        assert_eq!((index.committed_end(one), index.committed_end(two)), (Offset(10), Offset(1)));
        assert_eq!(index.objects(), [ObjectRecord::Log(replacement), ObjectRecord::Shared(rest)]);
        assert!(index.has_object(rest.id) && !index.has_object(first.id));
        let states = index.states(&[one, two]).await.unwrap();
        assert_eq!(states, [(one, flushes.state(one)), (two, flushes.state(two))]);
    }
}

#[tokio::test]
async fn a_rewrite_that_would_lose_the_end_or_the_state_of_a_log_is_told_before() {
    let mut flushes = flushes().await;
    let log = LogId(1);
    let (first, first_index) = flushes.shared(&[(log, vec![batch(0, 5)])]).await;
    let (second, second_index) = flushes.shared(&[(log, vec![batch(5, 5)])]).await;
    let index = flushes.load().await;
    index.add(&Commit { shared: Some(first), ..Commit::default() }, Some(first_index.clone()));
    index.add(&Commit { shared: Some(second), ..Commit::default() }, Some(second_index));
    let remove = |record| Commit { removed: vec![ObjectRecord::Shared(record)], ..Commit::default() };
    assert!(index.keeps_ends(&remove(first), None), "a log may lose its first records");
    assert!(!index.keeps_ends(&remove(second), None));
    // What ends earlier can't take its place.
    assert!(!index.keeps_ends(&Commit { shared: Some(first), ..remove(second) }, Some(&first_index)));
}

#[tokio::test]
async fn the_log_segments_at_the_front_of_a_log_are_told_up_to_the_first_that_others_share() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let mut logs = vec![flushes.log(A, vec![batch(5, 5)]).await, flushes.log(A, vec![batch(10, 5)]).await];
    let (shared, contents) = flushes.shared(&[(A, vec![batch(15, 5)]), (B, vec![batch(0, 5)])]).await;
    let behind = flushes.log(A, vec![batch(20, 5)]).await;
    logs.push(behind);
    let commit = Commit { logs: logs.clone(), shared: Some(shared), ..Commit::default() };
    index.add(&commit, Some(contents));
    assert_eq!(index.log_segments(A), logs[..2]);
    assert_eq!(index.log_segments(B), []);
    // Of the second, another one that came before has a part.
    let hiding = flushes.log(A, vec![batch(0, 5)]).await;
    let hiding = LogSegmentRecord { end_offset: Offset(7), ..hiding };
    let overlapped = flushes.load().await;
    overlapped.add(&Commit { logs: vec![hiding], ..Commit::default() }, None);
    overlapped.add(&Commit { logs, ..Commit::default() }, None);
    assert_eq!(overlapped.log_segments(A), [hiding]);
}

#[tokio::test]
async fn an_object_is_dead_once_nothing_of_it_can_be_read() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let (both, blocks) = flushes.shared(&[(A, vec![batch(0, 5)]), (B, vec![batch(0, 2)])]).await;
    index.add(&Commit { shared: Some(both), ..Commit::default() }, Some(blocks));
    let log = flushes.log(A, vec![batch(5, 5)]).await;
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    let (both, log) = (ObjectRecord::Shared(both), ObjectRecord::Log(log));
    let dead = |a: Option<i64>, b: Option<i64>| -> Vec<_> {
        let start_of = |log: LogId| if log == A { a } else { b }.map(Offset);
        let dead = index.dead_objects(start_of).into_iter();
        dead.map(|dead| (dead.record, dead.newest_states_of)).collect()
    };
    assert_eq!(dead(Some(0), Some(0)), []);
    assert_eq!(dead(Some(5), Some(1)), [], "a part of it can be read");
    assert_eq!(dead(Some(5), Some(2)), [(both, vec![B])]);
    assert_eq!(dead(Some(9), None), [(both, vec![])]);
    assert_eq!(dead(Some(10), Some(2)), [(both, vec![B]), (log, vec![A])]);
    assert_eq!(dead(None, None), [(both, vec![]), (log, vec![])]);
}

#[tokio::test]
async fn an_object_is_dead_where_better_ones_hold_the_same() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let (manifest, adopted) = flushes.adopted(&[&[(A, vec![batch(0, 5)]), (B, vec![batch(0, 5)])]]).await;
    let log = flushes.log(A, vec![batch(0, 5)]).await;
    index.add_manifest(&manifest, adopted);
    index.add(&Commit { logs: vec![log], ..Commit::default() }, None);
    assert_eq!(index.dead_objects(|_| Some(Offset(0))), []);
    let dead = index.dead_objects(|log| (log == A).then_some(Offset(0)));
    let manifest = ObjectRecord::Shared(manifest);
    assert_eq!(dead, [DeadObject { record: manifest, newest_states_of: Vec::new() }]);
}

#[tokio::test]
async fn more_logs_than_are_looked_at_under_one_lock_are_all_looked_at() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    let all: Vec<_> = (0..2500).map(|log| (LogId(log), vec![batch(0, 1)])).collect();
    let (shared, blocks) = flushes.shared(&all).await;
    index.add(&Commit { shared: Some(shared), ..Commit::default() }, Some(blocks));
    for last in [0, 999, 1000, 2499] {
        assert_eq!(index.dead_objects(|log| Some(Offset(i64::from(log != LogId(last))))), []);
    }
    let dead = index.dead_objects(|_| Some(Offset(1)));
    assert_eq!(dead[0].newest_states_of.len(), 2500);
}

#[tokio::test]
async fn what_manifests_adopt_is_told() {
    let mut flushes = flushes().await;
    let index = flushes.load().await;
    for base in [0, 5] {
        let (manifest, adopted) = flushes.adopted(&[&[(A, vec![batch(base, 5)])]]).await;
        index.add_manifest(&manifest, adopted);
        let dead = manifest.adopts.expect("a manifest");
        let sequences = index.adopted(dead).await.expect("readable");
        assert_eq!(sequences, (0..=base as u64 / 5).map(WalSequence).collect());
    }
    assert!(index.adopted(Incarnation::default()).await.expect("readable").is_empty());
}
