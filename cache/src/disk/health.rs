//! When a disk is no longer worth asking, and when to try it again.

use std::{fmt, time::Duration};

/// Slow reads in a row, with none in time between, after which the disk only costs time.
const SLOW_READS: u32 = 8;
/// Batches in a row of which nothing is found on the disk after they were written.
const UNWRITTEN: u32 = 3;
/// What a bad block counts, where one good read counts 1 against it, and how much it may come to.
const BAD_WEIGHT: u32 = 16;
const BAD_LIMIT: u32 = 16 * BAD_WEIGHT;
/// Wait before the disk is tried again; doubles, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Batches written well after which a disk counts as sound again.
const SOUND_AFTER: u32 = 64;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The files could not be opened.
    NotOpened(String),
    /// A read took too long.
    SlowRead,
    /// A read failed.
    Failed(String),
    /// A block that should be there is not, or is not what it should be.
    Bad,
    /// Nothing of a batch is there after it was written.
    NotWritten,
    /// A batch could not be written.
    NotWrittenFor(String),
    /// A batch took too long.
    SlowWrite,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Stay,
    /// Not to be written to for so long, nor read from unless it is `readable`. `first` where it was in use until now;
    /// `empty` where what it holds is not to be read again.
    Off { after: Duration, first: bool, readable: bool, empty: bool },
}

/// What is known of a disk.
#[derive(Debug, Default)]
pub(super) struct Health {
    slow: u32,
    unwritten: u32,
    bad: u32,
    /// Times that it was switched off since it was last sound.
    offs: u32,
    written_well: u32,
    /// Trouble was told of, and since then it was not in use again.
    told: bool,
    /// The files could not be opened, the last time.
    unopened: bool,
}

impl Health {
    /// A block was read, in time and as it was.
    pub(super) fn went_well(&mut self) {
        self.slow = 0;
        self.bad = self.bad.saturating_sub(1);
    }

    /// A batch was written.
    pub(super) fn wrote(&mut self) {
        self.unwritten = 0;
        self.written_well += 1;
        if self.written_well >= SOUND_AFTER {
            self.offs = 0;
        }
    }

    /// The files are open. Returns whether the disk was off before.
    pub(super) fn opened(&mut self) -> bool {
        (self.slow, self.unwritten, self.bad, self.written_well) = (0, 0, 0, 0);
        self.unopened = false;
        std::mem::take(&mut self.told)
    }

    /// Something went wrong.
    pub(super) fn observe(&mut self, trouble: &Trouble) -> Verdict {
        match trouble {
            Trouble::SlowRead => {
                self.slow += 1;
                if self.slow < SLOW_READS { Verdict::Stay } else { self.off(false, false) }
            }
            Trouble::Bad => {
                self.bad += BAD_WEIGHT;
                if self.bad < BAD_LIMIT { Verdict::Stay } else { self.off(false, true) }
            }
            Trouble::NotWritten => {
                self.unwritten += 1;
                if self.unwritten < UNWRITTEN { Verdict::Stay } else { self.off(true, false) }
            }
            Trouble::NotWrittenFor(_) => self.off(true, false),
            Trouble::SlowWrite | Trouble::Failed(_) => self.off(false, false),
            Trouble::NotOpened(_) => {
                // What can't be opened as it is may do so with nothing in it.
                self.unopened = !self.unopened;
                let empty = self.unopened;
                self.off(false, empty)
            }
        }
    }

    fn off(&mut self, readable: bool, empty: bool) -> Verdict {
        let after = FIRST_WAIT.saturating_mul(1 << self.offs.min(16)).min(LONGEST_WAIT);
        self.offs += 1;
        Verdict::Off { after, first: !std::mem::replace(&mut self.told, true), readable, empty }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened(why) => write!(f, "it can't be opened: {why}"),
            Self::SlowRead => f.write_str("it is slow to read from"),
            Self::Failed(why) => write!(f, "a read failed: {why}"),
            Self::Bad => f.write_str("it does not hold what was written"),
            Self::NotWritten => f.write_str("it does not take what is written: full, or read-only"),
            Self::NotWrittenFor(why) => write!(f, "a write failed: {why}"),
            Self::SlowWrite => f.write_str("it is slow to write to"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(after_s: u64, first: bool, readable: bool, empty: bool) -> Verdict {
        Verdict::Off { after: Duration::from_secs(after_s), first, readable, empty }
    }

    fn nth(health: &mut Health, n: u32, trouble: &Trouble) -> Verdict {
        for _ in 1..n {
            assert_eq!(health.observe(trouble), Verdict::Stay);
        }
        health.observe(trouble)
    }

    #[test]
    fn an_error_switches_the_disk_off_at_once_and_ever_longer() {
        let mut health = Health::default();
        let failed = Trouble::Failed("EIO".to_owned());
        assert!(!health.opened());
        for after in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(health.observe(&failed), off(after, true, false, false));
            assert!(health.opened());
        }
    }

    #[test]
    fn a_disk_that_writes_well_for_long_is_sound_again() {
        let mut health = Health::default();
        health.observe(&Trouble::SlowWrite);
        health.opened();
        (0..SOUND_AFTER).for_each(|_| health.wrote());
        assert_eq!(health.observe(&Trouble::SlowWrite), off(30, true, false, false));
    }

    #[test]
    fn slow_reads_count_only_in_a_row() {
        let mut health = Health::default();
        assert_eq!(nth(&mut health, SLOW_READS - 1, &Trouble::SlowRead), Verdict::Stay);
        health.went_well();
        assert_eq!(nth(&mut health, SLOW_READS, &Trouble::SlowRead), off(30, true, false, false));
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_read_on() {
        let mut health = Health::default();
        health.observe(&Trouble::NotWritten);
        health.wrote();
        assert_eq!(nth(&mut health, UNWRITTEN, &Trouble::NotWritten), off(30, true, true, false));
        let refused = Trouble::NotWrittenFor("ENOSPC".to_owned());
        assert_eq!(Health::default().observe(&refused), off(30, true, true, false));
    }

    #[test]
    fn a_disk_that_lies_often_is_begun_anew_and_one_that_lies_now_and_then_is_not() {
        let mut health = Health::default();
        for _ in 0..1000 {
            assert_eq!(health.observe(&Trouble::Bad), Verdict::Stay);
            (0..BAD_WEIGHT).for_each(|_| health.went_well());
        }
        assert_eq!(nth(&mut health, 16, &Trouble::Bad), off(30, true, false, true));
    }

    #[test]
    fn what_cannot_be_opened_is_begun_anew_the_next_time_and_told_of_once() {
        let mut health = Health::default();
        let trouble = Trouble::NotOpened("bad".to_owned());
        assert_eq!(health.observe(&trouble), off(30, true, false, true));
        assert_eq!(health.observe(&trouble), off(60, false, false, false));
        assert_eq!(health.observe(&trouble), off(120, false, false, true));
        assert!(health.opened(), "it was told of");
    }
}
