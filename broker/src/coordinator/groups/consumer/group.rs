//! A consumer group: its members, what they are to have, and what they have. It changes by records alone (`replay`), but for
//! what is said here to be soft.

use super::{
    member::{Member, MemberState},
    partitions::{Assignment, NOTHING, Owned, owns, weight},
    regexes::Resolved,
    subscriptions::Subscriptions,
};
use crate::coordinator::groups::timers::Timer;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// The target is older than the group.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// All members have what they are to have.
    Stable,
}

impl State {
    /// As clients are told.
    pub(in crate::coordinator::groups) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    pub(super) id: Arc<str>,
    /// Rises when members, subscriptions or topics change: the target must follow.
    pub(super) epoch: i32,
    /// Of the topics that are subscribed to, as they were at this epoch (KIP-1101).
    pub(super) metadata_hash: i64,
    pub(in crate::coordinator::groups) members: BTreeMap<Arc<str>, Member>,
    /// Member id by instance id.
    pub(in crate::coordinator::groups) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// The epoch of the group that the target is of; -1 when it has been deleted.
    pub(super) assignment_epoch: i32,
    /// When the target was worked out, in wall-clock time; 0 where that isn't known.
    pub(super) assignment_ms: i64,
    pub(super) target: BTreeMap<Arc<str>, Assignment>,
    pub(super) subscriptions: Subscriptions,
    pub(super) resolved: BTreeMap<Arc<str>, Resolved>,
    /// Its topics stand in a record of before Kafka 4.1, which is to be deleted.
    pub(super) has_partitions_record: bool,
    /// The epoch of the member that has a partition.
    owners: BTreeMap<Uuid, BTreeMap<i32, i32>>,
    /// How many members ask for each of the server's assignors.
    assignors: BTreeMap<Arc<str>, usize>,
    /// Members that speak the classic protocol, and how many of them know each protocol.
    classic_members: usize,
    classic_protocols: BTreeMap<Arc<str>, usize>,
    /// How many stable members there are at each epoch.
    stable_at: BTreeMap<i32, usize>,
    bytes: usize,
    /// Soft: the version of the topics that the hash was compared with, and the epoch of the group that came of it.
    seen: Option<(u64, i32)>,
    /// Soft: the regular expressions are being resolved.
    pub(super) is_resolving: bool,
    /// Soft: the version of the topics by which they were resolved; none after loading.
    pub(super) resolved_version: Option<u64>,
}

/// What a group weighs beside its strings and members.
const OVERHEAD: usize = 700;
/// What a member's target weighs beside its partitions and id.
const TARGET: usize = 120;

impl ConsumerGroup {
    pub(in crate::coordinator::groups) fn new(id: Arc<str>) -> Self {
        Self {
            bytes: OVERHEAD + id.len(),
            id,
            epoch: 1,
            metadata_hash: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            assignment_epoch: 1,
            assignment_ms: 0,
            target: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            resolved: BTreeMap::new(),
            has_partitions_record: false,
            owners: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: BTreeMap::new(),
            stable_at: BTreeMap::new(),
            seen: None,
            is_resolving: false,
            resolved_version: None,
        }
    }

