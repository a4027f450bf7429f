//! The groups of one partition of `__consumer_offsets`: their members, their committed offsets, their timers.
//!
//! Decisions only: no I/O, no runtime, no clock. An operation takes a request and the time, changes the state at once, and
//! leaves in [`Effects`] what is to be done: records to append, parked requests to answer. Whoever runs it appends the
//! records, hands them to [`Groups::replay`] (as loading does with those of the log), and tells by [`Groups::stored`] when
//! they are durable. When an append fails, the log has another owner, and the whole state is dropped.
//!
//! Group types are variants of `Group`; consumer groups (KIP-848) and share groups join here.

mod classic;
mod describe;
mod effects;
mod expiry;
mod offsets;
mod pending;
mod replay;
mod settings;
mod sorted;
mod timers;

#[cfg(test)]
mod random_stories;
#[cfg(test)]
mod tests;

pub use super::rules::Position;
pub use classic::{Caller, check_lengths};
pub use effects::{After, Effects, Now, Parked, Ticket};
pub use offsets::{OffsetCommit, OffsetsWanted};
pub use settings::GroupSettings;

use classic::{ClassicGroup, Flow};
use offsets::Offsets;
use pending::PendingOffsets;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::ErrorCode;
use thalweg_runtime::Random;
use timers::Timers;

/// A group of any type.
enum Group {
    /// Members assign partitions among themselves, by JoinGroup and SyncGroup. Also a *simple* group, which has offsets only.
    Classic(Box<ClassicGroup>),
}

/// All groups of one partition.
pub struct Groups {
    settings: Arc<GroupSettings>,
    random: Random,
    groups: BTreeMap<Arc<str>, Group>,
    /// What all groups weigh.
    groups_bytes: usize,
    offsets: Offsets,
    pending: PendingOffsets,
    timers: Timers,
}

impl Groups {
    /// No groups yet. `random` gives the ids of members.
    pub fn new(settings: Arc<GroupSettings>, random: Random) -> Self {
        Self {
            settings,
            random,
            groups: BTreeMap::new(),
            groups_bytes: 0,
            offsets: Offsets::default(),
            pending: PendingOffsets::default(),
            timers: Timers::default(),
        }
    }

    /// When [`Self::expire`] has something to do, in milliseconds of [`Now::monotonic_ms`].
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.next_deadline_ms()
    }

    /// Bytes that the state takes, about.
    pub fn bytes(&self) -> usize {
        self.offsets.bytes() + self.pending.bytes() + self.groups_bytes
    }

    fn classic(&self, id: &str) -> Option<&ClassicGroup> {
        match self.groups.get(id)? {
            Group::Classic(group) => Some(group),
        }
    }

    /// A classic group, and all that its rules work on.
    fn flow<'a>(&'a mut self, id: &str, now: Now, effects: &'a mut Effects) -> Option<Flow<'a>> {
        let Group::Classic(group) = self.groups.get_mut(id)?;
        let bytes = &mut self.groups_bytes;
        Some(Flow::new(group, &mut self.timers, &self.settings, bytes, now, effects))
    }

    /// Makes an empty classic group if there is no group called `id`.
    fn ensure(&mut self, id: &str, wall_ms: i64) {
        if !self.groups.contains_key(id) {
            let id: Arc<str> = id.into();
            self.insert(id.clone(), Group::Classic(Box::new(ClassicGroup::new(id, wall_ms))));
        }
    }

    fn insert(&mut self, id: Arc<str>, group: Group) {
        self.groups_bytes += group.bytes();
        if let Some(before) = self.groups.insert(id, group) {
            self.groups_bytes -= before.bytes();
        }
    }

    fn remove_group(&mut self, id: &str) {
        if let Some(group) = self.groups.remove(id) {
            self.groups_bytes -= group.bytes();
            let Group::Classic(group) = group;
            group.timers().for_each(|timer| self.timers.cancel(&timer));
        }
    }
}

impl Group {
    fn bytes(&self) -> usize {
        match self {
            Self::Classic(group) => group.bytes(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
        }
    }
}

/// Every group operation but those that Kafka allows for old tools needs a name.
fn check_group_id(id: &str) -> Result<(), ErrorCode> {
    if id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}
