//! JoinGroup: who may join, and as whom.

use super::{
    ClassicGroup, Flow, Member, State,
    member::{Protocols, optional_text, refused_join, text},
};
use crate::coordinator::groups::{
    Groups, check_group_id,
    effects::{After, Effects, Now, Ticket},
    timers::Alarm,
};
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::{
    ErrorCode,
    coordinator_records::GroupRecord,
    messages::{JoinGroupRequest, JoinGroupResponse},
};

/// The client behind a JoinGroup.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// What it calls itself.
    pub client_id: &'a str,
    /// Its address, as Java writes it.
    pub client_host: &'a str,
    /// Version of the request.
    pub version: i16,
    /// Whether there is memory for one more member.
    pub has_room: bool,
}

impl Caller<'_> {
    /// From version 4 a new member is given its id first and comes again with it (KIP-394).
    pub(in crate::coordinator::groups) fn must_come_back(self) -> bool {
        self.version >= 4
    }

    /// From version 9 a leader can be told to leave the assignment as it is (KIP-814).
    fn can_skip_assignment(self) -> bool {
        self.version >= 9
    }
}

/// How long a member that can't send heartbeats yet is waited for, as in Kafka.
const NEW_MEMBER_PATIENCE_MS: u64 = 5 * 60 * 1000;
/// What a member's id adds to the name that it begins with.
const MEMBER_ID_SUFFIX: usize = 37;

/// Whether every string that a group's record would hold fits into it. Kafka finds out when it writes the record.
pub fn check_lengths(caller: Caller<'_>, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    let fits = |length: usize| length <= i16::MAX as usize;
    let instance = request.group_instance_id.as_ref().map_or(0, |instance| instance.len());
    let all = fits(request.group_id.len())
        && fits(instance + MEMBER_ID_SUFFIX)
        && fits(caller.client_id.len() + MEMBER_ID_SUFFIX)
        && fits(request.protocol_type.len())
        && request.protocols.iter().all(|protocol| fits(protocol.name.len()));
    if all { Ok(()) } else { Err(ErrorCode::UnknownServerError) }
}

fn is_of_classic(record: &GroupRecord) -> bool {
    matches!(record, GroupRecord::GroupMetadata(..))
}

impl Groups {
    /// JoinGroup. The answer goes to `ticket`, at once or when the others have joined.
    pub fn join(
        &mut self,
        caller: Caller<'_>,
        request: &JoinGroupRequest,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let member = request.member_id.as_str();
        if let Err(code) = self.check_join(caller, request) {
            return effects.join(ticket, refused_join(member, code));
        }
        match self.consumer(&request.group_id).map(|group| group.is_empty()) {
            Some(false) => return self.join_consumer(caller, request, ticket, now, effects),
            Some(true) if member.is_empty() => self.give_up_empty(&request.group_id, effects),
            Some(true) => return effects.join(ticket, refused_join(member, ErrorCode::UnknownMemberId)),
            None => {}
        }
        let known = self.groups.contains_key(request.group_id.as_str());
        if !known && !member.is_empty() {
            return effects.join(ticket, refused_join(member, ErrorCode::UnknownMemberId));
        }
        if !known && !caller.has_room {
            return effects.join(ticket, refused_join(member, ErrorCode::CoordinatorNotAvailable));
        }
        self.ensure(&request.group_id, now.wall_ms);
        let new_id = self.new_member_id(caller, request);
        let Some(flow) = self.flow(&request.group_id, now, effects) else { return };
        Joining { caller, request, ticket, new_id, flow }.join();
        if !known && !effects.records.iter().any(is_of_classic) {
            let group = self.classic(&request.group_id).expect("it was made above");
            effects.records.push(group.to_first_record());
        }
    }

    fn check_join(&self, caller: Caller<'_>, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
        check_group_id(&request.group_id)?;
        let settings = &self.settings;
        if !(settings.min_session_timeout_ms..=settings.max_session_timeout_ms)
            .contains(&request.session_timeout_ms)
        {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        check_lengths(caller, request)
    }

    fn new_member_id(&self, caller: Caller<'_>, request: &JoinGroupRequest) -> Arc<str> {
        let name = request.group_instance_id.as_ref().map_or(caller.client_id, |instance| instance.as_str());
        format!("{name}-{}", self.random.uuid()).into()
    }
}

/// One JoinGroup on its way.
struct Joining<'a> {
    caller: Caller<'a>,
    request: &'a JoinGroupRequest,
    ticket: Ticket,
    new_id: Arc<str>,
    flow: Flow<'a>,
}

