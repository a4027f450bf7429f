//! One member of a classic group.

use crate::coordinator::groups::effects::Ticket;
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::{
    ErrorCode,
    messages::{
        JoinGroupResponse, StrBytes, SyncGroupResponse, describe_groups_response::DescribedGroupMember,
        join_group_request,
    },
};

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) id: Arc<str>,
    /// `group.instance.id`: set for static members (KIP-345).
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Protocols,
    pub(super) assignment: Bytes,
    /// Its JoinGroup that waits for the others.
    pub(super) join: Option<Ticket>,
    /// Its SyncGroup that waits for the leader.
    pub(super) sync: Option<Ticket>,
    /// It has not been answered yet, so it can't send heartbeats.
    pub(super) is_new: bool,
}

/// What a member weighs beside its strings and bytes, with its place in the maps of its group and its timer.
const OVERHEAD: usize = 700;

impl Member {
    /// Whether silence is fine: a known member whose request waits can't say anything.
    pub(super) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// As DescribeGroups tells of it.
    pub(in crate::coordinator::groups) fn describe(&self) -> DescribedGroupMember {
        DescribedGroupMember::default()
            .with_member_id(text(&self.id))
            .with_group_instance_id(optional_text(self.instance.as_ref()))
            .with_client_id(text(&self.client_id))
            .with_client_host(text(&self.client_host))
            .with_member_assignment(self.assignment.clone())
    }

    /// What it says for a protocol.
    pub(in crate::coordinator::groups) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.metadata(protocol)
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        let strings = self.id.len() + self.client_id.len() + self.client_host.len();
        let instance = self.instance.as_ref().map_or(0, |instance| instance.len());
        OVERHEAD + strings + instance + self.protocols.bytes() + self.assignment.len()
    }
}

/// The protocols (assignors) that a member knows, best first, each with its metadata (the subscription).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Protocols(Vec<(Arc<str>, Bytes)>);

impl Protocols {
    /// Copies, as what is kept must not hold the request's frame.
    pub(super) fn copy_of(requested: &[join_group_request::JoinGroupRequestProtocol]) -> Self {
        let copy = |one: &join_group_request::JoinGroupRequestProtocol| {
            (Arc::from(one.name.as_str()), Bytes::copy_from_slice(&one.metadata))
        };
        Self(requested.iter().map(copy).collect())
    }

    pub(super) fn single(name: Arc<str>, metadata: Bytes) -> Self {
        Self(vec![(name, metadata)])
    }

    pub(super) fn of(protocols: Vec<(Arc<str>, Bytes)>) -> Self {
        Self(protocols)
    }

    pub(super) fn all(&self) -> &[(Arc<str>, Bytes)] {
        &self.0
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Metadata for the protocol that the group has chosen; empty where there is none.
    pub(super) fn metadata(&self, name: &str) -> Bytes {
        let found = self.0.iter().find(|(known, _)| **known == *name);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether a request has the same protocols with the same metadata in the same order.
    pub(super) fn are(&self, requested: &[join_group_request::JoinGroupRequestProtocol]) -> bool {
        let requested = requested.iter().map(|one| (one.name.as_str(), &one.metadata));
        self.0.iter().map(|(name, metadata)| (&**name, metadata)).eq(requested)
    }

    /// Whether those of a request would take more memory.
    pub(super) fn are_less_than(&self, requested: &[join_group_request::JoinGroupRequestProtocol]) -> bool {
        let requested = requested.iter().map(|one| weight(&one.name, &one.metadata));
        self.bytes() < requested.sum()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, metadata)| weight(name, metadata)).sum()
    }
}

fn weight(name: &str, metadata: &[u8]) -> usize {
    64 + name.len() + metadata.len()
}

/// A JoinGroup answer that carries an error. `member` is what Kafka says in its place.
pub(in crate::coordinator::groups) fn refused_join(member: &str, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_member_id(text(member))
        .with_error_code(code.code())
        .with_protocol_name(None)
}

/// A SyncGroup answer that carries an error.
pub(in crate::coordinator::groups) fn refused_sync(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code.code())
}

/// A text as messages have it.
pub(in crate::coordinator::groups) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(in crate::coordinator::groups) fn optional_text(value: Option<&Arc<str>>) -> Option<StrBytes> {
    value.map(|value| text(value))
}
