//! Who is to have which partitions: the assignors that Kafka's broker brings, `uniform` and `range`.
//!
//! All of them give every partition of every subscribed topic to exactly one of its subscribers.

mod range;
mod uniform;
mod uniform_mixed;

#[cfg(test)]
mod tests;

use super::partitions::Assignment;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use uuid::Uuid;

/// An assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// As many partitions for each, moved as little as possible.
    Uniform,
    /// Adjacent partitions of each topic, the same ones of topics that have as many.
    Range,
}

impl Assignor {
    /// As clients ask for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of a name, or of Kafka's class for it.
    pub fn named(name: &str) -> Option<Self> {
        let class = |short| name.strip_prefix("org.apache.kafka.coordinator.group.assignor.") == Some(short);
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ if class("UniformAssignor") => Some(Self::Uniform),
            _ if class("RangeAssignor") => Some(Self::Range),
            _ => None,
        }
    }

    /// What each member is to have, in the order of the members.
    pub(super) fn assign(self, spec: &Spec<'_>) -> Vec<Assignment> {
        match self {
            Self::Range => range::assign(spec),
            Self::Uniform if spec.is_homogeneous => uniform::assign(spec),
            Self::Uniform => uniform_mixed::assign(spec),
        }
    }
}

/// What there is to assign.
pub(super) struct Spec<'a> {
    /// In the order of their ids.
    pub(super) members: Vec<MemberSpec<'a>>,
    /// Partitions of each topic that anybody subscribes to.
    pub(super) topics: BTreeMap<Uuid, i32>,
    /// Whether all subscribe to the same topics.
    pub(super) is_homogeneous: bool,
}

/// A member, as far as it matters here.
pub(super) struct MemberSpec<'a> {
    pub(super) id: &'a str,
    pub(super) instance: Option<&'a str>,
    /// The topics that it subscribes to, as far as they exist. Shared, as many members subscribe to the same.
    pub(super) topics: Rc<BTreeSet<Uuid>>,
    /// What it was to have before.
    pub(super) before: &'a Assignment,
}

/// Who has each partition of each topic; none where nobody has it yet.
type Owners = BTreeMap<Uuid, Vec<Option<usize>>>;

impl Spec<'_> {
    fn no_owners(&self) -> Owners {
        let none = |(topic, count): (&Uuid, &i32)| (*topic, vec![None; usize::try_from(*count).unwrap_or(0)]);
        self.topics.iter().map(none).collect()
    }
}

/// The same, by member.
fn by_member(owners: &Owners, members: usize) -> Vec<Assignment> {
    let mut assignments = vec![Assignment::new(); members];
    for (topic, partitions) in owners {
        for (partition, owner) in (0..).zip(partitions) {
            if let Some(assignment) = owner.and_then(|owner| assignments.get_mut(owner)) {
                assignment.entry(*topic).or_default().insert(partition);
            }
        }
    }
    assignments
}

/// The slot of a partition that exists.
fn slot(owners: &mut Owners, topic: Uuid, partition: i32) -> Option<&mut Option<usize>> {
    owners.get_mut(&topic)?.get_mut(usize::try_from(partition).ok()?)
}
