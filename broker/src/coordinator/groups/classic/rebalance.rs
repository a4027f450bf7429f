//! The way of a classic group from one generation to the next.

use super::{Flow, State, join::generation_for, member::refused_join};
use crate::coordinator::groups::timers::Alarm;
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::ErrorCode;

/// While none of a group's static members has joined, it is looked at no more often than this, whatever timeout they gave.
const LOOK_AGAIN_MS: u64 = 1000;

impl Flow<'_> {
    /// Somebody has come or gone: begins a rebalance, or ends the join phase of one that this was waited for.
    pub(super) fn rebalance_or_complete_join(&mut self, reason: &str) {
        match self.group.state {
            State::PreparingRebalance => self.complete_join_if_all_are_there(),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare(reason),
        }
    }

    /// Begins a rebalance: everybody is to join again.
    pub(in crate::coordinator::groups) fn prepare(&mut self, reason: &str) {
        if self.group.state == State::CompletingRebalance {
            self.refuse_syncs(ErrorCode::RebalanceInProgress);
        }
        self.group.pending_syncs.clear();
        let timer = self.sync_timer();
        self.timers.cancel(&timer);
        let was_empty = self.group.state == State::Empty;
        tracing::debug!(group = %self.group.id, generation = self.group.generation, reason, "rebalance");
        self.group.move_to(State::PreparingRebalance, self.now.wall_ms);
        match was_empty {
            true => self.delay_first_rebalance(),
            false if self.group.all_have_joined() => self.complete_join(),
            false => {
                let timer = self.join_timer();
                self.set_timer(timer, self.group.rebalance_timeout_ms(), Alarm::CompleteJoin);
            }
        }
    }

    /// The first member of an empty group is seldom the only one: others get a while to join the same generation.
    fn delay_first_rebalance(&mut self) {
        let delay_ms = self.settings.initial_rebalance_delay_ms;
        let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms);
        let timer = self.join_timer();
        self.set_timer(timer, delay_ms, Alarm::InitialDelay { delay_ms, remaining_ms });
    }

    /// The delay of a first rebalance is over. It begins anew where somebody joined during it, up to the rebalance timeout.
    pub(in crate::coordinator::groups) fn first_delay_over(&mut self, delay_ms: u64, remaining_ms: u64) {
        if !self.group.new_member_added || remaining_ms == 0 {
            return self.complete_join();
        }
        self.group.new_member_added = false;
        let next_ms = self.settings.initial_rebalance_delay_ms.min(remaining_ms);
        let remaining_ms = remaining_ms.saturating_sub(delay_ms);
        let timer = self.join_timer();
        self.set_timer(timer, next_ms, Alarm::InitialDelay { delay_ms: next_ms, remaining_ms });
    }

    /// In a first rebalance the delay is waited for in any case.
    pub(super) fn complete_join_if_all_are_there(&mut self) {
        let first = self.group.previous == State::Empty;
        if self.group.state == State::PreparingRebalance && !first && self.group.all_have_joined() {
            self.complete_join();
        }
    }

    /// Ends the join phase: dynamic members that haven't joined are out, the others are the next generation.
    pub(in crate::coordinator::groups) fn complete_join(&mut self) {
        if self.group.state != State::PreparingRebalance {
            return;
        }
        let timer = self.join_timer();
        self.timers.cancel(&timer);
        self.remove_absent();
        if !self.group.members.is_empty() && !self.elect_leader() {
            // Static members only, and none has joined: their sessions decide.
            let timer = self.join_timer();
            let patience = self.group.rebalance_timeout_ms().max(LOOK_AGAIN_MS);
            return self.set_timer(timer, patience, Alarm::CompleteJoin);
        }
        self.group.begin_generation(self.now.wall_ms);
        match self.group.state {
            State::Empty => self.effects.records.push(self.group.to_record(|_| Bytes::new())),
            _ => self.tell_members(),
        }
        let (generation, members) = (self.group.generation, self.group.members.len());
        tracing::debug!(group = %self.group.id, generation, members, "generation");
    }

    fn remove_absent(&mut self) {
        let members = self.group.members.values();
        let absent = members.filter(|member| member.join.is_none() && !member.is_static());
        let absent: Vec<Arc<str>> = absent.map(|member| member.id.clone()).collect();
        for id in absent {
            self.remove(&id);
        }
    }

    /// Makes sure that the leader is one who has joined. False where nobody has.
    fn elect_leader(&mut self) -> bool {
        let group = &mut self.group;
        let leader = group.leader.as_ref().and_then(|leader| group.members.get(leader));
        if leader.is_some_and(|leader| leader.join.is_some()) {
            return true;
        }
        let joined = group.members.values().find(|member| member.join.is_some());
        let Some(joined) = joined.map(|member| member.id.clone()) else { return false };
        group.leader = Some(joined);
        true
    }

    /// Answers every JoinGroup with the new generation, and waits for everybody's SyncGroup.
    fn tell_members(&mut self) {
        for id in self.group.member_ids() {
            if let Some(ticket) = self.group.take_join(&id) {
                let response = generation_for(self.group, &id);
                self.effects.join(ticket, response);
            }
            self.group.update(&id, |member| member.is_new = false);
            self.group.pending_syncs.insert(id.clone());
            self.renew_session(&id);
        }
        let timer = self.sync_timer();
        let alarm = Alarm::PendingSync { generation: self.group.generation };
        self.set_timer(timer, self.group.rebalance_timeout_ms(), alarm);
    }

    /// Members whose SyncGroup hasn't come in time are out.
    pub(in crate::coordinator::groups) fn syncs_overdue(&mut self, generation: i32) {
        let waits = matches!(self.group.state, State::CompletingRebalance | State::Stable);
        if generation != self.group.generation || !waits || self.group.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.group.pending_syncs) {
            self.remove(&id);
        }
        self.prepare("members have not synced");
    }

    /// Takes a member off with its timer. A parked JoinGroup is told to begin anew.
    pub(super) fn remove(&mut self, id: &Arc<str>) {
        if let Some(ticket) = self.group.take_join(id) {
            self.effects.join(ticket, refused_join("", ErrorCode::UnknownMemberId));
        }
        if let Some(ticket) = self.group.take_sync(id) {
            self.effects.sync(ticket, super::member::refused_sync(ErrorCode::UnknownMemberId));
        }
        self.group.remove(id);
        let timer = self.session_timer(id);
        self.timers.cancel(&timer);
    }
}
