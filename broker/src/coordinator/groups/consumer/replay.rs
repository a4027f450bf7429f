//! Records into the state of consumer groups: one way for those of the log and for those that were appended just now.

use super::{
    super::{Group, Groups},
    group::ConsumerGroup,
    member::{Details, Member, MemberState},
    partitions::{of_current_record, of_target_record},
    regexes::Resolved,
};
use std::sync::Arc;
use thalweg_protocol::coordinator_records::{ConsumerGroupCurrentMemberAssignmentValue, GroupRecord};

/// The epoch of whoever has left.
const LEFT: i32 = -1;

impl Groups {
    /// Takes a record of a consumer group into the state.
    pub(in crate::coordinator::groups) fn replay_consumer(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::ConsumerGroup(key, Some(value)) => self.consumer_group(&key.group_id, |group| {
                group.epoch = value.epoch;
                group.metadata_hash = value.metadata_hash;
            }),
            GroupRecord::ConsumerGroup(key, None) => {
                if self.consumer(&key.group_id).is_some() {
                    self.remove_group(&key.group_id);
                }
            }
            GroupRecord::ConsumerPartitions(key, value) => {
                let is_there = value.is_some();
                self.known_or(is_there, &key.group_id, |group| group.has_partitions_record = is_there);
            }
            GroupRecord::ConsumerMember(key, Some(value)) => self.consumer_group(&key.group_id, |group| {
                let mut member = member_or_new(group, &key.member_id);
                member.details = Details::of_record(value);
                group.put(member);
            }),
            GroupRecord::ConsumerMember(key, None) => {
                self.known_group(&key.group_id, |group| group.remove(&key.member_id));
            }
            GroupRecord::ConsumerTarget(key, value) => {
                let (epoch, ms) = value
                    .as_ref()
                    .map_or((-1, 0), |value| (value.assignment_epoch, value.assignment_timestamp));
                self.known_or(value.is_some(), &key.group_id, |group| {
                    group.assignment_epoch = epoch;
                    group.assignment_ms = ms;
                });
            }
            GroupRecord::ConsumerTargetMember(key, Some(value)) => {
                self.consumer_group(&key.group_id, |group| {
                    group.set_target(&key.member_id, of_target_record(value.topic_partitions));
                });
            }
            GroupRecord::ConsumerTargetMember(key, None) => {
                self.known_group(&key.group_id, |group| group.remove_target(&key.member_id));
            }
            GroupRecord::ConsumerCurrentMember(key, Some(value)) => {
                self.consumer_group(&key.group_id, |group| {
                    let member = with_current(member_or_new(group, &key.member_id), value);
                    group.put(member);
                });
            }
            GroupRecord::ConsumerCurrentMember(key, None) => self.known_group(&key.group_id, |group| {
                if let Some(member) = group.members.get(&*key.member_id) {
                    group.put(Member {
                        epoch: LEFT,
                        previous_epoch: LEFT,
                        details: member.details.clone(),
                        ..Member::new(member.id.clone())
                    });
                }
            }),
            GroupRecord::ConsumerRegex(key, Some(value)) => self.consumer_group(&key.group_id, |group| {
                group.set_resolved(&key.regular_expression, Resolved::of_record(&value));
            }),
            GroupRecord::ConsumerRegex(key, None) => {
                self.known_group(&key.group_id, |group| group.remove_resolved(&key.regular_expression));
            }
            GroupRecord::OffsetCommit(..) | GroupRecord::GroupMetadata(..) => {}
        }
    }

    /// Changes a consumer group, which comes to be if there is none, or only one that offsets have brought about.
    fn consumer_group(&mut self, id: &str, change: impl FnOnce(&mut ConsumerGroup)) {
        let is_new = match self.groups.get(id) {
            None => true,
            Some(Group::Classic(group)) => group.is_simple(),
            Some(Group::Consumer(_)) => false,
        };
        if is_new {
            let id: Arc<str> = id.into();
            self.insert(id.clone(), Group::Consumer(Box::new(ConsumerGroup::new(id))));
        }
        self.known_group(id, change);
    }

    /// Changes a consumer group that is there.
    pub(super) fn known_group(&mut self, id: &str, change: impl FnOnce(&mut ConsumerGroup)) {
        if let Some(Group::Consumer(group)) = self.groups.get_mut(id) {
            self.groups_bytes -= group.bytes();
            change(group);
            self.groups_bytes += group.bytes();
        }
    }

    fn known_or(&mut self, create: bool, id: &str, change: impl FnOnce(&mut ConsumerGroup)) {
        if create { self.consumer_group(id, change) } else { self.known_group(id, change) }
    }
}

fn member_or_new(group: &ConsumerGroup, id: &str) -> Member {
    group.members.get(id).cloned().unwrap_or_else(|| Member::new(id.into()))
}

fn with_current(member: Member, value: ConsumerGroupCurrentMemberAssignmentValue) -> Member {
    Member {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::of_number(value.state),
        assigned: of_current_record(value.assigned_partitions, value.member_epoch),
        revoking: of_current_record(value.partitions_pending_revocation, value.member_epoch),
        ..member
    }
}
