//! Which batches go into which WAL object, when an object is cut, and what its durability acknowledges. Decisions only: no
//! I/O, no clock, no task.
//!
//! ```text
//!             trim                    low                          next
//!  ────────────┼───────────────────────┼────────────────────────────┼──────────┬──────┬──────
//!   committed, │ durable, retained     │ in flight, some of it      │ full     │ full │ open
//!   deleted    │ until it is flushed   │ durable out of order       │ objects waiting for a sequence
//! ```
//!
//! Invariants:
//! - A batch is in exactly one object, and the objects hold the batches of a log in the order of their appends.
//! - Sequence `s` is issued only while `s < low + W`; `low` passes a sequence only when its object is durable. Recovery relies
//!   on it (`ARCHITECTURE.md`, fencing).
//! - The acknowledged end of a log passes the batches of an object only when that object and every earlier one *that holds
//!   batches of the same log* is durable. Objects without the log don't hold it up.

use crate::{budget::PutBudget, gathering::Gathering};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use thalweg_segment::{Batch, LogId, Offset, WalSequence};
use tokio::time::Instant;

/// Longest that holds keep back an object whose turn it is. On many threads one hold or another may be alive at any moment;
/// that must not starve what waits. Many times longer than a request needs to append its batches.
const HOLD_PATIENCE: Duration = Duration::from_millis(10);

/// A part of an object needs no token once nothing was added for this long: more than a producer needs between two requests
/// of a bulk load, less than a token of the usual budget takes.
const PAUSE: Duration = Duration::from_millis(10);
/// What part of a full object that is.
const PAUSED_PART: usize = 4;

/// The batches of an object: by log, in offset order.
pub(crate) type Batches = BTreeMap<LogId, Vec<Batch>>;

/// What bounds the objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// An object is full at this many bytes.
    pub object_bytes: usize,
    /// W.
    pub window: u64,
    /// Bytes in flight, unless a single object has more.
    pub inflight_bytes: usize,
}

/// Why an object was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was full, or half full and nothing was in flight, or a quarter full and nothing more came.
    Size,
    /// Nothing was in flight and the budget had a token.
    Idle,
    /// The next token of the budget came.
    Budget,
}

/// An object to be uploaded.
#[derive(Clone, Debug)]
pub(crate) struct CutObject {
    /// Its number.
    pub sequence: WalSequence,
    /// What it holds.
    pub batches: Arc<Batches>,
    /// Bytes of its batches.
    pub bytes: usize,
    /// Why it was cut.
    pub cause: Cause,
}

/// What a flush may take: the objects `[trim, end)`, all of them durable.
#[derive(Debug)]
pub(crate) struct Flushable {
    /// The sequence of the first.
    pub first: WalSequence,
    /// The objects' batches, in order of their sequence.
    pub objects: Vec<Arc<Batches>>,
    /// The sequence after the last: the next trim point.
    pub end: WalSequence,
}

/// Batches that wait for a sequence.
#[derive(Debug, Default)]
struct Collected {
    batches: Batches,
    bytes: usize,
    /// When the first of them was appended.
    since: Option<Instant>,
    /// When the last was.
    latest: Option<Instant>,
}

/// An object that has its sequence.
#[derive(Debug)]
struct Issued {
    batches: Arc<Batches>,
    bytes: usize,
    since: Option<Instant>,
    durable: bool,
}

