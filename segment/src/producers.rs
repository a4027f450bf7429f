//! What a log knows of its idempotent producers, each with its state, and in order of what is asked of all of them.
//!
//! **How many.** A producer is forgotten once it has been silent for long enough (`producer.id.expiration.ms`), as in Kafka.
//! Besides, a log knows no more than [`MAX_PRODUCERS`], and may be told to forget more where memory is short: the least
//! recently active first, never one with an open transaction. Such a one is *evicted*: it may come back, with a batch that
//! it repeats because it never saw the answer, which must not be appended twice. So the log remembers up to which id it has
//! evicted any. Ids are given out in rising order, so that sorts those who may be known from those who are new for certain.
//!
//! **When.** All of this goes by offsets, not by clocks: a batch in the log has the same offset in every copy of its state,
//! in a state block and after a recovery, and evictions by number are part of the fold. Who turns time into offsets is the
//! owner of the log ([`Forgetting`]).

use crate::{BatchEntry, Offset, ProducerId};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Index,
};

/// Kafka keeps the last five batches of a producer, as many as it may have in flight.
pub const REMEMBERED_BATCHES: usize = 5;
/// Producers that a log knows at most, but for those with an open transaction. Their states take some megabytes of every
/// flush of the log.
pub const MAX_PRODUCERS: usize = 100_000;

/// What is known of one producer in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its current epoch.
    pub epoch: i16,
    /// Its last batches, oldest first, at most [`REMEMBERED_BATCHES`], all of the current epoch.
    pub batches: VecDeque<ProducedBatch>,
    /// Timestamp of its last batch or marker.
    pub last_timestamp: i64,
    /// Offset of the last record of its last batch or marker: tells who has been active last. Of what a state block of
    /// version 1 holds, that of its last batch, or 0.
    pub last_offset: Offset,
    /// Epoch of the transaction coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// One remembered batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// Sequence number of its first record.
    pub base_sequence: i32,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Last record's offset less the first one's.
    pub offset_delta: i32,
    /// Its max timestamp.
    pub timestamp: i64,
}

impl ProducedBatch {
    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.offset_delta))
    }
}

/// Those who were forgotten before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// The highest id among them.
    pub highest_id: ProducerId,
    /// The highest last offset among them.
    pub last_offset: Offset,
}

/// The producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, ProducerState>,
    /// Those with an open transaction, by its first offset: every fetch asks for the lowest.
    open: BTreeSet<(Offset, ProducerId)>,
    /// The others, the least recently active first.
    idle: BTreeSet<(Offset, ProducerId)>,
    /// Batches that are remembered, of all producers.
    batches: usize,
    evicted: Option<Evicted>,
}

/// What a producer takes in memory without its batches: its entries in two trees, two thirds full, and two allocations' overhead.
const PRODUCER_BYTES: usize =
    (size_of::<(ProducerId, ProducerState)>() + size_of::<(Offset, ProducerId)>()) * 3 / 2 + 32;

impl Producers {
    /// Puts together what was stored.
    pub(crate) fn restore(
        producers: impl IntoIterator<Item = (ProducerId, ProducerState)>,
        evicted: Option<Evicted>,
    ) -> Self {
        // From sorted entries a map is built at once, without a search for each.
        let by_id: BTreeMap<_, _> = producers.into_iter().collect();
        let (mut open, mut idle) = (BTreeSet::new(), BTreeSet::new());
        for (id, producer) in &by_id {
            match producer.transaction_start {
                Some(start) => open.insert((start, *id)),
                None => idle.insert((producer.last_offset, *id)),
            };
        }
        let batches = by_id.values().map(|producer| producer.batches.len()).sum();
        Self { by_id, open, idle, batches, evicted }
    }

