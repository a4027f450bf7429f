//! What Kafka checks of the records that a client produces, beyond their batch's checksum (its `LogValidator`).

use crate::errors::ErrorCode;
use crate::record_heads::{RecordHead, UnpackError};

/// Kafka's mark of a record without a timestamp.
const NO_TIMESTAMP: i64 = -1;
/// Rejections that are told one by one; a batch may have millions.
const MAX_REJECTIONS: usize = 1000;

/// What the header of a produced batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Last record's offset less the first one's.
    pub last_offset_delta: i32,
    /// Number of records.
    pub record_count: i32,
    /// What the records' timestamps are told from, in milliseconds.
    pub base_timestamp: i64,
    /// Whether timestamps are said to be those of the append.
    pub append_time: bool,
    /// Whether the batch holds control records.
    pub control: bool,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
}

/// What a topic asks of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// `message.timestamp.type=CreateTime`: producers' timestamps are kept, and held to the two limits.
    pub create_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
    /// `cleanup.policy` has `compact`: records need keys.
    pub keys_required: bool,
}

/// What valid records turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsFacts {
    /// The highest timestamp, in milliseconds; -1 if no record has one. To be the batch's max timestamp.
    pub max_timestamp: i64,
    /// Offset delta of the first record that has it.
    pub max_timestamp_delta: i32,
    /// Whether offset deltas are 0, 1, 2 … If not, [`crate::renumber`] makes them so, as Kafka does (old clients).
    pub consecutive: bool,
}

/// Why a batch can't be appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// The last offset delta isn't the count less one, or there are no records.
    #[error("the batch says {count} records, and a last offset delta of {last_offset_delta}")]
    BadCount {
        /// Count of records.
        count: i32,
        /// Last offset delta.
        last_offset_delta: i32,
    },
    /// Only brokers write control records.
    #[error("Clients are not allowed to write control records")]
    Control,
    /// A producer id without a sequence number.
    #[error("Invalid sequence number {base_sequence} in record batch with producerId {producer_id}")]
    BadSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence number.
        base_sequence: i32,
    },
    /// Not the records that the header promises.
    #[error(transparent)]
    Malformed(#[from] UnpackError),
    /// Some records break the topic's rules; the whole batch is refused (KIP-467).
    #[error("{}", rejected_message(.0, *.1))]
    Rejected(Vec<Rejection>, usize),
}

/// One record that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Position in the batch, for `batch_index` of the response.
    pub index: i32,
    /// The rule, for `batch_index_error_message`.
    pub rule: BrokenRule,
}

/// A rule that a record may break. The messages are for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenRule {
    /// On a compacted topic.
    #[error("Compacted topic cannot accept message without key")]
    NoKey,
    /// Too far from the broker's clock.
    #[error(
        "Timestamp {timestamp} of message is out of range. The timestamp should be within [{first}, {last}]"
    )]
    Timestamp {
        /// The record's.
        timestamp: i64,
        /// First that is allowed.
        first: i64,
        /// Last that is allowed.
        last: i64,
    },
    /// The batch says LogAppendTime, which is for the broker to say.
    #[error("Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime")]
    AppendTime,
}

fn rejected_message(rejections: &[Rejection], count: usize) -> String {
    if rejections.iter().any(Rejection::is_of_timestamp) {
        return "One or more records have been rejected due to invalid timestamp".into();
    }
    let line = |rejection: &Rejection| format!("record {}: {}", rejection.index, rejection.rule);
    let first: Vec<_> = rejections.iter().take(3).map(line).collect();
    format!(
        "One or more records have been rejected due to {count} record errors in total, \
         and only showing the first three errors at most: [{}]",
        first.join(", ")
    )
}

impl Rejection {
    fn is_of_timestamp(&self) -> bool {
        !matches!(self.rule, BrokenRule::NoKey)
    }
}

