//! One operation on the store, from its first attempt to a known outcome.
//!
//! A transaction that got no answer may have been applied, may be applied later, or never. [`Call::transact`] says so
//! ([`Outcome::Unknown`]) after a pause, and the operation reads back what its transaction guards before it goes on.

use crate::{KeyValueStore, KvError, Metadata, MetadataError, Transaction, keys, records};
use bytes::Bytes;
use std::time::Duration;
use thalweg_runtime::Runtime;
use tokio::time::Instant;

/// How long an operation goes on while the store answers nothing, before its error is returned.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Rows that one read asks for; far below etcd's limit on the size of an answer.
const PAGE: usize = 1000;

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was applied, once.
    Applied,
    /// A compare did not hold. (An earlier attempt of the same transaction may be the reason.)
    Refused,
    /// No answer. It may be applied at any later time, for as long as its compares hold.
    Unknown,
}

/// An operation that is under way, with what is left of its patience.
pub(crate) struct Call<'a> {
    kv: &'a dyn KeyValueStore,
    runtime: &'a Runtime,
    deadline: Option<Instant>,
    pause: Duration,
}

/// A counter as it was read; whoever replaces exactly this value has drawn the numbers in between.
pub(crate) struct Counter {
    key: &'static [u8],
    stored: Option<Bytes>,
    /// Its value; 0 where it was never drawn from.
    pub value: u64,
}

impl<'a> Call<'a> {
    pub fn new(metadata: &'a Metadata) -> Self {
        Self { kv: &*metadata.kv, runtime: &metadata.runtime, deadline: None, pause: FIRST_PAUSE }
    }

    /// The value of a key; repeated while the store is unavailable.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        loop {
            match self.kv.get(key).await {
                Err(error) => self.wait_after(error).await?,
                Ok(value) => return Ok(value),
            }
        }
    }

    /// All rows from `from` to `to` (exclusive); repeated while the store is unavailable.
    pub async fn range(&mut self, from: Bytes, to: Bytes) -> Result<Vec<(Bytes, Bytes)>, MetadataError> {
        let (mut rows, mut from) = (Vec::new(), from);
        loop {
            let page = match self.kv.range(&from, &to, PAGE).await {
                Err(error) => {
                    self.wait_after(error).await?;
                    continue;
                }
                Ok(page) => page,
            };
            let full = page.len() == PAGE;
            rows.extend(page);
            match rows.last() {
                Some((last, _)) if full => from = successor(last),
                _ => return Ok(rows),
            }
        }
    }

    /// All rows whose key begins with `prefix`.
    pub async fn scan(&mut self, prefix: &'static str) -> Result<Vec<(Bytes, Bytes)>, MetadataError> {
        self.range(Bytes::from_static(prefix.as_bytes()), keys::end_of(prefix)).await
    }

    /// A counter's value, for a draw.
    pub async fn counter(&mut self, key: &'static [u8]) -> Result<Counter, MetadataError> {
        let stored = self.get(key).await?;
        let value = stored.as_deref().map(records::decode_number).transpose()?.unwrap_or(0);
        Ok(Counter { key, stored, value })
    }

    /// One attempt of `transaction`. Where it got no answer this pauses, so that the caller may read back at once.
    pub async fn transact(&mut self, transaction: Transaction) -> Result<Outcome, MetadataError> {
        match self.kv.transact(transaction).await {
            Ok(applied) => {
                self.deadline = None;
                self.pause = FIRST_PAUSE;
                Ok(if applied { Outcome::Applied } else { Outcome::Refused })
            }
            Err(error) => {
                self.wait_after(error).await?;
                Ok(Outcome::Unknown)
            }
        }
    }

    /// Pauses where it makes sense to go on after `error`; else returns it.
    async fn wait_after(&mut self, error: KvError) -> Result<(), MetadataError> {
        let KvError::Unavailable { .. } = error else { return Err(error.into()) };
        let now = Instant::now();
        if now >= *self.deadline.get_or_insert(now + PATIENCE) {
            return Err(error.into());
        }
        tracing::debug!(%error, "the metadata store did not answer");
        tokio::time::sleep(self.runtime.random().jitter(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

impl Counter {
    /// `transaction`, which draws `count` numbers too: those behind [`Counter::value`].
    pub fn draw(&self, transaction: Transaction, count: u64) -> Result<Transaction, MetadataError> {
        let drawn = self.value.checked_add(count).ok_or_else(|| self.exhausted())?;
        let key = Bytes::from_static(self.key);
        Ok(transaction.compare(key.clone(), self.stored.clone()).put(key, records::encode_number(drawn)))
    }

    /// The error that there are no more numbers of this kind. No cluster lives to see it; damage may.
    pub fn exhausted(&self) -> KvError {
        KvError::Corrupt { reason: format!("{} is at {}", self.key.escape_ascii(), self.value) }
    }
}

/// The first key behind `key`.
fn successor(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
