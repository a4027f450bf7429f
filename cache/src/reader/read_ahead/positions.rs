//! Where consumers are, and how far ahead of each is read. No I/O.
//!
//! Consumers have no names here: a read that begins where an earlier one ended goes on from there, whoever asks. So consumers
//! that are at about the same place of a log share a position, and what is read ahead of it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};
use thalweg_segment::{LogId, Offset};
use tokio::time::Instant;

/// What is read ahead after the first read that goes on from another, at least.
const FIRST_WINDOW: usize = 1 << 20;
/// And at most, for one position.
const LARGEST_WINDOW: usize = 32 << 20;
/// A position where nothing was read for so long no longer counts, and gives up what is held for it when others want the memory.
pub(super) const QUIET: Duration = Duration::from_secs(2);
/// And after so long it is forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// Positions that are known at most.
const MOST: usize = 4096;

/// A position's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PositionId(LogId, u64);

/// All positions. What is held ahead of them is `H`.
pub(super) struct Positions<H> {
    positions: BTreeMap<PositionId, Position<H>>,
    next_id: u64,
    budget: usize,
}

struct Position<H> {
    /// Where the last read began.
    last: Offset,
    /// Where it ended, and the next one is expected.
    next: Offset,
    /// Bytes that are to be ahead of `next`; none until a read goes on from another.
    window: usize,
    /// Where the read began for which the window has grown last.
    grown_at: Option<Offset>,
    /// Bytes of the last read.
    bytes: usize,
    /// Up to where something was done about it.
    ahead: Offset,
    held: VecDeque<Held<H>>,
    planning: bool,
    used: Instant,
}

/// A run of blocks ahead of a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held<H> {
    /// Where it ends.
    pub end: Offset,
    /// Its bytes.
    pub bytes: usize,
    /// What keeps it; none where it was in memory already.
    pub hold: Option<H>,
}

/// What is to be read ahead now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// For whom.
    pub id: PositionId,
    /// From where.
    pub from: Offset,
    /// How much.
    pub bytes: usize,
}

impl<H> Positions<H> {
    /// All together hold no more than about `budget` bytes, in equal parts.
    pub(super) fn new(budget: usize) -> Self {
        Self { positions: BTreeMap::new(), next_id: 0, budget }
    }

    /// Somebody begins to read `log` at `from`. Where that goes on from another read, what is to be done need not wait until the
    /// bytes are there.
    pub(super) fn begins(&mut self, log: LogId, from: Offset, now: Instant) -> Option<Plan> {
        let id = self.at(log, from)?;
        let fair = self.fair_window(now, id);
        let position = self.positions.get_mut(&id)?;
        position.used = now;
        position.grow(from, fair);
        position.plan(id)
    }

    /// Somebody has read `bytes` bytes of `log` in `[from, to)`. Returns what is to be done, and what of the position needs to be
    /// held no longer.
    pub(super) fn read(
        &mut self,
        log: LogId,
        (from, to): (Offset, Offset),
        bytes: usize,
        now: Instant,
    ) -> (Option<Plan>, Vec<Held<H>>) {
        let Some(id) = self.at(log, from) else {
            return (None, self.add(log, (from, to), bytes, now));
        };
        let fair = self.fair_window(now, id);
        let position = self.positions.get_mut(&id).expect("it was just found");
        position.bytes = bytes;
        position.grow(from, fair);
        (position.last, position.used) = (from, now);
        position.next = position.next.max(to);
        position.ahead = position.ahead.max(position.next);
        let passed = position.held.iter().take_while(|held| held.end <= position.next).count();
        let passed = position.held.drain(..passed).collect();
        (position.plan(id), passed)
    }

    /// The position that a read from `from` goes on from: one where such a read is expected, else one that has just passed.
    fn at(&self, log: LogId, from: Offset) -> Option<PositionId> {
        let of_log = || self.positions.range(PositionId(log, 0)..=PositionId(log, u64::MAX));
        let expected = of_log().find(|(_, position)| position.next == from);
        let passed = || of_log().find(|(_, position)| position.last <= from && from < position.next);
        expected.or_else(passed).map(|(id, _)| *id)
    }

    fn add(
        &mut self,
        log: LogId,
        (last, next): (Offset, Offset),
        bytes: usize,
        now: Instant,
    ) -> Vec<Held<H>> {
        let mut dropped = Vec::new();
        if self.positions.len() >= MOST {
            let oldest = self.positions.iter().min_by_key(|(_, position)| position.used);
            let oldest = oldest.map(|(id, _)| *id);
            let oldest = oldest.and_then(|id| self.positions.remove(&id));
            dropped.extend(oldest.into_iter().flat_map(|position| position.held));
        }
        let id = PositionId(log, self.next_id);
        self.next_id += 1;
        let position = Position {
            last,
            next,
            window: 0,
            grown_at: None,
            bytes,
            ahead: next,
            held: VecDeque::new(),
            planning: false,
            used: now,
        };
        self.positions.insert(id, position);
        dropped
    }

