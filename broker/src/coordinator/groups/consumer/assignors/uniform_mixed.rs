//! `uniform` where members subscribe to different topics: everybody keeps what they had and still subscribe to; what is left
//! goes to the least loaded subscriber; then partitions move from the most to the least loaded subscriber of their topic, as
//! long as that makes the loads more even.

use super::{Owners, Spec, by_member, slot};
use crate::coordinator::groups::consumer::partitions::Assignment;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use uuid::Uuid;

/// Rounds over all topics. One is enough where the subscribers of each topic subscribe to the same topics; where subscriptions
/// overlap otherwise each round about halves what is uneven.
const MAX_ROUNDS: usize = 16;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let mut work = Work::new(spec);
    work.keep(spec);
    work.give_out();
    work.balance();
    by_member(&work.owners, spec.members.len())
}

struct Work {
    owners: Owners,
    /// Partitions of each member.
    loads: Vec<usize>,
    /// Topics with their subscribers: those with most partitions for each subscriber first.
    topics: Vec<(Uuid, Vec<usize>)>,
}

impl Work {
    fn new(spec: &Spec<'_>) -> Self {
        let mut subscribers = BTreeMap::<Uuid, Vec<usize>>::new();
        for (member, known) in spec.members.iter().enumerate() {
            for topic in known.topics.iter().filter(|topic| spec.topics.contains_key(topic)) {
                subscribers.entry(*topic).or_default().push(member);
            }
        }
        let mut topics: Vec<_> = subscribers.into_iter().collect();
        topics.sort_by(|(one, of_one), (other, of_other)| {
            let partitions = |topic: &Uuid| spec.topics[topic] as u64;
            let (one_each, other_each) =
                (partitions(one) * of_other.len() as u64, partitions(other) * of_one.len() as u64);
            other_each.cmp(&one_each).then(of_one.len().cmp(&of_other.len())).then(one.cmp(other))
        });
        Self { owners: spec.no_owners(), loads: vec![0; spec.members.len()], topics }
    }

    fn keep(&mut self, spec: &Spec<'_>) {
        for (member, known) in spec.members.iter().enumerate() {
            for (topic, partitions) in known.before.iter().filter(|(topic, _)| known.topics.contains(topic)) {
                for partition in partitions {
                    if let Some(free @ None) = slot(&mut self.owners, *topic, *partition) {
                        *free = Some(member);
                        self.loads[member] += 1;
                    }
                }
            }
        }
    }

    fn give_out(&mut self) {
        for (topic, subscribers) in &self.topics {
            let mut by_load: BTreeSet<(usize, usize)> =
                subscribers.iter().map(|member| (self.loads[*member], *member)).collect();
            let owners = self.owners.get_mut(topic).into_iter().flatten();
            for owner in owners.filter(|owner| owner.is_none()) {
                let Some((load, member)) = by_load.pop_first() else { break };
                *owner = Some(member);
                self.loads[member] = load + 1;
                by_load.insert((load + 1, member));
            }
        }
    }

    fn balance(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = false;
            for at in 0..self.topics.len() {
                moved |= self.balance_topic(at);
            }
            if !moved {
                return;
            }
        }
    }

    /// Moves partitions of one topic. Returns whether any was moved.
    fn balance_topic(&mut self, at: usize) -> bool {
        let (topic, subscribers) = &self.topics[at];
        let Some(owners) = self.owners.get_mut(topic) else { return false };
        let loads = &mut self.loads;
        let spread = subscribers.iter().map(|member| loads[*member]);
        let (least, most) = (spread.clone().min(), spread.max());
        if most.unwrap_or(0) - least.unwrap_or(0) <= 1 {
            return false;
        }
        let mut has: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in owners.iter().enumerate() {
            if let Some(owner) = owner {
                has.entry(*owner).or_default().push(partition);
            }
        }
        let mut least: BTreeSet<_> = subscribers.iter().map(|member| (loads[*member], *member)).collect();
        // Only who has partitions of the topic can give one. Of equals the last gives first.
        let mut most: BTreeSet<_> =
            has.keys().map(|member| (Reverse(loads[*member]), Reverse(*member))).collect();
        let mut moved = false;
        while let (Some((Reverse(high), Reverse(from))), Some((low, to))) =
            (most.first().copied(), least.first().copied())
        {
            if high <= low + 1 {
                break;
            }
            let Some(partition) = has.get_mut(&from).and_then(Vec::pop) else {
                most.pop_first();
                continue;
            };
            owners[partition] = Some(to);
            // A member that takes is never one that gives: its load stays below.
            most.remove(&(Reverse(loads[to]), Reverse(to)));
            most.pop_first();
            least.remove(&(high, from));
            least.pop_first();
            (loads[from], loads[to]) = (high - 1, low + 1);
            most.insert((Reverse(high - 1), Reverse(from)));
            least.insert((high - 1, from));
            least.insert((low + 1, to));
            moved = true;
        }
        moved
    }
}
