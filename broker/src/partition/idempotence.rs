//! Whether a batch of an idempotent producer is the next, a repetition, or out of place (KIP-98, KIP-360).

use super::AppendError;
use thalweg_segment::{BatchEntry, LogState, ProducedBatch, ProducerState};

/// The epoch of a producer that has none, as only very odd ones do: its sequences aren't looked at.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of what coordinators write for a producer.
const NO_SEQUENCE: i32 = -1;
/// First version of the transaction protocol in which every transaction has an epoch of its own.
const EPOCH_BUMP: i16 = 2;

/// What a batch of an idempotent producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequencing {
    /// The next one: append it.
    Next,
    /// One that was appended before; its answer is that of the first copy.
    Duplicate(ProducedBatch),
}

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A newer life of the producer has written.
    #[error("epoch {epoch} of producer {producer} is older than the current epoch {current}")]
    StaleEpoch {
        /// Whose batch.
        producer: i64,
        /// Its epoch.
        epoch: i16,
        /// The newest seen.
        current: i16,
    },
    /// A batch before this one is missing.
    #[error("sequence {found} of producer {producer} does not follow {last}")]
    OutOfOrder {
        /// Whose batch.
        producer: i64,
        /// Its first sequence.
        found: i32,
        /// The last one appended, or -1.
        last: i32,
    },
    /// The producer isn't known, and may be one that was forgotten for want of memory.
    #[error("producer {producer} is not known any more: too many others have written since")]
    Evicted {
        /// Whose batch.
        producer: i64,
    },
    /// The producer has a transaction open in this partition.
    #[error("producer {producer} wrote outside of its open transaction")]
    NotInTransaction {
        /// Whose batch.
        producer: i64,
    },
}

/// Judges `entry` by what the log knows of its producer. Batches without a producer id are always next.
pub fn judge(state: &LogState, entry: &BatchEntry) -> Result<Sequencing, SequenceError> {
    if !entry.producer_id.is_some() {
        return Ok(Sequencing::Next);
    }
    match state.producers.get(entry.producer_id) {
        // A batch outside of transactions may be the repetition of one that was appended before its producer was evicted. (One
        // inside is of the producer's open transaction, and with that it would not have been evicted.)
        None if state.producers.may_be_evicted(entry.producer_id) && !entry.is_transactional() => {
            Err(SequenceError::Evicted { producer: entry.producer_id.0 })
        }
        // Nothing is known of the producer (any more): it is new, or it was silent for long enough.
        None => Ok(Sequencing::Next),
        Some(producer) => judge_known(producer, entry),
    }
}

/// Judges the marker that ends a transaction. From version 2 of the protocol on its epoch is higher than that of the batches,
/// so one that isn't is late; but the marker of a transaction that is over may come again (KIP-890).
pub fn judge_marker(state: &LogState, entry: &BatchEntry, version: i16) -> Result<(), AppendError> {
    let Some(known) = state.producers.get(entry.producer_id) else { return Ok(()) };
    let again = known.transaction_start.is_none() || entry.producer_epoch == i16::MAX;
    if entry.producer_epoch < known.epoch
        || version >= EPOCH_BUMP && entry.producer_epoch == known.epoch && !again
    {
        return Err(AppendError::Sequence(SequenceError::StaleEpoch {
            producer: entry.producer_id.0,
            epoch: entry.producer_epoch,
            current: known.epoch,
        }));
    }
    match entry.marker.map(|marker| marker.coordinator_epoch) {
        Some(epoch) if epoch < known.coordinator_epoch => {
            Err(AppendError::CoordinatorFenced { epoch, current: known.coordinator_epoch })
        }
        _ => Ok(()),
    }
}

