//! Each log against the objects that hold it: no gap from its start to its committed end, no offset twice in objects of one
//! kind, states where they belong. Pure.
//!
//! Between objects of different kinds, an overlap is no damage: a crash, or a rewrite in several steps, may leave the same
//! batches in both, and readers see the better object's. Log compaction leaves holes inside of segments only: what it has
//! rewritten stands for all offsets that it covers.

use crate::{
    contents::{Contents, Found},
    decide::{Decided, Look},
    findings::{Finding, FindingKind},
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::rank;
use thalweg_segment::{Kind, LogId, Offset, SegmentId, segment_path};

/// What one object stands for in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Piece {
    pub base: Offset,
    pub end: Offset,
    /// Objects of one rank must not overlap.
    pub rank: u8,
    pub id: SegmentId,
}

/// What the index has of one log.
#[derive(Debug, Default)]
struct LogPieces {
    pieces: Vec<Piece>,
    /// The newest state: where, and of which offset.
    state: Option<(Offset, SegmentId)>,
}

pub(crate) fn decide(look: &Look<'_>, decided: &mut Decided) {
    let mut all = pieces(look, &look.view.plain_logs(), decided);
    let wal_may_hold_more = look.view.incarnations.keys().any(|one| look.view.unrecovered(*one).is_some());
    for log in look.view.names().into_keys() {
        let mut of_log = all.remove(&log).unwrap_or_default();
        let start = look.view.log_starts.get(&log).copied().unwrap_or_default();
        let walk = walk(start, of_log.state.map(|(end, _)| end), &mut of_log.pieces);
        decided.totals.hidden_offsets += walk.hidden;
        decided
            .findings
            .extend(walk.gaps.iter().map(|(from, to)| gap(log, *from, *to, "they are in no object")));
        decided.findings.extend(walk.overlaps.iter().map(|overlap| overlap_finding(log, overlap)));
        let end = of_log.end();
        if end < start && !wal_may_hold_more {
            decided.findings.insert(gap(log, end, start, "the log begins behind its end"));
        }
    }
    decided.findings.extend(nameless(look, &all));
}

/// What is left are logs that no topic has. A shared segment may hold some of a deleted topic for long; only what has rows of its
/// own is told, which is there until it is cleaned up.
fn nameless(look: &Look<'_>, left: &BTreeMap<LogId, LogPieces>) -> Vec<Finding> {
    let own: BTreeSet<LogId> = look.view.logs.iter().map(|record| record.log).collect();
    let told = left.iter().filter(|(log, _)| own.contains(log)).map(|(log, of_log)| {
        let detail = format!("{} objects of the index hold some of it", of_log.pieces.len());
        Finding::new(FindingKind::LogWithoutTopic, detail).of_log(*log)
    });
    told.collect()
}

/// The newest state block of each log that a topic has: where a log is opened from.
pub(crate) fn newest_states(look: &Look<'_>) -> BTreeMap<SegmentId, Vec<LogId>> {
    let names = look.view.names();
    let mut by_object: BTreeMap<SegmentId, Vec<LogId>> = BTreeMap::new();
    let logs = pieces(look, &BTreeSet::new(), &mut Decided::default());
    for (log, of_log) in logs.into_iter().filter(|(log, _)| names.contains_key(log)) {
        if let Some((_, id)) = of_log.state {
            by_object.entry(id).or_default().push(log);
        }
    }
    by_object
}

fn pieces(look: &Look<'_>, plain: &BTreeSet<LogId>, decided: &mut Decided) -> BTreeMap<LogId, LogPieces> {
    let mut logs: BTreeMap<LogId, LogPieces> = BTreeMap::new();
    // The row of a log segment says what it stands for, whatever became of the segment itself.
    for record in &look.view.logs {
        let of_log = logs.entry(record.log).or_default();
        let (base, end) = (record.base_offset, record.end_offset);
        of_log.pieces.push(Piece { base, end, rank: rank(Kind::Log), id: record.id });
        of_log.note_state(end, record.id);
        decided.findings.extend(hole_findings(look, record.id, plain));
    }
    for record in &look.view.shared {
        let Some(Found::Sound(contents)) = look.segments.get(&record.id) else { continue };
        for extent in &contents.extents {
            let piece =
                Piece { base: extent.base, end: extent.end, rank: rank(record.kind()), id: record.id };
            logs.entry(extent.log).or_default().pieces.push(piece);
        }
        for (log, end) in &contents.states {
            logs.entry(*log).or_default().note_state(*end, record.id);
        }
        decided.findings.extend(hole_findings(look, record.id, plain));
        decided.findings.extend(state_findings(record.id, contents));
    }
    logs
}

