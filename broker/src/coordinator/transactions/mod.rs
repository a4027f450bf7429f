//! The transactional ids of one partition of `__transaction_state`: their producers, their transactions, their timers.
//!
//! ```text
//!            first partition            EndTxn, time-out, fencing         markers are durable
//! Empty ───────────────────► Ongoing ─────────────────────────► Prepare… ────────────────────► Complete…
//!                               ▲                                                                  │
//!                               └──────────────────────────────────────────────────────────────────┘
//! ```
//! Decisions only (KIP-98, KIP-360, KIP-890). A change is one record with all that is known of an id. Markers are asked for, as a
//! [`Task`], once the Prepare record is durable; [`Transactions::markers_written`] tells that they are durable, and completes.
//! What a state block or a client may rest on is never ahead of the log: answers wait for it in the shard.

mod add_partitions;
mod describe;
mod end;
mod expiry;
mod init_producer_id;
mod settings;
mod transaction;

#[cfg(test)]
mod tests;

pub use add_partitions::AddPartitions;
pub use describe::ListFilters;
pub use end::{EndTransaction, Ended};
pub use init_producer_id::{InitProducer, Initialised};
pub use settings::TransactionSettings;
pub use transaction::{Change, State, TopicPartition, Transaction};

use super::rules::{self, Now, Position, Rules};
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
};
use thalweg_protocol::ErrorCode;

/// The effects of operations on transactions.
pub type Effects = rules::Effects<Change, Infallible, After, Task>;

/// What goes on when a Prepare record is durable: markers may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Transactional id.
    pub id: Arc<str>,
    /// Its producer.
    pub producer: Producer,
}

/// A producer as requests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Write the marker of a transaction into all its partitions, then tell [`Transactions::markers_written`].
    WriteMarkers {
        /// Transactional id.
        id: Arc<str>,
        /// Whose transaction; the epoch is the marker's.
        producer: Producer,
        /// Committed, or else aborted.
        committed: bool,
        /// Version of the protocol that the end was decided under.
        version: i16,
        /// Where.
        partitions: Vec<TopicPartition>,
    },
    /// Draw a producer id, then call [`Transactions::abort_timed_out`] with it.
    DrawProducerId {
        /// Transactional id.
        id: Arc<str>,
    },
}

/// All transactional ids of one partition.
pub struct Transactions {
    settings: Arc<TransactionSettings>,
    by_id: BTreeMap<Arc<str>, Transaction>,
    bytes: usize,
    /// When to look for transactions that take too long; none while no transaction goes on.
    next_abort_ms: Option<u64>,
    /// When to look for ids that nobody uses.
    next_expiry_ms: Option<u64>,
    /// Those that were found.
    timed_out: VecDeque<Arc<str>>,
}

impl Transactions {
    /// None yet.
    pub fn new(settings: Arc<TransactionSettings>) -> Self {
        Self {
            settings,
            by_id: BTreeMap::new(),
            bytes: 0,
            next_abort_ms: None,
            next_expiry_ms: None,
            timed_out: VecDeque::new(),
        }
    }

    fn put(&self, id: &str, transaction: Transaction, effects: &mut Effects) {
        let id = self.by_id.get_key_value(id).map_or_else(|| id.into(), |(id, _)| id.clone());
        effects.records.push(Change { id, to: Some(transaction) });
    }

    fn replay_change(&mut self, change: Change) {
        let weight = |transaction: &Transaction| transaction.bytes() + change.id.len();
        self.bytes -= self.by_id.get(&change.id).map_or(0, weight);
        self.bytes += change.to.as_ref().map_or(0, weight);
        match change.to {
            Some(transaction) => self.by_id.insert(change.id, transaction),
            None => self.by_id.remove(&change.id),
        };
    }
}

impl Rules for Transactions {
    type Record = Change;
    type Answer = Infallible;
    type After = After;
    type Task = Task;
    const NAME: &'static str = "transactions";

    fn next_deadline_ms(&self) -> Option<u64> {
        if !self.timed_out.is_empty() {
            return Some(0);
        }
        [self.next_abort_ms, self.next_expiry_ms].into_iter().flatten().min()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn replay(&mut self, change: Change, _: Position) {
        self.replay_change(change);
    }

    /// Nobody writes here as part of a transaction.
    fn transaction_ended(&mut self, _: i64, _: bool) {}

    fn loaded(&mut self, now: Now, effects: &mut Effects) {
        self.begin(now, effects);
    }

    fn expire(&mut self, now: Now, effects: &mut Effects) -> bool {
        self.do_next(now, effects)
    }

    fn stored(&mut self, after: After, stored: Result<(), ErrorCode>, _: Now, effects: &mut Effects) {
        if stored.is_ok() {
            self.prepared(&after, effects);
        }
    }
}
