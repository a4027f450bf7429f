use super::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Duration};
use thalweg_segment::testing::BatchBuilder;

const PERIOD: Duration = Duration::from_millis(50);
const BATCH: usize = 200;

fn limits() -> Limits {
    Limits { object_bytes: 1000, window: 4, inflight_bytes: 3000 }
}

/// A sequencer with logs 1 to 4 open at 0, and the time that it begins at.
fn begin(limits: Limits, rate: Option<f64>, burst: u32) -> (Sequencer, Instant) {
    let now = Instant::now();
    let mut sequencer = Sequencer::new(limits, PutBudget::new(rate, burst, now), WalSequence(0));
    (1..=4).for_each(|log| sequencer.open_log(LogId(log), Offset(0)));
    (sequencer, now)
}

/// A batch of one record, `bytes` long.
fn batch(offset: i64, bytes: usize) -> Batch {
    let head = *BatchBuilder::new().base_offset(offset).records(1, 0).build().head();
    Batch::assemble(head, vec![0; bytes - thalweg_segment::HEADER_LEN].into())
}

fn append(sequencer: &mut Sequencer, log: u64, offset: i64, now: Instant) -> bool {
    sequencer.append(LogId(log), batch(offset, BATCH), now)
}

/// Appends to log 1 a batch at each of `offsets`.
fn append_many(sequencer: &mut Sequencer, offsets: std::ops::Range<i64>, now: Instant) {
    for offset in offsets {
        append(sequencer, 1, offset, now);
    }
}

fn ends(pairs: &[(u64, i64)]) -> Vec<(LogId, Offset)> {
    pairs.iter().map(|(log, end)| (LogId(*log), Offset(*end))).collect()
}

#[test]
fn an_idle_log_cuts_at_once() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 40);
    assert!(append(&mut sequencer, 1, 0, now));
    let object = sequencer.next_cut(now).expect("nothing is in flight");
    assert_eq!((object.cause, object.sequence), (Cause::Idle, WalSequence(0)));
    assert!(sequencer.next_cut(now).is_none());
    assert_eq!(sequencer.durable(WalSequence(0)), ends(&[(1, 1)]));
}

#[test]
fn while_an_upload_is_in_flight_the_next_object_waits_for_its_end_or_the_next_token() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 40);
    append(&mut sequencer, 1, 0, now);
    sequencer.next_cut(now).unwrap();
    append(&mut sequencer, 1, 1, now);
    assert!(sequencer.next_cut(now + PERIOD - Duration::from_nanos(1)).is_none());
    assert_eq!(sequencer.next_deadline(), Some(now + PERIOD));
    let object = sequencer.next_cut(now + PERIOD).expect("the token is due");
    assert_eq!(object.cause, Cause::Budget);

    append(&mut sequencer, 1, 2, now + PERIOD);
    sequencer.durable(WalSequence(0));
    sequencer.durable(WalSequence(1));
    let object = sequencer.next_cut(now + PERIOD).expect("nothing is in flight");
    assert_eq!(object.cause, Cause::Idle);
}

#[test]
fn half_an_object_needs_no_token_while_nothing_is_in_flight() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 1);
    append(&mut sequencer, 1, 0, now);
    sequencer.next_cut(now).unwrap();
    append_many(&mut sequencer, 1..4, now);
    assert!(sequencer.next_cut(now).is_none(), "an upload is in flight");
    sequencer.durable(WalSequence(0));
    let object = sequencer.next_cut(now).expect("600 of 1000 bytes");
    assert_eq!((object.cause, object.bytes), (Cause::Size, 600));
    sequencer.durable(WalSequence(1));
    append_many(&mut sequencer, 4..6, now);
    assert!(sequencer.next_cut(now).is_none(), "400 bytes wait for a token");
    assert!(append(&mut sequencer, 1, 6, now), "a reason to cut");
    assert_eq!(sequencer.next_cut(now).map(|object| object.bytes), Some(600));
}