    /// An equal part of the budget for each position where something was read lately.
    fn fair_window(&self, now: Instant, of: PositionId) -> usize {
        let lives = |(id, position): &(&PositionId, &Position<H>)| {
            position.window > 0 && **id != of && now.duration_since(position.used) < QUIET
        };
        let others = self.positions.iter().filter(lives).count();
        (self.budget / (others + 1)).min(LARGEST_WINDOW)
    }

    /// More is held ahead of a position, up to `ahead`. Returns what is not wanted, because the position is gone or is beyond it.
    pub(super) fn hold(&mut self, id: PositionId, ahead: Offset, held: Vec<Held<H>>) -> Vec<Held<H>> {
        let Some(position) = self.positions.get_mut(&id) else { return held };
        position.ahead = position.ahead.max(ahead);
        let (wanted, passed): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.end > position.next);
        position.held.extend(wanted);
        passed
    }

    /// A plan is carried out, as far as it could be. Returns what has become necessary meanwhile, if `go_on`.
    pub(super) fn planned(&mut self, id: PositionId, go_on: bool) -> Option<Plan> {
        let position = self.positions.get_mut(&id)?;
        position.planning = false;
        if go_on { position.plan(id) } else { None }
    }

    /// Takes what is held for positions where nothing was read for [`QUIET`].
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<Held<H>> {
        let quiet = |position: &&mut Position<H>| now.duration_since(position.used) >= QUIET;
        let mut given_up = Vec::new();
        for position in self.positions.values_mut().filter(quiet) {
            position.ahead = position.next;
            position.window = position.window.min(FIRST_WINDOW);
            given_up.extend(mem::take(&mut position.held));
        }
        given_up
    }

    /// Forgets positions where nothing was read for [`IDLE`]. Returns what was held for them, and whether any is left.
    pub(super) fn forget(&mut self, now: Instant) -> (Vec<Held<H>>, bool) {
        let mut held = Vec::new();
        self.positions.retain(|_, position| {
            let idle = now.duration_since(position.used) >= IDLE;
            if idle {
                held.extend(mem::take(&mut position.held));
            }
            !idle
        });
        (held, !self.positions.is_empty())
    }
}

impl<H> Position<H> {
    /// Doubles the window where a read from `from` goes on from the last one, once for all who read there; `fair` bytes at most.
    fn grow(&mut self, from: Offset, fair: usize) {
        if self.next == from && self.grown_at != Some(from) {
            self.window = self.window.max(self.bytes).saturating_mul(2).max(FIRST_WINDOW);
            self.grown_at = Some(from);
        }
        self.window = self.window.min(fair);
    }

