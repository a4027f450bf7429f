//! What an operation wants done.

use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::{
    coordinator_records::GroupRecord,
    messages::{JoinGroupResponse, SyncGroupResponse},
};

use super::classic::Member;

/// The time, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch, for what is stored.
    pub wall_ms: i64,
    /// Milliseconds of a clock that only runs forward, for timers.
    pub monotonic_ms: u64,
}

/// Stands for a JoinGroup or SyncGroup that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The answer to a parked request.
#[derive(Clone, Debug, PartialEq)]
pub enum Parked {
    /// To a JoinGroup.
    Join(JoinGroupResponse),
    /// To a SyncGroup.
    Sync(SyncGroupResponse),
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be appended in one batch.
    pub records: Vec<GroupRecord>,
    /// To be answered at once: these answers don't rest on the records.
    pub answers: Vec<(Ticket, Parked)>,
    /// To be handed to [`super::Groups::stored`] once the records are durable, or could not be appended.
    pub after: Option<After>,
}

impl Effects {
    pub(super) fn join(&mut self, ticket: Ticket, response: JoinGroupResponse) {
        self.answers.push((ticket, Parked::Join(response)));
    }

    pub(super) fn sync(&mut self, ticket: Ticket, response: SyncGroupResponse) {
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
}
