//! Which shard coordinates a group, and the topic that groups keep their state in.

use super::{
    groups::{
        GroupSettings, Groups,
        cluster::{ClusterView, GroupConfigs, GroupOverrides, TopicView},
    },
    shard::{Means, Shard},
    shards::{Shards, partition_of},
};
use crate::{
    broker::Broker,
    topics::{OFFSETS_TOPIC, Topic, TopicList},
};
use std::sync::Arc;
use thalweg_metadata::MetadataError;
use thalweg_protocol::ErrorCode;
use uuid::Uuid;

/// The group coordinator of a broker: a shard for each partition of `__consumer_offsets` that it owns.
pub type GroupCoordinator = Shards<Groups>;

/// A shard of the group coordinator.
pub type GroupShard = Shard<Groups>;

impl GroupCoordinator {
    /// A coordinator without shards.
    pub(crate) fn of_groups(means: Means, settings: GroupSettings, cluster: Arc<View>) -> Self {
        let (settings, random) = (Arc::new(settings), means.runtime.random().clone());
        let make = Arc::new(move || Groups::new(settings.clone(), random.clone(), cluster.clone()));
        Self::new(means, make, |_, never| match never {})
    }
}

/// What groups see of the cluster.
pub(crate) struct View {
    pub(crate) topics: TopicList,
    pub(crate) rack: Option<String>,
    pub(crate) configs: Arc<GroupConfigs>,
}

impl ClusterView for View {
    fn version(&self) -> u64 {
        self.topics.version()
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        let topic = self.topics.by_name(name)?;
        Some(TopicView { id: topic.id(), partitions: i32::try_from(topic.logs.len()).unwrap_or(i32::MAX) })
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        self.topics.by_id(id).map(|topic| topic.name().into())
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.all().iter().map(|topic| topic.name().into()).collect()
    }

    fn rack(&self) -> Option<&str> {
        self.rack.as_deref()
    }

    fn group_overrides(&self, group: &str) -> GroupOverrides {
        self.configs.of(group)
    }
}

impl Broker {
    /// Begins to load all groups, in the background.
    pub fn load_groups(self: &Arc<Self>) {
        drop(self.group_shards());
    }

    /// The partition of `__consumer_offsets` that a group belongs to. NOT_COORDINATOR where there is no such topic yet.
    pub fn group_partition(&self, group: &str) -> Result<(Arc<Topic>, usize), ErrorCode> {
        let topic = self.topics.by_name(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let partition = partition_of(group, topic.logs.len());
        Ok((topic, partition))
    }

    /// The shard that coordinates a group. NOT_COORDINATOR where there is no topic for its state yet.
    pub fn group_shard(self: &Arc<Self>, group: &str) -> Result<Arc<GroupShard>, ErrorCode> {
        let (topic, partition) = self.group_partition(group)?;
        self.shard_of_groups(&topic, partition)
    }

    /// The shard of one partition of `__consumer_offsets`.
    pub(super) fn shard_of_groups(
        self: &Arc<Self>,
        topic: &Topic,
        partition: usize,
    ) -> Result<Arc<GroupShard>, ErrorCode> {
        let log = topic.logs.get(partition).ok_or(ErrorCode::NotCoordinator)?;
        Ok(self.groups.shard(self, topic, log))
    }

    /// All shards.
    pub fn group_shards(self: &Arc<Self>) -> Vec<Arc<GroupShard>> {
        let Some(topic) = self.topics.by_name(OFFSETS_TOPIC) else { return Vec::new() };
        topic.logs.iter().map(|log| self.groups.shard(self, &topic, log)).collect()
    }

    /// The topic of the groups' state, created the first time with Kafka's settings.
    pub async fn offsets_topic(self: &Arc<Self>) -> Result<Arc<Topic>, MetadataError> {
        let settings = &self.settings.groups;
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", settings.topic_segment_bytes.to_string()),
        ];
        self.coordinator_topic(OFFSETS_TOPIC, settings.topic_partitions, &configs).await
    }

    /// The topic called `name`, created the first time.
    pub(super) async fn coordinator_topic(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, String)],
    ) -> Result<Arc<Topic>, MetadataError> {
        if let Some(topic) = self.topics.by_name(name) {
            return Ok(topic);
        }
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match self.topics.create(name, partitions, configs).await {
            Err(error @ MetadataError::TopicExists { .. }) => self.topics.by_name(name).ok_or(error),
            created => created,
        }
    }
}