#[test]
fn a_quarter_of_an_object_needs_no_token_once_nothing_more_comes() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 1);
    append(&mut sequencer, 1, 0, now);
    sequencer.next_cut(now).unwrap();
    append(&mut sequencer, 1, 1, now);
    assert!(sequencer.next_cut(now + PAUSE).is_none(), "200 of 1000 bytes wait for a token");
    let later = now + PAUSE;
    append(&mut sequencer, 1, 2, later);
    assert_eq!(sequencer.next_deadline(), Some(later + PAUSE));
    assert!(sequencer.next_cut(later + PAUSE - Duration::from_nanos(1)).is_none());
    let object = sequencer.next_cut(later + PAUSE).expect("400 of 1000 bytes");
    assert_eq!((object.cause, object.bytes), (Cause::Size, 400));
}

#[test]
fn half_an_object_is_not_cut_in_the_middle_of_a_request() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 1);
    sequencer.hold();
    append_many(&mut sequencer, 0..3, now);
    assert!(sequencer.next_cut(now).is_none());
    append(&mut sequencer, 1, 3, now);
    assert!(sequencer.release(now));
    assert_eq!(sequencer.next_cut(now).map(|object| object.bytes), Some(800));
}

#[test]
fn an_idle_log_without_a_token_waits_for_it() {
    let (mut sequencer, now) = begin(limits(), Some(20.0), 1);
    append(&mut sequencer, 1, 0, now);
    sequencer.next_cut(now).unwrap();
    sequencer.durable(WalSequence(0));
    append(&mut sequencer, 1, 1, now);
    assert!(sequencer.next_cut(now).is_none());
    assert_eq!(sequencer.next_deadline(), Some(now + PERIOD));
    assert_eq!(sequencer.next_cut(now + PERIOD).map(|object| object.cause), Some(Cause::Idle));
}

#[test]
fn full_objects_are_cut_without_a_token_and_none_is_larger_than_asked_for() {
    let (mut sequencer, now) = begin(Limits { inflight_bytes: 1 << 20, ..limits() }, Some(20.0), 1);
    append_many(&mut sequencer, 0..16, now);
    let objects: Vec<_> = std::iter::from_fn(|| sequencer.next_cut(now)).collect();
    assert_eq!(objects.iter().map(|object| object.bytes).collect::<Vec<_>>(), [1000, 1000, 1000]);
    assert!(objects.iter().all(|object| object.cause == Cause::Size));
    assert_eq!(sequencer.appended_end(), WalSequence(4));
}

#[test]
fn a_batch_larger_than_an_object_goes_alone() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    append(&mut sequencer, 1, 0, now);
    sequencer.append(LogId(2), batch(0, 5000), now);
    append(&mut sequencer, 1, 1, now);
    let object = sequencer.next_cut(now).unwrap();
    assert_eq!((object.bytes, object.cause), (BATCH, Cause::Size));
    assert!(sequencer.next_cut(now).is_none(), "5000 more bytes would be too many in flight");
    sequencer.durable(object.sequence);
    assert_eq!(sequencer.next_cut(now).unwrap().bytes, 5000);
}

#[test]
fn appends_under_a_hold_come_into_one_object() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    sequencer.hold();
    for log in 1..=4 {
        assert!(!append(&mut sequencer, log, 0, now), "nothing to wake for");
        assert!(sequencer.next_cut(now).is_none());
    }
    assert!(sequencer.release(now));
    assert_eq!(sequencer.next_cut(now).unwrap().batches.len(), 4);
}

#[test]
fn an_object_that_only_a_hold_kept_back_is_cut_before_the_next_hold_begins() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    sequencer.hold();
    append(&mut sequencer, 1, 0, now);
    assert!(sequencer.next_cut(now).is_none());
    assert!(sequencer.release(now));
    sequencer.hold();
    append(&mut sequencer, 1, 1, now);
    assert_eq!(sequencer.next_cut(now).unwrap().batches[&LogId(1)].len(), 1);
    assert!(sequencer.next_cut(now).is_none());
}

