//! Members of a consumer group that speak the classic protocol: their JoinGroup, SyncGroup and Heartbeat. A member's epoch is its
//! generation. The broker assigns; so nobody is told to be the leader, and nobody waits for anybody.

use super::{
    change::{Change, Subscribed},
    group::ConsumerGroup,
    heartbeat::session_of,
    member::{ClassicPart, Details, Member, MemberState, new_id},
    migration::assignment_for,
    partitions::Assignment,
    records,
    refusal::Refusal,
    regexes::Update,
};
use crate::coordinator::groups::{
    Caller, Group, Groups, MigrationPolicy,
    classic::{refused_join, refused_sync, text},
    effects::{After, Effects, MemberJoined, Now, Ticket},
    timers::{Alarm, Timer},
};
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::{
    CONSUMER_PROTOCOL, ConsumerProtocolSubscription, ErrorCode, decode_subscription,
    messages::{
        HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, StrBytes, SyncGroupRequest, SyncGroupResponse,
        consumer_group_heartbeat_request::TopicPartitions,
    },
};

/// What a JoinGroup has come to.
struct Joined {
    member: Member,
    /// The group becomes a classic one by it; whether that begins with a rebalance.
    downgrade: Option<bool>,
}

impl Groups {
    /// JoinGroup to a consumer group that has members. The answer goes to `ticket` once what it says is durable.
    pub(in crate::coordinator::groups) fn join_consumer(
        &mut self,
        caller: Caller<'_>,
        request: &JoinGroupRequest,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let id = request.group_id.as_str();
        let new_member = new_id(&self.random);
        if request.member_id.is_empty() && request.group_instance_id.is_none() && caller.must_come_back() {
            let code = self.check_join_consumer(&new_member, request).err();
            let refused = refused_join(
                if code.is_some() { "" } else { &new_member },
                code.map_or(ErrorCode::MemberIdRequired, |refusal| refusal.code),
            );
            return effects.join(ticket, refused);
        }
        let joined = self.check_join_consumer(&request.member_id, request).and_then(|()| {
            let Some(Group::Consumer(group)) = self.groups.get(id) else {
                return Err(ErrorCode::UnknownMemberId.into());
            };
            let (cluster, settings, timers) = (&*self.cluster, &*self.settings, &mut self.timers);
            let mut change = Change { group, cluster, settings, timers, effects, now };
            change.join(caller, request, new_member)
        });
        let Joined { member, downgrade } = match joined {
            Ok(joined) => joined,
            Err(refusal) => {
                effects.records.clear();
                return effects.join(ticket, refused_join(&request.member_id, refusal.code));
            }
        };
        if let Some(rebalance) = downgrade {
            self.downgrade(id, &[], Some(&member), rebalance, now, effects);
        }
        let before = match effects.after.take() {
            Some(After::Converted { previous, .. }) => Some(previous),
            _ => None,
        };
        effects.after = Some(After::MemberJoined(Box::new(MemberJoined {
            group: id.into(),
            response: join_response(&member),
            member: member.id,
            ticket,
            sync_timeout_ms: request.rebalance_timeout_ms,
            before,
        })));
    }

