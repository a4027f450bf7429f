//! Which blocks are written anew when the part of the disk that they lie in is next to be overwritten: those that were read
//! since they were written. The disk is written round and round, so a scan would push out whatever it holds; by this, what is
//! read goes on for another round, and what was read by one backfill alone does not.
//!
//! What is written anew never exceeds what comes in, so that the disk writes twice as much at most, and new blocks always find
//! room.

use foyer::{Statistics, StorageFilterCondition, StorageFilterResult};
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};

/// Blocks that are remembered as read. Beyond that the disk has been read from end to end, and none is better than another.
const MOST: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct SecondChance(Mutex<State>);

#[derive(Debug)]
struct State {
    read: BTreeSet<u64>,
    /// Bytes that may be written anew.
    credit: usize,
    most_credit: usize,
}

impl SecondChance {
    /// At most `most_credit` bytes are written anew at once.
    pub(super) fn new(most_credit: usize) -> Self {
        Self(Mutex::new(State { read: BTreeSet::new(), credit: 0, most_credit }))
    }

    /// A block was read, given by its hash.
    pub(super) fn read(&self, hash: u64) {
        let mut state = self.0.lock();
        if state.read.len() < MOST {
            state.read.insert(hash);
        }
    }

    /// New blocks came in.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.credit = (state.credit + bytes).min(state.most_credit);
    }

    /// Whether a block is written anew.
    pub(super) fn is_given(&self, hash: u64, bytes: usize) -> bool {
        let mut state = self.0.lock();
        let given = state.read.remove(&hash) && state.credit >= bytes;
        if given {
            state.credit -= bytes;
        }
        given
    }
}

/// As foyer asks for it.
#[derive(Debug)]
pub(super) struct Condition(pub(super) Arc<SecondChance>);

impl StorageFilterCondition for Condition {
    fn filter(&self, _: &Arc<Statistics>, hash: u64, estimated_size: usize) -> StorageFilterResult {
        match self.0.is_given(hash, estimated_size) {
            true => StorageFilterResult::Admit,
            false => StorageFilterResult::Reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_since_is_written_anew_and_no_more_than_came_in() {
        let chance = SecondChance::new(100);
        chance.read(1);
        assert!(!chance.is_given(1, 10), "nothing came in");
        chance.wrote(1000);
        assert!(!chance.is_given(1, 10), "it was not read since");
        (1..=11).for_each(|hash| chance.read(hash));
        assert!(!chance.is_given(12, 10));
        assert_eq!((1..=11).filter(|hash| chance.is_given(*hash, 10)).count(), 10);
        assert!(!chance.is_given(1, 10), "once");
    }
}