#[test]
fn holds_without_an_end_do_not_starve_what_waits() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    sequencer.hold();
    append(&mut sequencer, 1, 0, now);
    sequencer.hold();
    assert!(sequencer.release(now), "the driver must know of the deadline");
    assert!(sequencer.next_cut(now).is_none());
    assert_eq!(sequencer.next_deadline(), Some(now + HOLD_PATIENCE));
    sequencer.hold();
    assert!(!sequencer.release(now), "it knows");
    assert!(sequencer.next_cut(now + HOLD_PATIENCE).is_some());
}

#[test]
fn a_hold_does_not_hold_full_objects() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    sequencer.hold();
    append_many(&mut sequencer, 0..6, now);
    assert_eq!(sequencer.next_cut(now).map(|object| object.cause), Some(Cause::Size));
    assert!(sequencer.next_cut(now).is_none());
}

#[test]
fn a_slow_object_delays_only_the_logs_in_it() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    let at = |ms| now + Duration::from_millis(ms);
    append(&mut sequencer, 1, 0, now);
    append(&mut sequencer, 2, 0, now);
    sequencer.next_cut(at(0)).unwrap();
    append(&mut sequencer, 2, 1, now);
    append(&mut sequencer, 3, 0, now);
    sequencer.next_cut(at(10)).unwrap();
    append(&mut sequencer, 3, 1, now);
    sequencer.next_cut(at(20)).unwrap();
    assert_eq!(sequencer.durable(WalSequence(2)), []);
    assert_eq!(sequencer.durable(WalSequence(1)), ends(&[(3, 2)]), "log 2 waits for object 0");
    assert_eq!(sequencer.durable(WalSequence(0)), ends(&[(1, 1), (2, 2)]));
}

#[test]
fn the_window_counts_from_the_lowest_sequence_that_is_not_durable() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    let at = |ms| now + Duration::from_millis(ms);
    for n in 0..4 {
        append(&mut sequencer, 1, n, now);
        sequencer.next_cut(at(10 * n as u64)).unwrap();
    }
    (1..4).for_each(|n| drop(sequencer.durable(WalSequence(n))));
    append(&mut sequencer, 1, 4, now);
    assert!(sequencer.is_blocked());
    assert!(sequencer.next_cut(at(1000)).is_none());
    sequencer.durable(WalSequence(0));
    assert_eq!(sequencer.next_cut(at(1000)).unwrap().sequence, WalSequence(4));
}

#[test]
fn a_flush_takes_the_objects_before_the_first_that_is_not_durable() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    for n in 0..4 {
        append(&mut sequencer, 1, n, now);
        sequencer.next_cut(now + Duration::from_millis(10 * n as u64)).unwrap();
    }
    sequencer.durable(WalSequence(1));
    assert!(sequencer.flushable().is_none());
    sequencer.durable(WalSequence(0));
    sequencer.durable(WalSequence(3));
    let flushable = sequencer.flushable().unwrap();
    assert_eq!((flushable.objects.len(), flushable.end), (2, WalSequence(2)));
    assert_eq!(sequencer.flushable_bytes(), 2 * BATCH);
    assert_eq!(sequencer.flushable_since(), Some(now));

    assert_eq!(sequencer.trim(flushable.end).len(), 2);
    assert_eq!(sequencer.unflushed_bytes(), 2 * BATCH);
    assert_eq!(sequencer.durable(WalSequence(2)), ends(&[(1, 4)]));
    assert_eq!(sequencer.flushable_bytes(), 2 * BATCH);
}

#[test]
fn a_log_that_is_not_open_is_never_acknowledged() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    assert!(!append(&mut sequencer, 9, 0, now));
    assert_eq!(sequencer.unflushed_bytes(), 0);
    append(&mut sequencer, 1, 0, now);
    append(&mut sequencer, 2, 0, now);
    sequencer.next_cut(now).unwrap();
    sequencer.close_log(LogId(1));
    assert_eq!(sequencer.durable(WalSequence(0)), ends(&[(2, 1)]));
}

