//! The state of a log as Kafka's `ProducerStateManager` would have it.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use proptest::prelude::*;
use thalweg_segment::testing::BatchBuilder;
use thalweg_segment::*;

/// A log that is written batch by batch.
#[derive(Default)]
struct Log {
    state: LogState,
    aborted: Vec<AbortedTransaction>,
}

impl Log {
    fn append(&mut self, batch: BatchBuilder) -> Offset {
        let base = self.state.end;
        let entry = batch.base_offset(base.0).build().entry();
        self.aborted.extend(self.state.apply(&entry));
        base
    }

    fn producer(&self, id: i64) -> &ProducerState {
        &self.state.producers[ProducerId(id)]
    }

    fn epochs(&self) -> Vec<(i32, i64)> {
        self.state.leader_epochs.iter().map(|(epoch, start)| (epoch.0, start.0)).collect()
    }
}

fn data(producer: i64, sequence: i32, records: usize) -> BatchBuilder {
    BatchBuilder::new().producer(producer, 0, sequence).records(records, 1)
}

fn transactional(producer: i64) -> BatchBuilder {
    data(producer, 0, 2).transactional()
}

fn marker(producer: i64, epoch: i16, committed: bool) -> BatchBuilder {
    BatchBuilder::new().producer(producer, epoch, -1).marker(committed, 3)
}

#[test]
fn the_last_five_batches_of_a_producer_are_remembered() {
    let mut log = Log::default();
    for sequence in 0..7 {
        log.append(data(1, 2 * sequence, 2));
    }
    let sequences: Vec<_> =
        log.producer(1).batches.iter().map(|batch| (batch.base_sequence, batch.last_sequence)).collect();
    assert_eq!(sequences, [(4, 5), (6, 7), (8, 9), (10, 11), (12, 13)]);
    let last = log.producer(1).batches[4];
    assert_eq!((last.base_offset(), last.last_offset), (Offset(12), Offset(13)));
}

#[test]
fn batches_of_no_producer_leave_only_the_end() {
    let mut log = Log::default();
    log.append(BatchBuilder::new().records(3, 1));
    assert_eq!(log.state.end, Offset(3));
    assert!(log.state.producers.is_empty());
}

#[test]
fn a_new_producer_epoch_forgets_the_batches_of_the_old_one() {
    let mut log = Log::default();
    log.append(data(1, 0, 1));
    log.append(BatchBuilder::new().producer(1, 4, 0).records(1, 1));
    assert_eq!((log.producer(1).epoch, log.producer(1).batches.len()), (4, 1));
}

#[test]
fn a_marker_with_a_raised_epoch_forgets_the_batches_but_keeps_the_producer() {
    let mut log = Log::default();
    log.append(transactional(1));
    log.append(marker(1, 1, true));
    let producer = log.producer(1);
    assert_eq!((producer.epoch, producer.batches.len(), producer.transaction_start), (1, 0, None));
    assert_eq!(producer.coordinator_epoch, 3);
}

#[test]
fn a_marker_of_the_same_epoch_keeps_the_batches() {
    let mut log = Log::default();
    log.append(transactional(1));
    log.append(marker(1, 0, true));
    assert_eq!(log.producer(1).batches.len(), 1);
}

#[test]
fn a_transaction_begins_with_its_first_batch_and_ends_with_its_marker() {
    let mut log = Log::default();
    log.append(data(9, 0, 1));
    let start = log.append(transactional(1));
    log.append(data(1, 2, 1).transactional());
    assert_eq!(log.producer(1).transaction_start, Some(start));
    assert_eq!(log.state.first_open_offset(), Some(start));
    log.append(marker(1, 0, true));
    assert_eq!(log.state.first_open_offset(), None);
    assert_eq!(log.aborted, []);
}

#[test]
fn an_aborted_transaction_tells_the_last_stable_offset_behind_its_marker() {
    let mut log = Log::default();
    let first = log.append(transactional(1));
    let second = log.append(transactional(2));
    let abort_of_first = log.append(marker(1, 0, false));
    let abort_of_second = log.append(marker(2, 0, false));
    let aborted = |id, first_offset, last_offset, last_stable_offset| AbortedTransaction {
        producer_id: ProducerId(id),
        first_offset,
        last_offset,
        last_stable_offset,
    };
    assert_eq!(
        log.aborted,
        [aborted(1, first, abort_of_first, second), aborted(2, second, abort_of_second, log.state.end)]
    );
}

