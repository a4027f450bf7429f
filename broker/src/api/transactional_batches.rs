//! What is special about producing in a transaction: before a batch begins one in its partition, the transaction's coordinator must
//! know of it, or nobody would end it there (KIP-890).

use super::{
    Handlers,
    batch_check::Refusal,
    produce::{Checks, Ready},
};
use crate::coordinator::transactions::{Producer, TopicPartition};
use std::collections::BTreeSet;
use thalweg_protocol::ErrorCode;
use thalweg_segment::Attributes;

/// First version of Produce whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE: i16 = 11;
/// First version that adds partitions to the transaction.
const ADDS: i16 = 12;

impl Handlers {
    /// Verifies every batch that would begin a transaction in its partition, and refuses those that may not.
    pub(super) async fn verify_transaction(&self, version: i16, id: Option<&str>, topics: &mut [Checks]) {
        let ready = |checks: &'_ Checks| checks.2.iter().filter_map(|(_, ready)| ready.as_ref().ok()).count();
        if topics.iter().map(ready).sum::<usize>() == 0 {
            return;
        }
        let producers: BTreeSet<(i64, i16)> = transactional(topics)
            .map(|(_, ready)| producer_of(ready))
            .map(|one| (one.id, one.epoch))
            .collect();
        let Some((producer_id, epoch)) = producers.first().copied() else { return };
        let Some(id) = id else {
            let message = "A transactional batch needs a transactional id.";
            let refusal = Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, message);
            return refuse(topics, &refusal, |_| true);
        };
        if producers.len() > 1 {
            let message = "Transactional records contained more than one producer ID";
            return refuse(topics, &Refusal::new(ErrorCode::InvalidProducerIdMapping, message), |_| true);
        }
        let mut partitions: Vec<TopicPartition> = Vec::new();
        for (index, ready) in transactional_mut(topics) {
            let producer = ready.checked.batch.producer_id();
            ready.verification = ready.log.verify(producer, epoch, version >= ADDS);
            if ready.verification.is_some() {
                partitions.push((ready.topic.name().into(), index));
            }
        }
        if partitions.is_empty() {
            return;
        }
        let producer = Producer { id: producer_id, epoch };
        let joined = self.broker.join_transaction(id, producer, &partitions, version >= ADDS).await;
        match joined {
            Err(code) => {
                refuse(topics, &refusal_of(version, code), |ready| ready.verification.is_some());
            }
            Ok(codes) => {
                // In the order of the partitions, which are those that wait for what was verified.
                let mut codes = codes.into_iter();
                refuse_each(topics, |ready| {
                    let code = ready.verification.as_ref().and_then(|_| codes.next())?;
                    code.is_error().then(|| refusal_of(version, code))
                });
            }
        }
    }
}

fn producer_of(ready: &Ready) -> Producer {
    Producer { id: ready.checked.batch.producer_id().0, epoch: ready.checked.batch.producer_epoch() }
}

fn is_transactional(ready: &Ready) -> bool {
    ready.checked.batch.attributes() & Attributes::TRANSACTIONAL != 0
}

fn transactional(topics: &[Checks]) -> impl Iterator<Item = (i32, &Ready)> {
    let partitions = topics.iter().flat_map(|(_, _, checks)| checks);
    let ready = partitions.filter_map(|(index, ready)| Some((*index, ready.as_ref().ok()?)));
    ready.filter(|(_, ready)| is_transactional(ready))
}

fn transactional_mut(topics: &mut [Checks]) -> impl Iterator<Item = (i32, &mut Ready)> {
    let partitions = topics.iter_mut().flat_map(|(_, _, checks)| checks);
    let ready = partitions.filter_map(|(index, ready)| Some((*index, ready.as_mut().ok()?)));
    ready.filter(|(_, ready)| is_transactional(ready))
}

/// Refuses the transactional batches that `which` says.
fn refuse(topics: &mut [Checks], refusal: &Refusal, which: impl Fn(&Ready) -> bool) {
    refuse_each(topics, |ready| which(ready).then(|| refusal.clone()));
}

/// Refuses the transactional batches that `why` gives a reason for.
fn refuse_each(topics: &mut [Checks], mut why: impl FnMut(&Ready) -> Option<Refusal>) {
    for (_, check) in topics.iter_mut().flat_map(|(_, _, checks)| checks) {
        let ready = check.as_ref().ok().filter(|ready| is_transactional(ready));
        if let Some(refusal) = ready.and_then(&mut why) {
            *check = Err(refusal);
        }
    }
}

/// What a coordinator says, as producers of `version` understand it: what is worth trying again is NOT_ENOUGH_REPLICAS, at which
/// all of them do so without a look for new leaders.
fn refusal_of(version: i16, code: ErrorCode) -> Refusal {
    let unverified = |code: ErrorCode| {
        let message = format!(
            "Unable to verify the partition has been added to the transaction. Underlying error: {code:?}"
        );
        Refusal::new(ErrorCode::NotEnoughReplicas, &message)
    };
    match code {
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => unverified(code),
        ErrorCode::ConcurrentTransactions if version < ADDS => unverified(code),
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch.into(),
        ErrorCode::TransactionAbortable if version < ABORTABLE => {
            Refusal::new(ErrorCode::InvalidTxnState, "Partition was not added to the transaction")
        }
        code => code.into(),
    }
}
