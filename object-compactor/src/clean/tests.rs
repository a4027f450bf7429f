//! Stories of arbitrary logs and rounds, held against a plain model: a map from key to value.

use super::{
    Edge, Filter, FilterSettings, KeyMap, LastBatches, Mapping,
    plain::{Plain, Whole, records},
};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestError, TestRng, TestRunner},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use thalweg_segment::{
    AbortedTransaction, Attributes, Batch, LogState, Offset, ProducerId,
    testing::{BatchBuilder, Record},
};

const RETENTION_MS: i64 = 100;

/// What happens to a log.
#[derive(Clone, Debug)]
enum Step {
    /// A producer (none at 0) writes records of these keys and values.
    Write { producer: i64, transactional: bool, records: Vec<(Option<u8>, Option<u8>)> },
    /// A producer ends its transaction.
    End { producer: i64, commit: bool },
    /// Time passes, and a round is made with a table of so many keys.
    Clean { after_ms: i64, keys: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let record = (prop::option::weighted(0.9, 0..5u8), prop::option::weighted(0.7, any::<u8>()));
    let write = (0..4i64, any::<bool>(), prop::collection::vec(record, 1..5))
        .prop_map(|(producer, transactional, records)| Step::Write { producer, transactional, records });
    let end = (1..4i64, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit });
    let clean = (0..80i64, 1..8usize).prop_map(|(after_ms, keys)| Step::Clean { after_ms, keys });
    prop_oneof![6 => write, 3 => end, 2 => clean]
}

/// A cleaner that does something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A tombstone goes in the first round after the one that has met it.
    TombstonesGoTooEarly,
    /// What was aborted supersedes what was not.
    AbortedRecordsCount,
    /// The last batch of a producer goes with its records.
    SequencesAreForgotten,
}

/// A log, and what was ever written to it.
struct World {
    mistake: Option<Mistake>,
    now_ms: i64,
    batches: Vec<Batch>,
    state: LogState,
    /// What an index knows of aborted transactions.
    aborted: Vec<AbortedTransaction>,
    cleaned_to: Offset,
    /// Every record that was written, by offset, with its batch's producer.
    written: BTreeMap<i64, (Whole, i64, bool)>,
    /// Offsets of records that were aborted.
    rejected: BTreeSet<i64>,
    sequences: BTreeMap<i64, i32>,
    epochs: BTreeMap<i64, i16>,
    /// When the last record of a key, a tombstone, was first in a round.
    met_ms: BTreeMap<i64, i64>,
}

impl World {
    fn new() -> Self {
        Self {
            mistake: None,
            now_ms: 1_000,
            batches: Vec::new(),
            state: LogState::default(),
            aborted: Vec::new(),
            cleaned_to: Offset(0),
            written: BTreeMap::new(),
            rejected: BTreeSet::new(),
            sequences: BTreeMap::new(),
            epochs: BTreeMap::new(),
            met_ms: BTreeMap::new(),
        }
    }

