//! What a log knows of its idempotent producers, each with its state, and in order of what is asked of all of them.

use crate::{BatchEntry, Offset, ProducerId};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Index,
};

/// Kafka keeps the last five batches of a producer, as many as it may have in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// What is known of one producer in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its current epoch.
    pub epoch: i16,
    /// Its last batches, oldest first, at most [`REMEMBERED_BATCHES`], all of the current epoch.
    pub batches: VecDeque<ProducedBatch>,
    /// Timestamp of its last batch or marker, for expiry.
    pub last_timestamp: i64,
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

/// The producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, ProducerState>,
    /// Those with an open transaction, by its first offset: every fetch asks for the lowest.
    open: BTreeSet<(Offset, ProducerId)>,
}

impl Producers {
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

    /// Takes in a batch of data.
    pub(crate) fn apply_data(&mut self, entry: &BatchEntry) {
        let last_offset = Offset(entry.end_offset().0 - 1);
        self.change(entry, |producer| {
            if producer.batches.len() == REMEMBERED_BATCHES {
                producer.batches.pop_front();
            }
            producer.batches.push_back(ProducedBatch {
                base_sequence: entry.base_sequence,
                last_sequence: entry.last_sequence(),
                last_offset,
                offset_delta: entry.last_offset_delta,
                timestamp: entry.max_timestamp,
            });
            if entry.is_transactional() {
                producer.transaction_start.get_or_insert(entry.base_offset);
            }
        });
    }

    /// Takes in a marker. Returns the first offset of the transaction that it ends.
    pub(crate) fn apply_marker(&mut self, entry: &BatchEntry, coordinator_epoch: i32) -> Option<Offset> {
        self.change(entry, |producer| {
            producer.coordinator_epoch = coordinator_epoch;
            producer.transaction_start.take()
        })
    }

    fn change<T>(&mut self, entry: &BatchEntry, change: impl FnOnce(&mut ProducerState) -> T) -> T {
        let id = entry.producer_id;
        let producer = self.by_id.entry(id).or_insert_with(|| ProducerState::new(entry));
        let was_open = producer.transaction_start;
        producer.begin(entry);
        let changed = change(producer);
        let is_open = producer.transaction_start;
        if was_open != is_open {
            was_open.map(|start| self.open.remove(&(start, id)));
            is_open.map(|start| self.open.insert((start, id)));
        }
        changed
    }

    /// Forgets those that have written nothing since `before_ms` and have no open transaction.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction_start.is_some() || producer.last_timestamp > before_ms
        });
    }
}

impl ProducerState {
    fn new(entry: &BatchEntry) -> Self {
        Self {
            epoch: entry.producer_epoch,
            batches: VecDeque::new(),
            last_timestamp: entry.max_timestamp,
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
    }
}

impl FromIterator<(ProducerId, ProducerState)> for Producers {
    fn from_iter<I: IntoIterator<Item = (ProducerId, ProducerState)>>(producers: I) -> Self {
        // From sorted entries a map is built at once, without a search for each.
        let by_id: BTreeMap<_, _> = producers.into_iter().collect();
        let open = by_id.iter().filter_map(|(id, state)| Some((state.transaction_start?, *id))).collect();
        Self { by_id, open }
    }
}

impl Index<ProducerId> for Producers {
    type Output = ProducerState;

    fn index(&self, id: ProducerId) -> &ProducerState {
        &self.by_id[&id]
    }
}
