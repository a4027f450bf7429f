//! What groups see of the cluster: its topics, and what an operator has set for a single group.

use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// The cluster as it is at this moment. Looks are cheap and wait for nothing.
pub trait ClusterView: Send + Sync {
    /// Rises with every topic that is created, grows or is deleted, while the broker runs.
    fn version(&self) -> u64;
    /// A topic that exists.
    fn topic(&self, name: &str) -> Option<TopicView>;
    /// The name of a topic that exists.
    fn topic_name(&self, id: Uuid) -> Option<Arc<str>>;
    /// Every topic's name, in order.
    fn topic_names(&self) -> Vec<Arc<str>>;
    /// The rack of whoever has the partitions.
    fn rack(&self) -> Option<&str>;
    /// What is set for a group alone.
    fn group_overrides(&self, group: &str) -> GroupOverrides;
}

/// A topic, as far as groups care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Settings of one group (Kafka's resource type `GROUP`); none where the broker's hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
}

/// The settings of all groups that have any. Whoever stores them fills it: at the start, and when they are altered.
#[derive(Default)]
pub struct GroupConfigs(RwLock<Configs>);

#[derive(Default)]
struct Configs {
    by_group: BTreeMap<String, GroupOverrides>,
    assignment_interval_ms: Option<i32>,
}

impl GroupConfigs {
    /// What is set for a group.
    pub fn of(&self, group: &str) -> GroupOverrides {
        let configs = self.0.read();
        let own = configs.by_group.get(group).copied().unwrap_or_default();
        let interval_ms = own.assignment_interval_ms.or(configs.assignment_interval_ms);
        GroupOverrides { assignment_interval_ms: interval_ms, ..own }
    }

    /// Sets all that is set for a group; nothing of what was before stays.
    pub fn set(&self, group: &str, overrides: GroupOverrides) {
        let by_group = &mut self.0.write().by_group;
        if overrides == GroupOverrides::default() {
            by_group.remove(group);
        } else {
            by_group.insert(group.to_owned(), overrides);
        }
    }

    /// Sets all that is set for any group; nothing of what was before stays.
    pub fn replace(&self, by_group: BTreeMap<String, GroupOverrides>) {
        self.0.write().by_group = by_group;
    }

    /// `group.consumer.assignment.interval.ms`, the one setting of all groups that can change while the broker runs.
    pub fn set_assignment_interval_ms(&self, interval_ms: i32) {
        self.0.write().assignment_interval_ms = Some(interval_ms);
    }
}
