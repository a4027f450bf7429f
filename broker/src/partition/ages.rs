//! Turns time into offsets: below which offset everything in a log was appended a certain time ago.
//!
//! By the time of the append, as this process has seen it. Kafka goes by the timestamps of a producer's batches, and forgets
//! one that copies old records while it writes; what it then repeats is appended twice. Time goes on monotonically here, and a log
//! that is opened begins anew: what it held then counts as appended at that moment. So a producer may be known for longer than
//! it need be, never shorter, whatever clocks say and however often a log changes its owner.

use std::{collections::VecDeque, time::Duration};
use thalweg_segment::Offset;
use tokio::time::Instant;

/// An age is told at most this part of it too high.
const PARTS: u32 = 8;

/// When a log ended where, now and then.
#[derive(Debug, Default)]
pub struct Ages {
    /// Rising in both.
    marks: VecDeque<(Instant, Offset)>,
}

impl Ages {
    /// At `now` the log ends at `end`. Returns the offset below which everything is at least `age` old.
    pub fn pass(&mut self, now: Instant, end: Offset, age: Duration) -> Offset {
        self.mark(now, end, age);
        let mut older = Offset(0);
        while let Some((_, end)) = self.marks.pop_front_if(|(at, _)| now.duration_since(*at) >= age) {
            older = end;
        }
        older
    }

    /// A few marks are enough, and none where nothing was appended since the last.
    fn mark(&mut self, now: Instant, end: Offset, age: Duration) {
        let due = |(at, marked): &(Instant, Offset)| *marked < end && now.duration_since(*at) >= age / PARTS;
        if self.marks.back().is_none_or(due) {
            self.marks.push_back((now, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn what_is_old_enough_is_told_and_never_what_is_younger() {
        let (mut ages, age) = (Ages::default(), 24 * HOUR);
        let mut ends = Vec::new();
        let mut told = Offset(0);
        for hour in 0..100 {
            let (now, end) = (Instant::now(), Offset(10 * hour));
            ends.push((now, end));
            told = told.max(ages.pass(now, end, age));
            let younger = ends.iter().find(|(at, _)| now.duration_since(*at) < age).map(|(_, end)| *end);
            assert!(younger.is_none_or(|younger| told <= younger), "hour {hour}: {told}");
            assert!(hour < 28 || told >= Offset(10 * (hour - 27)), "hour {hour}: {told}");
            assert!(ages.marks.len() <= PARTS as usize + 1);
            tokio::time::advance(HOUR).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_nobody_writes_to_grows_old_once() {
        let mut ages = Ages::default();
        assert_eq!(ages.pass(Instant::now(), Offset(7), HOUR), Offset(0));
        tokio::time::advance(HOUR).await;
        assert_eq!(ages.pass(Instant::now(), Offset(7), HOUR), Offset(7));
    }
}
