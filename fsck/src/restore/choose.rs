//! Which of the objects that lie in the bucket were the index. Pure.
//!
//! Objects that a rewrite has replaced lie there until they are deleted, and so do those that were never committed. Both hold what others
//! hold too:
//! - a flush writes only what is durable in the WAL, so what it didn't commit is in the WAL, or in the manifest of whoever took
//!   that over;
//! - a rewrite stands for all offsets of what it replaces.
//!
//! So the better object wins, as in the index: a log segment before a shared segment before a manifest, of equal ones the newest by
//! (incarnation's epoch, number). What is not needed then is left out. An older object that is still needed shows that newer ones within its
//! offsets were never committed, since a commit replaces what it covers as a whole: those are left out after all. What still overlaps is told.
//!
//! Not told apart: a rewrite by key (log compaction) that was never committed from one that was, where it covers what it read. Either way each
//! key's latest value is there.

use super::spans::Spans;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use thalweg_segment::{BrokerEpoch, LogId, Offset, SegmentId};

/// An object, as far as the choice needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub id: SegmentId,
    /// The higher, the better.
    pub rank: u8,
    /// What it holds of each log.
    pub extents: Vec<(LogId, Offset, Offset)>,
    /// Which states it has.
    pub states: Vec<(LogId, Offset)>,
    /// Log segments have a row by log and first offset: no two of them can begin at the same.
    pub row: Option<(LogId, Offset)>,
}

/// The order of preference.
fn preference(candidate: &Candidate) -> Reverse<(u8, BrokerEpoch, u64)> {
    Reverse((candidate.rank, candidate.id.incarnation.epoch, candidate.id.number))
}

/// The objects that are needed.
pub(crate) fn choose(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(preference);
    let mut kept = needed(candidates);
    loop {
        let superseded = superseded(&kept);
        if superseded.is_empty() {
            return kept;
        }
        // Leaving one out may make another one needed that overlaps it.
        let worst = superseded.into_iter().next_back().expect("it is not empty");
        kept.remove(worst);
    }
}

/// Those that hold something which the better ones before them don't.
fn needed(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut covered: BTreeMap<LogId, Spans> = BTreeMap::new();
    let mut states: BTreeMap<LogId, Offset> = BTreeMap::new();
    let mut kept: Vec<Candidate> = Vec::new();
    let mut rows: BTreeMap<(LogId, Offset), usize> = BTreeMap::new();
    for candidate in candidates {
        let extents = candidate.extents.iter();
        let adds_offsets = extents
            .clone()
            .any(|(log, base, end)| !covered.get(log).is_some_and(|spans| spans.cover(*base, *end)));
        let adds_state =
            candidate.states.iter().any(|(log, end)| states.get(log).is_none_or(|known| known < end));
        if !adds_offsets && !adds_state {
            continue;
        }
        for (log, base, end) in extents {
            covered.entry(*log).or_default().add(*base, *end);
        }
        for (log, end) in &candidate.states {
            let known = states.entry(*log).or_insert(*end);
            *known = (*known).max(*end);
        }
        match candidate.row.and_then(|row| rows.get(&row).copied()) {
            // Of two with one row, this one goes further, or it would not be needed.
            Some(shorter) => kept[shorter] = candidate,
            None => {
                rows.extend(candidate.row.map(|row| (row, kept.len())));
                kept.push(candidate);
            }
        }
    }
    kept
}

/// Which candidate, and the offsets of a log that it holds.
type Piece = (usize, Offset, Offset);

/// Those that hold nothing which others of their rank don't, given that those are needed.
fn superseded(kept: &[Candidate]) -> BTreeSet<usize> {
    let mut by_log: BTreeMap<(u8, LogId), Vec<Piece>> = BTreeMap::new();
    for (at, candidate) in kept.iter().enumerate() {
        for (log, base, end) in &candidate.extents {
            by_log.entry((candidate.rank, *log)).or_default().push((at, *base, *end));
        }
    }
    let overlapping: BTreeSet<usize> = by_log.values_mut().flat_map(|pieces| overlapping(pieces)).collect();
    let newest = newest_states(kept);
    let covered_by_others = |at: &usize| {
        let Candidate { rank, extents, states, .. } = &kept[*at];
        let covered = extents.iter().all(|(log, base, end)| {
            let mut spans = Spans::default();
            let others = by_log[&(*rank, *log)].iter().filter(|(other, ..)| other != at);
            others.for_each(|(_, base, end)| spans.add(*base, *end));
            spans.cover(*base, *end)
        });
        let another_has = |log: &LogId, end: &Offset| {
            newest[log].iter().find(|(_, of)| of != at).is_some_and(|(known, _)| known >= end)
        };
        covered && states.iter().all(|(log, end)| another_has(log, end))
    };
    overlapping.into_iter().filter(covered_by_others).collect()
}

