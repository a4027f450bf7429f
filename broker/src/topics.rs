//! The topics of the cluster, as this broker knows them, and every change to them.

use crate::{
    partition::{Closed, Log, Logs},
    settings::TopicSettings,
};
use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{IndexError, KvError, Metadata, MetadataError, ObjectIndex, OwnerRecord, TopicRecord};
use thalweg_segment::{Incarnation, LogId, LogState, Offset};
use thalweg_wal::Wal;
use tokio::sync::Notify;
use uuid::Uuid;

/// A topic and its open logs. Immutable: a change makes a new one.
pub struct Topic {
    /// As it is stored.
    pub record: TopicRecord,
    /// Its settings, the broker's defaults filled in.
    pub settings: TopicSettings,
    /// The log of each partition.
    pub logs: Vec<Arc<Log>>,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.record.id
    }

    /// The log of partition `index`.
    pub fn log(&self, index: i32) -> Option<&Arc<Log>> {
        self.logs.get(usize::try_from(index).ok()?)
    }
}

/// Turns a topic's own settings into what holds for it; the broker's defaults can change.
pub type ResolveSettings = Box<dyn Fn(&BTreeMap<String, String>) -> TopicSettings + Send + Sync>;

/// All topics by name and id.
pub struct Topics {
    metadata: Metadata,
    index: ObjectIndex,
    wal: Wal,
    logs: Arc<Logs>,
    owner: OwnerRecord,
    resolve: ResolveSettings,
    known: TopicList,
    deleted: Arc<Notify>,
    /// Changes are made one after another, so that what is stored and what is known stay the same.
    changing: tokio::sync::Mutex<()>,
}

/// The topics as they are known now. Clones see the same.
#[derive(Clone, Default)]
pub struct TopicList(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    names: BTreeMap<Uuid, String>,
    version: u64,
}

impl TopicList {
    /// Rises with every topic that is created, grows or is deleted; not over lives of the broker.
    pub fn version(&self) -> u64 {
        self.0.read().version
    }

    /// A topic by name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.0.read().by_name.get(name).cloned()
    }

    /// A topic by id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        let known = self.0.read();
        known.by_name.get(known.names.get(&id)?).cloned()
    }

    /// Every topic, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.0.read().by_name.values().cloned().collect()
    }

    fn put(&self, topic: Arc<Topic>) {
        let mut known = self.0.write();
        known.names.insert(topic.id(), topic.name().to_owned());
        let shape = |topic: &Arc<Topic>| (topic.id(), topic.logs.len());
        let new = shape(&topic);
        let before = known.by_name.insert(topic.name().to_owned(), topic);
        known.version += u64::from(before.as_ref().map(shape) != Some(new));
    }

    fn remove(&self, topic: &Topic) {
        let mut known = self.0.write();
        known.by_name.remove(topic.name());
        known.names.remove(&topic.id());
        known.version += 1;
    }
}

impl Topics {
    /// Reads all topics and opens their logs, each at its recovered state.
    pub async fn open(
        metadata: Metadata,
        index: ObjectIndex,
        wal: Wal,
        logs: Arc<Logs>,
        owner: OwnerRecord,
        resolve: ResolveSettings,
    ) -> Result<Self, IndexError> {
        let records = metadata.topics().await?;
        let starts = metadata.log_starts().await?;
        let mut ids: Vec<LogId> = records.iter().flat_map(TopicRecord::log_ids).collect();
        ids.sort_unstable();
        index.retain(|log| ids.binary_search(&log).is_ok());
        let states: BTreeMap<LogId, LogState> = index.states(&ids).await?.into_iter().collect();
        let topics = Self {
            metadata,
            index,
            wal,
            logs,
            owner,
            resolve,
            known: TopicList::default(),
            deleted: Arc::default(),
            changing: tokio::sync::Mutex::default(),
        };
        for record in records {
            let opened = record.log_ids().map(|id| {
                let state = states.get(&id).cloned().unwrap_or_default();
                topics.open_log(id, state, starts.get(&id).copied().unwrap_or_default())
            });
            let opened = opened.collect();
            topics.publish(record, opened);
        }
        Ok(topics)
    }

    fn open_log(&self, id: LogId, state: LogState, start: Offset) -> Arc<Log> {
        self.wal.open_log(id, state.clone());
        let memory = self.logs.producer_memory();
        let log = Arc::new(Log::open(id, self.owner.leader_epoch, state, start, memory));
        self.logs.add([log.clone()]);
        log
    }

    fn publish(&self, record: TopicRecord, logs: Vec<Arc<Log>>) -> Arc<Topic> {
        let settings = (self.resolve)(&record.configs);
        let topic = Arc::new(Topic { record, settings, logs });
        self.known.put(topic.clone());
        topic
    }

    /// The incarnation and leader epoch under which this broker owns the logs.
    pub fn owner(&self) -> OwnerRecord {
        self.owner
    }

