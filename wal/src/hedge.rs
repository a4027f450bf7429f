//! When a second PUT of the same object is worth sending: how long PUTs of its size have taken of late, and how many
//! hedges that leaves room for.

use std::{collections::VecDeque, time::Duration};

/// Durations that are remembered per class of size.
const REMEMBERED: usize = 256;
/// Fewer than this say nothing about a P99.
const MEANINGFUL: usize = 32;
/// Upper bounds in bytes of the classes of size. The last class has none.
const CLASSES: [u64; 3] = [256 << 10, 2 << 20, 6 << 20];
/// A hedge is allowed for this many PUTs, so that a store that is slow as a whole isn't given twice the work.
const PUTS_PER_HEDGE: u32 = 10;
/// Hedges that may be saved up.
const SAVED_HEDGES: u32 = 10;

/// What recent PUTs say about when to hedge.
#[derive(Debug)]
pub(crate) struct HedgePolicy {
    bounds: (Duration, Duration),
    recent: [VecDeque<Duration>; CLASSES.len() + 1],
    /// In units of `1 / PUTS_PER_HEDGE` hedges.
    allowance: u32,
}

impl HedgePolicy {
    /// Hedges go out between `min` and `max` after the first PUT.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            bounds: (min.min(max), max),
            recent: Default::default(),
            allowance: SAVED_HEDGES * PUTS_PER_HEDGE,
        }
    }

    /// How long the first PUT of an object of `bytes` is waited for: the P99 of those of its size, within the bounds.
    pub fn delay(&self, bytes: u64) -> Duration {
        let (min, max) = self.bounds;
        let recent = &self.recent[class(bytes)];
        if recent.len() < MEANINGFUL {
            return max;
        }
        let mut sorted: Vec<_> = recent.iter().copied().collect();
        let rank = sorted.len() * 99 / 100;
        let (_, p99, _) = sorted.select_nth_unstable(rank);
        (*p99).clamp(min, max)
    }

    /// A first PUT of `bytes` took `duration`, or at least that long, if its hedge was answered before it.
    pub fn observe(&mut self, bytes: u64, duration: Duration) {
        let recent = &mut self.recent[class(bytes)];
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(duration);
        self.allowance = (self.allowance + 1).min(SAVED_HEDGES * PUTS_PER_HEDGE);
    }

    /// Whether one more hedge leaves hedges rare; takes it into account if so.
    pub fn try_take(&mut self) -> bool {
        let allowed = self.allowance >= PUTS_PER_HEDGE;
        if allowed {
            self.allowance -= PUTS_PER_HEDGE;
        }
        allowed
    }
}

fn class(bytes: u64) -> usize {
    CLASSES.partition_point(|bound| *bound < bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_millis(400);

    fn policy_after(durations: impl Iterator<Item = u64>) -> HedgePolicy {
        let mut policy = HedgePolicy::new(MIN, MAX);
        durations.for_each(|ms| policy.observe(1000, Duration::from_millis(ms)));
        policy
    }

    #[test]
    fn the_first_puts_are_waited_for_as_long_as_allowed() {
        assert_eq!(policy_after(std::iter::repeat_n(20, MEANINGFUL - 1)).delay(1000), MAX);
    }

    #[test]
    fn the_delay_is_the_p99_of_recent_puts_of_similar_size() {
        let policy = policy_after((0..200).map(|at| if at < 197 { 20 } else { 150 }));
        assert_eq!(policy.delay(1000), Duration::from_millis(150));
        assert_eq!(policy.delay(8 << 20), MAX, "nothing is known of large objects");
    }

    #[test]
    fn the_delay_stays_within_its_bounds() {
        assert_eq!(policy_after(std::iter::repeat_n(1, 100)).delay(1000), MIN);
        assert_eq!(policy_after(std::iter::repeat_n(5000, 100)).delay(1000), MAX);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let policy = policy_after(std::iter::repeat_n(300, 100).chain(std::iter::repeat_n(60, REMEMBERED)));
        assert_eq!(policy.delay(1000), Duration::from_millis(60));
    }

    #[test]
    fn a_store_that_is_slow_as_a_whole_gets_a_tenth_more_puts_and_not_twice_as_many() {
        let mut policy = HedgePolicy::new(MIN, MAX);
        let hedges = (0..1000).filter(|_| {
            policy.observe(1000, MAX);
            policy.try_take()
        });
        assert_eq!(hedges.count(), 100 + SAVED_HEDGES as usize - 1);
    }
}
