//! Members that leave, for good or for a while, and those that are made to (*fenced*): by the end of a session, or of the time
//! in which partitions are to be given up.

use super::{
    LEFT_FOR_A_WHILE, change::Change, group::timers_of, hash::metadata_hash, heartbeat::Heartbeat,
    member::Member, partitions::Owned, records, refusal::Refusal,
};
use crate::coordinator::groups::{
    Group, Groups,
    classic::text,
    effects::{Effects, Now},
};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::{
    ErrorCode,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, leave_group_request::MemberIdentity,
        leave_group_response::MemberResponse,
    },
};

impl Groups {
    /// A heartbeat by which a member leaves.
    pub(super) fn consumer_leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Heartbeat, Refusal> {
        let id = request.group_id.as_str();
        let not_found = |message| Refusal::new(ErrorCode::GroupIdNotFound, message);
        let group = match (self.groups.contains_key(id), self.consumer(id)) {
            (_, Some(group)) => group,
            (false, None) => return Err(not_found(format!("Group {id} not found."))),
            (true, None) => return Err(not_found(format!("Group {id} is not a consumer group."))),
        };
        let member = match request.instance_id.as_deref() {
            Some(instance) => group.holder(instance, &request.member_id)?,
            None => group
                .members
                .get(&*request.member_id)
                .ok_or_else(|| group.unknown_member(&request.member_id))?,
        };
        let member_id = member.id.clone();
        if request.instance_id.is_some() && request.member_epoch == LEFT_FOR_A_WHILE {
            effects.records.push(records::current(id, &gone_for_a_while(member)));
        } else {
            self.fence(id, std::slice::from_ref(&member_id), now, effects);
        }
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&member_id)))
            .with_member_epoch(request.member_epoch);
        Ok(Heartbeat { response, is_known: false, resolve: false })
    }

    /// Members that are fenced, sorted, leave the group. Where only members of the classic protocol stay, it becomes a classic one.
    pub(in crate::coordinator::groups) fn fence(
        &mut self,
        id: &str,
        members: &[Arc<str>],
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(Group::Consumer(group)) = self.groups.get(id) else { return };
        if !members.iter().any(|member| group.members.contains_key(member)) {
            return;
        }
        if self.may_downgrade(group, members) {
            return self.downgrade(id, members, None, true, now, effects);
        }
        let (cluster, settings, timers) = (&*self.cluster, &*self.settings, &mut self.timers);
        Change { group, cluster, settings, timers, effects, now }.remove(members);
    }

    /// LeaveGroup of a consumer group's members, whatever protocol they speak (KIP-345).
    pub(in crate::coordinator::groups) fn leave_consumer(
        &mut self,
        id: &str,
        leaving: Vec<MemberIdentity>,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<MemberResponse> {
        let Some(group) = self.consumer(id) else { return Vec::new() };
        let mut members = Vec::new();
        let mut responses = Vec::with_capacity(leaving.len());
        for identity in leaving {
            let found = match identity.group_instance_id.as_deref() {
                None => group.members.get(&*identity.member_id).ok_or(ErrorCode::UnknownMemberId),
                // An administrator takes a static member off by its instance id.
                Some(instance) if identity.member_id.is_empty() => {
                    group.static_member(instance).ok_or(ErrorCode::UnknownMemberId)
                }
                Some(instance) => group.holder(instance, &identity.member_id).map_err(|refusal| refusal.code),
            };
            let code = found.err().unwrap_or(ErrorCode::None);
            members.extend(found.ok().map(|member| member.id.clone()));
            let response = MemberResponse::default().with_member_id(identity.member_id);
            responses.push(
                response.with_group_instance_id(identity.group_instance_id).with_error_code(code.code()),
            );
        }
        members.sort_unstable();
        members.dedup();
        self.fence(id, &members, now, effects);
        responses
    }
}

/// A static member that will be back keeps what it has, since epoch 0: the next holder of its instance id may commit for it.
fn gone_for_a_while(member: &Member) -> Member {
    let mut gone = Member { epoch: LEFT_FOR_A_WHILE, revoking: Owned::new(), ..member.clone() };
    for epoch in gone.assigned.values_mut().flat_map(BTreeMap::values_mut) {
        *epoch = 0;
    }
    gone
}

impl Change<'_> {
    fn remove(&mut self, members: &[Arc<str>]) {
        let (group, id) = (self.group, &self.group.id);
        let mut subscriptions = group.subscriptions.clone();
        for member in members.iter().filter_map(|member| group.members.get(member)) {
            self.effects.records.extend(records::without_member(id, &member.id));
            subscriptions.remove(&member.details);
            timers_of(id, &member.id).iter().for_each(|timer| self.timers.cancel(timer));
        }
        for (regex, resolved) in &group.resolved {
            if subscriptions.subscribers(regex) == 0 && group.subscriptions.subscribers(regex) > 0 {
                self.effects.records.push(records::without_regex(id, regex));
                subscriptions.unresolve(&resolved.topics);
            }
        }
        let hash = metadata_hash(subscriptions.topics(), self.cluster);
        self.effects.records.push(records::epoch(id, group.epoch.saturating_add(1), hash));
        tracing::debug!(group = %id, epoch = group.epoch + 1, left = members.len(), "members are out");
    }
}