    fn is_open(&self, producer: i64) -> bool {
        let known = self.state.producers.get(ProducerId(producer));
        known.is_some_and(|known| known.transaction_start.is_some())
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write { producer, transactional, records } => {
                self.write(*producer, *transactional, records)
            }
            Step::End { producer, commit } if self.is_open(*producer) => self.end(*producer, *commit),
            Step::End { .. } => {}
            Step::Clean { after_ms, keys } => {
                self.now_ms += after_ms;
                self.clean(*keys);
            }
        }
    }

    fn write(&mut self, producer: i64, transactional: bool, content: &[(Option<u8>, Option<u8>)]) {
        // Within a transaction every batch is part of it.
        let transactional = producer > 0 && (transactional || self.is_open(producer));
        let mut builder = BatchBuilder::new().base_offset(self.state.end.0).timestamp(self.now_ms);
        if producer > 0 {
            let epoch = *self.epochs.entry(producer).or_default();
            let sequence = self.sequences.entry(producer).or_default();
            builder = builder.producer(producer, epoch, *sequence);
            *sequence += content.len() as i32;
        }
        if transactional {
            builder = builder.transactional();
        }
        for (at, (key, value)) in content.iter().enumerate() {
            let blob = |byte: Option<u8>| byte.map(|byte| vec![byte].into());
            let timestamp = Some(self.now_ms + at as i64);
            builder =
                builder.push(Record { key: blob(*key), value: blob(*value), timestamp, ..Record::default() });
        }
        let batch = builder.build();
        for record in records(&batch) {
            self.written.insert(record.offset, (record, producer, transactional));
        }
        self.append(batch);
    }

    fn end(&mut self, producer: i64, commit: bool) {
        let start = self.state.producers[ProducerId(producer)].transaction_start.expect("it is open");
        if !commit {
            let of_transaction = self.written.range(start.0..).filter(|(_, (_, by, _))| *by == producer);
            self.rejected.extend(of_transaction.map(|(offset, _)| *offset));
        }
        // As under `transaction.version` 2, the epoch is raised at times, and the sequence begins anew.
        let epoch = self.epochs.entry(producer).or_default();
        if producer == 3 {
            *epoch += 1;
            self.sequences.insert(producer, 0);
        }
        let epoch = *epoch;
        let marker = BatchBuilder::new().base_offset(self.state.end.0).timestamp(self.now_ms);
        self.append(marker.producer(producer, epoch, -1).marker(commit, 0).build());
    }

    fn append(&mut self, batch: Batch) {
        self.aborted.extend(self.state.apply(&batch.entry()));
        self.batches.push(batch);
    }

    fn last_stable(&self) -> Offset {
        self.state.first_open_offset().unwrap_or(self.state.end)
    }

    /// One round over all that is decided. Returns where it ended.
    fn clean(&mut self, keys: usize) -> Offset {
        let end = self.last_stable();
        let decided = self.batches.partition_point(|batch| batch.end_offset() <= end);
        let map = KeyMap::new(16 * keys, u64::MAX, 0.9, self.cleaned_to, 7);
        let makes = |mistake| self.mistake == Some(mistake);
        let aborted = if makes(Mistake::AbortedRecordsCount) { &[][..] } else { &self.aborted };
        let mut mapping = Mapping::new(map, aborted, self.cleaned_to);
        for batch in &self.batches[..decided] {
            mapping.add(batch, &Plain).unwrap();
        }
        let range_end = self.batches[..decided].last().map_or(self.cleaned_to, Batch::end_offset);
        let mapped = mapping.finish(range_end);
        let delete_retention_ms = if makes(Mistake::TombstonesGoTooEarly) { 0 } else { RETENTION_MS };
        let settings = FilterSettings { delete_retention_ms, now_ms: self.now_ms };
        let last = match makes(Mistake::SequencesAreForgotten) {
            true => LastBatches::default(),
            false => LastBatches::of(&self.state.producers),
        };
        let mut filter = Filter::new(mapped, &self.aborted, last, settings, Arc::new(Plain));
        let mut cleaned = Vec::new();
        for (at, batch) in self.batches[..decided].iter().enumerate() {
            let edge = match at {
                _ if at + 1 == decided => Some(Edge::Last),
                0 => Some(Edge::First),
                _ => None,
            };
            cleaned.extend(filter.batch(batch, edge).unwrap());
        }
        let still_known = filter.take_aborted();
        self.cleaned_to = filter.end();
        self.aborted.retain(|one| one.last_offset >= range_end);
        self.aborted.splice(..0, still_known);
        self.batches.splice(..decided, cleaned);
        for (offset, (record, ..)) in self.written.range(..self.cleaned_to.0) {
            if record.value.is_none() {
                self.met_ms.entry(*offset).or_insert(self.now_ms);
            }
        }
        self.cleaned_to
    }

    /// What a reader of committed data sees, as a client filters it.
    fn read_committed(&self) -> Vec<Whole> {
        let mut coming: Vec<_> = self.aborted.clone();
        coming.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        let (mut aborting, mut seen) = (BTreeSet::new(), Vec::new());
        for batch in self.batches.iter().filter(|batch| batch.end_offset() <= self.last_stable()) {
            while let Some(one) = coming.pop_if(|one| one.first_offset < batch.end_offset()) {
                aborting.insert(one.producer_id);
            }
            let entry = batch.entry();
            if entry.is_control() {
                if entry.marker.is_some_and(|marker| !marker.committed) {
                    aborting.remove(&entry.producer_id);
                }
            } else if !entry.is_transactional() || !aborting.contains(&entry.producer_id) {
                seen.extend(records(batch));
            }
        }
        seen
    }

    /// The last value of each key; none for what is deleted.
    fn values(records: impl IntoIterator<Item = Whole>) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut values = HashMap::new();
        for record in records {
            match (record.key, record.value) {
                (Some(key), Some(value)) => _ = values.insert(key, value),
                (Some(key), None) => _ = values.remove(&key),
                (None, _) => {}
            }
        }
        values
    }

    /// Everything that was committed below the last stable offset.
    fn committed(&self) -> impl Iterator<Item = Whole> + '_ {
        let decided = self.written.range(..self.last_stable().0);
        decided.filter(|(offset, _)| !self.rejected.contains(offset)).map(|(_, (record, ..))| record.clone())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let seen = self.read_committed();
        prop_assert_eq!(
            Self::values(seen.clone()),
            Self::values(self.committed()),
            "the last value of each key"
        );
        for record in &seen {
            prop_assert!(!self.rejected.contains(&record.offset), "{} was aborted", record.offset);
        }
        for record in self.batches.iter().flat_map(records_of_data) {
            prop_assert_eq!(&record, &self.written[&record.offset].0, "records stay as they are");
        }
        self.check_tombstones(&seen)?;
        self.check_batches()
    }

    /// A tombstone is there until its time has come; whoever began to read before still meets it.
    fn check_tombstones(&self, seen: &[Whole]) -> Result<(), TestCaseError> {
        let seen: BTreeSet<i64> = seen.iter().map(|record| record.offset).collect();
        let last: HashMap<_, _> = self.committed().map(|record| (record.key.clone(), record)).collect();
        for record in last.into_values().filter(|record| record.key.is_some() && record.value.is_none()) {
            let kept = self.met_ms.get(&record.offset).is_none_or(|met| self.now_ms < met + RETENTION_MS);
            prop_assert!(!kept || seen.contains(&record.offset), "the tombstone at {}", record.offset);
        }
        Ok(())
    }

    fn check_batches(&self) -> Result<(), TestCaseError> {
        let mut end = Offset(0);
        for batch in &self.batches {
            prop_assert_eq!(batch.verify_crc(), Ok(()));
            prop_assert!(batch.base_offset() >= end, "in order");
            end = batch.end_offset();
        }
        prop_assert_eq!(end, self.state.end, "the last batch stays");
        for (id, producer) in self.state.producers.iter() {
            let of_producer = self.batches.iter().filter(|batch| batch.producer_id() == id);
            if let Some(last) = producer.batches.back() {
                let found = of_producer.clone().find(|batch| batch.end_offset() == last.last_offset.plus(1));
                let sequence = found.map(|batch| batch.entry().last_sequence());
                prop_assert_eq!(sequence, Some(last.last_sequence), "the last batch of producer {}", id);
            } else {
                let mut of_producer = of_producer;
                prop_assert!(of_producer.any(|batch| batch.producer_epoch() == producer.epoch));
            }
        }
        Ok(())
    }
}

