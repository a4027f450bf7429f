//! ConsumerGroupHeartbeat: a member joins, says what it has, and learns what it is to have.
//!
//! 1. The member is made or brought up to date. A change of what is subscribed to raises the group's epoch.
//! 2. Where the target is older than that, it is worked out anew.
//! 3. The member goes one step towards it.

use super::{
    LEFT_FOR_A_WHILE, LEFT_FOR_GOOD,
    change::{Change, Subscribed},
    group::ConsumerGroup,
    member::{Details, Member, new_id},
    partitions::{Owned, owns},
    records,
    refusal::Refusal,
    regexes::Update,
};
use crate::coordinator::groups::{
    Group, GroupBefore, Groups,
    classic::text,
    effects::{After, Effects, Now},
};
use std::{collections::BTreeSet, sync::Arc};
use thalweg_protocol::{
    ErrorCode,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
        consumer_group_heartbeat_request::TopicPartitions,
        consumer_group_heartbeat_response::{self, Assignment},
    },
};

/// The client behind a ConsumerGroupHeartbeat.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// What it calls itself.
    pub id: &'a str,
    /// Its address, as Java writes it.
    pub host: &'a str,
    /// Whether there is memory for what makes the group grow.
    pub has_room: bool,
}

/// What a heartbeat has come to.
#[derive(Debug)]
pub struct Heartbeat {
    /// The answer.
    pub response: ConsumerGroupHeartbeatResponse,
    /// It says nothing that the client doesn't know already, so nothing needs to be durable for it.
    pub is_known: bool,
    /// The group's regular expressions are to be resolved ([`Groups::begin_resolving`]).
    pub resolve: bool,
}

