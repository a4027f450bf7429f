//! The state of a log at one offset: what idempotence, transactions and truncation detection need to know of its past.
//!
//! It is a pure fold over [`BatchEntry`]s. So the owner of a log, a flush and a recovery all arrive at the same state from
//! the same entries, and a state block plus the entries behind it equals the state at the end.

use crate::{BatchEntry, Forgetting, LeaderEpoch, Offset, ProducerId, Producers};

/// A log's state exactly at `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Offset after the last batch that this state includes.
    pub end: Offset,
    /// Each leader epoch that has written, with its first offset; rising in both.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// Idempotent producers.
    pub producers: Producers,
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
        if entry.is_control() {
            return self.apply_marker(entry);
        }
        self.producers.apply_data(entry);
        None
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

    fn apply_marker(&mut self, entry: &BatchEntry) -> Option<AbortedTransaction> {
        let marker = entry.marker?;
        let first_offset = self.producers.apply_marker(entry, marker.coordinator_epoch)?;
        (!marker.committed).then(|| AbortedTransaction {
            producer_id: entry.producer_id,
            first_offset,
            last_offset: Offset(entry.end_offset().0 - 1),
            last_stable_offset: self.first_open_offset().unwrap_or(self.end),
        })
    }

    /// First offset of the oldest open transaction. O(log n).
    pub fn first_open_offset(&self) -> Option<Offset> {
        self.producers.first_open_offset()
    }

    /// Forgets producers, as `what` says.
    pub fn forget_producers(&mut self, what: &Forgetting) {
        self.producers.forget(what);
    }
}