impl Joining<'_> {
    fn join(mut self) {
        let id = self.request.member_id.as_str();
        let group = &mut self.flow.group;
        if !group.accepts(id, self.flow.settings.max_size) {
            group.remove(id);
            return self.refuse("", ErrorCode::GroupMaxSizeReached);
        }
        if !group.supports(&self.request.protocol_type, &self.request.protocols) {
            return self.refuse(id, ErrorCode::InconsistentGroupProtocol);
        }
        match (id.is_empty(), &self.request.group_instance_id) {
            (false, _) => self.known(id),
            (true, Some(_)) => self.new_static(),
            (true, None) => self.new_dynamic(),
        }
    }

    fn refuse(self, member: &str, code: ErrorCode) {
        self.flow.effects.join(self.ticket, refused_join(member, code));
    }

    fn new_dynamic(mut self) {
        if !self.caller.has_room {
            return self.refuse("", ErrorCode::CoordinatorNotAvailable);
        }
        if !self.caller.must_come_back() {
            let id = self.new_id.clone();
            return self.add(id);
        }
        let timer = self.flow.session_timer(&self.new_id);
        self.flow.set_timer(timer, super::millis(self.request.session_timeout_ms), Alarm::SessionOver);
        self.flow.group.pending_joins.insert(self.new_id.clone());
        let id = self.new_id.clone();
        self.refuse(&id, ErrorCode::MemberIdRequired);
    }

    fn new_static(self) {
        let instance = self.request.group_instance_id.as_deref().unwrap_or_default();
        match self.flow.group.static_members.get(instance).cloned() {
            Some(current) => self.take_the_place_of(&current),
            None => {
                let id = self.new_id.clone();
                self.add(id);
            }
        }
    }

    /// Somebody who says that it has an id.
    fn known(self, id: &str) {
        let group = &self.flow.group;
        if group.pending_joins.contains(id) {
            let id: Arc<str> = id.into();
            return match self.request.group_instance_id {
                // Ids are given out to dynamic members alone.
                Some(_) => self.refuse(&id, ErrorCode::UnknownServerError),
                None => self.add(id),
            };
        }
        if let Err(code) = group.check_member(id, self.request.group_instance_id.as_deref()) {
            return self.refuse(id, code);
        }
        let same = group.members[id].protocols.are(&self.request.protocols);
        match group.state {
            State::PreparingRebalance => self.rejoin(id),
            // It may have missed the answer to its first JoinGroup.
            State::CompletingRebalance if same => self.tell_generation(id),
            State::CompletingRebalance => self.rejoin(id),
            // A leader that joins again wants to assign anew.
            State::Stable if same && !group.is_leader(id) => self.tell_generation(id),
            State::Stable => self.rejoin(id),
            State::Empty => self.refuse(id, ErrorCode::UnknownMemberId),
        }
    }

    /// Answers with the generation as it is.
    fn tell_generation(self, id: &str) {
        let response = generation_for(self.flow.group, id);
        self.flow.effects.join(self.ticket, response);
    }

    fn add(mut self, id: Arc<str>) {
        if !self.caller.has_room {
            return self.refuse(&id, ErrorCode::CoordinatorNotAvailable);
        }
        let member = Member {
            id: id.clone(),
            instance: self.request.group_instance_id.as_ref().map(|instance| instance.as_str().into()),
            client_id: self.caller.client_id.into(),
            client_host: self.caller.client_host.into(),
            session_timeout_ms: self.request.session_timeout_ms,
            rebalance_timeout_ms: self.request.rebalance_timeout_ms,
            protocols: Protocols::copy_of(&self.request.protocols),
            assignment: Bytes::new(),
            join: Some(self.ticket),
            sync: None,
            is_new: true,
        };
        let flow = &mut self.flow;
        if flow.group.state == State::PreparingRebalance && flow.group.previous == State::Empty {
            flow.group.new_member_added = true;
        }
        flow.group.add(member, &self.request.protocol_type);
        let timer = flow.session_timer(&id);
        flow.set_timer(timer, NEW_MEMBER_PATIENCE_MS, Alarm::SessionOver);
        flow.rebalance_or_complete_join("a member joins");
    }

    fn rejoin(mut self, id: &str) {
        if self.lacks_room(id) {
            return self.refuse(id, ErrorCode::CoordinatorNotAvailable);
        }
        self.update(id);
        self.flow.rebalance_or_complete_join("a member joins again");
    }

    /// Whether what the request says of a member takes memory that isn't there.
    fn lacks_room(&self, id: &str) -> bool {
        let known = self.flow.group.members.get(id);
        !self.caller.has_room
            && known.is_none_or(|known| known.protocols.are_less_than(&self.request.protocols))
    }

    /// Takes over what the request says of the member, and parks it.
    fn update(&mut self, id: &str) {
        let (request, ticket) = (self.request, self.ticket);
        let mut superseded = None;
        self.flow.group.update(id, |member| {
            member.protocols = Protocols::copy_of(&request.protocols);
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
            superseded = member.join.replace(ticket);
        });
        // Its client has given the earlier request up, or it would not ask again.
        if let Some(ticket) = superseded {
            self.flow.effects.join(ticket, refused_join(id, ErrorCode::RebalanceInProgress));
        }
    }

    /// A static member in a new life gets a new id, and its old one is fenced (KIP-345).
    fn take_the_place_of(mut self, old: &Arc<str>) {
        if self.lacks_room(old) {
            return self.refuse("", ErrorCode::CoordinatorNotAvailable);
        }
        let flow = &mut self.flow;
        let leader = flow.group.leader.clone();
        fence(flow, old);
        let previous = flow.group.members[old].clone();
        let member = Member { id: self.new_id.clone(), is_new: false, ..previous.clone() };
        let id = self.new_id.clone();
        flow.replace(old, member);
        self.update(&id);
        match self.flow.group.state {
            State::Stable if self.flow.group.select_protocol() == self.flow.group.protocol => {
                self.store_new_id(previous, leader);
            }
            State::Stable | State::CompletingRebalance => {
                self.flow.rebalance_or_complete_join("a static member joins with a new id");
            }
            State::PreparingRebalance | State::Empty => self.flow.complete_join_if_all_are_there(),
        }
    }

    /// Nothing else changes: the new id is stored, without a rebalance.
    fn store_new_id(self, previous: Member, leader: Option<Arc<str>>) {
        let flow = self.flow;
        flow.effects.records.push(flow.group.to_record(|member| member.assignment.clone()));
        flow.effects.after = Some(After::StaticMemberStored {
            group: flow.group.id.clone(),
            member: self.new_id,
            previous: Box::new(previous),
            leader,
            can_skip_assignment: self.caller.can_skip_assignment(),
        });
    }
}

