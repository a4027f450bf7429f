//! What clients did and saw, and whether that is what was promised.
//!
//! The promises, in prose:
//! 1. A batch that was acknowledged is in the final log, at the offset that the acknowledgement named, with the payload that
//!    was sent.
//! 2. No batch of an idempotent producer is in the log twice; one that was sent once, without retry, neither.
//! 3. The batches of an idempotent producer are in the log in the order in which it sent them, without a gap before one that
//!    was acknowledged; those of another producer in the order of their acknowledgements' sending.
//! 4. Whatever a fetch returned, from whichever broker, is in the final log at the same offset with the same payload: nothing
//!    that was visible vanishes or changes.
//! 5. The final log has every offset from its start to its end once, and nothing that nobody sent. It begins with the batch
//!    that holds the offset before which records were last deleted, or with an earlier one where that was not acknowledged.
//! 6. A high watermark is not below one that was seen, before it was asked for, in the same or an earlier leader epoch; none
//!    is above the final end.
//! 7. An idempotent producer whose earlier batches were all acknowledged is not told that its next is out of order, unless by
//!    a zombie.
//! 8. Once the faults end, every idempotent batch is acknowledged, and the log reads the same after an orderly restart.
//!
//! What is promised of the objects themselves stands in [`crate::stored`].

use crate::world::World;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_segment::{Batch, LeaderEpoch, LogId, Offset};

/// One batch that a client sent.
struct Sent {
    log: LogId,
    producer: u64,
    /// Its place in the order of the producer's sending.
    number: u64,
    idempotent: bool,
    acknowledged: Option<Offset>,
}

/// Which batch, in order of sending over all producers.
pub type SentId = usize;

/// The history of a run. Cheap to clone.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    world: World,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    by_records: BTreeMap<Bytes, SentId>,
    /// What fetches returned: by log and base offset, the end offset and the records.
    seen: BTreeMap<(LogId, Offset), (Offset, Bytes)>,
    /// Before which offsets of each log records were to be deleted: the highest of all, and of those that were acknowledged.
    deleted: BTreeMap<LogId, (Offset, Offset)>,
    /// Highest high watermark, by log and leader epoch.
    high_watermarks: BTreeMap<(LogId, LeaderEpoch), Offset>,
}

impl History {
    /// An empty history.
    pub fn new(world: &World) -> Self {
        Self(Arc::new(Inner { world: world.clone(), state: Mutex::default() }))
    }

    /// A client sends `batch` for the first time.
    pub fn sends(&self, log: LogId, producer: u64, number: u64, idempotent: bool, batch: &Batch) -> SentId {
        let mut state = self.0.state.lock();
        let id = state.sent.len();
        state.sent.push(Sent { log, producer, number, idempotent, acknowledged: None });
        state.by_records.insert(batch.records().clone(), id);
        id
    }

    /// A client was told that `id` is at `offset`.
    pub fn acknowledged(&self, id: SentId, offset: Offset) {
        let mut state = self.0.state.lock();
        let Sent { log, producer, number, acknowledged, .. } = &mut state.sent[id];
        self.0.world.event(format_args!("acknowledged {producer}/{number} at {log}:{offset}"));
        if acknowledged.is_some_and(|before| before != offset) {
            self.violation(format_args!("{producer}/{number} acknowledged at {acknowledged:?} and {offset}"));
        }
        *acknowledged = Some(offset);
    }

    /// A reader got `batches` of `log`.
    pub fn fetched(&self, log: LogId, batches: &[Batch]) {
        let mut state = self.0.state.lock();
        for batch in batches {
            let at = (log, batch.base_offset());
            let now = (batch.end_offset(), batch.records().clone());
            if state.seen.get(&at).is_some_and(|before| *before != now) {
                self.violation(format_args!("what was read at {log}:{} has changed", batch.base_offset()));
            }
            if batch.verify_crc().is_err() {
                self.violation(format_args!("the batch at {log}:{} is damaged", batch.base_offset()));
            }
            state.seen.insert(at, now);
        }
    }

    /// A client asks for the deletion of what lies before an offset.
    pub fn deletes(&self, log: LogId, before: Offset) {
        let mut state = self.0.state.lock();
        let (asked, _) = state.deleted.entry(log).or_default();
        *asked = before.max(*asked);
    }

    /// A client was told that the log begins there.
    pub fn deleted(&self, log: LogId, start: Offset) {
        self.0.world.event(format_args!("log {log} begins at {start}"));
        let mut state = self.0.state.lock();
        let (asked, acknowledged) = state.deleted.entry(log).or_default();
        *acknowledged = start.max(*acknowledged);
        if start > *asked {
            let asked = *asked;
            self.violation(format_args!("log {log} begins at {start}, and {asked} was asked for"));
        }
    }

    /// The highest high watermark that was seen so far in leader epochs up to `epoch`.
    pub fn highest(&self, log: LogId, epoch: LeaderEpoch) -> Offset {
        let state = self.0.state.lock();
        let seen = state.high_watermarks.range((log, LeaderEpoch(i32::MIN))..=(log, epoch));
        seen.map(|(_, high)| *high).max().unwrap_or_default()
    }