    /// A topic by name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.known.by_name(name)
    }

    /// A topic by id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.known.by_id(id)
    }

    /// Every topic, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.known.all()
    }

    /// The topics, for who only looks.
    pub fn list(&self) -> TopicList {
        self.known.clone()
    }

    /// An existing topic whose name collides with `name` in metric names, where `.` and `_` are the same.
    pub fn colliding(&self, name: &str) -> Option<String> {
        let folded = |name: &str| name.replace('.', "_");
        let wanted = folded(name);
        let known = self.known.0.read();
        known.by_name.keys().find(|other| *other != name && folded(other) == wanted).cloned()
    }

    /// Creates a topic and opens its logs.
    pub async fn create(
        &self,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, MetadataError> {
        let _one_at_a_time = self.changing.lock().await;
        let created = self.metadata.create_topic(name, partitions, configs).await;
        let record = self.or_catch_up(name, created).await?;
        let logs = record.log_ids().map(|id| self.open_log(id, LogState::default(), Offset(0))).collect();
        tracing::info!(topic = name, partitions, "topic created");
        Ok(self.publish(record, logs))
    }

    /// Adds partitions up to `count`.
    pub async fn grow(&self, topic: &Topic, count: u32) -> Result<Arc<Topic>, MetadataError> {
        let _one_at_a_time = self.changing.lock().await;
        let current = self.current(topic)?;
        let grown = self.metadata.add_partitions(&current.record, count).await;
        let record = self.or_catch_up(topic.name(), grown).await?;
        let added = record.log_ids().skip(current.logs.len());
        let added = added.map(|id| self.open_log(id, LogState::default(), Offset(0)));
        let logs = current.logs.iter().cloned().chain(added).collect();
        tracing::info!(topic = topic.name(), partitions = count, "partitions added");
        Ok(self.publish(record, logs))
    }

    /// Changes a topic's settings by `change`, which sees them as they are.
    pub async fn configure(
        &self,
        topic: &Topic,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<Arc<Topic>, MetadataError> {
        let _one_at_a_time = self.changing.lock().await;
        let current = self.current(topic)?;
        let mut configs = current.record.configs.clone();
        change(&mut configs);
        let changed = self.metadata.set_topic_configs(&current.record, configs).await;
        let record = self.or_catch_up(topic.name(), changed).await?;
        Ok(self.publish(record, current.logs.clone()))
    }

    /// Deletes a topic: its logs close, its data becomes garbage. Goes on until the outcome is known: a topic that is served
    /// here and gone from the store would lose all its records at the next start.
    pub async fn delete(&self, topic: &Topic) -> Result<(), MetadataError> {
        let _one_at_a_time = self.changing.lock().await;
        let current = self.current(topic)?;
        self.delete_record(&current).await?;
        self.known.remove(&current);
        for log in &current.logs {
            self.wal.close_log(log.id());
            self.logs.remove(log.id(), Closed::Deleted);
        }
        self.deleted.notify_one();
        tracing::info!(topic = current.name(), "topic deleted");
        Ok(())
    }

    /// Rings after each deletion.
    pub fn deleted(&self) -> Arc<Notify> {
        self.deleted.clone()
    }

    async fn delete_record(&self, topic: &Topic) -> Result<(), MetadataError> {
        loop {
            match self.metadata.delete_topic(topic.name(), topic.id()).await {
                // Known here, it was there: an earlier attempt has been applied.
                Ok(()) | Err(MetadataError::NoSuchTopic { .. }) => return Ok(()),
                Err(error @ MetadataError::Store(KvError::Unavailable { .. })) => {
                    tracing::warn!(topic = topic.name(), %error, "whether a topic is deleted is not known yet");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in what the store has under `name` where it is not what is known here: an attempt whose outcome was unknown has
    /// been applied since. The caller's own change is answered with its error, and can be repeated.
    async fn or_catch_up<T>(
        &self,
        name: &str,
        changed: Result<T, MetadataError>,
    ) -> Result<T, MetadataError> {
        if let Err(MetadataError::TopicExists { .. } | MetadataError::Conflict { .. }) = changed {
            let records = self.metadata.topics().await?;
            if let Some(record) = records.into_iter().find(|record| record.name == name) {
                self.catch_up(record);
            }
        }
        changed
    }

    fn catch_up(&self, record: TopicRecord) {
        let known = self.by_name(&record.name);
        if known.as_ref().is_some_and(|known| known.record == record) {
            return;
        }
        let known = known.filter(|known| known.id() == record.id);
        let known = known.map(|known| known.logs.clone()).unwrap_or_default();
        // Logs that aren't known were created in this life, and nothing was ever written to them.
        let added = record.log_ids().skip(known.len());
        let added: Vec<_> = added.map(|id| self.open_log(id, LogState::default(), Offset(0))).collect();
        self.publish(record, known.into_iter().chain(added).collect());
    }

    /// Moves a log's start up, durably first.
    pub async fn raise_start(&self, log: &Log, start: Offset) -> Result<Offset, MetadataError> {
        let incarnation: Incarnation = self.owner.incarnation;
        self.metadata.set_log_start(incarnation, log.id(), start).await?;
        Ok(log.raise_start(start))
    }

    /// The same of many logs.
    pub async fn raise_starts(&self, starts: &[(Arc<Log>, Offset)]) -> Result<(), MetadataError> {
        let ids: Vec<_> = starts.iter().map(|(log, start)| (log.id(), *start)).collect();
        self.metadata.set_log_starts(self.owner.incarnation, &ids).await?;
        for (log, start) in starts {
            log.raise_start(*start);
        }
        Ok(())
    }

    /// Works out every topic's settings anew, after the broker's defaults have changed.
    pub async fn refresh_settings(&self) {
        let _one_at_a_time = self.changing.lock().await;
        for topic in self.all() {
            self.publish(topic.record.clone(), topic.logs.clone());
        }
    }

    /// What the object index holds.
    pub fn index(&self) -> &ObjectIndex {
        &self.index
    }

    /// The topic as it is now; it may have changed, or be another of the same name, since the caller looked.
    fn current(&self, topic: &Topic) -> Result<Arc<Topic>, MetadataError> {
        let current = self.by_name(topic.name()).filter(|current| current.id() == topic.id());
        current.ok_or_else(|| MetadataError::NoSuchTopic { name: topic.name().to_owned() })
    }
}

/// Whether Kafka keeps its own records in a topic of this name.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Where groups keep their state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Where transactions keep their state.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

const INTERNAL: [&str; 3] = [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "__share_group_state"];
