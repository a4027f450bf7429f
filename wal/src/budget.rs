//! The budget of PUTs: a token bucket that bounds what the object store charges for requests.

use std::time::Duration;
use tokio::time::Instant;

/// Tokens that cuts for size and hedges may owe. So small that, after a burst of full objects, the next small one waits for
/// two tokens at most.
const MAX_DEBT: u32 = 1;
/// Without a limit, how far apart objects that aren't full are cut while others are in flight. A tiny object for each batch
/// would cost more in work than it saves in waiting.
const UNLIMITED_SPACING: Duration = Duration::from_millis(1);
/// While tokens are scarce, an object is cut after this part of a period without a further batch …
const PAUSE_PART: u32 = 5;
/// … or this part of a period after its first.
const COLLECT_PART: u32 = 2;
/// The slowest rate: one token in this long.
const MAX_PERIOD: Duration = Duration::from_secs(3600);

/// A token bucket, kept as the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371): exact,
/// and nothing has to run for it to refill.
#[derive(Debug)]
pub(crate) struct PutBudget {
    limit: Option<Limit>,
    /// All times are durations since this.
    epoch: Instant,
    full_at: Duration,
    last_draw: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Time in which one token comes.
    period: Duration,
    /// Tokens that the full bucket holds.
    burst: u32,
}

impl PutBudget {
    /// A full bucket of `burst` tokens (at least one) that gains `rate` of them a second; without a rate, no limit.
    pub fn new(rate: Option<f64>, burst: u32, now: Instant) -> Self {
        let limit = rate.map(|rate| Limit { period: period(rate), burst: burst.max(1) });
        Self { limit, epoch: now, full_at: Duration::ZERO, last_draw: None }
    }

    /// When the next token is (or was) there to be drawn.
    pub fn token_at(&self) -> Instant {
        self.epoch + self.available_from(0)
    }

    /// When the next token is due for an object that could also wait for the one in flight: a token must be there, and the
    /// last one must have been replaced. So the burst is spent where it saves a whole wait, not as soon as it is there.
    pub fn next_token_at(&self) -> Instant {
        let spacing = self.limit.map_or(UNLIMITED_SPACING, |limit| limit.period);
        let replaced = self.last_draw.map_or(Duration::ZERO, |last| last + spacing);
        self.epoch + replaced.max(self.available_from(0))
    }

    /// When an object that could be cut at `due` is to be cut, if its first batch came at `first` and its latest at `latest`.
    ///
    /// While less than half of the burst is left, every token counts: producers that were just answered send again, one
    /// request after the other, and a cut at the first of them would make the others wait for the next token. So the object
    /// waits for a pause, and no longer than a part of a period.
    pub fn collect_until(&self, due: Instant, first: Instant, latest: Instant) -> Instant {
        let Some(Limit { period, burst }) = self.limit else { return due };
        let plenty = self.epoch + self.full_at.saturating_sub(period * (burst / 2));
        let pause = (latest + period / PAUSE_PART).min(first + period / COLLECT_PART);
        due.max(pause.min(plenty))
    }

    /// Takes a token if one is there.
    pub fn try_draw(&mut self, now: Instant) -> bool {
        let there = now >= self.token_at();
        if there {
            self.overdraw(now);
        }
        there
    }

    /// Takes a token for a hedge, on credit if need be: under a steady load every token is drawn the moment it comes, and
    /// none would ever be left for a hedge.
    pub fn try_draw_hedge(&mut self, now: Instant) -> bool {
        let allowed = now >= self.epoch + self.available_from(MAX_DEBT);
        if allowed {
            let last_draw = self.last_draw;
            self.overdraw(now);
            self.last_draw = last_draw;
        }
        allowed
    }

    /// Takes a token whether one is there or not; the debt is bounded.
    pub fn overdraw(&mut self, now: Instant) {
        let now = now - self.epoch;
        self.last_draw = Some(now);
        if let Some(Limit { period, burst }) = self.limit {
            let most = now + period * (burst + MAX_DEBT);
            self.full_at = (self.full_at.max(now) + period).min(most);
        }
    }

    /// Since when a token may be drawn, if `credit` may be owed after it.
    fn available_from(&self, credit: u32) -> Duration {
        match self.limit {
            Some(Limit { period, burst }) => self.full_at.saturating_sub(period * (burst - 1 + credit)),
            None => Duration::ZERO,
        }
    }
}

