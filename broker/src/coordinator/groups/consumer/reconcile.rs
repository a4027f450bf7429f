//! The way of a member from what it has to what it is to have.
//!
//! ```text
//!                 nothing to give up                              all of its target is free
//!        ┌──────────────────────────────────┐          ┌──────────────────────────────────────┐
//!        │                                  ▼          │                                      ▼
//!   Stable, old epoch ──► UnrevokedPartitions ──► UnreleasedPartitions, new epoch ──► Stable, new epoch
//!          has too much     until its client says          others have what is its
//!                           that it has given it up
//! ```
//! The epoch rises once the member has given up what isn't its any more. So of two members at the same epoch none has what is
//! the other's; and a partition is given only when nobody has it.

use super::{
    member::{Member, MemberState},
    partitions::{Assignment, Owned, owns},
    refusal::Refusal,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::{ErrorCode, messages::consumer_group_heartbeat_request::TopicPartitions};
use uuid::Uuid;

/// What a member is on its way to.
pub(super) struct Goal<'a> {
    /// The epoch of the target.
    pub(super) epoch: i32,
    /// What it is to have.
    pub(super) target: &'a Assignment,
    /// Whether it subscribes to a topic.
    pub(super) is_subscribed: &'a dyn Fn(Uuid) -> bool,
    /// Whether nobody has a partition.
    pub(super) is_free: &'a dyn Fn(Uuid, i32) -> bool,
    /// What its client says that it has; none where it says nothing.
    pub(super) owned: Option<&'a [TopicPartitions]>,
    /// The request has changed its subscription.
    pub(super) subscription_changed: bool,
}

/// The member's next step; none where it stays as it is.
pub(super) fn reconcile(member: &Member, goal: &Goal<'_>) -> Result<Option<Member>, Refusal> {
    let next = match member.state {
        MemberState::Stable if member.epoch != goal.epoch => goal.advance(member, member.epoch),
        MemberState::Stable if goal.subscription_changed => goal.drop_unsubscribed(member),
        MemberState::Stable => None,
        MemberState::UnrevokedPartitions if goal.still_has(&member.revoking) => {
            if goal.subscription_changed {
                goal.drop_unsubscribed(member)
            } else {
                None
            }
        }
        MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
            goal.advance(member, member.epoch)
        }
        MemberState::Unknown if goal.owned.is_none_or(|owned| !owned.is_empty()) => {
            return Err(Refusal::new(
                ErrorCode::FencedMemberEpoch,
                "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
            ));
        }
        MemberState::Unknown => goal.advance(member, goal.epoch),
    };
    Ok(next.filter(|next| next != member))
}

impl Goal<'_> {
    /// Whether the client still has some of these, as far as it is known.
    fn still_has(&self, partitions: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|topic| topic.partitions.iter().any(|one| owns(partitions, topic.topic_id, *one)))
    }

    /// Takes what a new subscription leaves out from the member, at its epoch.
    fn drop_unsubscribed(&self, member: &Member) -> Option<Member> {
        let (kept, dropped): (Owned, Owned) =
            member.assigned.clone().into_iter().partition(|(topic, _)| (self.is_subscribed)(*topic));
        if dropped.is_empty() {
            return None;
        }
        let mut revoking = member.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let mut next = Member { assigned: kept, ..member.clone() }.at_epoch(member.epoch);
        if self.still_has(&revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
        }
        Some(next)
    }

    /// Goes on towards the target: gives up first, takes then.
    fn advance(&self, member: &Member, epoch: i32) -> Option<Member> {
        let mut step = Step::default();
        let topics: BTreeSet<Uuid> = self.target.keys().chain(member.assigned.keys()).copied().collect();
        for topic in topics {
            self.sort_topic(member, topic, &mut step);
        }
        let has_something_to_give_up = !step.revoking.is_empty() && self.still_has(&step.revoking);
        let mut next = member.clone();
        if has_something_to_give_up {
            next.state = MemberState::UnrevokedPartitions;
            (next.assigned, next.revoking) = (step.kept, step.revoking);
            return Some(next.at_epoch(epoch));
        }
        for (topic, partition) in step.given {
            step.kept.entry(topic).or_default().insert(partition, self.epoch);
        }
        next.state = if step.waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        (next.assigned, next.revoking) = (step.kept, Owned::new());
        Some(next.at_epoch(self.epoch))
    }

    /// Sorts a topic's partitions into those that are kept, given up, given, and waited for.
    fn sort_topic(&self, member: &Member, topic: Uuid, step: &mut Step) {
        let nothing = (BTreeSet::new(), BTreeMap::new());
        let target = self.target.get(&topic).filter(|_| (self.is_subscribed)(topic)).unwrap_or(&nothing.0);
        let has = member.assigned.get(&topic).unwrap_or(&nothing.1);
        for (partition, epoch) in has {
            let kept = if target.contains(partition) { &mut step.kept } else { &mut step.revoking };
            kept.entry(topic).or_default().insert(*partition, *epoch);
        }
        for partition in target.iter().filter(|partition| !has.contains_key(partition)) {
            // What it is just giving up itself is as good as free.
            match (self.is_free)(topic, *partition) || owns(&member.revoking, topic, *partition) {
                true => step.given.push((topic, *partition)),
                false => step.waits = true,
            }
        }
    }
}

/// A member's partitions, sorted.
#[derive(Default)]
struct Step {
    kept: Owned,
    revoking: Owned,
    given: Vec<(Uuid, i32)>,
    /// Others have some that are to be its.
    waits: bool,
}