#[test]
#[should_panic(expected = "a batch of log 1 at 0 came after 1")]
fn batches_out_of_order_are_refused() {
    let (mut sequencer, now) = begin(limits(), None, 1);
    append(&mut sequencer, 1, 0, now);
    append(&mut sequencer, 1, 0, now);
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        log: u64,
        bytes: usize,
    },
    /// The upload at this place among those in flight ends.
    Durable(usize),
    Wait(Duration),
    Hold,
    Release,
    /// A flush of what is durable is committed.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..=4u64, prop_oneof![9 => 61..400usize, 1 => 900..1500usize])
            .prop_map(|(log, bytes)| Step::Append { log, bytes }),
        4 => any::<prop::sample::Index>().prop_map(|at| Step::Durable(at.index(100))),
        2 => (0..120u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
        1 => Just(Step::Flush),
    ]
}

/// The plainest account of what has happened: every object, what was in it, what is durable.
struct Model {
    sequencer: Sequencer,
    limits: Limits,
    limited: bool,
    burst: usize,
    start: Instant,
    now: Instant,
    next_offset: BTreeMap<LogId, i64>,
    appended: BTreeMap<LogId, Vec<i64>>,
    objects: Vec<CutObject>,
    in_flight: BTreeSet<u64>,
    acknowledged: BTreeMap<LogId, Offset>,
    holds: usize,
    held_since: Instant,
    trim: u64,
}

impl Model {
    fn new(limits: Limits, rate: Option<f64>, burst: u32) -> Self {
        let (sequencer, start) = begin(limits, rate, burst);
        Self {
            sequencer,
            limits,
            limited: rate.is_some(),
            burst: burst as usize,
            start,
            now: start,
            next_offset: BTreeMap::new(),
            appended: BTreeMap::new(),
            objects: Vec::new(),
            in_flight: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            holds: 0,
            held_since: start,
            trim: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { log, bytes } => self.append(LogId(log), bytes),
            Step::Durable(at) => self.durable(at),
            Step::Wait(duration) => self.now += duration,
            Step::Hold => {
                self.sequencer.hold();
                if self.holds == 0 {
                    self.held_since = self.now;
                }
                self.holds += 1;
            }
            Step::Release if self.holds > 0 => {
                self.sequencer.release(self.now);
                self.holds -= 1;
            }
            Step::Release => {}
            Step::Flush => self.flush(),
        }
        self.cut();
    }

    fn append(&mut self, log: LogId, bytes: usize) {
        let offset = self.next_offset.entry(log).or_default();
        self.sequencer.append(log, batch(*offset, bytes), self.now);
        self.appended.entry(log).or_default().push(*offset);
        *offset += 1;
    }

    fn durable(&mut self, at: usize) {
        let Some(sequence) = self.in_flight.iter().nth(at % self.in_flight.len().max(1)).copied() else {
            return;
        };
        self.in_flight.remove(&sequence);
        for (log, end) in self.sequencer.durable(WalSequence(sequence)) {
            let before = self.acknowledged.insert(log, end);
            assert!(before.is_none_or(|before| before < end), "an end that moves moves up");
        }
        for log in 1..=4 {
            let expected = self.acknowledgeable(LogId(log));
            assert_eq!(self.acknowledged.get(&LogId(log)).copied(), expected, "log {log}");
        }
    }

    /// The end of what `log` has in durable objects before the first of its objects that isn't durable.
    fn acknowledgeable(&self, log: LogId) -> Option<Offset> {
        let own = self.objects.iter().filter(|object| object.batches.contains_key(&log));
        let durable = own.take_while(|object| !self.in_flight.contains(&object.sequence.0));
        durable.last().map(|object| object.batches[&log].last().unwrap().end_offset())
    }

    fn low(&self) -> u64 {
        self.in_flight.first().copied().unwrap_or(self.objects.len() as u64)
    }

