//! Which log is cleaned next, from where to where, and which of its segments become one. Pure.

use std::ops::Range;
use thalweg_metadata::LogSegmentRecord;
use thalweg_segment::{LogId, OBJECT_HEADER_LEN, Offset};

/// Segments that one commit replaces at most: each costs two of a transaction's operations.
const SEGMENTS_AT_ONCE: usize = 32;

/// A log's settings, as Kafka calls them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanSettings {
    /// `min.cleanable.dirty.ratio`: a larger part of the log than this must be dirty.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: what is newer is left alone.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: where something dirty is older, the ratio is not asked for.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

/// A log that may be cleaned.
#[derive(Clone, Debug)]
pub struct LogToClean {
    /// Which.
    pub log: LogId,
    /// Its adjacent log segments, from where it begins on. What lies in objects with other logs is not for the cleaner.
    pub segments: Vec<LogSegmentRecord>,
    /// Where readers begin: nothing below counts.
    pub start: Offset,
    /// Its last stable offset.
    pub last_stable: Offset,
    /// When the first record that is not clean was written, if that was looked for: only `max.compaction.lag.ms` needs it.
    pub first_dirty_ms: Option<i64>,
    /// Its settings.
    pub settings: CleanSettings,
}

/// What of a log can be cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    /// How far it is clean.
    pub from: Offset,
    /// How far it can be cleaned: the end of a segment.
    pub end: Offset,
    /// Number of segments up to there.
    pub segments: usize,
    /// Bytes that are clean.
    pub clean_bytes: u64,
    /// Bytes that can be cleaned.
    pub dirty_bytes: u64,
    /// It must be cleaned now, whatever the ratio.
    pub overdue: bool,
}

impl LogToClean {
    /// How far the log is clean.
    pub fn cleaned_to(&self) -> Offset {
        let first = self.segments.first().map_or(Offset(0), |first| first.base_offset);
        let start = first.max(self.start);
        self.segments.iter().map(|segment| segment.cleaned_to).fold(start, Offset::max)
    }

    /// What can be cleaned at `now_ms`; none where nothing is dirty.
    pub fn cleanable(&self, now_ms: i64) -> Option<Cleanable> {
        let from = self.cleaned_to();
        let settings = &self.settings;
        let too_new = |segment: &LogSegmentRecord| {
            settings.min_lag_ms > 0
                && segment.end_offset > from
                && segment.max_timestamp > now_ms.saturating_sub(settings.min_lag_ms)
        };
        let decided = |segment: &LogSegmentRecord| segment.end_offset <= self.last_stable;
        let cleanable = self.segments.iter().take_while(|segment| decided(segment) && !too_new(segment));
        let segments = cleanable.count();
        let end = segments.checked_sub(1).map(|last| self.segments[last].end_offset)?;
        if end <= from {
            return None;
        }
        let (clean, dirty): (Vec<_>, Vec<_>) =
            self.segments[..segments].iter().partition(|segment| segment.end_offset <= from);
        let latest = now_ms.saturating_sub(settings.max_lag_ms.max(0));
        Some(Cleanable {
            from,
            end,
            segments,
            clean_bytes: clean.into_iter().map(data_bytes).sum(),
            dirty_bytes: dirty.into_iter().map(data_bytes).sum(),
            // As in Kafka, what has no time of its own is never overdue.
            overdue: self.first_dirty_ms.is_some_and(|first| 0 < first && first < latest),
        })
    }

    /// Whether it is to be cleaned.
    pub fn is_due(&self, cleanable: &Cleanable) -> bool {
        cleanable.overdue || cleanable.ratio() > self.settings.min_dirty_ratio
    }

    /// The ratio of the dirtiest of `logs`, whether it is to be cleaned or not.
    pub fn highest_ratio(logs: &[Self], now_ms: i64) -> f64 {
        let ratios = logs.iter().filter_map(|log| Some(log.cleanable(now_ms)?.ratio()));
        ratios.fold(0.0, f64::max)
    }

    /// Of logs that are to be cleaned, the dirtiest.
    pub fn dirtiest(logs: &[Self], now_ms: i64) -> Option<(&Self, Cleanable)> {
        logs.iter()
            .filter_map(|log| Some((log, log.cleanable(now_ms)?)))
            .filter(|(log, cleanable)| log.is_due(cleanable))
            .max_by(|(_, a), (_, b)| a.ratio().total_cmp(&b.ratio()))
    }
}

impl Cleanable {
    /// Which part of what can be looked at is dirty, 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }
}

/// Bytes of a segment's batches and state.
fn data_bytes(segment: &LogSegmentRecord) -> u64 {
    segment.shape.index_position.saturating_sub(OBJECT_HEADER_LEN as u64)
}