#[test]
fn a_marker_without_a_transaction_aborts_nothing_but_is_remembered() {
    let mut log = Log::default();
    log.append(marker(1, 2, false));
    assert_eq!(log.aborted, []);
    assert_eq!((log.producer(1).epoch, log.producer(1).coordinator_epoch), (2, 3));
}

#[test]
fn an_emptied_control_batch_changes_nothing_but_the_end() {
    let mut log = Log::default();
    let start = log.append(transactional(1));
    log.append(
        BatchBuilder::new().producer(1, 5, -1).attributes(Attributes::CONTROL | Attributes::TRANSACTIONAL),
    );
    assert_eq!((log.producer(1).epoch, log.producer(1).transaction_start), (0, Some(start)));
    assert_eq!(log.state.end, Offset(3));
}

#[test]
fn offsets_committed_in_a_transaction_have_no_sequence_to_remember() {
    let mut log = Log::default();
    log.append(BatchBuilder::new().producer(1, 0, -1).transactional().records(3, 1));
    assert_eq!(log.producer(1).batches[0].last_sequence, -1);
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(data(1, i32::MAX - 1, 2).build().entry().last_sequence(), i32::MAX);
    assert_eq!(data(1, i32::MAX, 2).build().entry().last_sequence(), 0);
    assert_eq!(data(1, i32::MAX, 3).build().entry().last_sequence(), 1);
}

#[test]
fn leader_epochs_are_kept_with_their_first_offsets() {
    let mut log = Log::default();
    for epoch in [2, 2, 5, 9] {
        log.append(BatchBuilder::new().leader_epoch(epoch).records(10, 1));
    }
    assert_eq!(log.epochs(), [(2, 0), (5, 20), (9, 30)]);
}

#[test]
fn an_epoch_that_wrote_nothing_leaves_no_trace() {
    let mut log = Log::default();
    log.append(BatchBuilder::new().leader_epoch(2).records(10, 1));
    log.state.begin_epoch(LeaderEpoch(3), Offset(10));
    assert_eq!(log.epochs(), [(2, 0), (3, 10)]);
    log.state.begin_epoch(LeaderEpoch(4), Offset(10));
    assert_eq!(log.epochs(), [(2, 0), (4, 10)]);
}

#[test]
fn an_older_epoch_or_none_is_not_noted() {
    let mut log = Log::default();
    log.state.begin_epoch(LeaderEpoch(-1), Offset(0));
    assert_eq!(log.epochs(), []);
    log.state.begin_epoch(LeaderEpoch(3), Offset(0));
    log.state.begin_epoch(LeaderEpoch(2), Offset(5));
    assert_eq!(log.epochs(), [(3, 0)]);
}

/// A producer's batch, or the marker that ends its transaction.
fn any_step() -> impl Strategy<Value = BatchBuilder> {
    (1..20i64, 0..3i16, 0..4).prop_map(|(producer, epoch, kind)| match kind {
        0 => marker(producer, epoch, true),
        1 => marker(producer, epoch, false),
        2 => BatchBuilder::new().producer(producer, epoch, 0).records(1, 1),
        _ => BatchBuilder::new().producer(producer, epoch, 0).records(1, 1).transactional(),
    })
}

proptest! {
    #[test]
    fn the_first_open_offset_is_the_lowest_of_all_open_transactions(
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut log = Log::default();
        for step in steps {
            log.append(step);
            let lowest = log.state.producers.iter().filter_map(|(_, producer)| producer.transaction_start).min();
            prop_assert_eq!(log.state.first_open_offset(), lowest);
        }
        prop_assert_eq!(LogState::decode(&log.state.encode()), Ok(log.state));
    }
}