fn judge_known(producer: &ProducerState, entry: &BatchEntry) -> Result<Sequencing, SequenceError> {
    let id = entry.producer_id.0;
    let has_sequence = entry.base_sequence != NO_SEQUENCE;
    if has_sequence && let Some(first) = find_duplicate(producer, entry) {
        return Ok(Sequencing::Duplicate(*first));
    }
    if entry.producer_epoch < producer.epoch {
        return Err(SequenceError::StaleEpoch {
            producer: id,
            epoch: entry.producer_epoch,
            current: producer.epoch,
        });
    }
    let last = last_sequence(producer, entry);
    if has_sequence && producer.epoch != NO_PRODUCER_EPOCH && !follows(last, entry.base_sequence) {
        return Err(SequenceError::OutOfOrder { producer: id, found: entry.base_sequence, last });
    }
    if producer.transaction_start.is_some() && !entry.is_transactional() {
        return Err(SequenceError::NotInTransaction { producer: id });
    }
    Ok(Sequencing::Next)
}

fn find_duplicate<'a>(producer: &'a ProducerState, entry: &BatchEntry) -> Option<&'a ProducedBatch> {
    if producer.epoch != entry.producer_epoch {
        return None;
    }
    let wanted = (entry.base_sequence, entry.last_sequence());
    producer.batches.iter().find(|batch| (batch.base_sequence, batch.last_sequence) == wanted)
}

/// A new epoch begins at sequence 0, as does an epoch that has only a marker so far.
fn last_sequence(producer: &ProducerState, entry: &BatchEntry) -> i32 {
    match producer.batches.back() {
        Some(last) if producer.epoch == entry.producer_epoch => last.last_sequence,
        _ => -1,
    }
}

