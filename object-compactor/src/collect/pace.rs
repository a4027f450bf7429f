//! When the collector looks next: seldom enough that a bucket costs next to nothing while the broker is idle, more often the more it
//! writes. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// An idle broker looks this often: 20 requests an hour …
const IDLE: Duration = Duration::from_secs(180);
/// … and a busy one no more often than this.
const BUSY: Duration = Duration::from_secs(5);
/// In between, of so many requests to the store one is a look.
const REQUESTS: u64 = 100;

/// The last look.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    at: Instant,
    requests: u64,
}

impl Pace {
    /// As if there had been a look at `now`, when `requests` had been made in all.
    pub fn new(now: Instant, requests: u64) -> Self {
        Self { at: now, requests }
    }

    /// How long to wait before asking again.
    pub fn interval() -> Duration {
        BUSY
    }

    /// Whether to look now, given the number of requests to the store so far; if so, it is the last look from here on.
    pub fn is_due(&mut self, now: Instant, requests: u64) -> bool {
        let since = now.saturating_duration_since(self.at);
        let made = requests.saturating_sub(self.requests);
        let due = since >= IDLE || (since >= BUSY && made >= REQUESTS);
        if due {
            *self = Self::new(now, requests);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_broker_looks_twenty_times_an_hour_and_one_request_in_a_hundred_of_a_busy_one_is_a_look() {
        for (requests_a_second, expected) in [(0, 20), (1, 3600 / 100), (10, 360), (1000, 720)] {
            let start = Instant::now();
            let mut pace = Pace::new(start, 0);
            let is_due =
                |second: &u64| pace.is_due(start + Duration::from_secs(*second), second * requests_a_second);
            assert_eq!((1..=3600).filter(is_due).count(), expected, "{requests_a_second} requests a second");
        }
    }
}
