//! The life of transactions, told operation by operation.

use super::{super::rules::Rules, *};
use std::time::Duration;

const ID: &str = "an-id";

/// Transactions, what was appended, and what they want done.
struct Story {
    transactions: Transactions,
    log: Vec<Change>,
    now: Now,
    tasks: Vec<Task>,
    fresh: i64,
}

impl Story {
    fn new() -> Self {
        let settings = Arc::new(TransactionSettings::default());
        let mut story = Self {
            transactions: Transactions::new(settings),
            log: Vec::new(),
            now: Now { wall_ms: 1_000_000, monotonic_ms: 0 },
            tasks: Vec::new(),
            fresh: 100,
        };
        story.run(|transactions, now, effects| transactions.loaded(now, effects));
        story
    }

    /// Does an operation; its records are durable at once.
    fn run<T>(&mut self, operation: impl FnOnce(&mut Transactions, Now, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let value = operation(&mut self.transactions, self.now, &mut effects);
        self.carry_out(effects);
        value
    }

    fn carry_out(&mut self, effects: Effects) {
        let at = Position { offset: 0, producer_id: -1, loading: false };
        self.log.extend(effects.records.clone());
        effects.records.into_iter().for_each(|change| self.transactions.replay(change, at));
        self.tasks.extend(effects.tasks);
        if let Some(after) = effects.after {
            assert!(self.tasks.is_empty(), "no marker before the decision is durable");
            let mut effects = Effects::default();
            self.transactions.stored(after, Ok(()), self.now, &mut effects);
            self.carry_out(effects);
        }
    }

    /// The next life, with what was appended.
    fn restarted(self) -> Self {
        let mut next = Self { now: self.now, fresh: self.fresh, ..Self::new() };
        let at = Position { offset: 0, producer_id: -1, loading: true };
        for change in &self.log {
            use thalweg_protocol::coordinator_records::CoordinatorRecord as _;
            let (key, value) = change.encode().expect("short strings");
            let read = Change::decode(key, value).expect("our own").expect("a known type");
            next.transactions.replay(read, at);
        }
        next.log = self.log;
        next.run(|transactions, now, effects| transactions.loaded(now, effects));
        next
    }

    fn init(&mut self, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let mut fresh = None;
        loop {
            let init = InitProducer { id: ID, timeout_ms: 60_000, expected, fresh, has_room: true };
            match self.run(|state, now, effects| state.init_producer_id(init, now, effects))? {
                Initialised::As(producer) => return Ok(producer),
                Initialised::NeedsProducerId => fresh = Some(self.draw()),
            }
        }
    }

    fn draw(&mut self) -> i64 {
        self.fresh += 1;
        self.fresh
    }

    fn add(&mut self, producer: Producer, partition: i32) -> Result<(), ErrorCode> {
        self.add_with_room(producer, partition, true)
    }

    fn add_with_room(&mut self, producer: Producer, partition: i32, has_room: bool) -> Result<(), ErrorCode> {
        let partitions = [("t".into(), partition)];
        let add = AddPartitions { id: ID, producer, partitions: &partitions, version: 2, has_room };
        self.run(|state, now, effects| state.add_partitions(add, now, effects))
    }

    fn end(&mut self, producer: Producer, commit: bool, version: i16) -> Result<Option<Producer>, ErrorCode> {
        let mut fresh = None;
        loop {
            let end = EndTransaction { id: ID, producer, commit, version, fresh };
            match self.run(|state, now, effects| state.end(end, now, effects))? {
                Ended::As(producer) => return Ok(producer),
                Ended::NeedsProducerId => fresh = Some(self.draw()),
            }
        }
    }

    /// The markers that are asked for: whose, of which epoch, committed or not, in how many partitions. They are durable now.
    fn write_markers(&mut self) -> Option<(Producer, bool, usize)> {
        match self.tasks.pop()? {
            Task::WriteMarkers { id, producer, committed, partitions, .. } => {
                self.run(|state, now, effects| state.markers_written(&id, producer, now, effects));
                Some((producer, committed, partitions.len()))
            }
            Task::DrawProducerId { id } => {
                let fresh = self.draw();
                self.run(|state, now, effects| state.abort_timed_out(&id, fresh, now, effects));
                self.write_markers()
            }
        }
    }

    fn state(&self) -> Option<State> {
        Some(self.transactions.by_id.get(ID)?.state)
    }

    fn pass(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("short");
        self.now.monotonic_ms += ms;
        self.now.wall_ms += i64::try_from(ms).expect("short");
        while self.run(|state, now, effects| state.expire(now, effects)) {}
    }

    /// Puts the epoch near its end.
    fn age(&mut self, epoch: i16) {
        let known = self.transactions.by_id[ID].clone();
        let change = Change { id: ID.into(), to: Some(Transaction { epoch, ..known }) };
        self.carry_out(Effects { records: vec![change], ..Effects::default() });
    }
}

fn of(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

#[test]
fn in_the_new_protocol_every_end_raises_the_epoch_and_may_be_repeated() {
    let mut story = Story::new();
    let first = story.init(None).expect("a new id");
    assert_eq!(first, of(101, 0));
    for commit in [true, false] {
        let producer = story.transactions.by_id[ID].epoch;
        let producer = of(101, producer);
        assert_eq!(story.add(producer, 1), Ok(()));
        assert_eq!(story.add(producer, 2), Ok(()));
        let next = of(101, producer.epoch + 1);
        assert_eq!(story.end(producer, commit, 2), Ok(Some(next)));
        assert_eq!(story.add(next, 1), Err(ErrorCode::ConcurrentTransactions), "markers are under way");
        assert_eq!(story.end(producer, commit, 2), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(story.write_markers(), Some((next, commit, 2)));
        assert_eq!(story.end(producer, commit, 2), Ok(Some(next)), "repeated");
        assert_eq!(story.end(producer, !commit, 2), Err(ErrorCode::InvalidTxnState));
        assert_eq!(story.add(producer, 1), Err(ErrorCode::ProducerFenced), "a zombie");
        assert!(story.tasks.is_empty());
    }
}

#[test]
fn in_the_old_protocol_the_epoch_stays() {
    let mut story = Story::new();
    let producer = story.init(None).expect("a new id");
    assert_eq!(story.end(producer, true, 0), Err(ErrorCode::InvalidTxnState));
    story.add(producer, 1).expect("added");
    assert_eq!(story.end(of(101, 1), true, 0), Err(ErrorCode::ProducerFenced));
    assert_eq!(story.end(of(9, 0), true, 0), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(story.end(producer, true, 0), Ok(None));
    assert_eq!(story.end(producer, true, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(story.write_markers(), Some((producer, true, 1)));
    assert_eq!(story.end(producer, true, 0), Ok(None));
    assert_eq!(story.end(producer, false, 0), Err(ErrorCode::InvalidTxnState));
}

#[test]
fn an_abort_without_a_transaction_raises_the_epoch_and_a_commit_is_refused() {
    let mut story = Story::new();
    let producer = story.init(None).expect("a new id");
    assert_eq!(story.end(producer, true, 2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(story.end(producer, false, 2), Ok(Some(of(101, 1))));
    assert_eq!(story.write_markers(), Some((of(101, 1), false, 0)));
    assert_eq!(story.end(of(101, 1), false, 2), Ok(Some(of(101, 2))));
    assert_eq!(story.write_markers(), Some((of(101, 2), false, 0)));
    assert_eq!(story.state(), Some(State::CompleteAbort));
}

#[test]
fn a_new_producer_fences_the_one_before_and_aborts_what_it_has_under_way() {
    let mut story = Story::new();
    let old = story.init(None).expect("a new id");
    story.add(old, 1).expect("added");
    assert_eq!(story.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(story.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(story.write_markers(), Some((of(101, 1), false, 1)));
    let new = story.init(None).expect("the way is free");
    assert_eq!(new, of(101, 2));
    assert_eq!(story.end(old, true, 2), Err(ErrorCode::ProducerFenced));
    assert_eq!(story.add(old, 1), Err(ErrorCode::ProducerFenced));
    assert_eq!(story.init(Some(old)), Err(ErrorCode::ProducerFenced));
    // The current one may go on, and repeat that.
    assert_eq!(story.init(Some(new)), Ok(of(101, 3)));
    assert_eq!(story.init(Some(new)), Ok(of(101, 3)));
}

#[test]
fn when_the_epochs_are_used_up_a_new_producer_id_follows() {
    let mut story = Story::new();
    story.init(None).expect("a new id");
    story.age(i16::MAX - 1);
    let last = of(101, i16::MAX - 1);
    story.add(last, 1).expect("added");
    let next = of(102, 0);
    assert_eq!(story.end(last, true, 2), Ok(Some(next)));
    assert_eq!(story.add(next, 1), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(story.write_markers(), Some((of(101, i16::MAX), true, 1)));
    assert_eq!(story.end(last, true, 2), Ok(Some(next)), "repeated");
    assert_eq!(story.add(next, 1), Ok(()));
    // The same by InitProducerId.
    let mut story = Story::new();
    story.init(None).expect("a new id");
    story.age(i16::MAX - 1);
    assert_eq!(story.init(Some(last)), Ok(of(102, 0)));
    assert_eq!(story.init(Some(last)), Ok(of(102, 0)), "repeated");
}

#[test]
fn what_was_decided_goes_on_after_a_restart_and_what_was_not_stays_open() {
    let mut story = Story::new();
    let producer = story.init(None).expect("a new id");
    story.add(producer, 1).expect("added");
    let mut story = story.restarted();
    assert!(story.tasks.is_empty() && story.state() == Some(State::Ongoing));
    assert_eq!(story.end(producer, true, 2), Ok(Some(of(101, 1))));
    assert_eq!(story.tasks.len(), 1);
    let mut story = story.restarted();
    assert_eq!(story.write_markers(), Some((of(101, 1), true, 1)));
    assert_eq!(story.state(), Some(State::CompleteCommit));
    let mut story = story.restarted();
    assert!(story.tasks.is_empty());
    assert_eq!(story.end(producer, true, 2), Ok(Some(of(101, 1))), "repeated");
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_even_after_a_restart() {
    for exhausted in [false, true] {
        let mut story = Story::new();
        let mut producer = story.init(None).expect("a new id");
        if exhausted {
            producer.epoch = i16::MAX - 1;
            story.age(producer.epoch);
        }
        story.add(producer, 1).expect("added");
        story.pass(Duration::from_secs(55));
        assert!(story.tasks.is_empty());
        let mut story = story.restarted();
        story.pass(Duration::from_secs(16));
        assert_eq!(story.write_markers(), Some((of(101, producer.epoch + 1), false, 1)));
        assert!(story.end(producer, true, 2).is_err());
        assert_eq!(story.state(), Some(State::CompleteAbort));
        story.pass(Duration::from_secs(600));
        assert!(story.tasks.is_empty());
    }
}

#[test]
fn an_id_that_nobody_uses_is_forgotten() {
    let mut story = Story::new();
    story.init(None).expect("a new id");
    story.pass(Duration::from_secs(6 * 86_400));
    assert_eq!(story.state(), Some(State::Empty));
    story.pass(Duration::from_secs(2 * 86_400));
    assert_eq!((story.state(), Rules::bytes(&story.transactions)), (None, 0));
    assert_eq!(story.restarted().state(), None);
}

#[test]
fn timeouts_that_nobody_may_ask_for_are_refused() {
    let mut story = Story::new();
    for timeout_ms in [0, -1, 900_001] {
        let init = InitProducer { id: ID, timeout_ms, expected: None, fresh: Some(1), has_room: true };
        let refused = story.run(|state, now, effects| state.init_producer_id(init, now, effects));
        assert_eq!(refused, Err(ErrorCode::InvalidTransactionTimeout));
    }
}

#[test]
fn where_memory_is_short_a_transaction_goes_on_without_more_partitions() {
    let mut story = Story::new();
    let producer = story.init(None).expect("a new id");
    story.add(producer, 1).expect("added");
    assert_eq!(story.add_with_room(producer, 2, false), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(story.add_with_room(producer, 1, false), Ok(()), "it has it already");
    assert_eq!(story.end(producer, true, 2), Ok(Some(of(101, 1))));
    assert_eq!(story.write_markers(), Some((of(101, 1), true, 1)));
}

#[test]
fn partitions_are_verified_and_described() {
    let mut story = Story::new();
    let producer = story.init(None).expect("a new id");
    story.add(producer, 1).expect("added");
    let partitions = [("t".into(), 1), ("t".into(), 2)];
    let verified = story.transactions.verify_partitions(ID, producer, &partitions);
    assert_eq!(verified, Ok(vec![ErrorCode::None, ErrorCode::TransactionAbortable]));
    let described = story.transactions.describe(ID).expect("known");
    assert_eq!((described.transaction_state.as_str(), described.topics.len()), ("Ongoing", 1));
    assert!(matches!(story.transactions.describe("none"), Err(ErrorCode::TransactionalIdNotFound)));
    let listed = |filters: &ListFilters| story.transactions.list(filters, 2_000_000).len();
    assert_eq!(listed(&ListFilters::default()), 1);
    assert_eq!(listed(&ListFilters { states: Some(vec![State::Empty]), ..ListFilters::default() }), 0);
    assert_eq!(listed(&ListFilters { producer_ids: vec![101], ..ListFilters::default() }), 1);
    assert_eq!(listed(&ListFilters { duration_ms: Some(2_000_000), ..ListFilters::default() }), 0);
}
