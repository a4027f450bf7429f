//! The typed view of the key-value store: every transaction that Thalweg makes, each a method.

use crate::*;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_runtime::Runtime;
use thalweg_segment::{BrokerEpoch, BrokerId, Incarnation, LogId, Offset, ProducerId, WalSequence};
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
    /// Somebody else changed the same thing in between; read again and decide anew.
    #[error("{what} was changed by somebody else")]
    Conflict {
        /// Which thing.
        what: String,
    },
}

/// What a flush adds to the object index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The shared segment, if there is one.
    pub shared: Option<SharedRecord>,
    /// Log segments.
    pub logs: Vec<LogSegmentRecord>,
    /// The new trim point.
    pub trim: WalSequence,
    /// Whether this is the incarnation's last commit: everything is flushed, it writes no more.
    pub close: bool,
}

/// Metadata, typed. Cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    _kv: Arc<dyn KeyValueStore>,
    _runtime: Runtime,
}

impl Metadata {
    /// The typed view of `kv`. Reads are repeated with back-off while the store is unavailable; transactions of unknown
    /// outcome are resolved by reading back what they guard.
    pub fn new(_kv: Arc<dyn KeyValueStore>, _runtime: Runtime) -> Self {
        todo!()
    }

    /// The cluster's id; the first caller's choice stays.
    pub async fn cluster_id(&self, _candidate: Uuid) -> Result<Uuid, MetadataError> {
        todo!()
    }

    /// Begins a new life of `broker`: draws the next broker epoch and writes its record, state open.
    pub async fn register(
        &self,
        _broker: BrokerId,
        _window: u32,
    ) -> Result<IncarnationRecord, MetadataError> {
        todo!()
    }

    /// All incarnations whose WAL may still hold something: open or fencing.
    pub async fn unrecovered(&self) -> Result<Vec<IncarnationRecord>, MetadataError> {
        todo!()
    }

    /// One incarnation's record.
    pub async fn incarnation(
        &self,
        _incarnation: Incarnation,
    ) -> Result<Option<IncarnationRecord>, MetadataError> {
        todo!()
    }

    /// Raises a record to `fencing(ballot)`, from open or a lower ballot. From here on its commits fail.
    /// Returns the record as it then stands (W and trim point are read with the raise), or `Conflict` where a higher
    /// ballot stands or it is recovered already.
    pub async fn raise(
        &self,
        _incarnation: Incarnation,
        _ballot: BrokerEpoch,
    ) -> Result<IncarnationRecord, MetadataError> {
        todo!()
    }

    /// Ends a take-over: compares the record with `fencing` (as [`Metadata::raise`] returned it), writes the manifest (none
    /// where nothing was kept) into the object index and the state recovered.
    pub async fn adopt(
        &self,
        _fencing: &IncarnationRecord,
        _manifest: Option<SharedRecord>,
    ) -> Result<(), MetadataError> {
        todo!()
    }

    /// The next commit of an incarnation. Compares its whole record with `held` and returns the next one. A commit too
    /// large for one transaction is split: segments first, the trim point (and close) in the last.
    pub async fn commit(
        &self,
        _held: &IncarnationRecord,
        _commit: Commit,
    ) -> Result<IncarnationRecord, MetadataError> {
        todo!()
    }

    /// Makes `record`'s incarnation the owner of all logs, with a new leader epoch. Its record must be open.
    pub async fn take_ownership(&self, _record: &IncarnationRecord) -> Result<OwnerRecord, MetadataError> {
        todo!()
    }

    /// Who owns the logs.
    pub async fn owner(&self) -> Result<Option<OwnerRecord>, MetadataError> {
        todo!()
    }

    /// Every shared segment and manifest of the index.
    pub async fn shared_records(&self) -> Result<Vec<SharedRecord>, MetadataError> {
        todo!()
    }

    /// Every log segment of the index.
    pub async fn log_segment_records(&self) -> Result<Vec<LogSegmentRecord>, MetadataError> {
        todo!()
    }

    /// All topics.
    pub async fn topics(&self) -> Result<Vec<TopicRecord>, MetadataError> {
        todo!()
    }

    /// Creates a topic with new logs and a new id.
    pub async fn create_topic(
        &self,
        _name: &str,
        _partitions: u32,
        _configs: BTreeMap<String, String>,
    ) -> Result<TopicRecord, MetadataError> {
        todo!()
    }

    /// Removes a topic (the one with `id`) with its log start offsets.
    pub async fn delete_topic(&self, _name: &str, _id: Uuid) -> Result<(), MetadataError> {
        todo!()
    }

    /// Adds partitions up to `count` to the topic that `held` describes.
    pub async fn add_partitions(
        &self,
        _held: &TopicRecord,
        _count: u32,
    ) -> Result<TopicRecord, MetadataError> {
        todo!()
    }

    /// Replaces the topic's settings.
    pub async fn set_topic_configs(
        &self,
        _held: &TopicRecord,
        _configs: BTreeMap<String, String>,
    ) -> Result<TopicRecord, MetadataError> {
        todo!()
    }

    /// Dynamic settings of one broker, or with none the default of all.
    pub async fn broker_configs(
        &self,
        _broker: Option<BrokerId>,
    ) -> Result<BTreeMap<String, String>, MetadataError> {
        todo!()
    }

    /// Replaces them.
    pub async fn set_broker_configs(
        &self,
        _broker: Option<BrokerId>,
        _held: &BTreeMap<String, String>,
        _configs: BTreeMap<String, String>,
    ) -> Result<(), MetadataError> {
        todo!()
    }

    /// Log start offsets that differ from 0.
    pub async fn log_starts(&self) -> Result<BTreeMap<LogId, Offset>, MetadataError> {
        todo!()
    }

    /// Moves a log's start offset up; guarded by the owner's record being open.
    pub async fn set_log_start(
        &self,
        _held: Incarnation,
        _log: LogId,
        _start: Offset,
    ) -> Result<(), MetadataError> {
        todo!()
    }

    /// Takes `count` producer ids that nobody else gets; returns the first.
    pub async fn allocate_producer_ids(&self, _count: u32) -> Result<ProducerId, MetadataError> {
        todo!()
    }

    /// Ends the use of the store in good order.
    pub async fn close(&self) -> Result<(), MetadataError> {
        todo!()
    }
}
