//! The typed view of the key-value store: every transaction that Thalweg makes, each a method.
//!
//! **Unknown outcomes.** A transaction that got no answer may still be applied later. So every one of them is built to be
//! harmless when late: it compares a value that never comes back once it was replaced (an incarnation's record, whose commit
//! number or state moves with every write; a counter, which only rises; a start offset, which only rises). Reading back
//! what it compares then shows one of three things: the old value (repeat the transaction: of the two attempts one can be
//! applied), the value that it writes (done), or something else (it was not applied and never will be).
//! Settings alone may come back to an earlier value, and a late change of settings may then be applied a second time.
//!
//! **What is drawn is never drawn twice.** Epochs and producer ids belong to the caller only when its transaction was
//! *seen* to be applied; after an unknown outcome other numbers are drawn, and those are lost.

use crate::{
    call::{Call, Outcome},
    *,
};
use bytes::Bytes;
use std::{fmt, sync::Arc};
use thalweg_runtime::Runtime;
use thalweg_segment::{Incarnation, LogId, ProducerId};
use uuid::Uuid;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] KvError),
    /// The incarnation's record is not what the caller holds: it was fenced, or somebody else has committed in its name.
    #[error("incarnation {incarnation} is fenced: its record is {found:?}")]
    Fenced {
        /// Whose commit it was.
        incarnation: Incarnation,
        /// What stands there now.
        found: Option<IncarnationRecord>,
    },
    /// A topic of that name exists.
    #[error("topic {name} exists")]
    TopicExists {
        /// Its name.
        name: String,
    },
    /// There is no such topic, or no longer the one that the caller means.
    #[error("topic {name} does not exist")]
    NoSuchTopic {
        /// Its name.
        name: String,
    },
    /// A row that was to be replaced does not stand as the caller has seen it. Nothing was done.
    #[error("row {row} was replaced or removed before")]
    Stale {
        /// Its key.
        row: String,
    },
    /// Somebody else changed the same thing in between; read again and decide anew.
    #[error("{what} was changed by somebody else")]
    Conflict {
        /// Which thing.
        what: String,
    },
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataErrorKind {
    /// Try again later. A change may have been made, or may yet be.
    Retry,
    /// This incarnation, or this process, has lost its right to write. Stop.
    Fenced,
    /// This process's access to the store has ended, though nobody has fenced it. Stop, and say why.
    Closed,
    /// Somebody else was first. Read again and decide anew.
    Conflict,
    /// There is no such thing.
    NotFound,
    /// A person must look.
    Corrupt,
}

impl MetadataError {
    /// What to do about it.
    pub fn kind(&self) -> MetadataErrorKind {
        match self {
            Self::Store(KvError::Unavailable { .. }) => MetadataErrorKind::Retry,
            Self::Store(KvError::Fenced { .. }) | Self::Fenced { .. } => MetadataErrorKind::Fenced,
            Self::Store(KvError::Closed { .. }) => MetadataErrorKind::Closed,
            Self::Store(KvError::Corrupt { .. }) => MetadataErrorKind::Corrupt,
            Self::TopicExists { .. } | Self::Conflict { .. } | Self::Stale { .. } => {
                MetadataErrorKind::Conflict
            }
            Self::NoSuchTopic { .. } => MetadataErrorKind::NotFound,
        }
    }

    pub(crate) fn conflict(what: impl fmt::Display) -> Self {
        Self::Conflict { what: what.to_string() }
    }
}

/// Metadata, typed. Cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    pub(crate) kv: Arc<dyn KeyValueStore>,
    pub(crate) runtime: Runtime,
}

impl Metadata {
    /// The typed view of `kv`. Reads are repeated with back-off while the store is unavailable, transactions of unknown
    /// outcome are resolved by reading back what they guard; both for half a minute, then the error is returned.
    pub fn new(kv: Arc<dyn KeyValueStore>, runtime: Runtime) -> Self {
        Self { kv, runtime }
    }

    pub(crate) fn call(&self) -> Call<'_> {
        Call::new(self)
    }

    /// The cluster's id; the first caller's choice stays.
    pub async fn cluster_id(&self, candidate: Uuid) -> Result<Uuid, MetadataError> {
        let key = Bytes::from_static(keys::CLUSTER);
        let mut call = self.call();
        loop {
            if let Some(stored) = call.get(&key).await? {
                return Ok(decode_uuid(&stored)?);
            }
            let choice = encode_uuid(candidate);
            call.transact(Transaction::default().compare(key.clone(), None).put(key.clone(), choice)).await?;
        }
    }

    /// Takes `count` producer ids that nobody else gets; returns the first.
    pub async fn allocate_producer_ids(&self, count: u32) -> Result<ProducerId, MetadataError> {
        let mut call = self.call();
        loop {
            let counter = call.counter(keys::PRODUCERS).await?;
            let next = counter.value.checked_add(count.into()).and_then(|next| i64::try_from(next).ok());
            next.ok_or_else(|| counter.exhausted())?;
            if call.transact(counter.draw(Transaction::default(), count.into())?).await? == Outcome::Applied {
                return Ok(ProducerId(counter.value as i64));
            }
        }
    }

    /// The id that the next log gets: all that there are, and were, are below it.
    pub async fn next_log_id(&self) -> Result<LogId, MetadataError> {
        Ok(LogId(self.call().counter(keys::LOGS).await?.value))
    }

    /// Every shared segment and manifest of the index.
    pub async fn shared_records(&self) -> Result<Vec<SharedRecord>, MetadataError> {
        let rows = self.call().scan(keys::SHARED).await?;
        rows.iter().map(|(key, value)| Ok(SharedRecord::decode(keys::parse_shared(key)?, value)?)).collect()
    }

    /// Every log segment of the index.
    pub async fn log_segment_records(&self) -> Result<Vec<LogSegmentRecord>, MetadataError> {
        let rows = self.call().scan(keys::LOG_SEGMENT).await?;
        rows.iter()
            .map(|(key, value)| Ok(LogSegmentRecord::decode(keys::parse_log_segment(key)?, value)?))
            .collect()
    }

    /// Ends the use of the store in good order.
    pub async fn close(&self) -> Result<(), MetadataError> {
        Ok(self.kv.close().await?)
    }
}