    /// A reader was told of a high watermark; `before` is what [`History::highest`] said when the reader asked.
    pub fn high_watermark(&self, log: LogId, epoch: LeaderEpoch, now: Offset, before: Offset) {
        if now < before {
            self.violation(format_args!(
                "high watermark of log {log} in leader epoch {epoch}: {before}, then {now}"
            ));
        }
        let mut state = self.0.state.lock();
        let highest = state.high_watermarks.entry((log, epoch)).or_default();
        *highest = now.max(*highest);
    }

    /// Number of batches that were sent and that were acknowledged.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.sent.len(), state.sent.iter().filter(|sent| sent.acknowledged.is_some()).count())
    }

    /// Notes that a promise was broken.
    pub fn violation(&self, what: std::fmt::Arguments<'_>) {
        self.0.world.violation(what);
    }

    /// Holds everything against the final log.
    pub fn check(&self, log: LogId, content: &[Batch]) {
        let state = self.0.state.lock();
        let check = Check { history: self, state: &state, log, content };
        let end = check.offsets_are_dense();
        let places = check.places();
        check.acknowledged_batches_are_there(&places);
        check.order_is_kept(&places);
        check.what_was_seen_is_there();
        check.high_watermarks_are_within(end);
    }
}

struct Check<'a> {
    history: &'a History,
    state: &'a State,
    log: LogId,
    content: &'a [Batch],
}

impl Check<'_> {
    fn violation(&self, what: std::fmt::Arguments<'_>) {
        self.history.violation(format_args!("log {}: {what}", self.log));
    }

    fn offsets_are_dense(&self) -> Offset {
        self.begins_where_it_should();
        let mut end = self.begin();
        for batch in self.content {
            if batch.base_offset() != end {
                self.violation(format_args!("a batch at {} follows offset {end}", batch.base_offset()));
            }
            end = batch.end_offset();
        }
        end
    }

    /// The first offset that is left.
    fn begin(&self) -> Offset {
        self.content.first().map(Batch::base_offset).unwrap_or_default()
    }

    fn begins_where_it_should(&self) {
        let (asked, acknowledged) = self.state.deleted.get(&self.log).copied().unwrap_or_default();
        let first = self.content.first();
        if self.begin() > asked {
            self.violation(format_args!("begins at {}, and {asked} was asked for", self.begin()));
        }
        if first.is_some_and(|batch| batch.end_offset() <= acknowledged) {
            self.violation(format_args!("begins at {}, and {acknowledged} was acknowledged", self.begin()));
        }
    }

    /// Where each sent batch lies.
    fn places(&self) -> BTreeMap<SentId, Offset> {
        let mut places = BTreeMap::new();
        for batch in self.content {
            let at = batch.base_offset();
            match self.state.by_records.get(batch.records()) {
                Some(id) if self.state.sent[*id].log == self.log => {
                    if let Some(first) = places.insert(*id, at) {
                        self.violation(format_args!("the batch at {first} is at {at} again"));
                    }
                }
                _ => self.violation(format_args!("nobody sent what is at {at}")),
            }
        }
        places
    }

    fn acknowledged_batches_are_there(&self, places: &BTreeMap<SentId, Offset>) {
        for (id, sent) in self.sent() {
            let place = places.get(&id);
            let is_deleted = sent.acknowledged.is_some_and(|at| at < self.begin());
            if sent.acknowledged.is_some() && !is_deleted && place != sent.acknowledged.as_ref() {
                let Sent { producer, number, acknowledged, .. } = sent;
                self.violation(format_args!(
                    "{producer}/{number} was acknowledged at {acknowledged:?} and is at {place:?}"
                ));
            }
        }
    }

    fn sent(&self) -> impl Iterator<Item = (SentId, &Sent)> {
        self.state.sent.iter().enumerate().filter(|(_, sent)| sent.log == self.log)
    }

    fn order_is_kept(&self, places: &BTreeMap<SentId, Offset>) {
        // By producer: the number and place of its last batch that is in the log.
        let mut last: BTreeMap<u64, (u64, Offset)> = BTreeMap::new();
        for (id, sent) in self.sent() {
            let Some(place) = places.get(&id) else { continue };
            let before = last.insert(sent.producer, (sent.number, *place));
            let (number, at) = before.unwrap_or((0, Offset(-1)));
            let producer = sent.producer;
            if at >= *place {
                self.violation(format_args!("{producer}/{} is before {producer}/{number}", sent.number));
            }
            let expected = before.map_or(0, |(number, _)| number + 1);
            let may_be_deleted = before.is_none() && self.begin() > Offset(0);
            if sent.idempotent && sent.number != expected && !may_be_deleted {
                self.violation(format_args!("{producer}/{} is there without {expected}", sent.number));
            }
        }
    }

    fn what_was_seen_is_there(&self) {
        let content: BTreeMap<_, _> = self.content.iter().map(|batch| (batch.base_offset(), batch)).collect();
        let seen = self.state.seen.range((self.log, self.begin())..=(self.log, Offset(i64::MAX)));
        for ((_, base), (end, records)) in seen {
            let same = content
                .get(base)
                .is_some_and(|batch| batch.end_offset() == *end && batch.records() == records);
            if !same {
                self.violation(format_args!("what was read at {base} is not in the final log"));
            }
        }
    }

    fn high_watermarks_are_within(&self, end: Offset) {
        let seen = self.state.high_watermarks.iter().filter(|((log, _), _)| *log == self.log);
        let highest = seen.map(|(_, high)| *high).max().unwrap_or_default();
        if highest > end {
            self.violation(format_args!("high watermark {highest}, and the log ends at {end}"));
        }
    }
}