/// What is known of an open log.
#[derive(Debug)]
struct Track {
    /// Offset after its last batch.
    end: Offset,
    /// The objects that hold batches of it and aren't acknowledged yet, each with the log's end in it.
    unacknowledged: VecDeque<(WalSequence, Offset)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sequencer {
    limits: Limits,
    budget: PutBudget,
    gathering: Gathering,
    /// Looked up, never iterated, so its order can't influence anything.
    logs: HashMap<LogId, Track>,
    open: Collected,
    full: VecDeque<Collected>,
    /// `[trim, next)`.
    issued: VecDeque<Issued>,
    trim: WalSequence,
    low: WalSequence,
    in_flight: usize,
    in_flight_bytes: usize,
    unflushed_bytes: usize,
    durable_prefix_bytes: usize,
    holds: usize,
    /// Since when an object was to be cut, but for the holds.
    held_back: Option<Instant>,
    /// Cut as soon as the last hold had ended, and not yet fetched.
    ready: VecDeque<CutObject>,
}

impl Sequencer {
    /// Issues sequences from `first` on.
    pub fn new(limits: Limits, budget: PutBudget, first: WalSequence) -> Self {
        Self {
            limits,
            budget,
            gathering: Gathering::default(),
            logs: HashMap::new(),
            open: Collected::default(),
            full: VecDeque::new(),
            issued: VecDeque::new(),
            trim: first,
            low: first,
            in_flight: 0,
            in_flight_bytes: 0,
            unflushed_bytes: 0,
            durable_prefix_bytes: 0,
            holds: 0,
            held_back: None,
            ready: VecDeque::new(),
        }
    }

    /// From now on `log` may be appended to, at `end` or behind. Changes nothing where it is open already.
    pub fn open_log(&mut self, log: LogId, end: Offset) {
        self.logs.entry(log).or_insert_with(|| Track { end, unacknowledged: VecDeque::new() });
    }

