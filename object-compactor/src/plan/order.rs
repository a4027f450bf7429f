//! The order in which shared segments follow one another in the logs that they hold.
//!
//! Ids don't tell: a merged object has a new id and old batches. Of two objects that hold the same log, the one with the lower
//! offsets comes first; merging objects that are neighbours in such an order leaves one.

use super::Planner;
use std::collections::{BTreeMap, BTreeSet};

impl Planner<'_> {
    /// Shared segments and manifests in order. Where objects contradict one another (some overlap), the lower id goes first.
    pub(super) fn shared_in_order(&self) -> Vec<usize> {
        let (mut behind, mut before) = self.followers();
        let mut waiting: BTreeSet<usize> =
            (0..self.snapshot.objects.len()).filter(|at| self.snapshot.is_shared(*at)).collect();
        let first = waiting.iter().filter(|at| !before.contains_key(*at)).copied();
        let mut free: BTreeSet<usize> = first.collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(next) = free.pop_first().or_else(|| waiting.first().copied()) {
            waiting.remove(&next);
            order.push(next);
            for follower in behind.remove(&next).unwrap_or_default() {
                let left = before.entry(follower).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 && waiting.contains(&follower) {
                    free.insert(follower);
                }
            }
        }
        order
    }

    /// Which objects come behind each, and how many before.
    fn followers(&self) -> (BTreeMap<usize, BTreeSet<usize>>, BTreeMap<usize, usize>) {
        let mut behind: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut before: BTreeMap<usize, usize> = BTreeMap::new();
        for log in self.snapshot.logs.values() {
            let shared = log.parts.iter().map(|part| part.object).filter(|at| self.snapshot.is_shared(*at));
            let shared: Vec<usize> = shared.collect();
            for pair in shared.windows(2).filter(|pair| pair[0] != pair[1]) {
                if behind.entry(pair[0]).or_default().insert(pair[1]) {
                    *before.entry(pair[1]).or_default() += 1;
                }
            }
        }
        (behind, before)
    }
}
