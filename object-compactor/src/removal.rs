//! How objects that nobody can read any more leave the object index: in rewrites that fit into one transaction each. Pure.
//!
//! A log's end, its leader epochs and what it knows of producers outlive its last segment. So where an object to be removed has
//! the newest state of a log, the rewrite that removes it adds a small shared segment with that state, one for all such logs.

use std::collections::BTreeSet;
use thalweg_metadata::{DeadObject, MAX_OPERATIONS, ObjectRecord};
use thalweg_segment::LogId;

/// Objects that one rewrite removes: each takes two operations of its transaction; two are for the record of who commits, and
/// one for the segment with states.
const OBJECTS: usize = (MAX_OPERATIONS - 3) / 2;
/// Logs whose states one such segment holds, unless a single object has more of them.
const STATES: usize = 1000;

/// What one rewrite removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The objects.
    pub objects: Vec<ObjectRecord>,
    /// Logs whose states have to be kept.
    pub states_of: BTreeSet<LogId>,
}

/// Distributes `dead` over rewrites, in the order given.
pub fn plan(dead: impl IntoIterator<Item = DeadObject>) -> Vec<Removal> {
    let mut removals: Vec<Removal> = Vec::new();
    for object in dead {
        let fits = |last: &Removal| {
            let states = last.states_of.len() + object.newest_states_of.len();
            last.objects.len() < OBJECTS && (states <= STATES || object.newest_states_of.is_empty())
        };
        if !removals.last().is_some_and(fits) {
            removals.push(Removal::default());
        }
        let last = removals.last_mut().expect("one was just added, if there was none");
        last.objects.push(object.record);
        last.states_of.extend(object.newest_states_of);
    }
    removals
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use thalweg_metadata::{Commit, ObjectShape, SharedRecord};
    use thalweg_segment::SegmentId;

    fn record(number: u64) -> SharedRecord {
        let shape = ObjectShape { size: 0, index_position: 0, index_size: 0 };
        SharedRecord { id: SegmentId { number, ..SegmentId::default() }, shape, adopts: None }
    }

    proptest! {
        #[test]
        fn each_object_is_removed_once_with_its_states_and_every_rewrite_fits(
            states in prop::collection::vec(prop_oneof![5 => Just(0usize), 1 => 0usize..700, 1 => 0usize..3000], 0..300),
        ) {
            let mut next = 0u64;
            let dead: Vec<_> = states.iter().enumerate().map(|(number, states)| {
                let first = next;
                next += *states as u64;
                let newest_states_of = (first..next).map(LogId).collect();
                DeadObject { record: ObjectRecord::Shared(record(number as u64)), newest_states_of }
            }).collect();
            let removals = plan(dead.clone());
            let removed: Vec<_> = removals.iter().flat_map(|removal| removal.objects.iter().copied()).collect();
            prop_assert_eq!(removed, dead.iter().map(|dead| dead.record).collect::<Vec<_>>());
            for removal in &removals {
                let commit = Commit { shared: Some(record(9)), removed: removal.objects.clone(), ..Commit::default() };
                prop_assert!(commit.fits());
                let of_objects: BTreeSet<LogId> = dead.iter().filter(|dead| removal.objects.contains(&dead.record))
                    .flat_map(|dead| dead.newest_states_of.iter().copied()).collect();
                prop_assert_eq!(&removal.states_of, &of_objects);
                let holders = dead.iter()
                    .filter(|dead| removal.objects.contains(&dead.record) && !dead.newest_states_of.is_empty()).count();
                prop_assert!(removal.states_of.len() <= STATES || holders == 1);
            }
        }
    }
}