fn records_of_data(batch: &Batch) -> Vec<Whole> {
    if batch.entry().is_control() { Vec::new() } else { records(batch) }
}

fn bytes(batches: &[Batch]) -> Vec<Vec<u8>> {
    batches.iter().map(|batch| [batch.head(), &batch.records()[..]].concat()).collect()
}

/// Whether the model notices a mistake in one of the first thousand stories.
fn is_noticed(mistake: Mistake) -> bool {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let told = runner.run(&prop::collection::vec(any_step(), 1..60), |steps| {
        let mut world = World { mistake: Some(mistake), ..World::new() };
        for step in &steps {
            world.step(step);
            world.check()?;
        }
        Ok(())
    });
    matches!(told, Err(TestError::Fail(..)))
}

#[test]
fn a_cleaner_that_makes_a_mistake_is_noticed() {
    let all = [Mistake::TombstonesGoTooEarly, Mistake::AbortedRecordsCount, Mistake::SequencesAreForgotten];
    for mistake in all {
        assert!(is_noticed(mistake), "{mistake:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn readers_see_the_last_value_of_each_key_whatever_happens(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check()?;
        }
    }

    #[test]
    fn once_all_is_clean_each_key_is_there_once(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        while world.cleaned_to < world.last_stable() {
            let before = world.cleaned_to;
            world.clean(2);
            prop_assert!(world.cleaned_to > before, "however small the table, every round gets on");
        }
        let clean = world.batches.iter().filter(|batch| batch.end_offset() <= world.cleaned_to);
        let records: Vec<_> = clean.flat_map(records_of_data).collect();
        let keys: BTreeSet<_> = records.iter().map(|record| record.key.clone()).collect();
        prop_assert_eq!(keys.len(), records.len(), "each key once");
        prop_assert!(!keys.contains(&None), "what has no key is gone");
        prop_assert!(records.iter().all(|record| !world.rejected.contains(&record.offset)), "what was aborted is gone");
        world.check()?;
    }

    #[test]
    fn a_second_round_removes_only_what_has_had_its_time(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.clean(1_000);
        prop_assert_eq!(world.cleaned_to, world.last_stable());
        let data = |world: &World| world.batches.iter().flat_map(records_of_data).collect::<Vec<_>>();
        world.clean(1_000);
        let before = data(&world);
        world.clean(1_000);
        prop_assert_eq!(data(&world), before, "a second round at the same time removes nothing");
        world.clean(1_000);
        let before = bytes(&world.batches);
        world.clean(1_000);
        prop_assert_eq!(bytes(&world.batches), before, "nor does a later one write anything anew");

        // The time of tombstones passes, and of the markers that stay alone by that.
        for _ in 0..3 {
            world.now_ms += RETENTION_MS;
            world.clean(1_000);
            world.clean(1_000);
        }
        let clean: Vec<_> = world.batches.iter().filter(|batch| batch.end_offset() <= world.cleaned_to).collect();
        prop_assert!(clean.iter().flat_map(|batch| records_of_data(batch)).all(|record| record.value.is_some()));
        for marker in clean.iter().filter(|batch| batch.entry().is_control() && batch.record_count() > 0) {
            let transaction = |batch: &&&Batch| {
                let entry = batch.entry();
                entry.producer_id == marker.producer_id() && entry.is_transactional() && !entry.is_control()
            };
            prop_assert!(clean.iter().any(|batch| transaction(&batch)), "a marker without a batch of its producer");
        }
        world.check()?;
    }
}