    /// What is known of `id`.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerState> {
        self.by_id.get(&id)
    }

    /// Number of producers.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Each producer, in order of its id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.by_id.iter().map(|(id, state)| (*id, state))
    }

    /// First offset of the oldest open transaction. O(log n).
    pub fn first_open_offset(&self) -> Option<Offset> {
        self.open.first().map(|(start, _)| *start)
    }

    /// Bytes that they take in memory, about.
    pub fn memory(&self) -> usize {
        self.by_id.len() * PRODUCER_BYTES + self.batches * size_of::<ProducedBatch>()
    }

    /// Those who were evicted and may come back.
    pub fn evicted(&self) -> Option<Evicted> {
        self.evicted
    }

    /// Whether `id`, which isn't known, may be one that was evicted.
    pub fn may_be_evicted(&self, id: ProducerId) -> bool {
        self.evicted.is_some_and(|evicted| id <= evicted.highest_id)
    }

    /// Takes in a batch of data.
    pub(crate) fn apply_data(&mut self, entry: &BatchEntry) {
        self.change(entry, |producer| {
            if producer.batches.len() == REMEMBERED_BATCHES {
                producer.batches.pop_front();
            }
            // Most producers are short-lived, and five batches are half of what one takes.
            producer.batches.reserve_exact(1);
            producer.batches.push_back(ProducedBatch {
                base_sequence: entry.base_sequence,
                last_sequence: entry.last_sequence(),
                last_offset: last_offset(entry),
                offset_delta: entry.last_offset_delta,
                timestamp: entry.max_timestamp,
            });
            if entry.is_transactional() {
                producer.transaction_start.get_or_insert(entry.base_offset);
            }
        });
        self.evict_beyond_limit(entry.producer_id);
    }

    /// Takes in a marker. Returns the first offset of the transaction that it ends.
    pub(crate) fn apply_marker(&mut self, entry: &BatchEntry, coordinator_epoch: i32) -> Option<Offset> {
        let start = self.change(entry, |producer| {
            producer.coordinator_epoch = coordinator_epoch;
            producer.transaction_start.take()
        });
        self.evict_beyond_limit(entry.producer_id);
        start
    }

    fn change<T>(&mut self, entry: &BatchEntry, change: impl FnOnce(&mut ProducerState) -> T) -> T {
        let id = entry.producer_id;
        let mut producer = self.take(id).unwrap_or_else(|| ProducerState::new(entry));
        producer.begin(entry);
        let changed = change(&mut producer);
        self.put(id, producer);
        changed
    }

    fn take(&mut self, id: ProducerId) -> Option<ProducerState> {
        let producer = self.by_id.remove(&id)?;
        match producer.transaction_start {
            Some(start) => self.open.remove(&(start, id)),
            None => self.idle.remove(&(producer.last_offset, id)),
        };
        self.batches -= producer.batches.len();
        Some(producer)
    }

    fn put(&mut self, id: ProducerId, producer: ProducerState) {
        match producer.transaction_start {
            Some(start) => self.open.insert((start, id)),
            None => self.idle.insert((producer.last_offset, id)),
        };
        self.batches += producer.batches.len();
        self.by_id.insert(id, producer);
    }

    /// `newest` stays: it has just written.
    fn evict_beyond_limit(&mut self, newest: ProducerId) {
        while self.by_id.len() > MAX_PRODUCERS
            && let Some((_, id)) = self.idle.first().copied().filter(|(_, id)| *id != newest)
        {
            self.evict(id);
        }
    }

    fn evict(&mut self, id: ProducerId) {
        let Some(producer) = self.take(id) else { return };
        // State blocks hold the id plus one; the highest of all was never given out.
        let id = ProducerId(id.0.min(i64::MAX - 1));
        let evicted =
            self.evicted.get_or_insert(Evicted { highest_id: id, last_offset: producer.last_offset });
        evicted.highest_id = evicted.highest_id.max(id);
        evicted.last_offset = evicted.last_offset.max(producer.last_offset);
    }

    /// What to tell so that the `count` least recently active are evicted; none of those with an open transaction.
    pub fn evicting(&self, count: usize) -> Forgetting {
        let last = count.min(self.idle.len()).checked_sub(1).and_then(|at| self.idle.iter().nth(at));
        let evicted = last.map_or(Offset(0), |(last_offset, _)| last_offset.plus(1));
        Forgetting { expired: Offset(0), evicted }
    }

    /// Whether [`Self::forget`] changes anything.
    pub fn forgets_any(&self, what: &Forgetting) -> bool {
        let below = |offset| self.evicted.is_some_and(|evicted| evicted.last_offset < offset);
        self.idle_below(what.expired.max(what.evicted)).is_some() || below(what.expired)
    }

    /// Forgets what it says.
    pub fn forget(&mut self, what: &Forgetting) {
        while let Some(id) = self.idle_below(what.expired) {
            self.take(id);
        }
        while let Some(id) = self.idle_below(what.evicted) {
            self.evict(id);
        }
        // By now they would have expired, and be as new.
        self.evicted = self.evicted.filter(|evicted| evicted.last_offset >= what.expired);
    }

    fn idle_below(&self, offset: Offset) -> Option<ProducerId> {
        self.idle.first().filter(|(last_offset, _)| *last_offset < offset).map(|(_, id)| *id)
    }
}

/// What a log forgets of its producers, told by offsets. Of two of them the one that forgets more includes the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgetting {
    /// Producers that have written nothing at or behind this were silent for long enough.
    pub expired: Offset,
    /// Those that have written nothing at or behind this are evicted.
    pub evicted: Offset,
}

impl Forgetting {
    /// What either says.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { expired: self.expired.max(other.expired), evicted: self.evicted.max(other.evicted) }
    }
}

impl ProducerState {
    fn new(entry: &BatchEntry) -> Self {
        Self {
            epoch: entry.producer_epoch,
            batches: VecDeque::new(),
            last_timestamp: entry.max_timestamp,
            last_offset: last_offset(entry),
            coordinator_epoch: -1,
            transaction_start: None,
        }
    }

    /// What every batch and marker changes.
    fn begin(&mut self, entry: &BatchEntry) {
        if self.epoch != entry.producer_epoch {
            self.epoch = entry.producer_epoch;
            self.batches.clear();
        }
        self.last_timestamp = entry.max_timestamp;
        self.last_offset = last_offset(entry);
    }
}

fn last_offset(entry: &BatchEntry) -> Offset {
    Offset(entry.end_offset().0 - 1)
}

impl Index<ProducerId> for Producers {
    type Output = ProducerState;

    fn index(&self, id: ProducerId) -> &ProducerState {
        &self.by_id[&id]
    }
}