impl Groups {
    /// ConsumerGroupHeartbeat, of a request that [`super::check_heartbeat`] has let pass.
    pub fn consumer_heartbeat(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Heartbeat, Refusal> {
        let done = match request.member_epoch {
            LEFT_FOR_GOOD | LEFT_FOR_A_WHILE => self.consumer_leave(request, now, effects),
            _ => self.consumer_beat(client, request, now, effects),
        };
        if done.is_err() {
            effects.records.clear();
        }
        done
    }

    fn consumer_beat(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Heartbeat, Refusal> {
        let group_id = request.group_id.as_str();
        let made = self.group_for_heartbeat(group_id, request.member_epoch == 0, effects)?;
        let member_id = match request.member_id.is_empty() {
            true => new_id(&self.random),
            false => request.member_id.as_str().into(),
        };
        let group = match (&made, self.groups.get(group_id)) {
            (Some(made), _) => made,
            (None, Some(Group::Consumer(group))) => &**group,
            (None, _) => return Err(Refusal::from(ErrorCode::UnknownServerError)),
        };
        let version = self.cluster.version();
        let (cluster, settings, timers) = (&*self.cluster, &*self.settings, &mut self.timers);
        let mut change = Change { group, cluster, settings, timers, effects, now };
        let (heartbeat, epoch) = change.heartbeat(client, request, member_id, version)?;
        self.install(group_id, made, now, effects);
        self.known_group(group_id, |group| group.note_seen(version, epoch));
        Ok(heartbeat)
    }

    /// Where there is no consumer group yet: the one that is to be, with the records that bring it about.
    fn group_for_heartbeat(
        &self,
        id: &str,
        create: bool,
        effects: &mut Effects,
    ) -> Result<Option<ConsumerGroup>, Refusal> {
        let not_found = |message: String| Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        match self.groups.get(id) {
            None if create => Ok(Some(ConsumerGroup::new(id.into()))),
            None => not_found(format!("Consumer group {id} not found.")),
            Some(Group::Consumer(_)) => Ok(None),
            Some(Group::Classic(classic)) if create && classic.is_empty() => {
                effects.records.push(classic.tombstone());
                Ok(Some(ConsumerGroup::new(id.into())))
            }
            Some(Group::Classic(classic)) if create => self.upgraded(classic, effects).map(Some),
            Some(Group::Classic(_)) => not_found(format!("Group {id} is not a consumer group.")),
        }
    }

    /// Puts a group that has come out of a classic one with members in the place of that.
    fn install(&mut self, id: &str, made: Option<ConsumerGroup>, now: Now, effects: &mut Effects) {
        let Some(made) = made.filter(|made| !made.is_empty()) else { return };
        let Some((id, Group::Classic(mut classic))) = self.take_group(id) else { return };
        classic.send_away(effects);
        let members: Vec<_> = made.members.values().filter_map(session_of).collect();
        self.insert(id.clone(), Group::Consumer(Box::new(made)));
        for (member, timeout_ms) in members {
            self.renew_consumer_session(&id, &member, timeout_ms, now);
        }
        effects.after = Some(After::Converted { group: id, previous: GroupBefore(Group::Classic(classic)) });
    }
}

/// A classic member, and how long its session is.
pub(super) fn session_of(member: &Member) -> Option<(Arc<str>, i32)> {
    member.details.classic.as_ref().map(|classic| (member.id.clone(), classic.session_timeout_ms))
}

impl Change<'_> {
    /// Returns the group's epoch too.
    fn heartbeat(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: Arc<str>,
        version: u64,
    ) -> Result<(Heartbeat, i32), Refusal> {
        if let Some(known) = self.nothing_new(client, request, version) {
            return Ok((known, self.group.epoch));
        }
        self.check_size(&request.member_id)?;
        let before = self.member_of(request, member_id)?;
        let details = updated(&before.details, client, request);
        let topics_changed = details.topics != before.details.topics;
        let after = Member { details, ..before.clone() };
        self.check_room(client.has_room, &before, &after)?;
        if after.details != before.details {
            self.effects.records.push(records::member(&self.group.id, &after));
        }
        let regex = self.update_regex(&before, &after)?;
        let resolve = self.wants_resolution(&before, &after);
        let bump = topics_changed || regex == Update::ChangedAndResolved;
        let mut subscribed = Subscribed { epoch: self.group.epoch, is_homogeneous: None };
        if bump || !self.group.has_seen(version) {
            subscribed = self.update_subscriptions(bump, &before, &after);
        }
        let target = self.target(&subscribed, &before, &after);
        let changed = topics_changed || regex != Update::Unchanged;
        let after = self.reconcile(after, &target, changed, request.topic_partitions.as_deref())?;
        self.renew_session(&after.id, self.session_timeout_ms());
        let told = is_full(request) || after.assigned != before.assigned;
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&after.id)))
            .with_member_epoch(after.epoch)
            .with_heartbeat_interval_ms(self.heartbeat_interval_ms())
            .with_assignment(told.then(|| told_assignment(&after.assigned)));
        let is_known = !told && after.epoch == request.member_epoch && self.effects.records.is_empty();
        Ok((Heartbeat { response, is_known, resolve }, subscribed.epoch))
    }

    /// The answer to a member that has what it is to have, and says nothing that isn't known. Almost all heartbeats are such.
    fn nothing_new(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        version: u64,
    ) -> Option<Heartbeat> {
        let group = self.group;
        let member = group.members.get(&*request.member_id)?;
        let says_nothing = request.rebalance_timeout_ms == -1
            && request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none()
            && request.server_assignor.is_none()
            && request.rack_id.is_none()
            && request.instance_id.as_deref().is_none_or(|id| member.details.instance.as_deref() == Some(id));
        let is_settled = request.member_epoch == member.epoch
            && member.is_reconciled_to(group.epoch)
            && group.assignment_epoch == group.epoch
            && group.has_seen(version);
        let is_same = !member.is_classic()
            && *member.details.client_id == *client.id
            && *member.details.client_host == *client.host;
        if !(says_nothing && is_settled && is_same) || self.wants_resolution(member, member) {
            return None;
        }
        self.renew_session(&member.id, self.session_timeout_ms());
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&member.id)))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(self.heartbeat_interval_ms());
        Some(Heartbeat { response, is_known: true, resolve: false })
    }

    pub(super) fn check_size(&self, member: &str) -> Result<(), Refusal> {
        let (group, max) = (self.group, self.settings.consumer.max_size);
        if group.members.len() >= max && !group.members.contains_key(member) {
            let message = format!("The consumer group has reached its maximum capacity of {max} members.");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        Ok(())
    }

    /// Kafka has no bound on memory; here who would make a group grow waits for better times.
    pub(super) fn check_room(&self, has_room: bool, before: &Member, after: &Member) -> Result<(), Refusal> {
        let grows = after.bytes() > before.bytes() || !self.group.members.contains_key(&before.id);
        if grows && !has_room { Err(ErrorCode::CoordinatorNotAvailable.into()) } else { Ok(()) }
    }

    /// The member that a request comes from, as it was, or a new one.
    fn member_of(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        id: Arc<str>,
    ) -> Result<Member, Refusal> {
        let (epoch, owned) = (request.member_epoch, request.topic_partitions.as_deref());
        let Some(instance) = request.instance_id.as_deref() else {
            let known = self.group.members.get(&id).cloned();
            let member = match known {
                Some(member) => member,
                None if epoch == 0 => Member::new(id),
                None => return Err(self.group.unknown_member(&id)),
            };
            check_epoch(&member, epoch, owned)?;
            return Ok(member);
        };
        if epoch == 0 {
            let Some(existing) = self.group.static_member(instance) else {
                return Ok(self.group.members.get(&id).cloned().unwrap_or_else(|| Member::new(id)));
            };
            if !existing.is_classic() && existing.epoch != LEFT_FOR_A_WHILE {
                let message = format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {} member.",
                    existing.id
                );
                return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
            }
            return Ok(self.replace(existing, id));
        }
        let member = self.group.holder(instance, &id)?.clone();
        check_epoch(&member, epoch, owned)?;
        Ok(member)
    }

    /// The next life of a static member, which has what the last had. The records say so.
    pub(super) fn replace(&mut self, existing: &Member, id: Arc<str>) -> Member {
        let group = &self.group.id;
        let next = Member { id, epoch: 0, previous_epoch: 0, ..existing.clone() };
        // Its timers stay: they find nobody.
        self.effects.records.extend(records::without_member(group, &existing.id));
        self.effects.records.push(records::member(group, &next));
        self.effects.records.push(records::target(group, &next.id, self.group.target_of(&existing.id)));
        self.effects.records.push(records::current(group, &next));
        next
    }
}