#[test]
fn a_batch_of_which_nothing_goes_is_the_same_batch() {
    let mut world = World::new();
    world.write(1, false, &[(Some(1), Some(1)), (Some(2), Some(2))]);
    let before = bytes(&world.batches);
    world.clean(100);
    assert_eq!(bytes(&world.batches), before);
}

#[test]
fn tombstones_get_a_delete_horizon_and_keep_their_timestamps() {
    let mut world = World::new();
    world.write(0, false, &[(Some(1), None), (Some(2), Some(2))]);
    let before = records(&world.batches[0]);
    world.clean(100);
    let batch = &world.batches[0];
    assert_eq!(batch.base_timestamp(), world.now_ms + RETENTION_MS);
    assert_eq!(batch.attributes(), Attributes::DELETE_HORIZON);
    assert_eq!(records(batch), before);
    assert_eq!((batch.record_count(), batch.max_timestamp()), (2, before[1].timestamp));

    // A later round leaves it as it is.
    world.now_ms += RETENTION_MS - 1;
    world.write(0, false, &[(Some(3), Some(3))]);
    world.clean(100);
    assert_eq!(world.batches[0].base_timestamp(), 1_000 + RETENTION_MS);
    world.now_ms += 1;
    world.clean(100);
    assert_eq!(records(&world.batches[0]), before[1..], "its time has come");
    assert_eq!(world.batches[0].attributes(), Attributes::DELETE_HORIZON, "as Kafka leaves it");
}

#[test]
fn a_rebuilt_batch_covers_the_offsets_and_sequences_that_it_did() {
    let mut world = World::new();
    world.write(1, false, &[(Some(1), Some(1)), (Some(2), Some(2)), (Some(1), Some(3)), (None, Some(4))]);
    let before = world.batches[0].entry();
    world.write(2, false, &[(Some(9), Some(9))]);
    world.clean(100);
    let after = world.batches[0].entry();
    assert_eq!((after.base_offset, after.end_offset()), (before.base_offset, before.end_offset()));
    assert_eq!((after.base_sequence, after.last_sequence()), (before.base_sequence, before.last_sequence()));
    assert_eq!(after.record_count, 2);
    assert_eq!(world.batches[0].base_timestamp(), 1_001, "that of the first record that stays");
    assert_eq!(after.max_timestamp, 1_002);
}