    /// Nothing of `log` is acknowledged any more.
    pub fn close_log(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    /// Adds the next batch of `log` to the open object. A log that isn't open is ignored: it was deleted meanwhile. Returns
    /// whether this may be a reason to cut.
    pub fn append(&mut self, log: LogId, batch: Batch, now: Instant) -> bool {
        let Some(track) = self.logs.get_mut(&log) else { return false };
        let base = batch.base_offset();
        assert!(base >= track.end, "a batch of log {log} at {base} came after {}", track.end);
        track.end = batch.end_offset();
        let bytes = batch.len();
        let closed = self.open.bytes > 0 && self.open.bytes + bytes > self.limits.object_bytes;
        if closed {
            self.close_open_object();
        }
        let first = self.open.bytes == 0;
        self.open.push(log, batch, now);
        self.unflushed_bytes += bytes;
        let full = self.open.bytes >= self.limits.object_bytes;
        if full {
            self.close_open_object();
        }
        closed || full || self.holds == 0 && (first || self.is_worth_a_put() || self.has_gathered())
    }

    fn close_open_object(&mut self) {
        self.full.push_back(std::mem::take(&mut self.open));
    }

    /// Until it is released as often, objects are cut only when full.
    pub fn hold(&mut self) {
        self.holds += 1;
    }

    /// Ends a hold; where that was what an object waited for, it is cut before the next hold begins. Returns whether
    /// [`Sequencer::next_cut`] is to be asked.
    pub fn release(&mut self, now: Instant) -> bool {
        self.holds -= 1;
        if self.holds == 0 && self.held_back.take().is_some() {
            let cut = self.decide(now);
            self.ready.extend(cut);
        }
        !self.ready.is_empty() || self.open.bytes > 0 && self.held_back.is_none()
    }

    /// The object to upload now, if there is one. To be asked until there is none.
    pub fn next_cut(&mut self, now: Instant) -> Option<CutObject> {
        self.ready.pop_front().or_else(|| self.decide(now))
    }

    fn decide(&mut self, now: Instant) -> Option<CutObject> {
        if self.is_blocked() {
            return None;
        }
        if let Some(full) = self.full.pop_front() {
            self.budget.overdraw(now);
            return Some(self.issue(full, Cause::Size));
        }
        if now < self.due()? || self.is_held_back(now) {
            return None;
        }
        let cause = match self.in_flight {
            _ if self.is_worth_a_put() || self.paused_at().is_some_and(|at| at <= now) => Cause::Size,
            0 => Cause::Idle,
            _ => Cause::Budget,
        };
        if cause == Cause::Size {
            self.budget.overdraw(now);
        } else if !self.budget.try_draw(now) {
            return None;
        }
        let open = std::mem::take(&mut self.open);
        self.held_back = None;
        Some(self.issue(open, cause))
    }

    /// Whether the open object needs no token though it isn't full: half of one is cheap enough, and what would fill it may
    /// be waiting for its acknowledgement, as the few requests that a producer has in flight do.
    fn is_worth_a_put(&self) -> bool {
        self.in_flight == 0 && self.open.bytes >= self.limits.object_bytes / 2
    }

    /// From when on the open object needs no token though others are in flight: it is no small one, and what would fill it may
    /// be waiting for acknowledgement too, so that a token would only be waited for.
    fn paused_at(&self) -> Option<Instant> {
        let is_part = self.open.bytes >= self.limits.object_bytes.div_ceil(PAUSED_PART);
        if self.budget.is_limited() && is_part { self.open.latest.map(|latest| latest + PAUSE) } else { None }
    }

    /// When the open object is to be cut, holds aside.
    fn due(&self) -> Option<Instant> {
        if self.open.bytes == 0 || self.is_blocked() {
            return None;
        }
        if self.is_worth_a_put() {
            return self.open.latest;
        }
        let due = if self.in_flight == 0 { self.budget.token_at() } else { self.budget.next_token_at() };
        let due = self.budget.collect_until(due, self.open.since?, self.open.latest?);
        let due = self.paused_at().map_or(due, |paused| due.min(paused));
        Some(self.gathers_until().map_or(due, |until| due.max(until)))
    }

    /// Whether the open object has all of what it would wait for though a PUT costs nothing.
    fn has_gathered(&self) -> bool {
        !self.budget.is_limited() && self.gathering.is_enough(self.open.bytes)
    }

    /// Until when the open object waits for more though a PUT costs nothing.
    fn gathers_until(&self) -> Option<Instant> {
        let Collected { bytes, since, latest, .. } = self.open;
        if self.budget.is_limited() { None } else { self.gathering.until(bytes, since?, latest?) }
    }

    fn is_held_back(&mut self, now: Instant) -> bool {
        self.holds > 0 && now < *self.held_back.get_or_insert(now) + HOLD_PATIENCE
    }

    /// When [`Sequencer::next_cut`] is to be asked again though nothing else has happened. In the past where it has
    /// something to cut already.
    pub fn next_deadline(&self) -> Option<Instant> {
        let patience = self.held_back.map(|since| since + HOLD_PATIENCE);
        self.due().map(|due| patience.map_or(due, |patience| due.max(patience)))
    }

    /// Whether something waits that could be cut but for the window or the bytes in flight.
    pub fn is_blocked(&self) -> bool {
        let Some(next) = self.full.front().or((self.open.bytes > 0).then_some(&self.open)) else {
            return false;
        };
        let window = self.next_sequence().0 >= self.low.0 + self.limits.window;
        let bytes = self.in_flight > 0 && self.in_flight_bytes + next.bytes > self.limits.inflight_bytes;
        window || bytes
    }

    fn issue(&mut self, object: Collected, cause: Cause) -> CutObject {
        let sequence = self.next_sequence();
        let Collected { batches, bytes, since, .. } = object;
        self.gathering.cut(bytes);
        for (log, batches) in &batches {
            let (Some(track), Some(last)) = (self.logs.get_mut(log), batches.last()) else { continue };
            track.unacknowledged.push_back((sequence, last.end_offset()));
        }
        let batches = Arc::new(batches);
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.issued.push_back(Issued { batches: batches.clone(), bytes, since, durable: false });
        CutObject { sequence, batches, bytes, cause }
    }

    /// Object `sequence` is durable. Returns the logs that this acknowledges more of, each with its new end.
    pub fn durable(&mut self, sequence: WalSequence) -> Vec<(LogId, Offset)> {
        assert!(sequence >= self.low && sequence < self.next_sequence(), "{sequence} is not in flight");
        let object = &mut self.issued[(sequence.0 - self.trim.0) as usize];
        assert!(!object.durable, "{sequence} is durable already");
        object.durable = true;
        self.in_flight -= 1;
        self.in_flight_bytes -= object.bytes;
        let batches = object.batches.clone();
        self.raise_low();
        batches.keys().filter_map(|log| Some((*log, self.acknowledge(*log)?))).collect()
    }

    fn raise_low(&mut self) {
        while let Some(object) = self.issued.get((self.low.0 - self.trim.0) as usize)
            && object.durable
        {
            self.durable_prefix_bytes += object.bytes;
            self.low = self.low.next();
        }
    }

    /// Acknowledges the objects of `log` up to the first that isn't durable. Returns the end if it moved.
    fn acknowledge(&mut self, log: LogId) -> Option<Offset> {
        let (issued, trim) = (&self.issued, self.trim);
        let is_durable =
            |sequence: WalSequence| sequence < trim || issued[(sequence.0 - trim.0) as usize].durable;
        let queue = &mut self.logs.get_mut(&log)?.unacknowledged;
        let mut end = None;
        while queue.front().is_some_and(|(sequence, _)| is_durable(*sequence)) {
            end = queue.pop_front().map(|(_, end)| end);
        }
        end
    }

    /// The objects that a flush may take, unless there are none.
    pub fn flushable(&self) -> Option<Flushable> {
        let count = (self.low.0 - self.trim.0) as usize;
        let objects = self.issued.iter().take(count).map(|object| object.batches.clone()).collect();
        (count > 0).then_some(Flushable { first: self.trim, objects, end: self.low })
    }

    /// A committed flush has moved the trim point to `to`. Returns what is no longer needed, for the caller to drop where it
    /// holds nobody up.
    pub fn trim(&mut self, to: WalSequence) -> Vec<Arc<Batches>> {
        assert!(to <= self.low, "what isn't durable can't have been flushed");
        let count = to.0.saturating_sub(self.trim.0) as usize;
        self.trim = self.trim.max(to);
        let gone: Vec<_> = self.issued.drain(..count).collect();
        let bytes: usize = gone.iter().map(|object| object.bytes).sum();
        self.unflushed_bytes -= bytes;
        self.durable_prefix_bytes -= bytes;
        gone.into_iter().map(|object| object.batches).collect()
    }

    /// A hedge wants a token.
    pub fn try_draw_hedge(&mut self, now: Instant) -> bool {
        self.budget.try_draw_hedge(now)
    }

    /// The next sequence to be issued.
    pub fn next_sequence(&self) -> WalSequence {
        WalSequence(self.trim.0 + self.issued.len() as u64)
    }

    /// The sequence after that of the object which holds, or will hold, the last batch appended so far.
    pub fn appended_end(&self) -> WalSequence {
        WalSequence(self.next_sequence().0 + self.full.len() as u64 + u64::from(self.open.bytes > 0))
    }

    /// Lowest sequence that isn't durable.
    pub fn low(&self) -> WalSequence {
        self.low
    }

    /// Lowest sequence that isn't flushed.
    pub fn trim_point(&self) -> WalSequence {
        self.trim
    }

    /// Bytes appended and not flushed.
    pub fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes
    }

    /// Bytes of what a flush could take now.
    pub fn flushable_bytes(&self) -> usize {
        self.durable_prefix_bytes
    }

    /// When the oldest batch that a flush could take now was appended.
    pub fn flushable_since(&self) -> Option<Instant> {
        if self.low > self.trim { self.issued.front()?.since } else { None }
    }

    /// Objects in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Collected {
    fn push(&mut self, log: LogId, batch: Batch, now: Instant) {
        self.since.get_or_insert(now);
        self.latest = Some(now);
        self.bytes += batch.len();
        self.batches.entry(log).or_default().push(batch);
    }
}

#[cfg(test)]
mod tests;
