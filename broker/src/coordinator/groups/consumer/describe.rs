//! ConsumerGroupDescribe.

use super::{
    super::{Groups, classic::text, cluster::ClusterView},
    assignors::Assignor,
    group::ConsumerGroup,
    member::Member,
    partitions::NOTHING,
    refusal::Refusal,
};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::{
    ErrorCode,
    messages::{
        GroupId, TopicName,
        consumer_group_describe_response::{
            Assignment, DescribedGroup, Member as Described, TopicPartitions,
        },
    },
};
use uuid::Uuid;

/// What a member is, as version 1 tells (KIP-1099).
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl Groups {
    /// One consumer group.
    pub fn describe_consumer(&self, id: &str) -> Result<DescribedGroup, Refusal> {
        let not_found = |message| Refusal::new(ErrorCode::GroupIdNotFound, message);
        match (self.consumer(id), self.groups.contains_key(id)) {
            (Some(group), _) => {
                let default =
                    self.settings.consumer.assignors.first().map_or("", |first| Assignor::name(*first));
                Ok(described(group, default, &*self.cluster))
            }
            (None, true) => Err(not_found(format!("Group {id} is not a consumer group."))),
            (None, false) => Err(not_found(format!("Group {id} not found."))),
        }
    }
}

fn described(group: &ConsumerGroup, default_assignor: &str, cluster: &dyn ClusterView) -> DescribedGroup {
    let members = group.members.values().map(|member| {
        let target = group.target.get(&member.id).unwrap_or(&NOTHING);
        let target = target.iter().map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        describe_member(member, target.collect(), cluster)
    });
    DescribedGroup::default()
        .with_group_id(GroupId(text(&group.id)))
        .with_group_state(text(group.state().name()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(group.assignor().as_deref().unwrap_or(default_assignor)))
        .with_members(members.collect())
}

/// What a member gives up is its until it has done so.
fn describe_member(
    member: &Member,
    target: BTreeMap<Uuid, Vec<i32>>,
    cluster: &dyn ClusterView,
) -> Described {
    let mut has: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
        has.entry(*topic).or_default().extend(partitions.keys());
    }
    let details = &member.details;
    let optional = |value: &Option<Arc<str>>| value.as_deref().map(text);
    Described::default()
        .with_member_id(text(&member.id))
        .with_instance_id(optional(&details.instance))
        .with_rack_id(optional(&details.rack))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&details.client_id))
        .with_client_host(text(&details.client_host))
        .with_subscribed_topic_names(details.topics.iter().map(|name| TopicName(text(name))).collect())
        .with_subscribed_topic_regex(Some(text(&details.regex)))
        .with_assignment(named(has, cluster))
        .with_target_assignment(named(target, cluster))
        .with_member_type(if member.is_classic() { CLASSIC } else { CONSUMER })
}

fn named(partitions: BTreeMap<Uuid, Vec<i32>>, cluster: &dyn ClusterView) -> Assignment {
    let topics = partitions.into_iter().filter_map(|(topic, partitions)| {
        let name = cluster.topic_name(topic)?;
        let topic = TopicPartitions::default().with_topic_id(topic).with_topic_name(TopicName(text(&name)));
        Some(topic.with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