impl LogPieces {
    /// The committed end.
    fn end(&self) -> Offset {
        let pieces = self.pieces.iter().map(|piece| piece.end);
        pieces.chain(self.state.map(|(end, _)| end)).max().unwrap_or_default()
    }

    fn note_state(&mut self, end: Offset, id: SegmentId) {
        if self.state.is_none_or(|(newest, _)| newest < end) {
            self.state = Some((end, id));
        }
    }
}

fn hole_findings(look: &Look<'_>, id: SegmentId, plain: &BTreeSet<LogId>) -> Vec<Finding> {
    let Some(Found::Sound(contents)) = look.segments.get(&id) else { return Vec::new() };
    let extents = contents.extents.iter().filter(|extent| plain.contains(&extent.log));
    let hole = |log: LogId, (from, to): (Offset, Offset)| {
        Finding::new(FindingKind::Hole, "").at(segment_path(id)).of_log(log).offsets(from, to)
    };
    extents.flat_map(|extent| extent.holes.iter().map(move |range| hole(extent.log, *range))).collect()
}

/// A state is that of a log's last offset in its object.
fn state_findings(id: SegmentId, contents: &Contents) -> Vec<Finding> {
    let states: BTreeMap<LogId, Offset> = contents.states.iter().copied().collect();
    let early = contents.extents.iter().filter_map(|extent| {
        let end = states.get(&extent.log).filter(|end| **end < extent.end)?;
        let detail = format!("its state is that at {end}");
        let finding = Finding::new(FindingKind::CorruptState, detail).at(segment_path(id)).of_log(extent.log);
        Some(finding.offsets(extent.base, extent.end))
    });
    early.collect()
}

fn gap(log: LogId, from: Offset, to: Offset, why: &str) -> Finding {
    Finding::new(FindingKind::Gap, why).of_log(log).offsets(from, to)
}

fn overlap_finding(log: LogId, (from, to, one, other): &(Offset, Offset, SegmentId, SegmentId)) -> Finding {
    let detail = format!("{} has them too", segment_path(*one));
    Finding::new(FindingKind::Overlap, detail).at(segment_path(*other)).of_log(log).offsets(*from, *to)
}

/// What a walk over the pieces of a log shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    pub gaps: Vec<(Offset, Offset)>,
    /// Offsets, the first of the two objects, the second.
    pub overlaps: Vec<(Offset, Offset, SegmentId, SegmentId)>,
    /// Offsets that more than one kind of object holds.
    pub hidden: u64,
}

