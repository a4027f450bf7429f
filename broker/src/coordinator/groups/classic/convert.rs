//! Classic groups that come out of consumer groups, and that become such (KIP-848).

use super::{
    ClassicGroup, Flow, Member, State,
    member::{Protocols, refused_join, refused_sync, text},
};
use crate::coordinator::groups::{consumer, effects::Effects};
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::{
    CONSUMER_PROTOCOL, ErrorCode,
    coordinator_records::{GroupMetadataKey, GroupRecord},
};

impl ClassicGroup {
    /// A stable group of these members, each with its assignment. Those that don't speak the classic protocol are left out.
    pub(in crate::coordinator::groups) fn of_consumer_group<'a>(
        id: Arc<str>,
        generation: i32,
        wall_ms: i64,
        members: impl Iterator<Item = (&'a consumer::Member, Bytes)>,
    ) -> Self {
        let mut group = Self::new(id, wall_ms);
        group.generation = generation;
        for (member, assignment) in members {
            let Some(classic) = &member.details.classic else { continue };
            let member = Member {
                id: member.id.clone(),
                instance: member.details.instance.clone(),
                client_id: member.details.client_id.clone(),
                client_host: member.details.client_host.clone(),
                session_timeout_ms: classic.session_timeout_ms,
                rebalance_timeout_ms: member.details.rebalance_timeout_ms,
                protocols: Protocols::of(classic.protocols.clone()),
                assignment,
                join: None,
                sync: None,
                is_new: false,
            };
            group.add(member, CONSUMER_PROTOCOL);
        }
        group.begin_as_stable(wall_ms);
        group
    }

    /// The group as it is, as a record.
    pub(in crate::coordinator::groups) fn whole_record(&self) -> GroupRecord {
        self.to_record(|member| member.assignment.clone())
    }

    /// The record that deletes it.
    pub(in crate::coordinator::groups) fn tombstone(&self) -> GroupRecord {
        GroupRecord::GroupMetadata(GroupMetadataKey { group: text(&self.id) }, None)
    }

    /// Whoever waits for the group is told to begin anew.
    pub(in crate::coordinator::groups) fn send_away(&mut self, effects: &mut Effects) {
        for id in self.member_ids() {
            if let Some(ticket) = self.take_join(&id) {
                effects.join(ticket, refused_join(&id, ErrorCode::RebalanceInProgress));
            }
            if let Some(ticket) = self.take_sync(&id) {
                effects.sync(ticket, refused_sync(ErrorCode::RebalanceInProgress));
            }
        }
    }

    pub(in crate::coordinator::groups) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(in crate::coordinator::groups) fn generation(&self) -> i32 {
        self.generation
    }

    /// Whether it is there for its offsets alone: it has no record, and another type of group may take its place.
    pub(in crate::coordinator::groups) fn is_simple(&self) -> bool {
        self.state == State::Empty && self.protocol_type.is_none() && self.pending_joins.is_empty()
    }

    /// What a member says for the protocol of this generation; for the first that it knows, where there is none yet.
    pub(in crate::coordinator::groups) fn metadata_of(&self, member: &Member) -> Bytes {
        let chosen = self.protocol.as_ref().or_else(|| member.protocols.names().next());
        chosen.map(|name| member.protocols.metadata(name)).unwrap_or_default()
    }
}

impl Member {
    pub(in crate::coordinator::groups) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(in crate::coordinator::groups) fn instance(&self) -> Option<&Arc<str>> {
        self.instance.as_ref()
    }

    pub(in crate::coordinator::groups) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    pub(in crate::coordinator::groups) fn client_host(&self) -> &Arc<str> {
        &self.client_host
    }

    pub(in crate::coordinator::groups) fn session_timeout_ms(&self) -> i32 {
        self.session_timeout_ms
    }

    pub(in crate::coordinator::groups) fn rebalance_timeout_ms(&self) -> i32 {
        self.rebalance_timeout_ms
    }

    pub(in crate::coordinator::groups) fn assignment(&self) -> Bytes {
        self.assignment.clone()
    }

    pub(in crate::coordinator::groups) fn protocols(&self) -> impl Iterator<Item = (Arc<str>, Bytes)> {
        self.protocols.all().iter().cloned()
    }
}

impl Flow<'_> {
    /// The sessions of all members begin anew.
    pub(in crate::coordinator::groups) fn renew_all_sessions(&mut self) {
        for member in self.group.member_ids() {
            self.renew_session(&member);
        }
    }
}