    /// What is missing from the window, once that is half of it, so that it can be read in large pieces.
    fn plan(&mut self, id: PositionId) -> Option<Plan> {
        let ahead: usize = self.held.iter().map(|held| held.bytes).sum();
        if self.planning || self.window == 0 || ahead > self.window / 2 {
            return None;
        }
        self.planning = true;
        Some(Plan { id, from: self.ahead, bytes: self.window - ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const LOG: LogId = LogId(1);

    /// One record is a MiB.
    struct World {
        positions: Positions<()>,
        now: Instant,
    }

    impl World {
        fn new(budget_mib: usize) -> Self {
            Self { positions: Positions::new(budget_mib * MIB), now: Instant::now() }
        }

        /// Reads `[from, to)`, and carries out what follows. Returns the offsets that are read ahead.
        fn read(&mut self, log: LogId, from: i64, to: i64) -> Option<(i64, i64)> {
            let bytes = (to - from) as usize * MIB;
            let (plan, _) = self.positions.read(log, (Offset(from), Offset(to)), bytes, self.now);
            let plan = plan?;
            let end = Offset(plan.from.0 + (plan.bytes / MIB) as i64);
            self.carry_out(plan.id, plan.from, end);
            self.positions.planned(plan.id, false);
            Some((plan.from.0, end.0))
        }

        fn carry_out(&mut self, id: PositionId, from: Offset, end: Offset) {
            let held = (from.0 + 1..=end.0).map(|end| Held { end: Offset(end), bytes: MIB, hold: Some(()) });
            assert!(self.positions.hold(id, end, held.collect()).is_empty());
        }
    }

    #[test]
    fn the_window_doubles_while_reads_go_on_from_one_another() {
        let mut world = World::new(64);
        assert_eq!(world.read(LOG, 0, 1), None, "one read says nothing");
        assert_eq!(world.read(LOG, 1, 2), Some((2, 4)));
        assert_eq!(world.read(LOG, 2, 3), Some((4, 7)), "4 ahead of 3");
        assert_eq!(world.read(LOG, 3, 4), Some((7, 12)));
        assert_eq!(world.read(LOG, 4, 5), Some((12, 21)));
        assert_eq!(world.read(LOG, 5, 6), Some((21, 38)), "32 at most");
        assert_eq!(world.read(LOG, 6, 7), None, "more than half of it is there");
        assert_eq!((7..=22).filter_map(|at| world.read(LOG, at, at + 1)).collect::<Vec<_>>(), [(38, 54)]);
    }

    #[test]
    fn a_read_that_goes_on_from_another_is_read_ahead_of_before_its_bytes_are_there() {
        let mut world = World::new(64);
        assert_eq!(world.positions.begins(LOG, Offset(0), world.now), None);
        world.read(LOG, 0, 2);
        let plan = world.positions.begins(LOG, Offset(2), world.now).expect("it goes on");
        assert_eq!((plan.from, plan.bytes), (Offset(2), 4 * MIB), "what is being read is part of it");
        assert_eq!(world.positions.begins(LOG, Offset(2), world.now), None, "it is being done");
        assert_eq!(world.read(LOG, 2, 4), None);
        let next = world.positions.planned(plan.id, true).expect("the window has not moved, the reader has");
        assert_eq!((next.from, next.bytes), (Offset(4), 4 * MIB));
    }

    #[test]
    fn reads_all_over_a_log_are_no_reason_to_read_ahead() {
        let mut world = World::new(64);
        for n in 0..100 {
            assert_eq!(world.read(LOG, n * 7919 % 1000 * 10, n * 7919 % 1000 * 10 + 1), None);
        }
    }

    #[test]
    fn consumers_at_about_the_same_place_share_what_is_read_ahead() {
        let mut world = World::new(64);
        world.read(LOG, 0, 4);
        assert_eq!(world.read(LOG, 0, 4), None);
        assert_eq!(world.read(LOG, 4, 8), Some((8, 16)));
        assert_eq!(world.read(LOG, 2, 6), None, "it reads what the other has just read");
        assert_eq!(world.read(LOG, 4, 8), None);
        assert_eq!(world.positions.positions.len(), 2);
        assert_eq!(world.read(LOG, 8, 12), Some((16, 28)));
        assert_eq!(world.read(LOG, 8, 12), None);
    }

    #[test]
    fn positions_share_the_budget_and_those_that_read_no_more_have_no_part_in_it() {
        let mut world = World::new(8);
        let mut ends = BTreeMap::new();
        for at in 0..10 {
            for log in (0..4).map(LogId) {
                if let Some((_, end)) = world.read(log, at, at + 1) {
                    ends.insert(log, end - at - 1);
                }
            }
        }
        assert!(ends.values().all(|ahead| (1..=2).contains(ahead)), "{ends:?}");
        world.now += QUIET;
        assert!(!world.positions.give_up(world.now).is_empty());
        for at in 10..14 {
            world.read(LOG, at, at + 1);
        }
        assert_eq!(world.read(LOG, 14, 15), None);
        assert_eq!(world.positions.positions.values().map(|position| position.window).max(), Some(8 * MIB));
    }

    #[test]
    fn what_was_read_is_held_no_longer_and_what_nobody_reads_is_forgotten() {
        let mut world = World::new(64);
        world.read(LOG, 0, 2);
        assert_eq!(world.read(LOG, 2, 4), Some((4, 8)));
        let (_, passed) = world.positions.read(LOG, (Offset(4), Offset(6)), 0, world.now);
        assert_eq!(passed.iter().map(|held| held.end.0).collect::<Vec<_>>(), [5, 6]);
        world.now += IDLE;
        let (held, left) = world.positions.forget(world.now);
        assert_eq!((held.iter().map(|held| held.end.0).collect::<Vec<_>>(), left), (vec![7, 8], false));
    }

    #[test]
    fn one_plan_at_a_time_is_made_for_a_position() {
        let mut world = World::new(64);
        world.read(LOG, 0, 1);
        let (plan, _) = world.positions.read(LOG, (Offset(1), Offset(2)), MIB, world.now);
        let plan = plan.expect("it goes on");
        assert_eq!(world.read(LOG, 2, 3), None);
        assert_eq!(world.read(LOG, 3, 4), None);
        // The reader was faster than the plan.
        let late = vec![Held { end: Offset(3), bytes: MIB, hold: Some(()) }];
        assert_eq!(world.positions.hold(plan.id, Offset(3), late).len(), 1);
        let next = world.positions.planned(plan.id, true).expect("more is wanted by now");
        assert_eq!((next.from, next.bytes), (Offset(4), 8 * MIB));
        assert_eq!(world.positions.planned(plan.id, false), None);
    }

    #[test]
    fn the_number_of_positions_is_bounded() {
        let mut world = World::new(64);
        for n in 0..2 * MOST as i64 {
            world.read(LOG, 10 * n, 10 * n + 1);
        }
        assert_eq!(world.positions.positions.len(), MOST);
    }
}
