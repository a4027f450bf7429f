//! The state of a log at one offset: what idempotence, transactions and truncation detection need to know of its past.
//!
//! It is a pure fold over [`BatchEntry`]s. So the owner of a log, a flush and a recovery all arrive at the same state from
//! the same entries, and a state block plus the entries behind it equals the state at the end.

use crate::{BatchEntry, LeaderEpoch, Offset, ProducerId};
use std::collections::{BTreeMap, VecDeque};

/// Kafka keeps the last five batches of a producer, as many as it may have in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// A log's state exactly at `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Offset after the last batch that this state includes.
    pub end: Offset,
    /// Each leader epoch that has written, with its first offset; rising in both.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// Idempotent producers.
    pub producers: BTreeMap<ProducerId, ProducerState>,
}

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

/// A transaction that was aborted, as Fetch reports it to readers of committed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Offset of its first batch in this log.
    pub first_offset: Offset,
    /// Offset of the abort marker.
    pub last_offset: Offset,
    /// The log's last stable offset once the marker was written.
    pub last_stable_offset: Offset,
}

impl LogState {
    /// Takes in the next batch of the log. Returns the transaction that it aborts, if it does.
    ///
    /// Panics where the batch begins before `end`. It may begin behind it: compaction leaves holes. Whether a hole may be
    /// there is for the caller to know; a gap in a write-ahead log is never to be folded over.
    pub fn apply(&mut self, entry: &BatchEntry) -> Option<AbortedTransaction> {
        assert!(
            entry.base_offset >= self.end,
            "batch at {} is before the end {}",
            entry.base_offset,
            self.end
        );
        self.begin_epoch(entry.leader_epoch, entry.base_offset);
        self.end = entry.end_offset();
        if !entry.producer_id.is_some() {
            return None;
        }
        if entry.is_control() { self.apply_marker(entry) } else { self.apply_data(entry) }
    }

    /// Notes that `epoch` owns the log from `start` on, if it is newer than the last; -1 means none.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        let newest = self.leader_epochs.last().map_or(LeaderEpoch(-1), |(newest, _)| *newest);
        if epoch <= newest {
            return;
        }
        // An epoch that wrote nothing leaves no trace: its successor starts at the same offset.
        while self.leader_epochs.last().is_some_and(|(_, first)| *first >= start) {
            self.leader_epochs.pop();
        }
        self.leader_epochs.push((epoch, start));
    }

    fn apply_data(&mut self, entry: &BatchEntry) -> Option<AbortedTransaction> {
        let producer = self.producer(entry);
        producer.batches.push_back(ProducedBatch {
            base_sequence: entry.base_sequence,
            last_sequence: entry.last_sequence(),
            last_offset: Offset(entry.end_offset().0 - 1),
            offset_delta: entry.last_offset_delta,
            timestamp: entry.max_timestamp,
        });
        if producer.batches.len() > REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        if entry.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(entry.base_offset);
        }
        None
    }

    fn apply_marker(&mut self, entry: &BatchEntry) -> Option<AbortedTransaction> {
        let marker = entry.marker?;
        let producer = self.producer(entry);
        producer.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = producer.transaction_start.take()?;
        (!marker.committed).then(|| AbortedTransaction {
            producer_id: entry.producer_id,
            first_offset,
            last_offset: Offset(entry.end_offset().0 - 1),
            last_stable_offset: self.first_open_offset().unwrap_or(self.end),
        })
    }

    fn producer(&mut self, entry: &BatchEntry) -> &mut ProducerState {
        let producer = self.producers.entry(entry.producer_id).or_insert_with(|| ProducerState {
            epoch: entry.producer_epoch,
            batches: VecDeque::new(),
            last_timestamp: entry.max_timestamp,
            coordinator_epoch: -1,
            transaction_start: None,
        });
        if producer.epoch != entry.producer_epoch {
            producer.epoch = entry.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = entry.max_timestamp;
        producer
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_offset(&self) -> Option<Offset> {
        self.producers.values().filter_map(|producer| producer.transaction_start).min()
    }

    /// Forgets producers that have written nothing since `before_ms` and have no open transaction.
    pub fn expire_producers(&mut self, before_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.transaction_start.is_some() || producer.last_timestamp > before_ms
        });
    }
}