/// Walks from `start` over the pieces of a log, of which `state` is the newest state's offset.
pub(crate) fn walk(start: Offset, state: Option<Offset>, pieces: &mut [Piece]) -> Walk {
    pieces.sort_unstable();
    let mut walk = Walk::default();
    let mut covered = start;
    let mut last: BTreeMap<u8, Piece> = BTreeMap::new();
    // What lies below the start is about to be removed.
    for piece in pieces.iter().filter(|piece| piece.end > start) {
        if piece.base > covered {
            walk.gaps.push((covered, piece.base));
        }
        match last.get(&piece.rank) {
            Some(before) if before.end > piece.base => {
                walk.overlaps.push((piece.base, before.end.min(piece.end), before.id, piece.id));
            }
            _ => walk.hidden += (covered.min(piece.end).0 - piece.base.max(start).0).max(0).unsigned_abs(),
        }
        if last.get(&piece.rank).is_none_or(|before| before.end < piece.end) {
            last.insert(piece.rank, *piece);
        }
        covered = covered.max(piece.end);
    }
    if let Some(end) = state.filter(|end| *end > covered) {
        walk.gaps.push((covered, end));
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;
    use proptest::prelude::*;

    fn piece(number: u64, rank: u8, base: i64, end: i64) -> Piece {
        Piece { base: Offset(base), end: Offset(end), rank, id: id(number) }
    }

    fn walked(start: i64, state: Option<i64>, mut pieces: Vec<Piece>) -> Walk {
        walk(Offset(start), state.map(Offset), &mut pieces)
    }

    #[test]
    fn adjacent_pieces_up_to_the_state_are_a_whole_log() {
        let pieces = vec![piece(2, 1, 10, 15), piece(1, 2, 0, 10), piece(3, 0, 15, 20)];
        assert_eq!(walked(0, Some(20), pieces), Walk::default());
        assert_eq!(walked(7, Some(7), vec![]), Walk::default());
        assert_eq!(walked(0, None, vec![]), Walk::default());
    }

    #[test]
    fn what_is_missing_at_the_start_between_pieces_or_at_the_end_is_a_gap() {
        let pieces = vec![piece(1, 1, 3, 5), piece(2, 1, 6, 8)];
        let gaps = vec![(Offset(1), Offset(3)), (Offset(5), Offset(6)), (Offset(8), Offset(9))];
        assert_eq!(walked(1, Some(9), pieces), Walk { gaps, ..Walk::default() });
    }

    #[test]
    fn what_lies_below_the_start_is_not_looked_at() {
        let pieces = vec![piece(1, 1, 0, 2), piece(2, 1, 1, 3), piece(3, 1, 5, 9)];
        assert_eq!(walked(6, Some(9), pieces), Walk::default());
    }

    #[test]
    fn offsets_twice_in_one_kind_of_object_are_an_overlap_and_in_two_kinds_are_hidden() {
        let same = walked(0, None, vec![piece(1, 2, 0, 10), piece(2, 2, 8, 12)]);
        assert_eq!(same.overlaps, [(Offset(8), Offset(10), id(1), id(2))]);
        assert_eq!(same.hidden, 0);
        let other = walked(0, None, vec![piece(1, 2, 0, 10), piece(2, 0, 8, 12)]);
        assert_eq!(other, Walk { hidden: 2, ..Walk::default() });
    }

    #[test]
    fn a_long_piece_overlaps_all_of_its_kind_that_it_covers() {
        let walk = walked(0, None, vec![piece(1, 1, 0, 10), piece(2, 1, 2, 3), piece(3, 1, 5, 6)]);
        assert_eq!(walk.overlaps.len(), 2);
        assert!(walk.overlaps.iter().all(|(.., one, _)| *one == id(1)));
    }

    proptest! {
        #[test]
        fn gaps_are_exactly_the_offsets_that_no_piece_covers(
            start in 0..30_i64,
            state in prop::option::of(0..40_i64),
            pieces in prop::collection::vec((0..3_u8, 0..30_i64, 1..8_i64), 0..8),
        ) {
            let numbered = pieces.iter().enumerate();
            let pieces: Vec<_> = numbered.map(|(n, (rank, base, length))| piece(n as u64, *rank, *base, base + length)).collect();
            let walk = walked(start, state, pieces.clone());
            let end = pieces.iter().map(|piece| piece.end.0).max().into_iter().chain(state).max().unwrap_or(0);
            for offset in 0..45 {
                let covered = pieces.iter().any(|piece| piece.base.0 <= offset && offset < piece.end.0);
                let missing = offset >= start && offset < end && !covered;
                let told = walk.gaps.iter().any(|(from, to)| from.0 <= offset && offset < to.0);
                prop_assert_eq!(told, missing, "offset {}", offset);
            }
            let twice = |offset: i64, rank| pieces.iter().filter(|piece| {
                piece.rank == rank && piece.end.0 > start && piece.base.0 <= offset && offset < piece.end.0
            }).count() > 1;
            let any = (0..45).any(|offset| (0..3).any(|rank| twice(offset, rank)));
            prop_assert_eq!(!walk.overlaps.is_empty(), any);
        }
    }
}
