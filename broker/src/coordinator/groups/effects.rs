//! What an operation wants done.

use bytes::Bytes;
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};
use thalweg_protocol::{
    coordinator_records::GroupRecord,
    messages::{JoinGroupResponse, SyncGroupResponse},
};

use super::{GroupBefore, classic::Member};
use crate::coordinator::rules;

pub use rules::{Now, Ticket};

/// The answer to a parked request.
#[derive(Clone, Debug, PartialEq)]
pub enum Parked {
    /// To a JoinGroup.
    Join(JoinGroupResponse),
    /// To a SyncGroup.
    Sync(SyncGroupResponse),
}

/// What is to be done.
pub type Effects = rules::Effects<GroupRecord, Parked, After, Infallible>;

impl Effects {
    pub(in crate::coordinator::groups) fn join(&mut self, ticket: Ticket, response: JoinGroupResponse) {
        self.answers.push((ticket, Parked::Join(response)));
    }

    pub(in crate::coordinator::groups) fn sync(&mut self, ticket: Ticket, response: SyncGroupResponse) {
        self.answers.push((ticket, Parked::Sync(response)));
    }
}

/// What goes on when records are durable.
#[derive(Debug)]
pub enum After {
    /// The leader's assignment is stored: members may have it.
    AssignmentStored {
        /// The group.
        group: Arc<str>,
        /// Its generation then.
        generation: i32,
        /// Each member's part.
        assignment: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member has its new id in a stable group, without a rebalance.
    StaticMemberStored {
        /// The group.
        group: Arc<str>,
        /// The new id.
        member: Arc<str>,
        /// The member as it was, to be put back if the records can't be stored.
        previous: Box<Member>,
        /// The leader before the id changed.
        leader: Option<Arc<str>>,
        /// Whether the client knows that a leader can be told not to assign (JoinGroup 9).
        can_skip_assignment: bool,
    },
    /// A group has changed its type.
    Converted {
        /// The group.
        group: Arc<str>,
        /// As it was, to be put back if the records can't be stored.
        previous: GroupBefore,
    },
    /// A member of the classic protocol has joined a consumer group.
    MemberJoined(Box<MemberJoined>),
    /// A member of the classic protocol in a consumer group asks for its assignment.
    MemberSynced {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// Its request.
        ticket: Ticket,
        /// What it is told.
        response: SyncGroupResponse,
    },
}

/// A member of the classic protocol that has joined a consumer group.
#[derive(Debug)]
pub struct MemberJoined {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
    /// Its request.
    pub ticket: Ticket,
    /// What it is told.
    pub response: JoinGroupResponse,
    /// How long its SyncGroup is waited for.
    pub sync_timeout_ms: i32,
    /// The group before it changed its type by this, to be put back if the records can't be stored.
    pub before: Option<GroupBefore>,
}
