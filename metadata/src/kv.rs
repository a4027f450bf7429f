//! The key-value store that everything rests on: reads, and transactions of compares and writes.

use async_trait::async_trait;
use bytes::Bytes;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KvError {
    /// Out of reach, throttled, timed out. A transaction may or may not have been applied, now or later.
    #[error("the metadata store did not answer: {reason}")]
    Unavailable {
        /// What its client says.
        reason: String,
    },
    /// Embedded store only: a newer process has opened it. Nothing that this one does is applied any more.
    #[error("another process has opened the metadata store: {reason}")]
    Fenced {
        /// What the store says.
        reason: String,
    },
    /// This access to the store has ended otherwise; nothing that goes by it is applied any more. The way on is to open the
    /// store anew.
    #[error("the metadata store is closed: {reason}")]
    Closed {
        /// What the store says.
        reason: String,
    },
    /// What is stored can't be read.
    #[error("the metadata store holds something unreadable: {reason}")]
    Corrupt {
        /// What and where.
        reason: String,
    },
}

/// "`key` has exactly this value", or, with none, "there is no such key".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which key.
    pub key: Bytes,
    /// Its value, or none for absent.
    pub value: Option<Bytes>,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Removes a key.
    Delete(Bytes),
}

/// Writes that are applied all or not at all, if every compare holds. At most 128 compares and writes, 1 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is then done.
    pub writes: Vec<Write>,
}

/// Most compares and writes of a transaction, as etcd's default is.
pub const MAX_OPERATIONS: usize = 128;

impl Transaction {
    /// Adds the condition that `key` has exactly `value`, or, with none, that there is no such key.
    #[must_use]
    pub fn compare(mut self, key: Bytes, value: Option<Bytes>) -> Self {
        self.compares.push(Compare { key, value });
        self
    }

    /// Adds setting a key.
    #[must_use]
    pub fn put(mut self, key: Bytes, value: Bytes) -> Self {
        self.writes.push(Write::Put(key, value));
        self
    }

    /// Adds removing a key.
    #[must_use]
    pub fn delete(mut self, key: Bytes) -> Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// Number of compares and writes.
    pub fn operations(&self) -> usize {
        self.compares.len() + self.writes.len()
    }
}

/// A linearizable key-value store. One conformance suite runs against every implementation.
#[async_trait]
pub trait KeyValueStore: Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// Keys from `from` (inclusive) to `to` (exclusive) in order, at most `limit`, with their values.
    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;

    /// Applies a transaction; false where a compare does not hold and nothing was done. Returns once it is durable.
    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError>;

    /// Ends the use of the store in good order.
    async fn close(&self) -> Result<(), KvError>;
}
