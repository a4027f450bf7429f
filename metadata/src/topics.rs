//! Topics, their partitions' logs, and where those begin.

use crate::{
    call::{Call, Outcome},
    *,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use thalweg_segment::{Incarnation, LogId, Offset};
use uuid::Uuid;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: u32,
    /// Settings that differ from the broker's.
    pub configs: BTreeMap<String, String>,
}

/// Topics of one transaction: two operations each, and two for the counter of log ids.
const TOPICS_PER_TRANSACTION: usize = MAX_OPERATIONS / 2 - 1;
/// Log start offsets of one transaction: two operations each, and one for the owner's record.
const STARTS_PER_TRANSACTION: usize = (MAX_OPERATIONS - 1) / 2;

impl Metadata {
    /// All topics.
    pub async fn topics(&self) -> Result<Vec<TopicRecord>, MetadataError> {
        let rows = self.call().scan(keys::TOPIC).await?;
        rows.iter().map(|(key, value)| Ok(TopicRecord::decode(keys::parse_topic(key)?, value)?)).collect()
    }

    /// Creates a topic with new logs and a new id.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<TopicRecord, MetadataError> {
        let topic = NewTopic { name: name.into(), partitions, configs };
        let mut created = self.create_topics(vec![topic]).await?;
        created.pop().expect("there is one result for each topic")
    }

    /// Creates topics, with few transactions for many. Gives one result for each, in order: its record or `TopicExists`,
    /// also for the second of two with one name. An error of the store may leave some of them created.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
    ) -> Result<Vec<Result<TopicRecord, MetadataError>>, MetadataError> {
        let mut call = self.call();
        let mut created = Vec::with_capacity(topics.len());
        for chunk in topics.chunks(TOPICS_PER_TRANSACTION) {
            // The id tells this attempt from everybody else's.
            let drafts: Vec<_> = chunk.iter().map(|topic| (topic, self.runtime.random().uuid())).collect();
            let stored = call.create_topics(&drafts).await?;
            created.extend(drafts.into_iter().map(|(topic, id)| match stored.get(&topic.name) {
                Some(record) if record.id == id => Ok(record.clone()),
                _ => Err(MetadataError::TopicExists { name: topic.name.clone() }),
            }));
        }
        Ok(created)
    }

    /// Removes a topic (the one with `id`) with its log start offsets.
    pub async fn delete_topic(&self, name: &str, id: Uuid) -> Result<(), MetadataError> {
        let key = keys::topic(name);
        let mut call = self.call();
        let mut record = None;
        loop {
            let stored = call.get(&key).await?;
            let found = stored.as_ref().map(|value| TopicRecord::decode(name.into(), value)).transpose()?;
            let Some(found) = found.filter(|topic| topic.id == id) else { break };
            let transaction = Transaction::default().compare(key.clone(), stored).delete(key.clone());
            let outcome = call.transact(transaction).await?;
            record = Some(found);
            if outcome == Outcome::Applied {
                break;
            }
        }
        let record = record.ok_or_else(|| MetadataError::NoSuchTopic { name: name.into() })?;
        if let Err(error) = call.remove_log_starts(&record).await {
            // The topic is gone, and nobody asks where a log begins whose id is never used again.
            tracing::warn!(topic = name, %error, "log start offsets of a deleted topic are left behind");
        }
        Ok(())
    }

    /// Adds partitions up to `count` to the topic that `held` describes; changes nothing where it has as many.
    pub async fn add_partitions(&self, held: &TopicRecord, count: u32) -> Result<TopicRecord, MetadataError> {
        let Some(added) = count.checked_sub(held.partitions()).filter(|added| *added > 0) else {
            return Ok(held.clone());
        };
        let key = keys::topic(&held.name);
        let mut call = self.call();
        let mut attempted = None;
        loop {
            // Counter before topic: an attempt that is applied between the two reads is then seen as such.
            let counter = call.counter(keys::LOGS).await?;
            let stored = call.topic(&held.name).await?;
            if let Some(grown) = attempted.filter(|attempted| stored.as_ref() == Some(attempted)) {
                return Ok(grown);
            }
            held.check_unchanged(stored)?;
            let mut grown = held.clone();
            grown.logs.push(LogRun { first: LogId(counter.value), count: added });
            let transaction = Transaction::default()
                .compare(key.clone(), Some(held.encode()))
                .put(key.clone(), grown.encode());
            if call.transact(counter.draw(transaction, added.into())?).await? == Outcome::Applied {
                return Ok(grown);
            }
            attempted = Some(grown);
        }
    }

    /// Replaces the topic's settings.
    pub async fn set_topic_configs(
        &self,
        held: &TopicRecord,
        configs: BTreeMap<String, String>,
    ) -> Result<TopicRecord, MetadataError> {
        let mut call = self.call();
        let changed = TopicRecord { configs, ..held.clone() };
        let key = keys::topic(&held.name);
        if call.replace(key, Some(held.encode()), Some(changed.encode())).await? {
            return Ok(changed);
        }
        let stored = call.topic(&held.name).await?;
        held.check_unchanged(stored)?;
        Err(MetadataError::conflict(format_args!("topic {}", held.name)))
    }

    /// Log start offsets that differ from 0.
    pub async fn log_starts(&self) -> Result<BTreeMap<LogId, Offset>, MetadataError> {
        let rows = self.call().scan(keys::LOG_START).await?;
        rows.iter().map(|(key, value)| Ok((keys::parse_log_start(key)?, decode_offset(value)?))).collect()
    }

    /// Moves a log's start offset up (one that is not above the present one changes nothing); guarded by the owner's
    /// record being open, else `Fenced`.
    pub async fn set_log_start(
        &self,
        held: Incarnation,
        log: LogId,
        start: Offset,
    ) -> Result<(), MetadataError> {
        self.set_log_starts(held, &[(log, start)]).await
    }

    /// The same of many logs, with few transactions. An error may leave some of them moved.
    pub async fn set_log_starts(
        &self,
        held: Incarnation,
        starts: &[(LogId, Offset)],
    ) -> Result<(), MetadataError> {
        let mut call = self.call();
        for chunk in starts.chunks(STARTS_PER_TRANSACTION) {
            call.set_log_starts(held, chunk).await?;
        }
        Ok(())
    }
}