/// The two newest states of each log, and where they are.
fn newest_states(kept: &[Candidate]) -> BTreeMap<LogId, Vec<(Offset, usize)>> {
    let mut newest: BTreeMap<LogId, Vec<(Offset, usize)>> = BTreeMap::new();
    for (at, candidate) in kept.iter().enumerate() {
        for (log, end) in &candidate.states {
            let two = newest.entry(*log).or_default();
            two.push((*end, at));
            two.sort_unstable_by_key(|(end, _)| Reverse(*end));
            two.truncate(2);
        }
    }
    newest
}

/// Which pieces of one log share offsets with another one.
fn overlapping(pieces: &mut [Piece]) -> BTreeSet<usize> {
    pieces.sort_by_key(|(at, base, end)| (*base, *end, *at));
    let mut found = BTreeSet::new();
    let mut furthest: Option<(usize, Offset)> = None;
    for (at, base, end) in pieces.iter() {
        if let Some((before, _)) = furthest.filter(|(_, until)| base < until) {
            found.extend([before, *at]);
        }
        if furthest.is_none_or(|(_, until)| until < *end) {
            furthest = Some((*at, *end));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;
    use proptest::prelude::*;

    const LOG: LogId = LogId(3);

    fn object(number: u64, rank: u8, base: i64, end: i64) -> Candidate {
        Candidate {
            id: id(number),
            rank,
            extents: vec![(LOG, Offset(base), Offset(end))],
            states: vec![],
            row: (rank == 2).then_some((LOG, Offset(base))),
        }
    }

    fn chosen(candidates: Vec<Candidate>) -> Vec<u64> {
        let mut numbers: Vec<_> = choose(candidates).iter().map(|one| one.id.number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_was_replaced_is_left_out() {
        let split = vec![object(1, 1, 0, 100), object(2, 2, 0, 60), object(3, 2, 60, 100)];
        assert_eq!(chosen(split), [2, 3]);
        let merged = vec![object(1, 2, 0, 50), object(2, 2, 50, 100), object(3, 2, 0, 100)];
        assert_eq!(chosen(merged), [3]);
        let adopted = vec![object(1, 0, 0, 50), object(2, 1, 0, 50)];
        assert_eq!(chosen(adopted), [2]);
    }

    #[test]
    fn what_is_needed_still_is_kept_whatever_its_kind() {
        assert_eq!(chosen(vec![object(1, 1, 0, 100), object(2, 2, 0, 60)]), [1, 2]);
        assert_eq!(chosen(vec![object(1, 0, 0, 10), object(2, 1, 10, 20), object(3, 2, 20, 30)]), [1, 2, 3]);
    }

    #[test]
    fn a_part_of_a_rewrite_that_was_never_committed_gives_way_to_what_it_was_to_replace() {
        assert_eq!(chosen(vec![object(1, 2, 0, 100), object(2, 2, 0, 40)]), [1], "they have the same row");
        assert_eq!(chosen(vec![object(1, 2, 0, 100), object(2, 2, 40, 70)]), [1]);
    }

    #[test]
    fn a_segment_is_kept_for_a_state_that_no_other_has() {
        let state = |number, end| Candidate { states: vec![(LOG, Offset(end))], ..object(number, 1, 0, 10) };
        let empty = Candidate { extents: vec![], ..state(9, 20) };
        assert_eq!(chosen(vec![state(1, 10), empty]), [1, 9]);
        let older = Candidate { extents: vec![], ..state(0, 10) };
        assert_eq!(chosen(vec![state(1, 10), older]), [1]);
    }

    #[test]
    fn of_equal_objects_the_newest_is_kept() {
        assert_eq!(chosen(vec![object(4, 1, 0, 10), object(7, 1, 0, 10), object(5, 1, 0, 10)]), [7]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_covers_all_that_there_was_and_no_row_twice(
            objects in prop::collection::vec((0..3_u8, 0..30_i64, 1..12_i64), 0..10),
        ) {
            let numbered = objects.iter().enumerate();
            let all: Vec<_> = numbered.map(|(n, (rank, base, length))| object(n as u64, *rank, *base, base + length)).collect();
            let kept = choose(all.clone());
            let holds = |objects: &[Candidate], offset: i64| {
                objects.iter().any(|one| one.extents[0].1.0 <= offset && offset < one.extents[0].2.0)
            };
            for offset in 0..45 {
                prop_assert_eq!(holds(&kept, offset), holds(&all, offset), "offset {}", offset);
            }
            let rows: BTreeSet<_> = kept.iter().filter_map(|one| one.row).collect();
            prop_assert_eq!(rows.len(), kept.iter().filter(|one| one.row.is_some()).count());
        }
    }
}
