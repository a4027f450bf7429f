//! How long an object of many bytes waits for more, where PUTs cost no money but work.
//!
//! A producer with several large requests in flight fills an object by itself, if it is left open until they are all in. One
//! that waits for each acknowledgement before it sends again would only lose by that. Which of the two it is shows in what
//! came last time: an object waits until it has as much as the last one had. Now and then one waits for whatever comes, to
//! find out whether that has become more.

use std::time::Duration;
use tokio::time::Instant;

/// Objects of fewer bytes never wait.
const BULK: usize = 256 << 10;
/// An object that waits for more is cut after so long without a further batch …
const PAUSE: Duration = Duration::from_millis(8);
/// … or so long after its first.
const LONGEST: Duration = Duration::from_millis(25);
/// One object in so many waits for whatever comes.
const PROBE_EVERY: u32 = 32;

/// What the last objects had.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Bytes that are worth waiting for.
    expected: usize,
    /// Objects until the next that waits for whatever comes.
    until_probe: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { expected: 0, until_probe: PROBE_EVERY }
    }
}

impl Gathering {
    /// Whether an object of `bytes` has all that is expected.
    pub fn is_enough(&self, bytes: usize) -> bool {
        bytes >= self.expected
    }

    /// Until when an object of `bytes` is left open, unless it is small or has enough.
    pub fn until(&self, bytes: usize, first: Instant, latest: Instant) -> Option<Instant> {
        let waits = bytes >= BULK && !self.is_enough(bytes);
        waits.then(|| (latest + PAUSE).min(first + LONGEST))
    }

    /// An object of `bytes` was cut.
    pub fn cut(&mut self, bytes: usize) {
        if bytes < BULK {
            return;
        }
        self.until_probe -= 1;
        self.expected = bytes;
        if self.until_probe == 0 {
            *self = Self { expected: usize::MAX, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// After as many objects as it takes for one to wait for whatever comes.
    fn probing(bytes: usize) -> Gathering {
        let mut gathering = Gathering::default();
        (0..PROBE_EVERY).for_each(|_| gathering.cut(bytes));
        gathering
    }

    #[test]
    fn small_objects_never_wait() {
        let now = Instant::now();
        assert_eq!(probing(MIB).until(BULK - 1, now, now), None);
        let mut gathering = Gathering::default();
        (0..10 * PROBE_EVERY).for_each(|_| gathering.cut(BULK - 1));
        assert_eq!(gathering.until(BULK, now, now), None);
    }

    #[test]
    fn who_waits_for_each_acknowledgement_is_held_up_once_in_many_times() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        let waited = (0..10 * PROBE_EVERY).filter(|_| {
            let waits = gathering.until(MIB, now, now).is_some();
            gathering.cut(MIB);
            waits
        });
        assert!((1..=10).contains(&waited.count()));
    }

    #[test]
    fn an_object_waits_for_as_much_as_the_last_one_had_but_not_for_long() {
        let start = Instant::now();
        let mut gathering = probing(MIB);
        assert_eq!(gathering.until(3 * MIB, start, start), Some(start + PAUSE));
        gathering.cut(4 * MIB);
        let latest = start + PAUSE / 2;
        assert_eq!(gathering.until(3 * MIB, start, latest), Some(latest + PAUSE));
        assert_eq!(gathering.until(3 * MIB, start, start + LONGEST), Some(start + LONGEST));
        assert_eq!(gathering.until(4 * MIB, start, latest), None);
        // What came was less: the next one waits for no more than that.
        gathering.cut(2 * MIB);
        assert_eq!(gathering.until(2 * MIB, start, latest), None);
    }
}
