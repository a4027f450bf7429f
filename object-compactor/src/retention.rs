//! Which records of a log retention takes: Kafka's rules (`retention.ms`, `retention.bytes`), on pieces as large as the object
//! index knows. Pure.
//!
//! Kafka deletes whole segments, from the oldest on: first for as long as the log keeps `retention.bytes` without the next one,
//! then for as long as the newest record of the next one is older than `retention.ms`; and again at the next check. One pass
//! over the pieces, in which either reason suffices, comes to what repeated checks come to. A piece here is what an object holds of the
//! log, or a block of it, so less is kept beyond the limits than in segments of a gigabyte.

/// What a log is to keep. No limit keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Records older than this many milliseconds may go.
    pub ms: Option<u64>,
    /// What the log has beyond this many bytes may go.
    pub bytes: Option<u64>,
}

impl Limits {
    /// Whether anything may ever go.
    pub fn any(&self) -> bool {
        self.ms.is_some() || self.bytes.is_some()
    }
}

/// Consecutive records of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes that they take. No more than that, where it is not known exactly.
    pub bytes: u64,
    /// Highest timestamp of the records. No lower than that, where it is not known exactly; below 0 where they have none.
    pub max_timestamp: i64,
}

/// One check of one log.
#[derive(Clone, Debug)]
pub struct Retention {
    limits: Limits,
    now_ms: i64,
    log_bytes: u64,
}

impl Retention {
    /// A log of `log_bytes` bytes is checked at `now_ms`, milliseconds since the Unix epoch by the wall clock: producers' timestamps
    /// are compared with it, as in Kafka.
    pub fn new(limits: Limits, log_bytes: u64, now_ms: i64) -> Self {
        Self { limits, now_ms, log_bytes }
    }

    /// Whether the log's first piece goes; if so, the next one is the first from here on.
    pub fn takes(&mut self, first: &Piece) -> bool {
        let goes = self.would_take(first);
        if goes {
            self.log_bytes = self.log_bytes.saturating_sub(first.bytes);
        }
        goes
    }

    /// Whether the log's first piece goes.
    pub fn would_take(&self, first: &Piece) -> bool {
        self.is_beyond_size(first) || self.is_old(first)
    }

    fn is_beyond_size(&self, first: &Piece) -> bool {
        self.limits
            .bytes
            .is_some_and(|limit| self.log_bytes.checked_sub(first.bytes).is_some_and(|rest| rest >= limit))
    }

    /// Records without a timestamp have no age. Nor has one that is yet to come.
    fn is_old(&self, first: &Piece) -> bool {
        let age = self.now_ms.saturating_sub(first.max_timestamp);
        let age = u64::try_from(age).ok().filter(|_| first.max_timestamp >= 0);
        self.limits.ms.zip(age).is_some_and(|(limit, age)| age > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_000_000;

    fn check(limits: Limits, pieces: &[(u64, i64)]) -> usize {
        let pieces: Vec<_> =
            pieces.iter().map(|(bytes, at)| Piece { bytes: *bytes, max_timestamp: *at }).collect();
        let mut retention = Retention::new(limits, pieces.iter().map(|piece| piece.bytes).sum(), NOW);
        pieces.iter().take_while(|piece| retention.takes(piece)).count()
    }

    #[test]
    fn records_go_once_they_are_older_than_the_limit_and_not_before() {
        let limits = Limits { ms: Some(100), bytes: None };
        let pieces = [(1, NOW - 102), (1, NOW - 101), (1, NOW - 100), (1, NOW - 500)];
        assert_eq!(check(limits, &pieces), 2, "what is behind a newer record stays");
        assert_eq!(
            check(limits, &[(1, NOW + 5), (1, NOW - 500)]),
            0,
            "a timestamp of the future holds all up"
        );
        assert_eq!(check(limits, &[(1, -1)]), 0, "no timestamp, no age");
        assert_eq!(check(limits, &[(1, NOW - 500)]), 1, "the last one goes too");
        assert_eq!(check(Limits { ms: Some(0), bytes: None }, &[(1, NOW - 1), (1, NOW)]), 1);
    }

    #[test]
    fn a_log_keeps_at_least_as_many_bytes_as_its_limit() {
        let limits = |bytes| Limits { ms: None, bytes: Some(bytes) };
        let pieces = [(10, NOW), (10, NOW), (10, NOW)];
        for (limit, gone) in [(31, 0), (30, 0), (21, 0), (20, 1), (11, 1), (10, 2), (1, 2), (0, 3)] {
            assert_eq!(check(limits(limit), &pieces), gone, "{limit} bytes");
        }
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(check(Limits::default(), &[(1, 0), (1, 0)]), 0);
        assert!(!Limits::default().any());
    }

    /// Kafka's check: the size first, over the oldest that the log can spare, then the age, over the oldest that are left.
    fn kafkas(limits: Limits, pieces: &[(u64, i64)]) -> usize {
        let size: u64 = pieces.iter().map(|(bytes, _)| bytes).sum();
        let mut gone = 0;
        if let Some(limit) = limits.bytes.filter(|limit| size >= *limit) {
            let mut spare = size - limit;
            while let Some((bytes, _)) = pieces.get(gone).filter(|(bytes, _)| spare >= *bytes) {
                (spare, gone) = (spare - bytes, gone + 1);
            }
        }
        if let Some(limit) = limits.ms {
            let old = |(_, at): &&(u64, i64)| NOW - at > limit as i64;
            gone += pieces[gone..].iter().take_while(old).count();
        }
        gone
    }

    proptest! {
        #[test]
        fn one_check_takes_what_kafkas_repeated_checks_take(
            pieces in prop::collection::vec((1u64..20, NOW - 200..NOW + 50), 0..12),
            ms in prop::option::of(0u64..200),
            bytes in prop::option::of(0u64..150),
        ) {
            let limits = Limits { ms, bytes };
            let mut left = &pieces[..];
            loop {
                let gone = kafkas(limits, left);
                left = &left[gone..];
                if gone == 0 {
                    break;
                }
            }
            prop_assert_eq!(check(limits, &pieces), pieces.len() - left.len());
        }
    }
}
