//! Sets of partitions, as members are to have them and as they have them.

use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::coordinator_records::{TopicPartition, TopicPartitions};
use uuid::Uuid;

/// Partitions by topic.
pub type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic, each with the epoch of the assignment by which its member got it. Commits of older epochs are refused.
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// Nothing.
pub(super) static NOTHING: Assignment = BTreeMap::new();

/// What a topic weighs, and a partition.
const TOPIC: usize = 160;
const PARTITION: usize = 16;

/// Bytes of an assignment, about.
pub(super) fn weight(assignment: &Assignment) -> usize {
    assignment.values().map(|partitions| TOPIC + PARTITION * partitions.len()).sum()
}

/// Bytes of what a member has, about, with the group's note of who has it.
pub(super) fn weight_owned(owned: &Owned) -> usize {
    owned.values().map(|partitions| TOPIC + 3 * PARTITION * partitions.len()).sum()
}

/// Whether a member has the partition.
pub(super) fn owns(owned: &Owned, topic: Uuid, partition: i32) -> bool {
    owned.get(&topic).is_some_and(|partitions| partitions.contains_key(&partition))
}

/// An assignment as every partition was given at `epoch`.
pub(super) fn owned_since(assignment: &Assignment, epoch: i32) -> Owned {
    let topic = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        (*topic, partitions.iter().map(|partition| (*partition, epoch)).collect())
    };
    assignment.iter().map(topic).collect()
}

pub(super) fn to_target_record(assignment: &Assignment) -> Vec<TopicPartition> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartition {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    assignment.iter().map(topic).collect()
}

pub(super) fn of_target_record(topics: Vec<TopicPartition>) -> Assignment {
    topics.into_iter().map(|topic| (topic.topic_id, topic.partitions.into_iter().collect())).collect()
}

pub(super) fn to_current_record(owned: &Owned) -> Vec<TopicPartitions> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    owned.iter().map(topic).collect()
}

/// Records of before Kafka 4.3 don't tell the epochs: then it is that of the member.
pub(super) fn of_current_record(topics: Vec<TopicPartitions>, member_epoch: i32) -> Owned {
    let topic = |topic: TopicPartitions| {
        let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
        let epochs = epochs.unwrap_or_else(|| vec![member_epoch.max(0); topic.partitions.len()]);
        (topic.topic_id, topic.partitions.into_iter().zip(epochs).collect())
    };
    topics.into_iter().map(topic).collect()
}