impl ValidationError {
    /// The code for the response.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Rejected(rejections, _) if rejections.iter().any(Rejection::is_of_timestamp) => {
                ErrorCode::InvalidTimestamp
            }
            Self::Malformed(UnpackError::Compression(error)) => error.code(),
            _ => ErrorCode::InvalidRecord,
        }
    }

    /// The records to name in the response: at most 1000.
    pub fn rejections(&self) -> &[Rejection] {
        match self {
            Self::Rejected(rejections, _) => rejections,
            _ => &[],
        }
    }
}

/// Checks the header of a batch from a client. Needs no look at the records.
pub fn validate_batch(batch: &BatchFacts) -> Result<(), ValidationError> {
    let (count, last_offset_delta) = (batch.record_count, batch.last_offset_delta);
    if count <= 0 || last_offset_delta != count - 1 {
        return Err(ValidationError::BadCount { count, last_offset_delta });
    }
    if batch.control {
        return Err(ValidationError::Control);
    }
    if batch.producer_id >= 0 && batch.base_sequence < 0 {
        let (producer_id, base_sequence) = (batch.producer_id, batch.base_sequence);
        return Err(ValidationError::BadSequence { producer_id, base_sequence });
    }
    Ok(())
}

/// Checks the records of a batch, of which `heads` are what it holds, after [`validate_batch`].
pub fn validate_records<E: Into<UnpackError>>(
    batch: &BatchFacts,
    heads: impl Iterator<Item = Result<RecordHead, E>>,
    rules: &Rules,
) -> Result<RecordsFacts, ValidationError> {
    let mut facts = RecordsFacts { max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0, consecutive: true };
    let (mut rejections, mut rejected) = (Vec::new(), 0);
    for (index, record) in (0..).zip(heads) {
        let record = record.map_err(Into::into)?;
        let timestamp = batch.base_timestamp.saturating_add(record.timestamp_delta);
        if let Some(rule) = rules.broken_by(&record, timestamp, batch.append_time) {
            rejected += 1;
            rejections.extend((rejections.len() < MAX_REJECTIONS).then_some(Rejection { index, rule }));
        }
        facts.consecutive &= record.offset_delta == index;
        if timestamp > facts.max_timestamp {
            (facts.max_timestamp, facts.max_timestamp_delta) = (timestamp, index);
        }
    }
    if rejected == 0 { Ok(facts) } else { Err(ValidationError::Rejected(rejections, rejected)) }
}

impl Rules {
    fn broken_by(&self, record: &RecordHead, timestamp: i64, append_time: bool) -> Option<BrokenRule> {
        if self.keys_required && !record.has_key {
            return Some(BrokenRule::NoKey);
        }
        if append_time {
            return Some(BrokenRule::AppendTime);
        }
        let out = self.create_time && timestamp != NO_TIMESTAMP && self.is_out_of_range(timestamp);
        out.then(|| BrokenRule::Timestamp {
            timestamp,
            first: self.now_ms.saturating_sub(self.before_max_ms),
            last: self.now_ms.saturating_add(self.after_max_ms),
        })
    }

    /// By the distance from now, which saturates: a limit of `i64::MAX` is none.
    fn is_out_of_range(&self, timestamp: i64) -> bool {
        self.now_ms.saturating_sub(timestamp) > self.before_max_ms
            || timestamp.saturating_sub(self.now_ms) > self.after_max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Record, RecordError, Records, put_record};

    const NOW: i64 = 1_000_000;
    const RULES: Rules = Rules {
        now_ms: NOW,
        create_time: true,
        before_max_ms: 1000,
        after_max_ms: 100,
        keys_required: false,
    };

    fn batch(count: i32) -> BatchFacts {
        BatchFacts {
            last_offset_delta: count - 1,
            record_count: count,
            base_timestamp: NOW,
            append_time: false,
            control: false,
            producer_id: -1,
            base_sequence: -1,
        }
    }

    fn records(records: &[Record<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|record| put_record(&mut out, record));
        out
    }

    fn validate(batch: &BatchFacts, records: &[u8], rules: &Rules) -> Result<RecordsFacts, ValidationError> {
        let records = Records::new(records, batch.record_count);
        validate_records(batch, records.map(|record| record.map(|record| RecordHead::from(&record))), rules)
    }