/// A rate of nothing, or less, is the slowest one.
fn period(rate: f64) -> Duration {
    Duration::try_from_secs_f64(rate.recip()).map_or(MAX_PERIOD, |period| period.min(MAX_PERIOD))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    fn budget(burst: u32) -> (PutBudget, Instant) {
        let now = Instant::now();
        (PutBudget::new(Some(20.0), burst, now), now)
    }

    #[test]
    fn a_full_bucket_gives_its_burst_at_once_and_then_one_token_a_period() {
        let (mut budget, start) = budget(3);
        assert_eq!((0..5).filter(|_| budget.try_draw(start)).count(), 3);
        assert_eq!(budget.token_at(), start + PERIOD);
        assert!(!budget.try_draw(start + PERIOD - Duration::from_nanos(1)));
        assert!(budget.try_draw(start + PERIOD));
        assert!(!budget.try_draw(start + PERIOD));
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        let (mut budget, start) = budget(3);
        let much_later = start + PERIOD * 1000;
        assert_eq!((0..5).filter(|_| budget.try_draw(much_later)).count(), 3);
    }

    #[test]
    fn over_a_long_time_no_more_is_drawn_than_the_rate_allows() {
        let (mut budget, start) = budget(10);
        let drawn = (0..10_000).filter(|ms| budget.try_draw(start + Duration::from_millis(*ms))).count();
        assert_eq!(drawn, 10 + 9_999 / 50);
    }

    #[test]
    fn full_objects_are_never_held_and_leave_a_bounded_debt() {
        let (mut budget, start) = budget(2);
        (0..100).for_each(|_| budget.overdraw(start));
        assert_eq!(budget.token_at(), start + PERIOD * (1 + MAX_DEBT));
    }

    #[test]
    fn while_uploads_are_in_flight_tokens_are_spent_one_period_apart_though_more_are_there() {
        let (mut budget, start) = budget(40);
        assert_eq!(budget.next_token_at(), start);
        assert!(budget.try_draw(start));
        assert_eq!(budget.token_at(), start);
        assert_eq!(budget.next_token_at(), start + PERIOD);
    }

    #[test]
    fn while_tokens_are_scarce_an_object_waits_for_a_pause_but_not_for_long() {
        let (mut budget, start) = budget(4);
        let collect_until =
            |budget: &PutBudget, first, latest| budget.collect_until(start, start + first, start + latest);
        let ms = Duration::from_millis;
        (0..2).for_each(|_| assert!(budget.try_draw(start)));
        assert_eq!(collect_until(&budget, ms(0), ms(0)), start, "half of the burst is left");
        assert!(budget.try_draw(start));
        assert_eq!(collect_until(&budget, ms(0), ms(7)), start + ms(7) + PERIOD / PAUSE_PART);
        assert_eq!(collect_until(&budget, ms(0), ms(24)), start + PERIOD / COLLECT_PART);
        assert_eq!(collect_until(&budget, ms(40), ms(48)), start + PERIOD, "by then there are plenty");
        let due = start + ms(30);
        assert_eq!(budget.collect_until(due, start, start + ms(20)), due, "the pause is over");
    }

    #[test]
    fn hedges_may_owe_as_much_as_full_objects_and_no_more() {
        let (mut budget, start) = budget(2);
        assert_eq!((0..100).filter(|_| budget.try_draw_hedge(start)).count(), 2 + MAX_DEBT as usize);
        assert!(!budget.try_draw(start + PERIOD));
        assert!(budget.try_draw(start + PERIOD * 2));
    }

    #[test]
    fn without_a_limit_a_token_is_always_there_and_parallel_cuts_are_still_spaced() {
        let start = Instant::now();
        let mut budget = PutBudget::new(None, 0, start);
        assert!((0..1000).all(|_| budget.try_draw(start) && budget.try_draw_hedge(start)));
        assert_eq!(budget.next_token_at(), start + UNLIMITED_SPACING);
    }

    #[test]
    fn a_rate_that_makes_no_sense_is_the_slowest_one() {
        for rate in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(period(rate), MAX_PERIOD, "rate {rate}");
        }
    }
}
