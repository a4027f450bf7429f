//! What every assignor promises, over random members, topics and earlier assignments.

use super::{Assignor, MemberSpec, Spec};
use crate::coordinator::groups::consumer::partitions::Assignment;
use proptest::{collection::vec, prelude::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use uuid::Uuid;

/// Partitions of each topic, and which topics each member subscribes to.
#[derive(Clone, Debug)]
struct World {
    topics: Vec<i32>,
    members: Vec<Vec<bool>>,
}

fn topic(index: usize) -> Uuid {
    Uuid::from_u128(index as u128 + 1)
}

impl World {
    fn assign(&self, assignor: Assignor, before: &BTreeMap<usize, Assignment>) -> Vec<Assignment> {
        let ids: Vec<String> = (0..self.members.len()).map(|member| format!("member-{member:05}")).collect();
        let nothing = Assignment::new();
        let members = self.members.iter().enumerate().map(|(index, subscribed)| MemberSpec {
            id: &ids[index],
            instance: (index % 3 == 0).then(|| &*ids[index]),
            topics: Rc::new(self.subscribed(subscribed)),
            before: before.get(&index).unwrap_or(&nothing),
        });
        let subscribed = self.members.iter().flat_map(|member| self.subscribed(member));
        let count = |topic: Uuid| (topic, self.topics[topic.as_u128() as usize - 1]);
        let spec = Spec {
            members: members.collect(),
            topics: subscribed.map(count).collect(),
            is_homogeneous: self.members.windows(2).all(|two| two[0] == two[1]),
        };
        assignor.assign(&spec)
    }

    fn subscribed(&self, member: &[bool]) -> BTreeSet<Uuid> {
        let topics = 0..self.topics.len();
        topics.filter(|index| member.get(*index).copied().unwrap_or(false)).map(topic).collect()
    }

    /// Every partition of what anybody subscribes to has one owner, who subscribes to it.
    fn check(&self, assigned: &[Assignment]) {
        let mut owners = BTreeMap::new();
        for (member, assignment) in assigned.iter().enumerate() {
            for (topic, partitions) in assignment {
                assert!(self.subscribed(&self.members[member]).contains(topic), "nobody asked for it");
                assert!(!partitions.is_empty());
                for partition in partitions {
                    assert_eq!(owners.insert((*topic, *partition), member), None, "two owners");
                }
            }
        }
        let all: BTreeSet<Uuid> = self.members.iter().flat_map(|member| self.subscribed(member)).collect();
        let count: i32 = all.iter().map(|topic| self.topics[topic.as_u128() as usize - 1]).sum();
        assert_eq!(owners.len(), count as usize, "not everything has an owner");
    }
}

fn size(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}

fn with_members(assigned: Vec<Assignment>) -> BTreeMap<usize, Assignment> {
    assigned.into_iter().enumerate().collect()
}

/// How many partitions have another owner.
fn moved(before: &BTreeMap<usize, Assignment>, after: &[Assignment]) -> usize {
    let stays = |member: usize, topic: &Uuid, partition: &i32| {
        after[member].get(topic).is_some_and(|partitions| partitions.contains(partition))
    };
    let of = |(member, assignment): (&usize, &Assignment)| {
        let all =
            assignment.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |one| (topic, one)));
        all.filter(|(topic, partition)| !stays(*member, topic, partition)).count()
    };
    before.iter().map(of).sum()
}

fn worlds() -> impl Strategy<Value = World> {
    (vec(0..12, 1..6), vec(vec(any::<bool>(), 6), 1..12))
        .prop_map(|(topics, members)| World { topics, members })
}

