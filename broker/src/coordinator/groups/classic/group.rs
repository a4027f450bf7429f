//! A classic group: its members, and what of their requests waits.

use super::member::{Member, Protocols, optional_text, text};
use crate::{
    coordinator::groups::{effects::Ticket, timers::Timer},
    mutation::{Mutation, mutated},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_protocol::{
    CONSUMER_PROTOCOL, ErrorCode,
    coordinator_records::{GroupMetadataKey, GroupMetadataValue, GroupRecord, MemberMetadata},
    messages::{join_group_request::JoinGroupRequestProtocol, join_group_response::JoinGroupResponseMember},
    subscribed_topics,
};

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coordinator::groups) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// As clients are told.
    pub(in crate::coordinator::groups) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A classic group.
pub(in crate::coordinator::groups) struct ClassicGroup {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    pub(super) previous: State,
    /// Wall-clock time of the last change of state; none where an old record doesn't tell.
    pub(super) state_since_ms: Option<i64>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    /// The protocol that this generation works by.
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Member id by instance id.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given out (KIP-394) and not come back with yet.
    pub(super) pending_joins: BTreeSet<Arc<str>>,
    /// Members whose SyncGroup of this generation is missing.
    pub(super) pending_syncs: BTreeSet<Arc<str>>,
    /// Members whose JoinGroup waits.
    pub(super) awaiting_join: usize,
    /// How many members know each protocol.
    supported: BTreeMap<Arc<str>, usize>,
    /// Topics that the members of this generation subscribe to; none where that can't be told.
    subscribed: Option<BTreeSet<Arc<str>>>,
    /// Somebody joined while the first rebalance was delayed.
    pub(super) new_member_added: bool,
    members_bytes: usize,
}

/// What a group weighs beside its strings and members.
const OVERHEAD: usize = 550;
/// What an id that was given out weighs, with its timer.
const PENDING_OVERHEAD: usize = 400;

impl ClassicGroup {
    pub(in crate::coordinator::groups) fn new(id: Arc<str>, wall_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            previous: State::Empty,
            state_since_ms: Some(wall_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            awaiting_join: 0,
            supported: BTreeMap::new(),
            subscribed: None,
            new_member_added: false,
            members_bytes: 0,
        }
    }

    /// A group as its record says.
    pub(in crate::coordinator::groups) fn of_record(id: Arc<str>, record: GroupMetadataValue) -> Self {
        let mut group = Self::new(id, 0);
        let protocol: Option<Arc<str>> = record.protocol.map(|name| name.as_str().into());
        group.state_since_ms = Some(record.current_state_timestamp).filter(|since| *since != -1);
        group.generation = record.generation;
        group.leader = record.leader.map(|leader| leader.as_str().into());
        for stored in record.members {
            let rebalance = stored.rebalance_timeout;
            group.add(
                Member {
                    id: stored.member_id.as_str().into(),
                    instance: stored.group_instance_id.map(|instance| instance.as_str().into()),
                    client_id: stored.client_id.as_str().into(),
                    client_host: stored.client_host.as_str().into(),
                    session_timeout_ms: stored.session_timeout,
                    rebalance_timeout_ms: if rebalance == -1 { stored.session_timeout } else { rebalance },
                    protocols: Protocols::single(
                        protocol.clone().unwrap_or_default(),
                        Bytes::copy_from_slice(&stored.subscription),
                    ),
                    assignment: Bytes::copy_from_slice(&stored.assignment),
                    join: None,
                    sync: None,
                    is_new: false,
                },
                record.protocol_type.as_str(),
            );
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.protocol_type =
            Some(record.protocol_type.as_str().into()).filter(|name: &Arc<str>| !name.is_empty());
        group.protocol = protocol;
        group.subscribed = group.find_subscribed();
        group
    }

    /// The group as a record, with what each member is assigned.
    pub(super) fn to_record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &Member| MemberMetadata {
            member_id: text(&member.id),
            group_instance_id: optional_text(member.instance.as_ref()),
            client_id: text(&member.client_id),
            client_host: text(&member.client_host),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.protocols.metadata(protocol),
            assignment: assignment(member),
        };
        self.record_of(GroupMetadataValue {
            protocol_type: text(self.protocol_type.as_deref().unwrap_or_default()),
            generation: self.generation,
            protocol: optional_text(self.protocol.as_ref()),
            leader: optional_text(self.leader.as_ref()),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: self.members.values().map(member).collect(),
        })
    }

