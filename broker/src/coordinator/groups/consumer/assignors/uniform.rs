//! `uniform` where all subscribe to the same topics: as many partitions for each, give or take one. Everybody keeps what they
//! had, up to their share; what is left goes to those who have less.

use super::{Owners, Spec, by_member, slot};
use crate::coordinator::groups::consumer::partitions::Assignment;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let members = spec.members.len();
    let total: usize = spec.topics.values().map(|count| usize::try_from(*count).unwrap_or(0)).sum();
    if members == 0 || total == 0 {
        return vec![Assignment::new(); members];
    }
    let mut owners = spec.no_owners();
    let missing = keep(spec, &mut owners, total / members, total % members);
    let mut takers = missing.into_iter().flat_map(|(member, count)| std::iter::repeat_n(member, count));
    for owner in owners.values_mut().flatten().filter(|owner| owner.is_none()) {
        *owner = takers.next();
    }
    by_member(&owners, members)
}

/// Lets every member keep what it had, up to its share: `each`, and one more for `extra` of them. Returns how many each is short.
fn keep(spec: &Spec<'_>, owners: &mut Owners, each: usize, mut extra: usize) -> Vec<(usize, usize)> {
    let mut missing = Vec::new();
    for (member, known) in spec.members.iter().enumerate() {
        let has_extra = extra > 0;
        let share = each + usize::from(has_extra);
        let mut kept = 0;
        for (topic, partitions) in known.before {
            for partition in partitions {
                match slot(owners, *topic, *partition) {
                    Some(free @ None) if kept < share => {
                        *free = Some(member);
                        kept += 1;
                    }
                    // It is more than its share, the partition is somebody else's, or the topic isn't subscribed to.
                    _ => {}
                }
            }
        }
        // One more is for those who have it already, unless all who are left must take one.
        let must_take = spec.members.len() - member <= extra;
        let takes_extra = has_extra && (kept == share || must_take);
        extra -= usize::from(takes_extra);
        let share = each + usize::from(takes_extra);
        if kept < share {
            missing.push((member, share - kept));
        }
    }
    missing
}
