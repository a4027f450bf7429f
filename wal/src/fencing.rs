//! Which sequences of a dead incarnation's log must be filled so that nothing more can become durable in it. Pure: what is
//! known goes in, what is to be done comes out; `recovery.rs` does it.
//!
//! ```text
//!   trim                    f = lowest fence           f + W
//!    |  data  data  data  data |  X   data   X     X     |   never issued
//! ```
//! The writer issues sequence `s` only while `s < low + W`, and `low` passes `f` never: `f` can't become durable, and the
//! trim point is final since its record was raised. So once every sequence of `[trim, f + W)` is filled, the log is complete.
//! `f` must be where a fence *stands*, not where the first sequence was missing: an object may still have arrived there.

use crate::mutation::{Mutation, mutated};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_segment::WalSequence;

/// What was read at a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Filled {
    /// An object of the dead incarnation.
    Data,
    /// A fence, ours or another recoverer's.
    Fence,
}

/// What is known of a log that is being fenced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fencing {
    trim: u64,
    window: u64,
    /// Where a LIST has shown something, so that reading comes before fencing. It fills nothing by itself.
    listed: BTreeSet<u64>,
    filled: BTreeMap<u64, Filled>,
}

impl Fencing {
    /// A log that is needed from `trim` on, whose writer keeps `window` sequences outstanding, and of which a LIST has shown
    /// `listed`.
    pub(crate) fn new(trim: WalSequence, window: u32, listed: impl IntoIterator<Item = WalSequence>) -> Self {
        let listed = listed.into_iter().map(|sequence| sequence.0).filter(|at| *at >= trim.0).collect();
        Self { trim: trim.0, window: u64::from(window.max(1)), listed, filled: BTreeMap::new() }
    }

    /// Sequences that must be filled next, in order. None: the log is complete.
    ///
    /// What was listed comes first, so that the fences of earlier recoverers are known before more are added.
    pub(crate) fn wanted(&self) -> Vec<WalSequence> {
        let mut wanted: Vec<_> =
            self.listed.iter().copied().filter(|at| !self.filled.contains_key(at)).collect();
        if wanted.is_empty() {
            wanted = (self.trim..self.reach()).filter(|at| !self.filled.contains_key(at)).collect();
        }
        if mutated(Mutation::SkipFence) {
            wanted.retain(|at| *at != self.first_missing());
        }
        wanted.into_iter().map(WalSequence).collect()
    }

    /// Whether the LIST has shown something at `sequence`.
    pub(crate) fn is_listed(&self, sequence: WalSequence) -> bool {
        self.listed.contains(&sequence.0)
    }

    /// Notes what was read at `sequence`, or that our fence was created there.
    pub(crate) fn fill(&mut self, sequence: WalSequence, found: Filled) {
        let before = self.filled.insert(sequence.0, found);
        assert!(before.is_none_or(|before| before == found), "an object is written once");
    }

    /// Number of fences that stand.
    pub(crate) fn fences(&self) -> usize {
        self.filled.values().filter(|found| **found == Filled::Fence).count()
    }

    /// The end of what must be filled, as far as is known: W behind the lowest fence, or, while none stands, behind the first
    /// sequence that may still be empty.
    fn reach(&self) -> u64 {
        let lowest_fence = self.filled.iter().find(|(_, found)| **found == Filled::Fence).map(|(at, _)| *at);
        let from = match lowest_fence {
            _ if mutated(Mutation::FenceFromFirstMissing) => self.first_missing(),
            Some(fence) => fence,
            None => self.first_empty(),
        };
        from.saturating_add(self.window)
    }

    fn first_empty(&self) -> u64 {
        (self.trim..).find(|at| !self.filled.contains_key(at)).expect("finitely many sequences are filled")
    }

    /// The lowest sequence that the LIST has not shown.
    fn first_missing(&self) -> u64 {
        (self.trim..).find(|at| !self.listed.contains(at)).expect("finitely many sequences are listed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(of: &[u64]) -> Vec<WalSequence> {
        of.iter().copied().map(WalSequence).collect()
    }

    fn fencing(trim: u64, window: u32, listed: &[u64]) -> Fencing {
        Fencing::new(WalSequence(trim), window, sequences(listed))
    }

    #[test]
    fn an_empty_log_is_fenced_at_its_first_window() {
        let mut fencing = fencing(7, 2, &[]);
        assert_eq!(fencing.wanted(), sequences(&[7, 8]));
        fencing.fill(WalSequence(8), Filled::Fence);
        fencing.fill(WalSequence(7), Filled::Fence);
        assert!(fencing.wanted().is_empty());
        assert_eq!(fencing.fences(), 2);
    }

    #[test]
    fn what_was_listed_is_read_first_wherever_it_lies() {
        let mut fencing = fencing(0, 2, &[0, 1, 9]);
        assert_eq!(fencing.wanted(), sequences(&[0, 1, 9]));
        [0, 1, 9].into_iter().for_each(|at| fencing.fill(WalSequence(at), Filled::Data));
        assert_eq!(fencing.wanted(), sequences(&[2, 3]));
    }

    #[test]
    fn the_fences_of_an_earlier_recoverer_are_not_added_to() {
        let mut fencing = fencing(0, 2, &[0, 1, 2]);
        fencing.fill(WalSequence(0), Filled::Data);
        fencing.fill(WalSequence(1), Filled::Fence);
        fencing.fill(WalSequence(2), Filled::Fence);
        assert!(fencing.wanted().is_empty());
    }

    #[test]
    fn what_lies_below_the_trim_point_is_nobodys() {
        assert_eq!(fencing(5, 1, &[3, 5]).wanted(), sequences(&[5]));
    }

    #[test]
    fn an_object_that_arrives_before_its_fence_moves_the_window_on() {
        let mut fencing = fencing(0, 2, &[]);
        fencing.fill(WalSequence(0), Filled::Data);
        fencing.fill(WalSequence(1), Filled::Fence);
        assert_eq!(fencing.wanted(), sequences(&[2]), "the writer may have gone on to 1 + W");
        fencing.fill(WalSequence(2), Filled::Data);
        assert!(fencing.wanted().is_empty());
    }

    #[test]
    fn without_a_fence_nothing_is_concluded() {
        let mut fencing = fencing(0, 1, &[0]);
        fencing.fill(WalSequence(0), Filled::Data);
        for at in 1..100 {
            assert_eq!(fencing.wanted(), sequences(&[at]));
            fencing.fill(WalSequence(at), Filled::Data);
        }
    }
}