    fn flush(&mut self) {
        let low = self.low();
        let flushable = self.sequencer.flushable();
        assert_eq!(flushable.is_some(), low > self.trim);
        let Some(Flushable { first, objects, end }) = flushable else { return };
        assert_eq!((first, end), (WalSequence(self.trim), WalSequence(low)));
        let expected = &self.objects[self.trim as usize..low as usize];
        assert!(objects.iter().zip(expected).all(|(a, b)| Arc::ptr_eq(a, &b.batches)));
        self.sequencer.trim(end);
        self.trim = low;
    }

    fn cut(&mut self) {
        while let Some(object) = self.sequencer.next_cut(self.now) {
            self.check_cut(&object);
            self.in_flight.insert(object.sequence.0);
            self.objects.push(object);
        }
        let deadline = self.sequencer.next_deadline();
        assert!(
            deadline.is_none_or(|at| self.now < at && at <= self.now + PERIOD * 2),
            "nothing due is left"
        );
        let waiting = self.waiting();
        if waiting > 0 && !self.sequencer.is_blocked() {
            assert!(deadline.is_some(), "what waits will be cut by itself");
            let idle = self.in_flight.is_empty() && self.holds == 0;
            assert!(self.limited || !idle, "an idle log with a token cuts at once");
        }
        assert_eq!(self.sequencer.unflushed_bytes(), waiting + self.unflushed_objects());
    }

    fn check_cut(&self, object: &CutObject) {
        let in_flight: usize = self.in_flight.iter().map(|at| self.objects[*at as usize].bytes).sum();
        assert_eq!(object.sequence.0, self.objects.len() as u64);
        assert!(object.sequence.0 < self.low() + self.limits.window, "the window is exceeded");
        assert!(self.in_flight.is_empty() || in_flight + object.bytes <= self.limits.inflight_bytes);
        let batches: usize = object.batches.values().map(Vec::len).sum();
        assert!(object.bytes <= self.limits.object_bytes || batches == 1, "the object is too large");
        match object.cause {
            Cause::Size => return,
            Cause::Idle => assert!(self.in_flight.is_empty()),
            Cause::Budget => assert!(!self.in_flight.is_empty()),
        }
        assert!(self.holds == 0 || self.now >= self.held_since + HOLD_PATIENCE, "a hold was ignored");
        let periods = (self.now - self.start).as_millis() / PERIOD.as_millis();
        let small = self.objects.iter().filter(|object| object.cause != Cause::Size).count();
        assert!(!self.limited || small < self.burst + periods as usize, "there was no token");
    }

    fn waiting(&self) -> usize {
        let of = |collected: &Collected| collected.bytes;
        self.sequencer.full.iter().map(of).sum::<usize>() + of(&self.sequencer.open)
    }

    fn unflushed_objects(&self) -> usize {
        self.objects[self.trim as usize..].iter().map(|object| object.bytes).sum()
    }

    /// Lets everything become durable; every batch must have been in exactly one object, in order.
    fn finish(&mut self) {
        while self.holds > 0 {
            self.take(Step::Release);
        }
        while self.waiting() > 0 || !self.in_flight.is_empty() {
            self.take(Step::Durable(0));
            self.take(Step::Wait(PERIOD));
        }
        let mut stored: BTreeMap<LogId, Vec<i64>> = BTreeMap::new();
        for (log, batches) in self.objects.iter().flat_map(|object| object.batches.iter()) {
            stored.entry(*log).or_default().extend(batches.iter().map(|batch| batch.base_offset().0));
        }
        assert_eq!(stored, self.appended);
        let ends = self.next_offset.iter().map(|(log, end)| (*log, Offset(*end))).collect();
        assert_eq!(self.acknowledged, ends);
    }
}

proptest! {
    #[test]
    fn any_course_of_events_keeps_the_order_the_window_and_the_budget(
        steps in prop::collection::vec(step(), 1..200),
        window in 1..5u64,
        rate in prop_oneof![Just(None), Just(Some(20.0))],
        burst in 1..5u32,
    ) {
        let mut model = Model::new(Limits { window, ..limits() }, rate, burst);
        steps.into_iter().for_each(|step| model.take(step));
        model.finish();
    }
}
