//! What is stored: one type per kind of key, each with its layout.

use std::collections::BTreeMap;
use thalweg_segment::{BrokerEpoch, Incarnation, LeaderEpoch, LogId, Offset, SegmentId, WalSequence};
use uuid::Uuid;

/// One life of a broker. Its commits are a sequence: each compares the whole record and writes the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationRecord {
    /// Which.
    pub incarnation: Incarnation,
    /// W: it issues WAL sequence `s` only while `s < low + window`.
    pub window: u32,
    /// Number of commits so far.
    pub commit: u64,
    /// Lowest WAL sequence still needed.
    pub trim: WalSequence,
    /// Where it stands.
    pub state: IncarnationState,
}

/// The life cycle of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncarnationState {
    /// May write and commit.
    Open,
    /// Being taken over by the recoverer with this ballot (its own broker epoch); a higher one may take over from it.
    Fencing {
        /// The recoverer's broker epoch.
        ballot: BrokerEpoch,
    },
    /// Its WAL was adopted, or it flushed everything and closed.
    Recovered,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its name, the key.
    pub name: String,
    /// Kafka's topic id.
    pub id: Uuid,
    /// The logs of its partitions: consecutive runs of log ids, in partition order.
    pub logs: Vec<LogRun>,
    /// Settings that differ from the broker's.
    pub configs: BTreeMap<String, String>,
}

/// Consecutive log ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRun {
    /// First id.
    pub first: LogId,
    /// How many.
    pub count: u32,
}

impl TopicRecord {
    /// Number of partitions.
    pub fn partitions(&self) -> u32 {
        self.logs.iter().map(|run| run.count).sum()
    }

    /// The log of each partition, from 0.
    pub fn log_ids(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().flat_map(|run| (0..u64::from(run.count)).map(|at| LogId(run.first.0 + at)))
    }
}

/// Where footer and index of a stored object lie; saves the reader the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectShape {
    /// Size of the object in bytes.
    pub size: u64,
    /// Where the index block begins.
    pub index_position: u64,
    /// Size of the index block in bytes.
    pub index_size: u32,
}

/// A shared segment, or a recovery manifest: its logs are found through its index block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRecord {
    /// Its name.
    pub id: SegmentId,
    /// Where its index lies.
    pub shape: ObjectShape,
    /// For a manifest: the incarnation whose WAL objects it adopts.
    pub adopts: Option<Incarnation>,
}

/// A segment of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSegmentRecord {
    /// Whose batches.
    pub log: LogId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record.
    pub end_offset: Offset,
    /// Highest timestamp of its records.
    pub max_timestamp: i64,
    /// Its name.
    pub id: SegmentId,
    /// Where its index lies.
    pub shape: ObjectShape,
}

/// Who owns the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerRecord {
    /// The incarnation that owns every log that no other record gives to another.
    pub incarnation: Incarnation,
    /// The leader epoch of all those logs. Drawn from the same ever-rising counter as broker epochs, so that one record
    /// raises the epoch of any number of logs.
    pub leader_epoch: LeaderEpoch,
}
