//! The marker that ends a transaction in a log, and its way there.

use super::{
    records::{TransactionalBatch, head, with_producer},
    shard::AppendToShard,
};
use crate::{
    broker::Broker,
    partition::{AppendError, Appended, Closed, Log, SequenceError},
    topics::{OFFSETS_TOPIC, Topic},
};
use std::sync::Arc;
use thalweg_protocol::{ErrorCode, Record, put_record};
use thalweg_segment::{Attributes, Batch};

/// The end of a producer's transaction, as it is to stand in every log that is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Whose transaction.
    pub producer_id: i64,
    /// The epoch that fences what the producer may have sent before.
    pub epoch: i16,
    /// Of the coordinator: the leader epoch of its log.
    pub coordinator_epoch: i32,
    /// Committed, or else aborted.
    pub committed: bool,
    /// Version of the transaction protocol; from 2 on `epoch` is higher than that of the transaction (KIP-890).
    pub transaction_version: i16,
}

impl EndMarker {
    /// A control batch of one record: key `version i16, type i16`, value `version i16, coordinator epoch i32`, as KIP-98 has it.
    pub(super) fn batch(&self, now_ms: i64) -> Batch {
        let key = [0, 0, 0, u8::from(self.committed)];
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut bytes = Vec::new();
        put_record(&mut bytes, &Record::new(0, 0, Some(&key), Some(&value)));
        let producer = TransactionalBatch { producer_id: self.producer_id, epoch: self.epoch };
        let attributes = Attributes::TRANSACTIONAL | Attributes::CONTROL;
        Batch::assemble(with_producer(head(1, now_ms), producer, attributes), bytes.into())
    }
}

impl Broker {
    /// Appends a marker to one partition. It counts once the log is durable up to its end.
    pub fn append_marker(
        self: &Arc<Self>,
        topic: &Topic,
        partition: i32,
        marker: &EndMarker,
    ) -> Result<(Arc<Log>, Appended), ErrorCode> {
        let log = topic.log(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let appended = match topic.name() == OFFSETS_TOPIC {
            true => self.end_in_group_shard(topic, partition, marker)?,
            false => {
                let batch = marker.batch(self.runtime.now_ms());
                let version = marker.transaction_version;
                log.append_marker(batch, version, &self.cache, &self.wal).map_err(|error| code_of(&error))?
            }
        };
        Ok((log.clone(), appended))
    }

    fn end_in_group_shard(
        self: &Arc<Self>,
        topic: &Topic,
        partition: i32,
        marker: &EndMarker,
    ) -> Result<Appended, ErrorCode> {
        let partition = usize::try_from(partition).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
        let shard = self.shard_of_groups(topic, partition)?;
        shard.end_transaction(marker).map_err(|error| match error {
            // Transaction coordinators, who ask, try again at this.
            AppendToShard::NotReady => ErrorCode::NotLeaderOrFollower,
            AppendToShard::Refused(error) => code_of(&error),
        })
    }
}

fn code_of(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Closed(Closed::NotOwner) => ErrorCode::NotLeaderOrFollower,
        AppendError::Closed(Closed::Deleted) => ErrorCode::UnknownTopicOrPartition,
        AppendError::Sequence(SequenceError::StaleEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::Sequence(_) | AppendError::NotVerified | AppendError::Full => {
            ErrorCode::UnknownServerError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_a_control_batch_that_says_how_the_transaction_ended() {
        for committed in [true, false] {
            let marker = EndMarker {
                producer_id: 7,
                epoch: 3,
                coordinator_epoch: 99,
                committed,
                transaction_version: 2,
            };
            let entry = marker.batch(1000).entry();
            assert!(entry.is_control() && entry.is_transactional());
            assert_eq!((entry.producer_id.0, entry.producer_epoch, entry.base_sequence), (7, 3, -1));
            let told = entry.marker.expect("a marker");
            assert_eq!((told.committed, told.coordinator_epoch), (committed, 99));
        }
    }
}