/// Whatever waits under the old id of a static member is answered that it has been replaced.
fn fence(flow: &mut Flow<'_>, old: &str) {
    if let Some(ticket) = flow.group.take_join(old) {
        let refused = refused_join(old, ErrorCode::FencedInstanceId);
        flow.effects.join(ticket, refused);
    }
    if let Some(ticket) = flow.group.take_sync(old) {
        flow.effects.sync(ticket, super::member::refused_sync(ErrorCode::FencedInstanceId));
    }
}

/// What a member is told of the generation. The leader is told who the members are.
pub(super) fn generation_for(group: &ClassicGroup, id: &str) -> JoinGroupResponse {
    let members = if group.is_leader(id) { group.for_the_leader() } else { Vec::new() };
    JoinGroupResponse::default()
        .with_member_id(text(id))
        .with_generation_id(group.generation)
        .with_protocol_type(optional_text(group.protocol_type.as_ref()))
        .with_protocol_name(optional_text(group.protocol.as_ref()))
        .with_leader(text(group.leader.as_deref().unwrap_or_default()))
        .with_members(members)
}

impl Flow<'_> {
    /// The new id of a static member is stored, or can't be.
    pub(super) fn static_member_stored(
        &mut self,
        id: &Arc<str>,
        previous: Member,
        leader: Option<Arc<str>>,
        can_skip_assignment: bool,
        stored: Result<(), ErrorCode>,
    ) {
        let Some(ticket) = self.group.take_join(id) else { return };
        let mut response = generation_for(self.group, id);
        match stored {
            Ok(()) if can_skip_assignment => response.skip_assignment = self.group.is_leader(id),
            // Who doesn't know of skipping must not think that it is the leader, or it would assign anew.
            Ok(()) => {
                response.members.clear();
                response.leader = text(leader.as_deref().unwrap_or_default());
            }
            Err(code) => {
                response = refused_join("", code);
                self.replace(id, previous);
            }
        }
        // A session that ended while the request was parked was passed over, so it needs a timer again.
        self.renew_session(id);
        self.effects.join(ticket, response);
    }

    /// Puts `member` in the place of the one with id `old`, with a session of its own.
    fn replace(&mut self, old: &Arc<str>, member: Member) {
        let id = member.id.clone();
        self.group.replace(old, member);
        let timer = self.session_timer(old);
        self.timers.cancel(&timer);
        self.renew_session(&id);
    }
}