    fn check_join_consumer(&self, member: &str, request: &JoinGroupRequest) -> Result<(), Refusal> {
        let Some(group) = self.consumer(&request.group_id) else {
            return Err(ErrorCode::UnknownMemberId.into());
        };
        if self.settings.consumer.migration == MigrationPolicy::Disabled {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        if group.members.len() >= self.settings.consumer.max_size && !group.members.contains_key(member) {
            return Err(ErrorCode::GroupMaxSizeReached.into());
        }
        let known = |name: &StrBytes| group.is_known_to_classic_members(name);
        let supported = *request.protocol_type == *CONSUMER_PROTOCOL
            && request.protocols.iter().any(|protocol| known(&protocol.name));
        if supported { Ok(()) } else { Err(ErrorCode::InconsistentGroupProtocol.into()) }
    }

    /// What a JoinGroup has changed is durable, or is not.
    pub(in crate::coordinator::groups) fn member_joined(
        &mut self,
        joined: MemberJoined,
        stored: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        let MemberJoined { group, member, ticket, response, sync_timeout_ms, before } = joined;
        if let Err(code) = stored {
            if let Some(before) = before {
                self.converted(group, before, stored, now, effects);
            }
            return effects.join(ticket, refused_join(&member, code));
        }
        self.timers.cancel(&Timer::Rejoin(group.clone(), member.clone()));
        let session = self.consumer(&group).and_then(|group| session_of(group.members.get(&member)?));
        if let Some((_, timeout_ms)) = session {
            self.renew_consumer_session(&group, &member, timeout_ms, now);
            let deadline_ms = now.monotonic_ms.saturating_add(u64::try_from(sync_timeout_ms).unwrap_or(0));
            self.timers.set(Timer::MemberSync(group, member), deadline_ms, Alarm::MemberOverdue);
        }
        effects.join(ticket, response);
    }

    /// SyncGroup to a consumer group: the member is told what it has.
    pub(in crate::coordinator::groups) fn sync_consumer(
        &mut self,
        request: &SyncGroupRequest,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let assignment = self.check_sync_consumer(request, now);
        match assignment {
            Err(refusal) => effects.sync(ticket, refused_sync(refusal.code)),
            Ok(assignment) => {
                let response = SyncGroupResponse::default()
                    .with_protocol_type(request.protocol_type.clone())
                    .with_protocol_name(request.protocol_name.clone())
                    .with_assignment(assignment);
                effects.after = Some(After::MemberSynced {
                    group: request.group_id.as_str().into(),
                    member: request.member_id.as_str().into(),
                    ticket,
                    response,
                });
            }
        }
    }

    fn check_sync_consumer(&mut self, request: &SyncGroupRequest, now: Now) -> Result<Bytes, Refusal> {
        let id = request.group_id.as_str();
        let group = self.consumer(id).filter(|group| !group.is_empty());
        let group = group.ok_or(ErrorCode::UnknownMemberId)?;
        let instance = request.group_instance_id.as_deref();
        let member = group.classic_member(&request.member_id, instance, request.generation_id)?;
        let name = member.details.classic.iter().flat_map(|classic| &classic.protocols).next();
        let differs = |given: Option<&str>, own: &str| given.is_some_and(|given| given != own);
        if differs(request.protocol_type.as_deref(), CONSUMER_PROTOCOL)
            || differs(request.protocol_name.as_deref(), name.map_or("", |(name, _)| name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        if group.assignment_epoch > member.epoch && !member.is_revoking() {
            let (member_id, timeout_ms) = (member.id.clone(), member.details.rebalance_timeout_ms);
            self.expect_rejoin(id, member_id, timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress.into());
        }
        let has: Assignment = member
            .assigned
            .iter()
            .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
            .collect();
        Ok(assignment_for(member, &has, &*self.cluster))
    }

    /// What a SyncGroup tells is durable, or its log is another's.
    pub(in crate::coordinator::groups) fn member_synced(
        &mut self,
        group: Arc<str>,
        member: Arc<str>,
        (ticket, response): (Ticket, SyncGroupResponse),
        stored: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(code) = stored {
            return effects.sync(ticket, refused_sync(code));
        }
        self.timers.cancel(&Timer::MemberSync(group.clone(), member.clone()));
        let session = self.consumer(&group).and_then(|group| session_of(group.members.get(&member)?));
        if let Some((_, timeout_ms)) = session {
            self.renew_consumer_session(&group, &member, timeout_ms, now);
        }
        effects.sync(ticket, response);
    }

    /// Heartbeat to a consumer group. A member that has something to do joins again.
    pub(in crate::coordinator::groups) fn beat_consumer(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let id = request.group_id.as_str();
        let group = self.consumer(id).ok_or(ErrorCode::UnknownMemberId)?;
        let instance = request.group_instance_id.as_deref();
        let member = group
            .classic_member(&request.member_id, instance, request.generation_id)
            .map_err(|refusal| refusal.code)?;
        let must_rejoin = member.epoch < group.assignment_epoch
            || member.is_revoking()
            || member.state == MemberState::UnreleasedPartitions && !group.waits_for_others(member);
        let (member_id, timeout_ms) = (member.id.clone(), member.details.rebalance_timeout_ms);
        let session = session_of(member);
        let group_id = group.id.clone();
        if let Some((_, session_ms)) = session {
            self.renew_consumer_session(&group_id, &member_id, session_ms, now);
        }
        if must_rejoin {
            self.expect_rejoin(id, member_id, timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn expect_rejoin(&mut self, group: &str, member: Arc<str>, timeout_ms: i32, now: Now) {
        let timer = Timer::Rejoin(group.into(), member);
        if !self.timers.is_set(&timer) {
            let deadline_ms = now.monotonic_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0));
            self.timers.set(timer, deadline_ms, Alarm::MemberOverdue);
        }
    }

    pub(super) fn renew_consumer_session(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        timeout_ms: i32,
        now: Now,
    ) {
        let timer = Timer::Session(group.clone(), member.clone());
        let deadline_ms = now.monotonic_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0));
        self.timers.set(timer, deadline_ms, Alarm::SessionOver);
    }
}

fn join_response(member: &Member) -> JoinGroupResponse {
    let protocols = member.details.classic.iter().flat_map(|classic| &classic.protocols);
    JoinGroupResponse::default()
        .with_member_id(text(&member.id))
        .with_generation_id(member.epoch)
        .with_protocol_type(Some(StrBytes::from_static_str(CONSUMER_PROTOCOL)))
        .with_protocol_name(protocols.map(|(name, _)| text(name)).next())
}

impl ConsumerGroup {
    /// A member of the classic protocol, with its checks.
    fn classic_member(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<&Member, Refusal> {
        let member = match instance {
            Some(instance) => self.holder(instance, id)?,
            None => self.members.get(id).ok_or_else(|| self.unknown_member(id))?,
        };
        if !member.is_classic() {
            return Err(ErrorCode::UnknownMemberId.into());
        }
        if member.epoch != generation {
            return Err(ErrorCode::IllegalGeneration.into());
        }
        Ok(member)
    }

    /// Whether others still have what a member is to have.
    fn waits_for_others(&self, member: &Member) -> bool {
        let has = |topic, partition: &i32| {
            member.assigned.get(topic).is_some_and(|partitions| partitions.contains_key(partition))
        };
        self.target_of(&member.id).iter().any(|(topic, partitions)| {
            partitions.iter().any(|one| !has(topic, one) && !self.is_free(*topic, *one))
        })
    }
}

impl Change<'_> {
    fn join(
        &mut self,
        caller: Caller<'_>,
        request: &JoinGroupRequest,
        new_member: Arc<str>,
    ) -> Result<Joined, Refusal> {
        let is_unknown = request.member_id.is_empty();
        let id = if is_unknown { new_member } else { request.member_id.as_str().into() };
        let metadata = request.protocols.first().map(|protocol| protocol.metadata.clone());
        let (_, subscription) =
            decode_subscription(metadata.unwrap_or_default()).map_err(|_| ErrorCode::UnknownServerError)?;
        let before = self.joining_member(request, id, is_unknown)?;
        let details = updated(&before.details, caller, request, &subscription);
        let after = Member { details, ..before.clone() };
        self.check_room(caller.has_room, &before, &after)?;
        let topics_changed = after.details.topics != before.details.topics;
        if after.details != before.details {
            self.effects.records.push(records::member(&self.group.id, &after));
        }
        let regex = self.update_regex(&before, &after)?;
        let bump = topics_changed || regex != Update::Unchanged;
        let mut subscribed = Subscribed { epoch: self.group.epoch, is_homogeneous: None };
        if bump || !self.group.has_seen(self.cluster.version()) {
            subscribed = self.update_subscriptions(bump, &before, &after);
        }
        let owned = self.owned_by(&subscription);
        if self.replaces_the_last_of_the_new_protocol(request) {
            let rebalance = self.group.assignment_epoch < subscribed.epoch;
            let member = if rebalance {
                after
            } else {
                let target = self.last_target(&after);
                self.reconcile(after, &target, bump, Some(&owned))?
            };
            return Ok(Joined { member, downgrade: Some(rebalance) });
        }
        let target = self.target(&subscribed, &before, &after);
        let member = self.reconcile(after, &target, bump, Some(&owned))?;
        Ok(Joined { member, downgrade: None })
    }

    fn joining_member(
        &mut self,
        request: &JoinGroupRequest,
        id: Arc<str>,
        is_unknown: bool,
    ) -> Result<Member, Refusal> {
        let known = self.group.members.get(&id).cloned();
        let Some(instance) = request.group_instance_id.as_deref() else {
            return Ok(known.unwrap_or_else(|| Member::new(id)));
        };
        match self.group.static_member(instance) {
            None if is_unknown => Ok(known.unwrap_or_else(|| Member::new(id))),
            Some(existing) if is_unknown => Ok(self.replace(existing, id)),
            _ => self.group.holder(instance, &id).cloned(),
        }
    }

    /// Whether the classic member that joins takes the place of the only one that speaks the new protocol.
    fn replaces_the_last_of_the_new_protocol(&self, request: &JoinGroupRequest) -> bool {
        let policy = self.settings.consumer.migration;
        let instance = request.group_instance_id.as_deref();
        let existing = instance.and_then(|instance| self.group.static_member(instance));
        let members = self.group.members.len();
        matches!(policy, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
            && existing.is_some_and(|existing| !existing.is_classic())
            && self.group.classic_members() + 1 == members
            && members <= self.settings.max_size
    }

    fn owned_by(&self, subscription: &ConsumerProtocolSubscription) -> Vec<TopicPartitions> {
        let owned = subscription.owned_partitions.iter().filter_map(|owned| {
            let topic = self.cluster.topic(&owned.topic)?.id;
            Some(TopicPartitions::default().with_topic_id(topic).with_partitions(owned.partitions.clone()))
        });
        owned.collect()
    }
}

fn updated(
    before: &Details,
    caller: Caller<'_>,
    request: &JoinGroupRequest,
    subscription: &ConsumerProtocolSubscription,
) -> Details {
    let protocols = request.protocols.iter().map(|protocol| {
        // What is kept must not hold the request's frame.
        (Arc::from(protocol.name.as_str()), Bytes::copy_from_slice(&protocol.metadata))
    });
    let rack = subscription.rack_id.as_deref().filter(|rack| !rack.is_empty());
    Details {
        instance: request.group_instance_id.as_deref().map(Arc::from).or_else(|| before.instance.clone()),
        rack: rack.map(Arc::from).or_else(|| before.rack.clone()),
        client_id: caller.client_id.into(),
        client_host: caller.client_host.into(),
        topics: subscription.topics.iter().map(|topic| topic.as_str().into()).collect(),
        // Members of the classic protocol have none.
        regex: "".into(),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: before.assignor.clone(),
        classic: Some(ClassicPart {
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols.collect(),
        }),
    }
}
