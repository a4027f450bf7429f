//! The end of a transaction: decided, stored, told to all partitions, complete. By EndTxn in both versions of the protocol, or
//! because another producer takes the transactional id over, or the time is up.

use super::{
    After, Effects, Now, Producer, Task, Transactions,
    transaction::{EPOCH_BUMP, NO_PRODUCER, State, Transaction},
};
use crate::mutation::{Mutation, mutated};
use thalweg_protocol::ErrorCode;

/// An EndTxn.
#[derive(Clone, Copy, Debug)]
pub struct EndTransaction<'a> {
    /// Transactional id.
    pub id: &'a str,
    /// Who asks.
    pub producer: Producer,
    /// To commit, or else to abort.
    pub commit: bool,
    /// Version of the protocol that the client speaks.
    pub version: i16,
    /// A producer id that nobody has.
    pub fresh: Option<i64>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Decided. From version 2 on the producer goes on as this.
    As(Option<Producer>),
    /// Ask again with a fresh producer id.
    NeedsProducerId,
}

/// What an EndTxn of the new protocol may be.
enum Step {
    /// Abort or commit now.
    Decide,
    /// It was decided before, by the same request.
    Repeated,
}

impl Transactions {
    /// Decides how a transaction ends.
    pub fn end(
        &mut self,
        end: EndTransaction<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Ended, ErrorCode> {
        if end.id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let known = self.by_id.get(end.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let bumps = end.version >= EPOCH_BUMP;
        let step = if bumps { judge_bumping(known, end)? } else { judge_classic(known, end)? };
        let current = Producer { id: known.producer_id, epoch: known.epoch };
        match step {
            Step::Repeated => Ok(Ended::As(bumps.then_some(current))),
            Step::Decide if bumps && known.is_exhausted() && end.fresh.is_none() => {
                Ok(Ended::NeedsProducerId)
            }
            Step::Decide => {
                let producer = self.prepare(end.id, end.commit, end.version, end.fresh, now, effects);
                Ok(Ended::As(producer.filter(|_| bumps)))
            }
        }
    }

    /// Stores the decision. Returns who the producer is when the end is complete.
    fn prepare(
        &mut self,
        id: &str,
        commit: bool,
        version: i16,
        fresh: Option<i64>,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Producer> {
        let (id, known) = self.by_id.get_key_value(id)?;
        let next = prepared(known, commit, version, fresh, now.wall_ms);
        let complete = completed(&next, now.wall_ms);
        let producer = Producer { id: next.producer_id, epoch: next.epoch };
        if mutated(Mutation::MarkerBeforePrepare) {
            effects.tasks.push(next.markers(id));
        }
        effects.after = Some(After { id: id.clone(), producer });
        self.put(id, next, effects);
        Some(Producer { id: complete.producer_id, epoch: complete.epoch })
    }

    /// Aborts a transaction that its producer has given up, and fences that producer. False where a fresh producer id is needed.
    pub(super) fn fence(&mut self, id: &str, fresh: Option<i64>, now: Now, effects: &mut Effects) -> bool {
        let Some(known) = self.by_id.get(id).filter(|known| known.state == State::Ongoing) else {
            return true;
        };
        if known.is_exhausted() && fresh.is_none() {
            return false;
        }
        self.prepare(id, false, EPOCH_BUMP, fresh, now, effects);
        true
    }

    /// The decision is durable: markers may be written.
    pub(super) fn prepared(&self, after: &After, effects: &mut Effects) {
        if let Some(known) = self.by_id.get(&after.id).filter(|known| known.ends(after.producer)) {
            effects.tasks.push(known.markers(&after.id));
        }
    }

    /// All markers are durable: the transaction is complete.
    pub fn markers_written(&mut self, id: &str, producer: Producer, now: Now, effects: &mut Effects) {
        if let Some(known) = self.by_id.get(id).filter(|known| known.ends(producer)) {
            let complete = completed(known, now.wall_ms);
            self.put(id, complete, effects);
        }
    }
}

impl Transaction {
    fn ends(&self, producer: Producer) -> bool {
        self.is_ending() && (self.producer_id, self.epoch) == (producer.id, producer.epoch)
    }

    pub(super) fn markers(&self, id: &std::sync::Arc<str>) -> Task {
        Task::WriteMarkers {
            id: id.clone(),
            producer: Producer { id: self.producer_id, epoch: self.epoch },
            committed: self.state == State::PrepareCommit,
            version: self.client_version,
            partitions: self.partitions.iter().cloned().collect(),
        }
    }
}

/// A transaction whose end is decided. From version 2 on its markers have the next epoch, which fences what the producer may
/// still send under this one.
fn prepared(known: &Transaction, commit: bool, version: i16, fresh: Option<i64>, now_ms: i64) -> Transaction {
    let state = if commit { State::PrepareCommit } else { State::PrepareAbort };
    let mut next = known.next(state, now_ms);
    if version >= EPOCH_BUMP {
        next.next_producer_id = fresh.filter(|_| known.is_exhausted()).unwrap_or(NO_PRODUCER);
        next.last_epoch = known.epoch;
        // The highest is never given to a client, so a producer that has it is stuck, and may abort.
        next.epoch = known.epoch.saturating_add(1);
    }
    if known.state != State::Ongoing {
        next.start_ms = now_ms;
    }
    next.client_version = version;
    next
}

/// The same when all its markers are durable.
fn completed(prepared: &Transaction, now_ms: i64) -> Transaction {
    let commit = prepared.state == State::PrepareCommit;
    let mut next = prepared.next(if commit { State::CompleteCommit } else { State::CompleteAbort }, now_ms);
    if prepared.client_version >= EPOCH_BUMP && prepared.next_producer_id != NO_PRODUCER {
        (next.producer_id, next.epoch) = (prepared.next_producer_id, 0);
    }
    next.next_producer_id = NO_PRODUCER;
    next.partitions.clear();
    next
}

/// EndTxn up to version 4: the epoch stays, and a request that comes again finds the state that it led to.
fn judge_classic(known: &Transaction, end: EndTransaction<'_>) -> Result<Step, ErrorCode> {
    if known.producer_id != end.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if known.epoch != end.producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    match (known.state, end.commit) {
        (State::Ongoing, _) => Ok(Step::Decide),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Step::Repeated),
        (State::PrepareCommit | State::PrepareAbort, _) => Err(ErrorCode::ConcurrentTransactions),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// EndTxn from version 5 on: the epoch tells a repetition from the end of the next transaction.
fn judge_bumping(known: &Transaction, end: EndTransaction<'_>) -> Result<Step, ErrorCode> {
    // First of all: the producer may be one that is told already and that the state has only when the end is complete.
    if known.is_ending() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let Producer { id, epoch } = end.producer;
    let over_the_end = known.previous_producer_id == id && epoch == i16::MAX - 1 && known.epoch == 0;
    if known.producer_id != id && !over_the_end {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let again = known.epoch == epoch.wrapping_add(1) || over_the_end;
    let complete = matches!(known.state, State::CompleteCommit | State::CompleteAbort);
    if epoch != known.epoch && !(complete && again) {
        return Err(ErrorCode::ProducerFenced);
    }
    match (known.state, end.commit) {
        (State::Ongoing, _) | (State::Empty, false) => Ok(Step::Decide),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if again => Ok(Step::Repeated),
        (State::CompleteCommit | State::CompleteAbort, false) if !again => Ok(Step::Decide),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}
