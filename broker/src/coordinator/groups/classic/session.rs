//! Heartbeat, LeaveGroup, and the end of a session: whether a member is still one.

use super::{Flow, State};
use crate::coordinator::groups::{
    Groups, check_group_id,
    effects::{Effects, Now},
};
use std::sync::Arc;
use thalweg_protocol::{
    ErrorCode,
    messages::{HeartbeatRequest, leave_group_request::MemberIdentity, leave_group_response::MemberResponse},
};

impl Groups {
    /// Heartbeat.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        check_group_id(&request.group_id)?;
        if self.consumer(&request.group_id).is_some() {
            return self.beat_consumer(request, now);
        }
        let mut flow = self.flow(&request.group_id, now, effects).ok_or(ErrorCode::UnknownMemberId)?;
        let group = &flow.group;
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let state = group.state;
        flow.renew_session(&request.member_id);
        match state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// LeaveGroup, of any number of members (KIP-345).
    pub fn leave(
        &mut self,
        group: &str,
        leaving: Vec<MemberIdentity>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        check_group_id(group)?;
        if self.consumer(group).is_some() {
            return Ok(self.leave_consumer(group, leaving, now, effects));
        }
        let mut flow = self.flow(group, now, effects);
        let mut left = false;
        let mut responses = Vec::with_capacity(leaving.len());
        for member in leaving {
            let outcome = match &mut flow {
                Some(flow) => flow.leave(&member),
                None => Err(ErrorCode::UnknownMemberId),
            };
            left |= outcome.is_ok();
            let response = MemberResponse::default().with_member_id(member.member_id);
            let response = response.with_group_instance_id(member.group_instance_id);
            responses.push(response.with_error_code(outcome.err().unwrap_or(ErrorCode::None).code()));
        }
        if let Some(mut flow) = flow.filter(|flow| left && !flow.group.is_empty()) {
            flow.rebalance_or_complete_join("members leave");
        }
        Ok(responses)
    }
}

impl Flow<'_> {
    fn leave(&mut self, member: &MemberIdentity) -> Result<(), ErrorCode> {
        let id = member.member_id.as_str();
        let instance = member.group_instance_id.as_deref();
        let id: Arc<str> = if id.is_empty() {
            // An administrator takes a static member off by its instance id.
            let named = instance.and_then(|instance| self.group.static_members.get(instance));
            named.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            if !self.group.pending_joins.contains(id) {
                self.group.check_member(id, instance)?;
            }
            id.into()
        };
        self.remove(&id);
        Ok(())
    }

    /// Nothing was heard of a member for as long as its session may last.
    pub(in crate::coordinator::groups) fn session_over(&mut self, id: &Arc<str>) {
        match self.group.members.get(id) {
            // It was given an id and hasn't come back with it.
            None => {
                self.group.pending_joins.remove(id);
            }
            Some(member) if member.may_be_silent() => return,
            Some(_) => {
                tracing::debug!(group = %self.group.id, member = %id, "the session is over");
                self.remove(id);
                if self.group.state != State::PreparingRebalance {
                    return self.rebalance_or_complete_join("a session is over");
                }
            }
        }
        // As in Kafka, without regard to the delay of a first rebalance.
        if self.group.state == State::PreparingRebalance && self.group.all_have_joined() {
            self.complete_join();
        }
    }
}
