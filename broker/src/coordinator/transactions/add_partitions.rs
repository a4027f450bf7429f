//! AddPartitionsToTxn and AddOffsetsToTxn: partitions join a transaction before anything is written to them.

use super::{
    Effects, Now, Producer, TopicPartition, Transactions,
    transaction::{State, Transaction},
};
use thalweg_protocol::ErrorCode;

/// Partitions that are to join a transaction.
#[derive(Clone, Copy, Debug)]
pub struct AddPartitions<'a> {
    /// Transactional id.
    pub id: &'a str,
    /// Whose transaction.
    pub producer: Producer,
    /// Which.
    pub partitions: &'a [TopicPartition],
    /// Version of the protocol that the client speaks.
    pub version: i16,
    /// Whether there is memory for more of them.
    pub has_room: bool,
}

impl Transactions {
    /// Adds partitions to the producer's transaction, which begins with the first.
    pub fn add_partitions(
        &mut self,
        add: AddPartitions<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let AddPartitions { id, producer, partitions, version, has_room } = add;
        // First of all: the producer may be one that is told already and that the state has only when the end is complete.
        if self.by_id.get(id).is_some_and(Transaction::is_ending) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let known = self.current(id, producer)?;
        let ongoing = known.state == State::Ongoing;
        if ongoing && partitions.iter().all(|partition| known.partitions.contains(partition)) {
            return Ok(());
        }
        if !has_room {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let mut next = known.next(State::Ongoing, now.wall_ms);
        next.partitions.extend(partitions.iter().cloned());
        next.client_version = version;
        if !ongoing {
            next.start_ms = now.wall_ms;
        }
        self.put(id, next, effects);
        self.look_for_timed_out(now);
        Ok(())
    }

    /// Whether each of the partitions is part of the producer's transaction: TRANSACTION_ABORTABLE where it isn't.
    pub fn verify_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let known = self.current(id, producer)?;
        let verify = |partition: &TopicPartition| match known.partitions.contains(partition) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        };
        Ok(partitions.iter().map(verify).collect())
    }

    /// What `id` has under way, if `producer` is the current one and may go on.
    fn current(&self, id: &str, producer: Producer) -> Result<&Transaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let known = self.by_id.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if known.producer_id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if known.epoch != producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if known.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(known)
    }
}
