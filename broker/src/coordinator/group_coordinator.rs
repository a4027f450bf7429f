//! Which shard coordinates a group, and the topic that shards keep their state in.

use super::{
    groups::GroupSettings,
    loading,
    shard::{Means, Memory, Shard},
};
use crate::{
    broker::Broker,
    partition::Log,
    topics::{OFFSETS_TOPIC, Topic},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_cache::LogCache;
use thalweg_metadata::MetadataError;
use thalweg_protocol::ErrorCode;
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::LogId;
use thalweg_wal::Wal;
use tokio::{sync::Semaphore, time::Instant};

/// Shards that are read at a time.
const PARALLEL_LOADS: usize = 8;

/// The group coordinator of a broker: a shard for each partition of `__consumer_offsets` that it owns.
pub struct GroupCoordinator {
    means: Means,
    shards: Mutex<BTreeMap<LogId, Arc<Shard>>>,
    loads: Arc<Semaphore>,
}

impl GroupCoordinator {
    /// A coordinator without shards. Its groups may weigh `memory` bytes.
    pub fn new(
        runtime: Runtime,
        wal: Wal,
        cache: LogCache,
        produce: Budget,
        settings: GroupSettings,
        memory: usize,
    ) -> Self {
        let (settings, memory) = (Arc::new(settings), Arc::new(Memory::new(memory)));
        let means = Means { runtime, wal, cache, produce, settings, began: Instant::now(), memory };
        Self { means, shards: Mutex::default(), loads: Arc::new(Semaphore::new(PARALLEL_LOADS)) }
    }

    /// Bytes that all groups take, about.
    pub fn bytes(&self) -> usize {
        self.means.memory.used()
    }

    /// The shard of a log, loaded in the background the first time.
    fn shard(&self, broker: &Arc<Broker>, topic: &Topic, log: &Arc<Log>) -> Arc<Shard> {
        let mut shards = self.shards.lock();
        if let Some(shard) = shards.get(&log.id()) {
            return shard.clone();
        }
        // Those of a topic that was deleted.
        shards.retain(|_, shard| !shard.is_closed());
        let shard = Shard::new(log.clone(), topic.settings.max_message_bytes, self.means.clone());
        shards.insert(log.id(), shard.clone());
        drop(shards);
        self.load(broker, &shard);
        shard
    }

    fn load(&self, broker: &Arc<Broker>, shard: &Arc<Shard>) {
        let view = shard.log().view();
        if view.start == view.end {
            return shard.loaded();
        }
        let (weak, shard, loads) = (Arc::downgrade(broker), shard.clone(), self.loads.clone());
        let task = self.means.runtime.spawn_essential("group loading", async move {
            let _turn = loads.acquire().await.expect("the semaphore is never closed");
            loading::load(weak, shard).await;
        });
        task.detach();
    }
}

impl Broker {
    /// Begins to load all groups, in the background.
    pub fn load_groups(self: &Arc<Self>) {
        drop(self.group_shards());
    }

    /// The shard that coordinates a group. NOT_COORDINATOR where there is no topic for its state yet.
    pub fn group_shard(self: &Arc<Self>, group: &str) -> Result<Arc<Shard>, ErrorCode> {
        let topic = self.topics.by_name(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let log = topic.logs.get(partition_of(group, topic.logs.len())).ok_or(ErrorCode::NotCoordinator)?;
        Ok(self.groups.shard(self, &topic, log))
    }

    /// All shards.
    pub fn group_shards(self: &Arc<Self>) -> Vec<Arc<Shard>> {
        let Some(topic) = self.topics.by_name(OFFSETS_TOPIC) else { return Vec::new() };
        topic.logs.iter().map(|log| self.groups.shard(self, &topic, log)).collect()
    }

    /// The topic of the groups' state, created the first time with Kafka's settings.
    pub async fn offsets_topic(self: &Arc<Self>) -> Result<Arc<Topic>, MetadataError> {
        if let Some(topic) = self.topics.by_name(OFFSETS_TOPIC) {
            return Ok(topic);
        }
        let settings = &self.settings.groups;
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", settings.topic_segment_bytes.to_string()),
        ];
        let configs = configs.map(|(name, value)| (name.to_owned(), value)).into();
        match self.topics.create(OFFSETS_TOPIC, settings.topic_partitions, configs).await {
            Err(error @ MetadataError::TopicExists { .. }) => self.topics.by_name(OFFSETS_TOPIC).ok_or(error),
            created => created,
        }
    }
}

/// The partition of a group's state, as Kafka counts: Java's hash of the id, without its sign.
fn partition_of(group: &str, partitions: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // The one number without a positive counterpart counts as 0.
    let positive = hash.checked_abs().unwrap_or(0);
    positive as usize % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_kafka_has_them() {
        assert_eq!(partition_of("", 50), 0);
        // "console".hashCode() is 951510359.
        assert_eq!(partition_of("console", 50), 951_510_359 % 50);
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // "ü".hashCode() is 252; a character beyond the first plane counts as two.
        assert_eq!(partition_of("ü", 50), 2);
        assert_eq!(partition_of("𝄞", 1_000_000), (31 * 0xd834 + 0xdd1e) % 1_000_000);
    }
}