#[test]
fn a_marker_stays_until_its_transaction_is_gone_and_then_as_long_as_a_tombstone() {
    let mut world = World::new();
    world.write(1, true, &[(Some(1), Some(1))]);
    world.end(1, true);
    // The producer has written since, so that nothing is kept for its sake.
    world.write(1, false, &[(Some(1), Some(2))]);
    let markers = |world: &World| world.batches.iter().filter(|batch| batch.entry().marker.is_some()).count();
    world.clean(100);
    assert_eq!((world.batches.len(), markers(&world)), (3, 1), "the data is gone");
    let first = &world.batches[0];
    assert_eq!((first.producer_id(), first.attributes(), first.record_count()), (ProducerId::NONE, 0, 0));
    assert_eq!(world.batches[1].attributes() & Attributes::DELETE_HORIZON, 0);
    world.clean(100);
    assert_eq!(world.batches[1].base_timestamp(), world.now_ms + RETENTION_MS, "its time begins");
    assert!(world.batches[1].entry().marker.is_some_and(|marker| marker.committed));
    world.now_ms += RETENTION_MS - 1;
    world.clean(100);
    assert_eq!(markers(&world), 1);
    world.now_ms += 1;
    world.clean(100);
    assert_eq!(markers(&world), 0);
}

#[test]
fn an_empty_batch_is_written_as_kafka_writes_it() {
    let mut world = World::new();
    world.write(0, false, &[(Some(4), Some(4))]);
    world.write(1, true, &[(Some(1), None), (Some(2), Some(2))]);
    world.end(1, false);
    world.write(0, false, &[(Some(3), Some(3))]);
    world.clean(100);
    let empty = &world.batches[1];
    assert_eq!((empty.record_count(), empty.records().len(), empty.base_timestamp()), (0, 0, -1));
    assert_eq!(empty.attributes(), Attributes::TRANSACTIONAL);
    assert_eq!((empty.end_offset(), empty.max_timestamp()), (Offset(3), 1_001));
    assert_eq!(world.aborted.len(), 1, "readers still need to know of it");
}

#[test]
fn nothing_behind_the_end_of_the_table_is_dropped() {
    let mut world = World::new();
    world.write(0, false, &[(Some(1), Some(1)), (Some(2), Some(1)), (Some(3), Some(1)), (Some(3), Some(2))]);
    world.write(0, false, &[(Some(1), Some(2)), (None, Some(0))]);
    let offsets = |world: &World| {
        world.batches.iter().flat_map(records).map(|record| record.offset).collect::<Vec<_>>()
    };
    assert_eq!(world.clean(3), Offset(2), "two keys fit");
    assert_eq!(offsets(&world), [0, 1, 2, 3, 4, 5]);
    assert_eq!(world.clean(2), Offset(4), "one key fits");
    assert_eq!(offsets(&world), [0, 1, 3, 4, 5]);
    assert_eq!(world.clean(2), Offset(6));
    assert_eq!(offsets(&world), [1, 3, 4]);
}

#[test]
fn the_time_of_a_tombstone_begins_with_the_round_that_looks_for_what_it_deletes() {
    let mut world = World::new();
    world.write(0, false, &[(Some(1), Some(1)), (Some(2), Some(1))]);
    world.write(0, false, &[(Some(2), None)]);
    assert_eq!(world.clean(2), Offset(1), "the table is full before the tombstone");
    assert_eq!(world.batches[1].attributes(), 0);
    world.now_ms += RETENTION_MS;
    assert_eq!(world.clean(2), Offset(3));
    assert_eq!(world.batches[1].base_timestamp(), world.now_ms + RETENTION_MS);
}

#[test]
fn a_transaction_aborted_before_the_dirty_part_says_nothing_of_its_producers_next_one() {
    let mut world = World::new();
    world.write(1, true, &[(Some(1), Some(1))]);
    world.end(1, false);
    world.write(0, false, &[(Some(3), Some(1))]);
    world.clean(100);
    assert_eq!(world.aborted.len(), 1, "it is still told of");
    world.write(1, true, &[(Some(3), Some(2))]);
    world.end(1, true);
    world.clean(100);
    let left: Vec<_> = world.batches.iter().flat_map(records_of_data).map(|record| record.offset).collect();
    assert_eq!(left, [3], "the second one's record supersedes the other");
}
