//! `range`: each topic's partitions in runs, one for each subscriber. Members are sorted, static ones first and by their
//! instance ids, so that they find their partitions again. Those who subscribe to topics of the same size get the same
//! partitions of each, which joins need.

use super::{MemberSpec, Spec};
use crate::coordinator::groups::consumer::partitions::Assignment;
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|member| rank(&spec.members[*member]));
    let mut runs = runs(spec);
    let mut assignments = vec![Assignment::new(); spec.members.len()];
    for member in order {
        for topic in spec.members[member].topics.iter() {
            let Some(run) = runs.get_mut(topic) else { continue };
            let next = run.take();
            if !next.is_empty() {
                assignments[member].insert(*topic, next.collect());
            }
        }
    }
    assignments
}

fn rank<'a>(member: &MemberSpec<'a>) -> (bool, &'a str) {
    (member.instance.is_none(), member.instance.unwrap_or(member.id))
}

/// What is left of a topic.
struct Run {
    next: i32,
    end: i32,
    each: i32,
    /// Members that get one more.
    extra: i32,
}

impl Run {
    fn take(&mut self) -> std::ops::Range<i32> {
        let more = i32::from(self.extra > 0);
        self.extra -= more;
        let start = self.next;
        self.next = (start + self.each + more).min(self.end);
        start..self.next
    }
}

fn runs(spec: &Spec<'_>) -> BTreeMap<Uuid, Run> {
    let mut subscribers = BTreeMap::<Uuid, i32>::new();
    for topic in spec.members.iter().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let run = |(topic, members): (Uuid, i32)| {
        let partitions = *spec.topics.get(&topic)?;
        let run = Run { next: 0, end: partitions, each: partitions / members, extra: partitions % members };
        Some((topic, run))
    };
    subscribers.into_iter().filter_map(run).collect()
}