impl Call<'_> {
    async fn topic(&mut self, name: &str) -> Result<Option<TopicRecord>, MetadataError> {
        let stored = self.get(&keys::topic(name)).await?;
        Ok(stored.map(|value| TopicRecord::decode(name.into(), &value)).transpose()?)
    }

    /// Creates those of `drafts` whose name is free, in one transaction, and returns what then stands under their names.
    ///
    /// The log ids are drawn in the same transaction: so an attempt of unknown outcome that is applied late can neither
    /// bring a deleted topic back nor give a log id away twice, because the counter has moved on.
    async fn create_topics(
        &mut self,
        drafts: &[(&NewTopic, Uuid)],
    ) -> Result<BTreeMap<String, TopicRecord>, MetadataError> {
        loop {
            let counter = self.counter(keys::LOGS).await?;
            let mut stored = BTreeMap::new();
            for (draft, _) in drafts {
                stored.extend(self.topic(&draft.name).await?.map(|topic| (draft.name.clone(), topic)));
            }
            let mut transaction = Transaction::default();
            let mut next = counter.value;
            for (draft, id) in drafts {
                if stored.contains_key(&draft.name) {
                    continue;
                }
                let topic = draft.record(*id, LogId(next));
                next = next.checked_add(draft.partitions.into()).ok_or_else(|| counter.exhausted())?;
                let key = keys::topic(&draft.name);
                transaction = transaction.compare(key.clone(), None).put(key, topic.encode());
                stored.insert(topic.name.clone(), topic);
            }
            if transaction.writes.is_empty() {
                return Ok(stored);
            }
            let transaction = counter.draw(transaction, next - counter.value)?;
            if self.transact(transaction).await? == Outcome::Applied {
                return Ok(stored);
            }
        }
    }

    async fn set_log_starts(
        &mut self,
        held: Incarnation,
        starts: &[(LogId, Offset)],
    ) -> Result<(), MetadataError> {
        loop {
            let owner = self.open_incarnation(held).await?;
            let guard = Transaction::default().compare(keys::incarnation(held), Some(owner.encode()));
            let mut transaction = guard;
            for (log, start) in starts {
                let key = keys::log_start(*log);
                let stored = self.get(&key).await?;
                let present = stored.as_deref().map(decode_offset).transpose()?.unwrap_or(Offset(0));
                if *start > present {
                    let start = encode_offset(*start);
                    transaction = transaction.compare(key.clone(), stored).put(key, start);
                }
            }
            if transaction.writes.is_empty() || self.transact(transaction).await? == Outcome::Applied {
                return Ok(());
            }
        }
    }

    async fn remove_log_starts(&mut self, topic: &TopicRecord) -> Result<(), MetadataError> {
        for run in &topic.logs {
            let end = LogId(run.first.0 + u64::from(run.count));
            let rows = self.range(keys::log_start(run.first), keys::log_start(end)).await?;
            for chunk in rows.chunks(MAX_OPERATIONS) {
                let keys = chunk.iter().map(|(key, _): &(Bytes, Bytes)| key.clone());
                let removal = keys.fold(Transaction::default(), Transaction::delete);
                while self.transact(removal.clone()).await? != Outcome::Applied {}
            }
        }
        Ok(())
    }
}

impl NewTopic {
    fn record(&self, id: Uuid, first: LogId) -> TopicRecord {
        TopicRecord {
            name: self.name.clone(),
            id,
            logs: vec![LogRun { first, count: self.partitions }],
            configs: self.configs.clone(),
        }
    }
}

impl TopicRecord {
    /// Tells a topic that was deleted (or deleted and created anew) from one that was changed.
    fn check_unchanged(&self, stored: Option<TopicRecord>) -> Result<(), MetadataError> {
        match stored {
            Some(stored) if stored == *self => Ok(()),
            Some(stored) if stored.id == self.id => {
                Err(MetadataError::conflict(format_args!("topic {}", self.name)))
            }
            _ => Err(MetadataError::NoSuchTopic { name: self.name.clone() }),
        }
    }
}
