//! The groups of one partition of `__consumer_offsets`: their members, their committed offsets, their timers.
//!
//! Decisions only: no I/O, no runtime, no clock. An operation takes a request and the time, changes the state at once, and
//! leaves in [`Effects`] what is to be done: records to append, parked requests to answer. Whoever runs it appends the
//! records, hands them to [`Groups::replay`] (as loading does with those of the log), and tells by [`Groups::stored`] when
//! they are durable. When an append fails, the log has another owner, and the whole state is dropped.
//!
//! Group types are variants of `Group`; share groups join here.

mod classic;
pub mod cluster;
pub mod consumer;
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
pub use settings::{ConsumerGroupSettings, GroupSettings, MigrationPolicy};

use classic::{ClassicGroup, Flow};
use cluster::ClusterView;
use consumer::ConsumerGroup;
use offsets::Offsets;
use pending::PendingOffsets;
use std::{collections::BTreeMap, fmt, sync::Arc};
use thalweg_protocol::{CONSUMER_PROTOCOL, ErrorCode, coordinator_records::GroupRecord};
use thalweg_runtime::Random;
use timers::Timers;

/// A group of any type.
enum Group {
    /// Members assign partitions among themselves, by JoinGroup and SyncGroup. Also a *simple* group, which has offsets only.
    Classic(Box<ClassicGroup>),
    /// The broker assigns (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

/// All groups of one partition.
pub struct Groups {
    settings: Arc<GroupSettings>,
    random: Random,
    cluster: Arc<dyn ClusterView>,
    groups: BTreeMap<Arc<str>, Group>,
    /// What all groups weigh.
    groups_bytes: usize,
    offsets: Offsets,
    pending: PendingOffsets,
    timers: Timers,
}

impl Groups {
    /// No groups yet. `random` gives the ids of members.
    pub fn new(settings: Arc<GroupSettings>, random: Random, cluster: Arc<dyn ClusterView>) -> Self {
        Self {
            settings,
            random,
            cluster,
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
            Group::Consumer(_) => None,
        }
    }

    fn consumer(&self, id: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(id)? {
            Group::Consumer(group) => Some(group),
            Group::Classic(_) => None,
        }
    }

    /// A classic group, and all that its rules work on.
    fn flow<'a>(&'a mut self, id: &str, now: Now, effects: &'a mut Effects) -> Option<Flow<'a>> {
        let Group::Classic(group) = self.groups.get_mut(id)? else { return None };
        let bytes = &mut self.groups_bytes;
        Some(Flow::new(group, &mut self.timers, &self.settings, bytes, now, effects))
    }

    /// Makes an empty classic group if there is no group called `id`. Gives the id as the group has it.
    fn ensure(&mut self, id: &str, wall_ms: i64) -> Arc<str> {
        if let Some((id, _)) = self.groups.get_key_value(id) {
            return id.clone();
        }
        let id: Arc<str> = id.into();
        self.insert(id.clone(), Group::Classic(Box::new(ClassicGroup::new(id.clone(), wall_ms))));
        id
    }

    fn insert(&mut self, id: Arc<str>, group: Group) {
        self.groups_bytes += group.bytes();
        if let Some(before) = self.groups.insert(id, group) {
            self.groups_bytes -= before.bytes();
        }
    }

    fn remove_group(&mut self, id: &str) {
        drop(self.take_group(id));
    }

    /// Takes a group out, with its timers.
    fn take_group(&mut self, id: &str) -> Option<(Arc<str>, Group)> {
        let (id, group) = self.groups.remove_entry(id)?;
        self.groups_bytes -= group.bytes();
        match &group {
            Group::Classic(group) => group.timers().for_each(|timer| self.timers.cancel(&timer)),
            Group::Consumer(group) => group.timers().for_each(|timer| self.timers.cancel(&timer)),
        }
        Some((id, group))
    }

    /// Deletes an empty group, as one of another type is to take its place.
    fn give_up_empty(&mut self, id: &str, effects: &mut Effects) {
        if let Some((_, group)) = self.take_group(id) {
            effects.records.extend(group.tombstones());
        }
    }
}

#[cfg(test)]
impl Groups {
    /// Panics where what is counted is not what is there.
    fn check_all(&self) {
        for group in self.groups.values() {
            match group {
                Group::Classic(group) => group.check(),
                Group::Consumer(group) => group.check(),
            }
        }
        assert_eq!(self.groups_bytes, self.groups.values().map(Group::bytes).sum::<usize>());
    }
}

impl Group {
    fn bytes(&self) -> usize {
        match self {
            Self::Classic(group) => group.bytes(),
            Self::Consumer(group) => group.bytes(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    /// Whether a member subscribes to the topic, or may.
    fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state().name(),
            Self::Consumer(group) => group.state().name(),
        }
    }

    fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type().map_or("", |name| name),
            Self::Consumer(_) => CONSUMER_PROTOCOL,
        }
    }

    /// The records that delete it.
    fn tombstones(&self) -> Vec<GroupRecord> {
        match self {
            Self::Classic(group) => vec![group.tombstone()],
            Self::Consumer(group) => consumer::without_group(group, None),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }
}

/// A group as it was before an operation that may have to be undone.
pub struct GroupBefore(Group);

impl fmt::Debug for GroupBefore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a {} group, {}", self.0.type_name(), self.0.state_name())
    }
}

/// Every group operation but those that Kafka allows for old tools needs a name.
fn check_group_id(id: &str) -> Result<(), ErrorCode> {
    if id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}
