//! A consumer group as records.

use super::{
    super::classic::text,
    group::ConsumerGroup,
    member::Member,
    partitions::{Assignment, to_current_record, to_target_record},
    regexes::Resolved,
};
use std::sync::Arc;
use thalweg_protocol::coordinator_records::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMetadataKey, ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue, GroupRecord,
};

pub(super) fn epoch(group: &str, epoch: i32, metadata_hash: i64) -> GroupRecord {
    let value = ConsumerGroupMetadataValue { epoch, metadata_hash };
    GroupRecord::ConsumerGroup(ConsumerGroupMetadataKey { group_id: text(group) }, Some(value))
}

pub(super) fn member(group: &str, member: &Member) -> GroupRecord {
    GroupRecord::ConsumerMember(member_key(group, &member.id), Some(member.details.to_record()))
}

fn member_key(group: &str, member: &str) -> ConsumerGroupMemberMetadataKey {
    ConsumerGroupMemberMetadataKey { group_id: text(group), member_id: text(member) }
}

pub(super) fn current(group: &str, member: &Member) -> GroupRecord {
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: member.state.number(),
        assigned_partitions: to_current_record(&member.assigned),
        partitions_pending_revocation: to_current_record(&member.revoking),
    };
    GroupRecord::ConsumerCurrentMember(current_key(group, &member.id), Some(value))
}

fn current_key(group: &str, member: &str) -> ConsumerGroupCurrentMemberAssignmentKey {
    ConsumerGroupCurrentMemberAssignmentKey { group_id: text(group), member_id: text(member) }
}

pub(super) fn target(group: &str, member: &str, target: &Assignment) -> GroupRecord {
    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: to_target_record(target) };
    GroupRecord::ConsumerTargetMember(target_key(group, member), Some(value))
}

fn target_key(group: &str, member: &str) -> ConsumerGroupTargetAssignmentMemberKey {
    ConsumerGroupTargetAssignmentMemberKey { group_id: text(group), member_id: text(member) }
}

pub(super) fn target_epoch(group: &str, assignment_epoch: i32, assignment_timestamp: i64) -> GroupRecord {
    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
    GroupRecord::ConsumerTarget(target_epoch_key(group), Some(value))
}

fn target_epoch_key(group: &str) -> ConsumerGroupTargetAssignmentMetadataKey {
    ConsumerGroupTargetAssignmentMetadataKey { group_id: text(group) }
}

pub(super) fn regex(group: &str, regex: &str, resolved: &Resolved) -> GroupRecord {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(|topic| text(topic)).collect(),
        version: resolved.version,
        timestamp: resolved.resolved_ms,
    };
    GroupRecord::ConsumerRegex(regex_key(group, regex), Some(value))
}

fn regex_key(group: &str, regex: &str) -> ConsumerGroupRegularExpressionKey {
    ConsumerGroupRegularExpressionKey { group_id: text(group), regular_expression: text(regex) }
}

pub(super) fn without_regex(group: &str, regex: &str) -> GroupRecord {
    GroupRecord::ConsumerRegex(regex_key(group, regex), None)
}

/// Deletes the record in which Kafka before 4.1 kept the topics of a group.
pub(super) fn without_partitions(group: &str) -> GroupRecord {
    let key = ConsumerGroupPartitionMetadataKey { group_id: text(group) };
    GroupRecord::ConsumerPartitions(key, None)
}

/// Deletes a member. The order is that in which a reader can follow.
pub(super) fn without_member(group: &str, member: &str) -> [GroupRecord; 3] {
    [
        GroupRecord::ConsumerCurrentMember(current_key(group, member), None),
        GroupRecord::ConsumerTargetMember(target_key(group, member), None),
        GroupRecord::ConsumerMember(member_key(group, member), None),
    ]
}

/// Deletes a group. `renamed` is a member whose id has just become another in the log.
pub(in crate::coordinator::groups) fn without_group(
    group: &ConsumerGroup,
    renamed: Option<(&Arc<str>, &Arc<str>)>,
) -> Vec<GroupRecord> {
    let current_id = |id| renamed.filter(|(old, _)| *old == id).map_or(id, |(_, new)| new);
    let ids: Vec<_> = group.members.keys().map(current_id).collect();
    let id = &group.id;
    let mut records = Vec::with_capacity(3 * ids.len() + 4);
    records
        .extend(ids.iter().map(|member| GroupRecord::ConsumerCurrentMember(current_key(id, member), None)));
    records.extend(ids.iter().map(|member| GroupRecord::ConsumerTargetMember(target_key(id, member), None)));
    records.push(GroupRecord::ConsumerTarget(target_epoch_key(id), None));
    records.extend(ids.iter().map(|member| GroupRecord::ConsumerMember(member_key(id, member), None)));
    records.extend(group.resolved.keys().map(|regex| without_regex(id, regex)));
    records.push(without_partitions(id));
    records.push(GroupRecord::ConsumerGroup(ConsumerGroupMetadataKey { group_id: text(id) }, None));
    records
}

/// The records of a group that has just come to be out of a classic one.
pub(super) fn whole(group: &ConsumerGroup) -> Vec<GroupRecord> {
    let id = &group.id;
    let members = || group.members.values();
    let mut records: Vec<_> = members().map(|one| member(id, one)).collect();
    records.push(epoch(id, group.epoch, group.metadata_hash));
    records.extend(members().map(|one| target(id, &one.id, group.target_of(&one.id))));
    records.push(target_epoch(id, group.assignment_epoch, group.assignment_ms));
    records.extend(members().map(|one| current(id, one)));
    records
}
