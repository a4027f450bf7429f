//! InitProducerId with a transactional id: a producer begins, or goes on after an error (KIP-98, KIP-360).

use super::{
    Effects, Now, Producer, Transactions,
    transaction::{NO_EPOCH, State, Transaction, is_exhausted},
};
use thalweg_protocol::ErrorCode;

/// A producer that begins.
#[derive(Clone, Copy, Debug)]
pub struct InitProducer<'a> {
    /// Its transactional id.
    pub id: &'a str,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// What it goes on from, if it knows.
    pub expected: Option<Producer>,
    /// A producer id that nobody has.
    pub fresh: Option<i64>,
    /// Whether there is memory for one more transactional id.
    pub has_room: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialised {
    /// Who it is from now on.
    As(Producer),
    /// Ask again with a fresh producer id.
    NeedsProducerId,
}

impl Transactions {
    /// Gives a producer its id and a new epoch. What an earlier producer of the same transactional id has under way is aborted
    /// first: CONCURRENT_TRANSACTIONS until that is done.
    pub fn init_producer_id(
        &mut self,
        init: InitProducer<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Initialised, ErrorCode> {
        if init.timeout_ms <= 0 || init.timeout_ms > self.settings.max_timeout_ms {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let Some(known) = self.by_id.get(init.id) else { return self.first_time(init, now, effects) };
        if known.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if init.expected.is_some_and(|expected| !may_be(known, expected)) {
            return Err(ErrorCode::ProducerFenced);
        }
        if known.state == State::Ongoing {
            return match self.fence(init.id, init.fresh, now, effects) {
                true => Err(ErrorCode::ConcurrentTransactions),
                false => Ok(Initialised::NeedsProducerId),
            };
        }
        match next_epoch(known, init, now.wall_ms)? {
            Some(next) => Ok(self.initialised(init.id, next, effects)),
            None => Ok(Initialised::NeedsProducerId),
        }
    }

    fn first_time(
        &mut self,
        init: InitProducer<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Initialised, ErrorCode> {
        if !init.has_room {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let Some(fresh) = init.fresh else { return Ok(Initialised::NeedsProducerId) };
        let first = Transaction::new(fresh, init.timeout_ms, now.wall_ms);
        let first = Transaction { epoch: 0, previous_producer_id: fresh, ..first };
        Ok(self.initialised(init.id, first, effects))
    }

    fn initialised(&self, id: &str, next: Transaction, effects: &mut Effects) -> Initialised {
        let producer = Producer { id: next.producer_id, epoch: next.epoch };
        self.put(id, next, effects);
        Initialised::As(producer)
    }
}

/// Whether the producer that a client names is the current one, or the one before an id whose epochs were used up.
fn may_be(known: &Transaction, expected: Producer) -> bool {
    known.epoch == NO_EPOCH
        || expected.id == known.producer_id
        || expected.id == known.previous_producer_id && is_exhausted(expected.epoch)
}

/// The id with its next epoch; none where that needs a fresh producer id.
fn next_epoch(
    known: &Transaction,
    init: InitProducer<'_>,
    now_ms: i64,
) -> Result<Option<Transaction>, ErrorCode> {
    let mut next = known.next(State::Empty, now_ms);
    next.timeout_ms = init.timeout_ms;
    next.partitions.clear();
    next.start_ms = -1;
    let expected = init.expected.map(|expected| expected.epoch);
    if known.is_exhausted() && expected.is_none_or(|expected| expected == known.epoch) {
        let Some(fresh) = init.fresh else { return Ok(None) };
        (next.producer_id, next.epoch) = (fresh, 0);
        next.last_epoch = if expected.is_some() { known.epoch } else { NO_EPOCH };
        return Ok(Some(next));
    }
    match expected {
        None => (next.epoch, next.last_epoch) = (known.epoch + 1, NO_EPOCH),
        Some(expected) if expected == known.epoch || known.epoch == NO_EPOCH => {
            (next.epoch, next.last_epoch) = (known.epoch + 1, known.epoch);
        }
        // The same request again: the first one was done, and its answer lost.
        Some(expected) if expected == known.last_epoch => {}
        Some(_) => return Err(ErrorCode::ProducerFenced),
    }
    Ok(Some(next))
}
