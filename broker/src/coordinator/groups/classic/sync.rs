//! SyncGroup: the leader brings the assignment, everybody gets their part.

use super::{
    Flow, State,
    member::{optional_text, refused_sync},
};
use crate::coordinator::groups::{
    Groups, check_group_id,
    effects::{After, Effects, Now, Ticket},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::{
    ErrorCode,
    messages::{SyncGroupRequest, SyncGroupResponse},
};

impl Groups {
    /// SyncGroup. The answer goes to `ticket`, at once or when the leader's assignment is durable.
    pub fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: Now, effects: &mut Effects) {
        if let Err(code) = check_group_id(&request.group_id) {
            return effects.sync(ticket, refused_sync(code));
        }
        if self.consumer(&request.group_id).is_some() {
            return self.sync_consumer(request, ticket, now, effects);
        }
        if self.classic(&request.group_id).is_none_or(|group| group.is_empty()) {
            return effects.sync(ticket, refused_sync(ErrorCode::UnknownMemberId));
        }
        if let Some(mut flow) = self.flow(&request.group_id, now, effects) {
            flow.sync(request, ticket);
        }
    }

    /// Goes on after the records of an operation are durable, or could not be appended.
    pub fn stored(&mut self, after: After, stored: Result<(), ErrorCode>, now: Now, effects: &mut Effects) {
        match after {
            After::AssignmentStored { group, generation, assignment } => {
                if let Some(mut flow) = self.flow(&group, now, effects) {
                    flow.assignment_stored(generation, assignment, stored);
                }
            }
            After::StaticMemberStored { group, member, previous, leader, can_skip_assignment } => {
                if let Some(mut flow) = self.flow(&group, now, effects) {
                    flow.static_member_stored(&member, *previous, leader, can_skip_assignment, stored);
                }
            }
            After::Converted { group, previous } => self.converted(group, previous, stored, now, effects),
            After::MemberJoined(joined) => self.member_joined(*joined, stored, now, effects),
            After::MemberSynced { group, member, ticket, response } => {
                self.member_synced(group, member, (ticket, response), stored, now, effects);
            }
        }
    }
}

impl Flow<'_> {
    fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket) {
        let id = request.member_id.as_str();
        if let Err(code) = self.check_sync(request) {
            return self.effects.sync(ticket, refused_sync(code));
        }
        match self.group.state {
            State::CompletingRebalance => {
                self.park_sync(id, ticket);
                if self.group.is_leader(id) {
                    self.store_assignment(request);
                }
            }
            State::Stable => {
                self.note_sync(id);
                let response = self.assignment_of(id);
                self.effects.sync(ticket, response);
            }
            // The request's sender passed the checks, so the group isn't empty.
            State::PreparingRebalance | State::Empty => {
                self.effects.sync(ticket, refused_sync(ErrorCode::RebalanceInProgress));
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |given: Option<&str>, own: Option<&Arc<str>>| {
            given.is_some_and(|given| own.is_some_and(|own| **own != *given))
        };
        if differs(request.protocol_type.as_deref(), self.group.protocol_type.as_ref())
            || differs(request.protocol_name.as_deref(), self.group.protocol.as_ref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn park_sync(&mut self, id: &str, ticket: Ticket) {
        let superseded = self.group.members.get_mut(id).and_then(|member| member.sync.replace(ticket));
        if let Some(ticket) = superseded {
            self.effects.sync(ticket, refused_sync(ErrorCode::RebalanceInProgress));
        }
        self.note_sync(id);
    }

    fn note_sync(&mut self, id: &str) {
        self.group.pending_syncs.remove(id);
        if self.group.pending_syncs.is_empty() {
            let timer = self.sync_timer();
            self.timers.cancel(&timer);
        }
    }

    /// Records the leader's assignment. Whom it doesn't name gets an empty one.
    fn store_assignment(&mut self, request: &SyncGroupRequest) {
        let given = request.assignments.iter();
        let given: BTreeMap<&str, &Bytes> =
            given.map(|one| (one.member_id.as_str(), &one.assignment)).collect();
        let part = |id: &Arc<str>| {
            (id.clone(), given.get(&**id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default())
        };
        let assignment: BTreeMap<Arc<str>, Bytes> = self.group.members.keys().map(part).collect();
        self.effects.records.push(self.group.to_record(|member| assignment[&member.id].clone()));
        self.effects.after = Some(After::AssignmentStored {
            group: self.group.id.clone(),
            generation: self.group.generation,
            assignment,
        });
    }

    /// The group may be in another rebalance by now; then the assignment is of no use any more.
    fn assignment_stored(
        &mut self,
        generation: i32,
        assignment: BTreeMap<Arc<str>, Bytes>,
        stored: Result<(), ErrorCode>,
    ) {
        if self.group.state != State::CompletingRebalance || self.group.generation != generation {
            return;
        }
        if let Err(code) = stored {
            self.refuse_syncs(code);
            return self.rebalance_or_complete_join("the assignment could not be stored");
        }
        for id in self.group.member_ids() {
            let part = assignment.get(&id).cloned().unwrap_or_default();
            self.group.update(&id, |member| member.assignment = part);
        }
        self.group.move_to(State::Stable, self.now.wall_ms);
        for id in self.group.member_ids() {
            let response = self.assignment_of(&id);
            self.answer_sync(&id, response);
        }
        tracing::debug!(group = %self.group.id, generation, "stable");
    }

    /// Nobody gets an assignment in this generation.
    pub(super) fn refuse_syncs(&mut self, code: ErrorCode) {
        for id in self.group.member_ids() {
            self.group.update(&id, |member| member.assignment = Bytes::new());
            self.answer_sync(&id, refused_sync(code));
        }
    }

    fn answer_sync(&mut self, id: &str, response: SyncGroupResponse) {
        if let Some(ticket) = self.group.take_sync(id) {
            self.effects.sync(ticket, response);
            // A session that ended while the request was parked was passed over, so it needs a timer again.
            self.renew_session(id);
        }
    }

    fn assignment_of(&self, id: &str) -> SyncGroupResponse {
        let assignment = self.group.members.get(id).map(|member| member.assignment.clone());
        SyncGroupResponse::default()
            .with_protocol_type(optional_text(self.group.protocol_type.as_ref()))
            .with_protocol_name(optional_text(self.group.protocol.as_ref()))
            .with_assignment(assignment.unwrap_or_default())
    }
}