    /// Bytes that the group takes, about.
    pub(in crate::coordinator::groups) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::coordinator::groups) fn state(&self) -> State {
        if self.members.is_empty() {
            return State::Empty;
        }
        if self.epoch > self.assignment_epoch {
            return State::Assigning;
        }
        let reconciled = self.stable_at.get(&self.assignment_epoch).copied().unwrap_or(0);
        if reconciled == self.members.len() { State::Stable } else { State::Reconciling }
    }

    pub(in crate::coordinator::groups) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(in crate::coordinator::groups) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscriptions.has(topic)
    }

    /// The member that has an instance id.
    pub(in crate::coordinator::groups) fn static_member(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance)?)
    }

    /// What a member is to have; for a static one what the holder of its instance id is to have.
    pub(super) fn target_for(&self, member: &Member) -> &Assignment {
        let holder = match &member.details.instance {
            None => Some(&member.id),
            Some(instance) => self.static_members.get(instance),
        };
        holder.map_or(&NOTHING, |holder| self.target_of(holder))
    }

    pub(super) fn target_of(&self, id: &str) -> &Assignment {
        self.target.get(id).unwrap_or(&NOTHING)
    }

    /// Whether nobody has a partition.
    pub(super) fn is_free(&self, topic: Uuid, partition: i32) -> bool {
        !owns(&self.owners, topic, partition)
    }

    /// How many members there are, `member` and its replacement by instance id counted once.
    pub(super) fn members_with(&self, member: &Member) -> usize {
        let instance = member.details.instance.as_ref();
        let known = self.members.contains_key(&member.id)
            || instance.is_some_and(|instance| self.static_members.contains_key(instance));
        self.members.len() + usize::from(!known)
    }

    /// The assignor that most members ask for, once `before` has become `after`.
    pub(super) fn preferred_assignor(&self, before: &Member, after: &Member) -> Option<Arc<str>> {
        let mut counts = self.assignors.clone();
        if let Some(name) = &before.details.assignor
            && let Some(count) = counts.get_mut(name)
        {
            *count -= 1;
        }
        if let Some(name) = &after.details.assignor {
            *counts.entry(name.clone()).or_default() += 1;
        }
        most(&counts)
    }

    /// The assignor that most members ask for.
    pub(super) fn assignor(&self) -> Option<Arc<str>> {
        most(&self.assignors)
    }

    pub(super) fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// Whether all classic members know the protocol.
    pub(super) fn is_known_to_classic_members(&self, protocol: &str) -> bool {
        self.classic_protocols.get(protocol).copied().unwrap_or(0) == self.classic_members
    }

    /// Whether the group has seen the topics as they are at `version`. A change of epoch that could not be stored doesn't count.
    pub(super) fn has_seen(&self, version: u64) -> bool {
        self.seen.is_some_and(|(seen, epoch)| seen == version && epoch <= self.epoch)
    }

    pub(super) fn note_seen(&mut self, version: u64, epoch: i32) {
        self.seen = Some((version, epoch));
    }

    /// Every timer that may be set for it.
    pub(in crate::coordinator::groups) fn timers(&self) -> impl Iterator<Item = Timer> {
        self.members.keys().flat_map(|member| timers_of(&self.id, member))
    }
}

/// Every timer that may be set for a member.
pub(in crate::coordinator::groups) fn timers_of(group: &Arc<str>, member: &Arc<str>) -> [Timer; 4] {
    [Timer::Session, Timer::Revocation, Timer::Rejoin, Timer::MemberSync]
        .map(|of| of(group.clone(), member.clone()))
}

/// Of equals the first by name.
fn most(counts: &BTreeMap<Arc<str>, usize>) -> Option<Arc<str>> {
    let asked = counts.iter().filter(|(_, count)| **count > 0).rev();
    asked.max_by_key(|(_, count)| **count).map(|(name, _)| name.clone())
}