/// Which adjacent ones of `segments` become one: no more than `bytes` together, unless a single one has more.
pub fn groups(segments: &[LogSegmentRecord], bytes: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut size = 0;
    for (at, segment) in segments.iter().enumerate() {
        size += data_bytes(segment);
        match groups.last_mut() {
            Some(group) if size <= bytes && group.len() < SEGMENTS_AT_ONCE => group.end = at + 1,
            _ => {
                size = data_bytes(segment);
                groups.push(at..at + 1);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_metadata::ObjectShape;
    use thalweg_segment::SegmentId;

    const SETTINGS: CleanSettings =
        CleanSettings { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX, delete_retention_ms: 0 };

    fn segment(base: i64, end: i64, bytes: u64) -> LogSegmentRecord {
        LogSegmentRecord {
            log: LogId(1),
            base_offset: Offset(base),
            end_offset: Offset(end),
            max_timestamp: end,
            id: SegmentId { number: base as u64, ..SegmentId::default() },
            shape: ObjectShape { size: bytes + 100, index_position: bytes + 8, index_size: 28 },
            cleaned_to: Offset(0),
        }
    }

    /// Segments of ten offsets and ten bytes each, from 10 on.
    fn log(segments: i64, cleaned_to: i64) -> LogToClean {
        let mut segments: Vec<_> = (1..=segments).map(|at| segment(at * 10, at * 10 + 10, 10)).collect();
        segments[0].cleaned_to = Offset(cleaned_to);
        LogToClean {
            log: LogId(1),
            segments,
            start: Offset(0),
            last_stable: Offset(i64::MAX),
            first_dirty_ms: None,
            settings: SETTINGS,
        }
    }

    fn range(log: &LogToClean, now_ms: i64) -> Option<(i64, i64)> {
        log.cleanable(now_ms).map(|cleanable| (cleanable.from.0, cleanable.end.0))
    }

    #[test]
    fn a_log_that_was_never_cleaned_is_dirty_from_its_start() {
        assert_eq!(range(&log(3, 0), 0), Some((10, 40)));
        assert_eq!(log(3, 0).cleanable(0).map(|cleanable| cleanable.ratio()), Some(1.0));
    }

    #[test]
    fn what_lies_below_the_logs_start_is_not_dirty() {
        assert_eq!(range(&LogToClean { start: Offset(25), ..log(3, 0) }, 0), Some((25, 40)));
        assert_eq!(range(&LogToClean { start: Offset(40), ..log(3, 0) }, 0), None);
    }

    #[test]
    fn a_segment_that_reaches_beyond_the_last_stable_offset_is_left_alone() {
        let log = |last_stable| LogToClean { last_stable: Offset(last_stable), ..log(3, 0) };
        assert_eq!(range(&log(40), 0), Some((10, 40)));
        assert_eq!(range(&log(39), 0), Some((10, 30)));
        assert_eq!(range(&log(10), 0), None);
    }

    #[test]
    fn what_is_newer_than_the_lag_and_what_lies_behind_it_is_left_alone() {
        let settings = CleanSettings { min_lag_ms: 5, ..SETTINGS };
        let log = LogToClean { settings, ..log(3, 0) };
        assert_eq!(range(&log, 45), Some((10, 40)));
        assert_eq!(range(&log, 44), Some((10, 30)));
        assert_eq!(range(&log, 0), None);
    }

    #[test]
    fn what_is_clean_may_be_as_new_as_it_likes() {
        let settings = CleanSettings { min_lag_ms: 5, ..SETTINGS };
        let mut log = LogToClean { settings, ..log(3, 20) };
        log.segments[0].max_timestamp = 1_000;
        assert_eq!(range(&log, 45), Some((20, 40)));
    }

    #[test]
    fn more_than_the_ratio_must_be_dirty_unless_something_is_overdue() {
        let half = log(2, 20);
        let cleanable = half.cleanable(0).unwrap();
        assert_eq!((cleanable.clean_bytes, cleanable.dirty_bytes), (10, 10));
        assert!(!half.is_due(&cleanable), "half is not more than half");
        let more = log(3, 20);
        assert!(more.is_due(&more.cleanable(0).unwrap()));
        let settings = CleanSettings { max_lag_ms: 100, ..SETTINGS };
        let overdue = |now| {
            let log = LogToClean { settings, first_dirty_ms: Some(7), ..log(2, 20) };
            log.cleanable(now).unwrap().overdue
        };
        assert_eq!((overdue(107), overdue(108)), (false, true));
    }

    #[test]
    fn the_dirtiest_log_is_first_and_clean_ones_are_none() {
        let logs = [log(3, 40), log(4, 20), log(9, 20)];
        let (dirtiest, _) = LogToClean::dirtiest(&logs, 0).unwrap();
        assert_eq!(dirtiest.segments.len(), 9);
        assert!(LogToClean::dirtiest(&logs[..1], 0).is_none());
    }

    #[test]
    fn a_round_that_ended_within_a_segment_goes_on_there() {
        let log = log(3, 25);
        let cleanable = log.cleanable(0).unwrap();
        assert_eq!((cleanable.from, cleanable.end), (Offset(25), Offset(40)));
        assert_eq!((cleanable.clean_bytes, cleanable.dirty_bytes), (10, 20));
    }

    #[test]
    fn small_segments_become_one_and_large_ones_stay_alone() {
        let sizes = [3, 3, 5, 20, 1, 1];
        let segments: Vec<_> = (0..).zip(sizes).map(|(at, bytes)| segment(at, at + 1, bytes)).collect();
        assert_eq!(groups(&segments, 10), [0..2, 2..3, 3..4, 4..6]);
        let many: Vec<_> = (0..70).map(|at| segment(at, at + 1, 0)).collect();
        assert_eq!(groups(&many, 10), [0..32, 32..64, 64..70]);
        assert_eq!(groups(&[], 10), Vec::<Range<usize>>::new());
    }
}