    fn at(offset_delta: i32, timestamp_delta: i64) -> Record<'static> {
        Record::new(offset_delta, timestamp_delta, None, Some(b"v"))
    }

    #[test]
    fn the_max_timestamp_is_that_of_the_first_record_that_has_it() {
        let bytes = records(&[at(0, 5), at(1, 9), at(2, 9), at(3, -7)]);
        let facts = RecordsFacts { max_timestamp: NOW + 9, max_timestamp_delta: 1, consecutive: true };
        assert_eq!(validate(&batch(4), &bytes, &RULES), Ok(facts));
    }

    #[test]
    fn timestamps_are_held_to_both_limits_and_named_one_by_one() {
        let bytes = records(&[at(0, 100), at(1, 101), at(2, -1000), at(3, -1001)]);
        let error = validate(&batch(4), &bytes, &RULES).expect_err("two are out of range");
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
        assert_eq!(error.rejections().iter().map(|one| one.index).collect::<Vec<_>>(), [1, 3]);
        assert!(error.to_string().ends_with("invalid timestamp"));

        let rules = Rules { create_time: false, ..RULES };
        assert!(validate(&batch(4), &bytes, &rules).is_ok());
    }

    #[test]
    fn limits_at_the_end_of_the_range_do_not_overflow() {
        let rules = Rules { before_max_ms: i64::MAX, after_max_ms: i64::MAX, ..RULES };
        let bytes = records(&[at(0, i64::MIN), at(1, i64::MAX)]);
        assert!(validate(&batch(2), &bytes, &rules).is_ok());
    }

    #[test]
    fn a_record_without_a_timestamp_passes() {
        let batch = BatchFacts { base_timestamp: -1, ..batch(1) };
        let facts = validate(&batch, &records(&[at(0, 0)]), &RULES).expect("no timestamp is fine");
        assert_eq!(facts.max_timestamp, -1);
    }

    #[test]
    fn compacted_topics_need_keys() {
        let bytes = records(&[Record::new(0, 0, Some(b""), None), at(1, 0)]);
        let rules = Rules { keys_required: true, ..RULES };
        let error = validate(&batch(2), &bytes, &rules).expect_err("the second has no key");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
        assert_eq!(error.rejections(), [Rejection { index: 1, rule: BrokenRule::NoKey }]);
    }

    #[test]
    fn producers_may_not_say_that_they_append() {
        let batch = BatchFacts { append_time: true, ..batch(1) };
        let error = validate(&batch, &records(&[at(0, 0)]), &RULES).expect_err("is the broker's to say");
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    }

    #[test]
    fn rejections_are_counted_but_not_all_kept() {
        let all: Vec<_> = (0..5000).map(|delta| at(delta, 0)).collect();
        let rules = Rules { keys_required: true, ..RULES };
        let error = validate(&batch(5000), &records(&all), &rules).expect_err("no keys");
        assert_eq!(error.rejections().len(), MAX_REJECTIONS);
        assert!(error.to_string().contains("5000 record errors"));
    }

    #[test]
    fn offsets_that_are_not_consecutive_are_told() {
        let bytes = records(&[at(0, 1), at(0, 2), at(7, 3)]);
        assert!(!validate(&batch(3), &bytes, &RULES).expect("valid").consecutive);
    }

    #[test]
    fn a_batch_header_must_make_sense() {
        assert_eq!(validate_batch(&batch(1)), Ok(()));
        let bad = [
            BatchFacts { record_count: 0, last_offset_delta: -1, ..batch(1) },
            BatchFacts { last_offset_delta: 1, ..batch(1) },
            BatchFacts { control: true, ..batch(1) },
            BatchFacts { producer_id: 4, ..batch(1) },
        ];
        for batch in bad {
            let error = validate_batch(&batch).expect_err("makes no sense");
            assert_eq!(error.code(), ErrorCode::InvalidRecord);
        }
    }

    #[test]
    fn fewer_records_than_the_header_says_are_invalid() {
        let error = validate(&batch(2), &records(&[at(0, 0)]), &RULES).expect_err("one is missing");
        assert_eq!(error, ValidationError::Malformed(RecordError::Truncated { index: 1 }.into()));
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}