    /// The record of a group that has just come to be.
    pub(super) fn to_first_record(&self) -> GroupRecord {
        self.record_of(GroupMetadataValue {
            protocol: None,
            leader: None,
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            ..GroupMetadataValue::default()
        })
    }

    fn record_of(&self, value: GroupMetadataValue) -> GroupRecord {
        GroupRecord::GroupMetadata(GroupMetadataKey { group: text(&self.id) }, Some(value))
    }

    pub(in crate::coordinator::groups) fn state(&self) -> State {
        self.state
    }

    pub(in crate::coordinator::groups) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub(in crate::coordinator::groups) fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    pub(in crate::coordinator::groups) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    pub(in crate::coordinator::groups) fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    pub(in crate::coordinator::groups) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(in crate::coordinator::groups) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Whether it is known which topics the members subscribe to.
    pub(in crate::coordinator::groups) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    /// Whether a member subscribes to the topic; a group of consumers whose subscriptions can't be read may.
    pub(in crate::coordinator::groups) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Bytes that the group takes, about.
    pub(in crate::coordinator::groups) fn bytes(&self) -> usize {
        OVERHEAD + self.id.len() + self.members_bytes + self.pending_joins.len() * PENDING_OVERHEAD
    }

    /// Every timer that may be set for it.
    pub(in crate::coordinator::groups) fn timers(&self) -> impl Iterator<Item = Timer> {
        let sessions = self.members.keys().chain(&self.pending_joins);
        let sessions = sessions.map(|member| Timer::Session(self.id.clone(), member.clone()));
        [Timer::Join(self.id.clone()), Timer::Sync(self.id.clone())].into_iter().chain(sessions)
    }