/// Producers that write a batch each, in order of their ids.
fn written_by(producers: std::ops::Range<i64>) -> Log {
    let mut log = Log::default();
    for producer in producers {
        log.append(data(producer, 0, 1));
    }
    log
}

fn ids(log: &Log) -> Vec<i64> {
    log.state.producers.iter().map(|(id, _)| id.0).collect()
}

#[test]
fn a_log_knows_so_many_producers_and_remembers_that_it_has_evicted_the_least_recently_active() {
    let limit = MAX_PRODUCERS as i64;
    let mut log = Log::default();
    log.append(transactional(1));
    log.append(data(2, 0, 1));
    log.append(data(3, 0, 1));
    log.append(data(2, 1, 1));
    for producer in 10..10 + limit - 2 {
        log.append(data(producer, 0, 1));
    }
    let known = |id| log.state.producers.get(ProducerId(id)).is_some();
    assert_eq!(log.state.producers.len(), MAX_PRODUCERS);
    assert_eq!([1, 2, 3, 10].map(known), [true, true, false, true]);
    assert_eq!([1, 3, 4].map(|id| log.state.producers.may_be_evicted(ProducerId(id))), [true, true, false]);
    assert_eq!(LogState::decode(&log.state.encode()), Ok(log.state));
}

#[test]
fn producers_are_evicted_in_order_of_their_last_batch_and_expire_for_good() {
    let mut log = written_by(1..8);
    log.append(data(2, 1, 1));
    let evicting = log.state.producers.evicting(3);
    log.state.forget_producers(&evicting);
    assert_eq!(ids(&log), [2, 5, 6, 7]);
    let evicted = Evicted { highest_id: ProducerId(4), last_offset: Offset(3) };
    assert_eq!(log.state.producers.evicted(), Some(evicted));
    log.state.forget_producers(&Forgetting { expired: Offset(3), ..evicting });
    assert_eq!(
        log.state.producers.evicted(),
        Some(evicted),
        "the last of them has not been silent for long enough"
    );
    log.state.forget_producers(&Forgetting { expired: Offset(5), ..evicting });
    assert_eq!(ids(&log), [2, 6, 7]);
    assert_eq!(log.state.producers.evicted(), None);
}

#[test]
fn producers_expire_unless_they_have_written_since_or_have_an_open_transaction() {
    let mut log = Log::default();
    log.append(transactional(3));
    log.append(data(1, 0, 1));
    let second = log.append(data(2, 0, 1));
    log.append(marker(4, 0, true));
    log.state.forget_producers(&Forgetting { expired: second, ..Forgetting::default() });
    assert_eq!(ids(&log), [2, 3, 4]);
    log.append(marker(3, 0, true));
    log.state.forget_producers(&Forgetting { expired: log.state.end, ..Forgetting::default() });
    assert_eq!((ids(&log), log.state.producers.evicted()), (vec![], None));
}

#[test]
fn what_producers_take_in_memory_goes_with_them() {
    let mut log = written_by(1..100);
    for sequence in 1..10 {
        log.append(data(50, sequence, 1));
    }
    let before = log.state.producers.memory();
    assert_eq!(LogState::decode(&log.state.encode()).unwrap().producers.memory(), before);
    log.state.forget_producers(&log.state.producers.evicting(98));
    assert!(log.state.producers.memory() * 50 < before, "one is left: {:?}", ids(&log));
    log.state.forget_producers(&log.state.producers.evicting(98));
    assert_eq!(log.state.producers.memory(), 0);
}

#[test]
#[should_panic(expected = "batch at 1 is before the end 3")]
fn a_batch_is_never_folded_in_twice() {
    let mut state = LogState::default();
    state.apply(&data(1, 0, 3).build().entry());
    state.apply(&data(1, 3, 3).base_offset(1).build().entry());
}

#[test]
fn the_highest_id_there_is_can_be_evicted_and_stored() {
    let mut log = Log::default();
    log.append(data(i64::MAX, 0, 1));
    let evicting = log.state.producers.evicting(1);
    log.state.forget_producers(&evicting);
    assert!(log.state.producers.evicted().is_some());
    assert_eq!(LogState::decode(&log.state.encode()), Ok(log.state));
}