fn follows(last: i32, next: i32) -> bool {
    match last.checked_add(1) {
        Some(expected) => next == expected,
        None => next == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_segment::{LeaderEpoch, Offset, ProducerId};

    fn entry(epoch: i16, base_sequence: i32, count: i32, offset: i64) -> BatchEntry {
        BatchEntry {
            base_offset: Offset(offset),
            last_offset_delta: count - 1,
            record_count: count,
            size: 100,
            leader_epoch: LeaderEpoch(0),
            attributes: 0,
            max_timestamp: 0,
            producer_id: ProducerId(7),
            producer_epoch: epoch,
            base_sequence,
            marker: None,
        }
    }

    fn state(entries: &[BatchEntry]) -> LogState {
        let mut state = LogState::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    #[test]
    fn the_following_sequence_is_next_and_a_gap_is_out_of_order() {
        let state = state(&[entry(0, 0, 3, 0)]);
        assert_eq!(judge(&state, &entry(0, 3, 1, 3)), Ok(Sequencing::Next));
        assert!(matches!(judge(&state, &entry(0, 4, 1, 3)), Err(SequenceError::OutOfOrder { last: 2, .. })));
    }

    #[test]
    fn any_of_the_last_five_batches_is_recognised_and_an_older_one_is_out_of_order() {
        let history: Vec<_> = (0..6).map(|n| entry(0, n, 1, i64::from(n))).collect();
        let state = state(&history);
        for batch in &history[1..] {
            let Ok(Sequencing::Duplicate(first)) = judge(&state, batch) else {
                panic!("{batch:?} is a duplicate")
            };
            assert_eq!(first.base_offset(), batch.base_offset);
        }
        assert!(judge(&state, &history[0]).is_err());
    }

    #[test]
    fn sequences_wrap_around_to_zero() {
        let state = state(&[entry(0, i32::MAX - 1, 2, 0)]);
        assert_eq!(judge(&state, &entry(0, 0, 1, 2)), Ok(Sequencing::Next));
        let wrapped = self::state(&[entry(0, i32::MAX, 3, 0)]);
        assert_eq!(judge(&wrapped, &entry(0, 2, 1, 3)), Ok(Sequencing::Next));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_stale() {
        let state = state(&[entry(3, 0, 1, 0)]);
        assert_eq!(judge(&state, &entry(4, 0, 1, 1)), Ok(Sequencing::Next));
        assert!(matches!(judge(&state, &entry(4, 5, 1, 1)), Err(SequenceError::OutOfOrder { .. })));
        assert!(matches!(
            judge(&state, &entry(2, 0, 1, 1)),
            Err(SequenceError::StaleEpoch { current: 3, .. })
        ));
    }

    #[test]
    fn an_evicted_producer_and_whoever_may_be_one_is_refused_and_a_new_one_is_not() {
        let of = |id: i64, sequence: i32, offset: i64| BatchEntry {
            producer_id: ProducerId(id),
            ..entry(0, sequence, 1, offset)
        };
        let mut state = state(&[of(8, 0, 0), of(9, 0, 1), of(5, 0, 2)]);
        let evicting = state.producers.evicting(2);
        state.forget_producers(&evicting);
        for (id, sequence) in [(9, 0), (9, 1), (8, 0), (4, 0)] {
            let judged = judge(&state, &of(id, sequence, 3));
            assert_eq!(judged, Err(SequenceError::Evicted { producer: id }), "{id} with sequence {sequence}");
        }
        assert_eq!(judge(&state, &of(10, 0, 3)), Ok(Sequencing::Next));
        assert_eq!(judge(&state, &of(5, 1, 3)), Ok(Sequencing::Next));
        let transactional = BatchEntry { attributes: 0x10, ..of(9, 4, 3) };
        assert_eq!(judge(&state, &transactional), Ok(Sequencing::Next));
    }

    #[test]
    fn sequences_of_a_producer_without_an_epoch_are_not_looked_at() {
        let state = state(&[entry(NO_PRODUCER_EPOCH, 0, 1, 0)]);
        for next in [entry(NO_PRODUCER_EPOCH, 9, 1, 1), entry(0, 5, 1, 1)] {
            assert_eq!(judge(&state, &next), Ok(Sequencing::Next));
        }
        let again = judge(&state, &entry(NO_PRODUCER_EPOCH, 0, 1, 1));
        assert!(matches!(again, Ok(Sequencing::Duplicate(_))), "{again:?}");
        let known = self::state(&[entry(0, 0, 1, 0)]);
        let stale = judge(&known, &entry(NO_PRODUCER_EPOCH, 1, 1, 1));
        assert!(matches!(stale, Err(SequenceError::StaleEpoch { current: 0, .. })), "{stale:?}");
    }

    #[test]
    fn a_marker_of_the_new_protocol_has_a_higher_epoch_than_the_transaction_that_it_ends() {
        let marker = |epoch: i16, coordinator_epoch: i32| BatchEntry {
            attributes: 0x30,
            marker: Some(thalweg_segment::Marker { committed: true, coordinator_epoch }),
            ..entry(epoch, -1, 1, 9)
        };
        let data = BatchEntry { attributes: 0x10, ..entry(3, 0, 1, 0) };
        let mut state = state(&[data]);
        assert_eq!(judge_marker(&state, &marker(3, 5), 0), Ok(()));
        assert!(judge_marker(&state, &marker(3, 5), 2).is_err());
        assert!(judge_marker(&state, &marker(2, 5), 0).is_err());
        assert_eq!(judge_marker(&state, &marker(4, 5), 2), Ok(()));
        state.apply(&marker(4, 5));
        assert_eq!(judge_marker(&state, &marker(4, 6), 2), Ok(()), "again, by the next coordinator");
        let fenced = AppendError::CoordinatorFenced { epoch: 4, current: 5 };
        assert_eq!(judge_marker(&state, &marker(4, 4), 2), Err(fenced));
        // What was sent before the marker comes too late.
        let late = BatchEntry { attributes: 0x10, ..entry(3, 1, 1, 10) };
        assert!(matches!(judge(&state, &late), Err(SequenceError::StaleEpoch { current: 4, .. })));
    }

    #[test]
    fn batches_without_sequence_are_judged_by_their_epoch_alone() {
        let of = |epoch: i16, offset: i64| BatchEntry { attributes: 0x10, ..entry(epoch, -1, 1, offset) };
        let state = state(&[of(1, 0)]);
        assert_eq!(judge(&state, &of(1, 1)), Ok(Sequencing::Next));
        assert!(judge(&state, &of(0, 1)).is_err());
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(judge(&LogState::default(), &entry(0, 41, 1, 0)), Ok(Sequencing::Next));
    }
}