    pub(super) fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.into());
        }
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_joins.remove(&member.id);
        self.count_in(&member);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member, or an id that was given out, off.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let removed = self.members.remove(id);
        if let Some(member) = &removed {
            self.count_out(member);
            member.instance.as_ref().and_then(|instance| self.static_members.remove(instance));
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        removed
    }

    /// Changes a member by `change`. The counts over all members follow.
    pub(super) fn update(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        if let Some((id, mut member)) = self.members.remove_entry(id) {
            self.count_out(&member);
            change(&mut member);
            self.count_in(&member);
            self.members.insert(id, member);
        }
    }

    /// Puts `member` in the place of the one with id `old`, of which it is the new life.
    pub(super) fn replace(&mut self, old: &str, member: Member) {
        if let Some(old) = self.members.remove(old) {
            self.count_out(&old);
        }
        if self.is_leader(old) {
            self.leader = Some(member.id.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(member.id.clone());
        }
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.count_in(&member);
        self.members.insert(member.id.clone(), member);
    }

    fn count_in(&mut self, member: &Member) {
        for name in member.protocols.names() {
            *self.supported.entry(name.clone()).or_default() += 1;
        }
        self.awaiting_join += usize::from(member.join.is_some());
        self.members_bytes += member.bytes();
    }

    fn count_out(&mut self, member: &Member) {
        for name in member.protocols.names() {
            if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
        self.awaiting_join -= usize::from(member.join.is_some());
        self.members_bytes -= member.bytes();
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Whether a member with these protocols can be one: it shares a protocol with all others.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let known_to_all = |name: &str| self.supported.get(name) == Some(&self.members.len());
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|one| known_to_all(one.name.as_str()) || self.members.is_empty())
    }

    /// Whether somebody may join: `group.max.size` is for members that are not there yet, and for those that rejoin last.
    pub(super) fn accepts(&self, id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waits = self.members.get(id).is_some_and(|member| member.join.is_some());
                waits || self.awaiting_join < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id) || self.members.len() < max_size
            }
        }
    }

    /// Whether a request comes from the member that it says it is.
    pub(super) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a commit may come from whom it says (OffsetCommit; for one in a transaction the state of the group is no matter).
    pub(in crate::coordinator::groups) fn check_commit(
        &self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        // An administrator, or a consumer that assigns partitions to itself.
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The same of a commit in a transaction. Old producers name no member, and a rebalance stops nobody: what is read was
    /// processed, and the transaction decides.
    pub(in crate::coordinator::groups) fn check_transactional_commit(
        &self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let names_nobody = generation < 0 && id.is_empty() && instance.is_none();
        if names_nobody || generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if mutated(Mutation::AcceptFencedMember) {
            return Ok(());
        }
        self.check_member(id, instance)?;
        if generation != self.generation { Err(ErrorCode::IllegalGeneration) } else { Ok(()) }
    }

    pub(super) fn all_have_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_joins.is_empty()
    }

    /// The longest time that a member asks for.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        super::millis(longest.unwrap_or(0))
    }

    pub(super) fn move_to(&mut self, state: State, wall_ms: i64) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// Begins the next generation with the members that are there.
    pub(super) fn begin_generation(&mut self, wall_ms: i64) {
        self.generation = self.generation.wrapping_add(1);
        self.protocol = self.select_protocol();
        self.subscribed = self.find_subscribed();
        let next = if self.members.is_empty() { State::Empty } else { State::CompletingRebalance };
        self.move_to(next, wall_ms);
        self.pending_syncs.clear();
    }

    /// The members that there are have what they have, without a rebalance.
    pub(super) fn begin_as_stable(&mut self, wall_ms: i64) {
        self.protocol = self.select_protocol();
        self.subscribed = self.find_subscribed();
        self.move_to(State::Stable, wall_ms);
    }

    /// The protocol that all members know and most of them like best. None without members.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let known_to_all = |name: &Arc<str>| self.supported.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.protocols.names().find(|name| known_to_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        // Of equals the first by name, so that it doesn't depend on the order of the members.
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(name, _)| name.clone())
    }

    /// The members with their metadata, for the leader.
    pub(super) fn for_the_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &Member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(optional_text(member.instance.as_ref()))
                .with_metadata(member.protocols.metadata(protocol))
        };
        self.members.values().map(member).collect()
    }

    fn find_subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            let topics = subscribed_topics(member.protocols.metadata(protocol)).ok()?;
            all.extend(topics.iter().map(|topic| Arc::from(topic.as_str())));
        }
        Some(all)
    }
}

/// What waits for an answer.
impl ClassicGroup {
    /// Takes a member's parked JoinGroup off, to be answered.
    pub(super) fn take_join(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.join.take();
        self.awaiting_join -= usize::from(ticket.is_some());
        ticket
    }

    /// Takes a member's parked SyncGroup off, to be answered.
    pub(super) fn take_sync(&mut self, id: &str) -> Option<Ticket> {
        self.members.get_mut(id)?.sync.take()
    }

    /// The ids of all members.
    pub(in crate::coordinator::groups) fn member_ids(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }
}

#[cfg(test)]
impl ClassicGroup {
    /// Panics where a count is not that of what is there.
    pub(in crate::coordinator::groups) fn check(&self) {
        let members = || self.members.values();
        assert_eq!(self.awaiting_join, members().filter(|member| member.join.is_some()).count());
        assert_eq!(self.members_bytes, members().map(Member::bytes).sum::<usize>());
        assert_eq!(
            self.state == State::Empty,
            self.members.is_empty() && self.state != State::PreparingRebalance
        );
        assert!(self.leader.as_ref().is_none_or(|leader| self.members.contains_key(leader)));
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)));
        assert!(self.pending_joins.iter().all(|id| !self.members.contains_key(id)));
        let known = members().flat_map(|member| member.protocols.names()).count();
        assert_eq!(self.supported.values().sum::<usize>(), known);
    }
}