fn same_worlds() -> impl Strategy<Value = World> {
    (vec(0..12, 1..6), 1_usize..12)
        .prop_map(|(topics, members)| World { topics, members: vec![vec![true; 6]; members] })
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_who_subscribes_to_it(world in worlds(), next in worlds()) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let first = world.assign(assignor, &BTreeMap::new());
            world.check(&first);
            // What was before may be of other subscriptions and members.
            let next = World { topics: next.topics.clone(), members: next.members.clone() };
            next.check(&next.assign(assignor, &with_members(first)));
        }
    }

    #[test]
    fn uniform_is_even_and_moves_no_more_than_it_must(world in same_worlds(), joining in 0..4_usize, leaving in 0..4_usize) {
        let first = world.assign(Assignor::Uniform, &BTreeMap::new());
        let sizes = |assigned: &[Assignment]| {
            let sizes: Vec<usize> = assigned.iter().map(size).collect();
            sizes.iter().max().copied().unwrap_or(0) - sizes.iter().min().copied().unwrap_or(0)
        };
        prop_assert!(sizes(&first) <= 1);
        let before = with_members(first);
        prop_assert_eq!(moved(&before, &world.assign(Assignor::Uniform, &before)), 0, "nothing has changed");
        // The first go, others come at the end.
        let staying: BTreeMap<usize, Assignment> =
            before.into_iter().filter(|(member, _)| *member >= leaving).map(|(member, assigned)| (member - leaving, assigned)).collect();
        let members = vec![vec![true; 6]; staying.len() + joining];
        let next = World { topics: world.topics.clone(), members };
        if next.members.is_empty() {
            return Ok(());
        }
        let after = next.assign(Assignor::Uniform, &staying);
        next.check(&after);
        prop_assert!(sizes(&after) <= 1);
        let total: usize = world.topics.iter().map(|count| *count as usize).sum();
        let (each, extra) = (total / next.members.len(), total % next.members.len());
        let mut had: Vec<usize> = staying.values().map(size).collect();
        had.sort_unstable_by(|one, other| other.cmp(one));
        // Those who had most may keep one more.
        let must: usize = had.iter().enumerate().map(|(rank, had)| had.saturating_sub(each + usize::from(rank < extra))).sum();
        prop_assert_eq!(moved(&staying, &after), must);
    }

    #[test]
    fn uniform_is_even_among_the_subscribers_of_each_topic(world in worlds()) {
        let assigned = world.assign(Assignor::Uniform, &BTreeMap::new());
        let before = with_members(assigned.clone());
        let again = world.assign(Assignor::Uniform, &before);
        prop_assert_eq!(moved(&before, &again), 0, "it is as even as it can be made");
        for (index, _) in world.topics.iter().enumerate() {
            let topic = topic(index);
            let subscribers = |member: &usize| world.subscribed(&world.members[*member]).contains(&topic);
            let least = (0..assigned.len()).filter(subscribers).map(|member| size(&assigned[member])).min();
            for member in (0..assigned.len()).filter(|member| assigned[*member].contains_key(&topic)) {
                let most = size(&assigned[member]);
                prop_assert!(most <= least.expect("it has a subscriber") + 1, "one of {topic} should move");
            }
        }
    }

    #[test]
    fn range_gives_runs_and_the_same_ones_of_topics_of_the_same_size(count in 1..30, members in 1_usize..12) {
        let world = World { topics: vec![count, count], members: vec![vec![true; 2]; members] };
        for assignment in world.assign(Assignor::Range, &BTreeMap::new()) {
            let runs: Vec<_> = assignment.values().collect();
            prop_assert!(runs.windows(2).all(|two| two[0] == two[1]) && (runs.len() == 2 || runs.is_empty()));
            for run in runs {
                let (first, last) = (run.first().expect("not empty"), run.last().expect("not empty"));
                prop_assert_eq!((last - first + 1) as usize, run.len());
            }
        }
    }
}

#[test]
fn static_members_come_first_in_a_range_and_are_sorted_by_their_instance() {
    let nothing = Assignment::new();
    let member = |id, instance| MemberSpec {
        id,
        instance,
        topics: Rc::new(BTreeSet::from([topic(0)])),
        before: &nothing,
    };
    let spec = Spec {
        members: vec![member("a", None), member("b", Some("z")), member("c", Some("y"))],
        topics: BTreeMap::from([(topic(0), 7)]),
        is_homogeneous: true,
    };
    let assigned = Assignor::Range.assign(&spec);
    let of = |member: usize| assigned[member][&topic(0)].iter().copied().collect::<Vec<_>>();
    assert_eq!((of(2), of(1), of(0)), (vec![0, 1, 2], vec![3, 4], vec![5, 6]));
}

#[test]
fn ten_thousand_members_and_partitions_are_assigned_at_once() {
    let world = World { topics: vec![5_000, 5_000], members: vec![vec![true, true]; 10_000] };
    let first = world.assign(Assignor::Uniform, &BTreeMap::new());
    world.check(&first);
    let mut mixed = world.clone();
    mixed.members[0] = vec![true, false];
    mixed.check(&mixed.assign(Assignor::Uniform, &with_members(first)));
}

#[test]
fn assignors_go_by_kafkas_names() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert_eq!(Assignor::named(assignor.name()), Some(assignor));
    }
    let class = "org.apache.kafka.coordinator.group.assignor.RangeAssignor";
    assert_eq!((Assignor::named(class), Assignor::named("sticky")), (Some(Assignor::Range), None));
}