impl ConsumerGroup {
    pub(super) fn unknown_member(&self, id: &str) -> Refusal {
        let message = format!("Member {id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// The static member that has an instance id, if it is the one with `id`.
    pub(super) fn holder(&self, instance: &str, id: &str) -> Result<&Member, Refusal> {
        let unknown =
            || Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."));
        let holder = self.static_member(instance).ok_or_else(unknown)?;
        if *holder.id == *id {
            return Ok(holder);
        }
        let message =
            format!("Static member {id} with instance id {instance} was fenced by member {}.", holder.id);
        Err(Refusal::new(ErrorCode::FencedInstanceId, message))
    }
}

/// Whether a member may come with this epoch: its own; the one before, if the answer with its own may have got lost; or 0, to
/// begin anew.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&[TopicPartitions]>) -> Result<(), Refusal> {
    let comparison = match epoch.cmp(&member.epoch) {
        _ if epoch == 0 => return Ok(()),
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less if epoch == member.previous_epoch && has_only(owned, &member.assigned) => {
            return Ok(());
        }
        std::cmp::Ordering::Less => "smaller",
        std::cmp::Ordering::Greater => "greater",
    };
    let message = format!(
        "The consumer group member has a {comparison} member epoch ({epoch}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

/// Whether a client has nothing but what is `assigned`; not if it doesn't say.
fn has_only(owned: Option<&[TopicPartitions]>, assigned: &Owned) -> bool {
    let of =
        |topic: &TopicPartitions| topic.partitions.iter().all(|one| owns(assigned, topic.topic_id, *one));
    owned.is_some_and(|owned| owned.iter().all(of))
}

/// A request that tells everything is answered with everything.
fn is_full(request: &ConsumerGroupHeartbeatRequest) -> bool {
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    request.member_epoch == 0
        || request.rebalance_timeout_ms != -1 && subscribes && request.topic_partitions.is_some()
}

/// What is known of a member, with what a request says.
fn updated(before: &Details, client: Client<'_>, request: &ConsumerGroupHeartbeatRequest) -> Details {
    let shared = |new: Option<&str>, old: &Option<Arc<str>>| match new {
        Some(new) => Some(same_or(new, old.as_ref())),
        None => old.clone(),
    };
    let topics = match &request.subscribed_topic_names {
        Some(names) => {
            let names: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
            names
                .into_iter()
                .map(|name| before.topics.get(name).cloned().unwrap_or_else(|| name.into()))
                .collect()
        }
        None => before.topics.clone(),
    };
    Details {
        instance: shared(request.instance_id.as_deref(), &before.instance),
        rack: shared(request.rack_id.as_deref(), &before.rack),
        client_id: same_or(client.id, Some(&before.client_id)),
        client_host: same_or(client.host, Some(&before.client_host)),
        topics,
        regex: match &request.subscribed_topic_regex {
            Some(regex) => same_or(regex, Some(&before.regex)),
            None => before.regex.clone(),
        },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: shared(request.server_assignor.as_deref(), &before.assignor),
        classic: None,
    }
}

fn same_or(new: &str, old: Option<&Arc<str>>) -> Arc<str> {
    old.filter(|old| ***old == *new).cloned().unwrap_or_else(|| new.into())
}

fn told_assignment(assigned: &Owned) -> Assignment {
    let topics = assigned.iter().map(|(topic, partitions)| {
        consumer_group_heartbeat_response::TopicPartitions::default()
            .with_topic_id(*topic)
            .with_partitions(partitions.keys().copied().collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