/// The only ways in which it changes.
impl ConsumerGroup {
    /// Puts a member in, or in the place of the one with its id.
    pub(super) fn put(&mut self, member: Member) {
        if let Some(before) = self.members.remove(&member.id) {
            self.count_out(&before);
        }
        if let Some(instance) = &member.details.instance {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.count_in(&member);
        self.members.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.count_out(&member);
        if let Some(instance) = &member.details.instance
            && self.static_members.get(instance) == Some(&member.id)
        {
            self.static_members.remove(instance);
        }
    }

    fn count_in(&mut self, member: &Member) {
        self.bytes += member.bytes();
        self.subscriptions.add(&member.details);
        if let Some(assignor) = &member.details.assignor {
            *self.assignors.entry(assignor.clone()).or_default() += 1;
        }
        for (protocol, _) in member.details.classic.iter().flat_map(|classic| &classic.protocols) {
            *self.classic_protocols.entry(protocol.clone()).or_default() += 1;
        }
        self.classic_members += usize::from(member.is_classic());
        if member.state == MemberState::Stable {
            *self.stable_at.entry(member.epoch).or_default() += 1;
        }
        self.note_owner(&member.assigned, member.epoch);
        self.note_owner(&member.revoking, member.epoch);
    }

    fn count_out(&mut self, member: &Member) {
        self.bytes -= member.bytes();
        self.subscriptions.remove(&member.details);
        if let Some(assignor) = &member.details.assignor {
            count_down(&mut self.assignors, assignor);
        }
        for (protocol, _) in member.details.classic.iter().flat_map(|classic| &classic.protocols) {
            count_down(&mut self.classic_protocols, protocol);
        }
        self.classic_members -= usize::from(member.is_classic());
        if member.state == MemberState::Stable {
            count_down(&mut self.stable_at, &member.epoch);
        }
        self.forget_owner(&member.assigned, member.epoch);
        self.forget_owner(&member.revoking, member.epoch);
    }

    fn note_owner(&mut self, owned: &Owned, epoch: i32) {
        for (topic, partitions) in owned {
            let owners = self.owners.entry(*topic).or_default();
            for partition in partitions.keys() {
                let owner = owners.entry(*partition).or_insert(epoch);
                *owner = epoch.max(*owner);
            }
        }
    }

    /// A partition that somebody else has by now, at a later epoch, stays theirs.
    fn forget_owner(&mut self, owned: &Owned, epoch: i32) {
        for (topic, partitions) in owned {
            let Some(owners) = self.owners.get_mut(topic) else { continue };
            for partition in partitions.keys() {
                if owners.get(partition) == Some(&epoch) {
                    owners.remove(partition);
                }
            }
            if owners.is_empty() {
                self.owners.remove(topic);
            }
        }
    }

    pub(super) fn set_target(&mut self, id: &str, assignment: Assignment) {
        self.remove_target(id);
        self.bytes += TARGET + id.len() + weight(&assignment);
        let id = self.members.get_key_value(id).map_or_else(|| id.into(), |(id, _)| id.clone());
        self.target.insert(id, assignment);
    }

    pub(super) fn remove_target(&mut self, id: &str) {
        if let Some(before) = self.target.remove(id) {
            self.bytes -= TARGET + id.len() + weight(&before);
        }
    }

    pub(super) fn set_resolved(&mut self, regex: &str, resolved: Resolved) {
        self.remove_resolved(regex);
        self.bytes += resolved.bytes() + regex.len();
        self.subscriptions.resolve(&resolved.topics);
        self.resolved.insert(regex.into(), resolved);
    }

    pub(super) fn remove_resolved(&mut self, regex: &str) {
        if let Some(before) = self.resolved.remove(regex) {
            self.bytes -= before.bytes() + regex.len();
            self.subscriptions.unresolve(&before.topics);
        }
    }
}

fn count_down<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
impl ConsumerGroup {
    /// Panics where a count is not that of what is there, or a partition is owned twice.
    pub(in crate::coordinator::groups) fn check(&self) {
        let mut owners = BTreeMap::<(Uuid, i32), &str>::new();
        let (mut bytes, mut stable) = (OVERHEAD + self.id.len(), BTreeMap::new());
        let mut subscriptions = Subscriptions::default();
        for member in self.members.values() {
            bytes += member.bytes();
            subscriptions.add(&member.details);
            if member.state == MemberState::Stable {
                *stable.entry(member.epoch).or_default() += 1;
            }
            for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
                for partition in partitions.keys() {
                    let before = owners.insert((*topic, *partition), &member.id);
                    assert_eq!(before, None, "{topic}-{partition} has two owners, one is {}", member.id);
                    assert_eq!(self.owners[topic][partition], member.epoch, "the owner's epoch");
                }
            }
        }
        assert_eq!(self.owners.values().map(BTreeMap::len).sum::<usize>(), owners.len());
        bytes += self.target.iter().map(|(id, target)| TARGET + id.len() + weight(target)).sum::<usize>();
        for (regex, resolved) in &self.resolved {
            bytes += resolved.bytes() + regex.len();
            subscriptions.resolve(&resolved.topics);
        }
        assert_eq!((self.bytes, &self.stable_at, &self.subscriptions), (bytes, &stable, &subscriptions));
        assert_eq!(self.classic_members, self.members.values().filter(|member| member.is_classic()).count());
        for (instance, id) in &self.static_members {
            assert_eq!(self.members[id].details.instance.as_ref(), Some(instance));
        }
    }
}
