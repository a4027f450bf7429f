//! What is known of one transactional id, and how it stands in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_protocol::{
    Malformed, TooLong,
    coordinator_records::{
        CoordinatorRecord, PartitionsSchema, TransactionLogKey, TransactionLogValue, TransactionRecord,
    },
    messages::StrBytes,
};

/// No producer id.
pub(super) const NO_PRODUCER: i64 = -1;
/// No epoch.
pub(super) const NO_EPOCH: i16 = -1;
/// First version of the protocol in which every end of a transaction raises the epoch (KIP-890).
pub(super) const EPOCH_BUMP: i16 = 2;

/// A partition by its topic's name.
pub type TopicPartition = (Arc<str>, i32);

/// Where a transaction stands. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There has been none yet.
    Empty = 0,
    /// It has partitions.
    Ongoing = 1,
    /// It will be committed, whatever happens: markers are being written.
    PrepareCommit = 2,
    /// It will be aborted, likewise.
    PrepareAbort = 3,
    /// It is committed in all partitions.
    CompleteCommit = 4,
    /// It is aborted in all partitions.
    CompleteAbort = 5,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether nothing is under way, so that the id may be forgotten.
    pub(super) const fn is_at_rest(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }

    fn of_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i8 == number)
    }
}

/// What is known of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub(super) producer_id: i64,
    /// The one before, where an epoch was exhausted.
    pub(super) previous_producer_id: i64,
    /// The one that follows when this transaction is complete, where the epoch is exhausted.
    pub(super) next_producer_id: i64,
    pub(super) epoch: i16,
    /// The epoch before, which a client may repeat its request with. Not stored, as in Kafka.
    pub(super) last_epoch: i16,
    pub(super) timeout_ms: i32,
    pub(super) state: State,
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// -1 where no transaction has begun.
    pub(super) start_ms: i64,
    pub(super) updated_ms: i64,
    /// Version of the protocol that the producer speaks.
    pub(super) client_version: i16,
}

impl Transaction {
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_PRODUCER,
            next_producer_id: NO_PRODUCER,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            client_version: 0,
        }
    }

    /// The next step of the same id.
    pub(super) fn next(&self, state: State, now_ms: i64) -> Self {
        let previous_producer_id = self.producer_id;
        Self { state, previous_producer_id, updated_ms: now_ms, ..self.clone() }
    }

    /// The highest epoch is kept for the coordinator, so that it can always fence a producer.
    pub(super) fn is_exhausted(&self) -> bool {
        is_exhausted(self.epoch)
    }

    /// Whether its end is decided and its markers are under way.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.state, State::PrepareCommit | State::PrepareAbort)
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let partitions = self.partitions.iter().map(|(topic, _)| topic.len() + PARTITION_OVERHEAD);
        size_of::<Self>() + ID_OVERHEAD + partitions.sum::<usize>()
    }
}

const ID_OVERHEAD: usize = 128;
const PARTITION_OVERHEAD: usize = 48;

pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// A transactional id as it is from now on; none where it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transactional id.
    pub id: Arc<str>,
    /// All that is known of it.
    pub to: Option<Transaction>,
}

impl CoordinatorRecord for Change {
    fn encode(&self) -> Result<(bytes::Bytes, Option<bytes::Bytes>), TooLong> {
        let key = TransactionLogKey { transactional_id: text(&self.id) };
        TransactionRecord::Transaction(key, self.to.as_ref().map(value_of)).encode()
    }

    fn decode(key: bytes::Bytes, value: Option<bytes::Bytes>) -> Result<Option<Self>, Malformed> {
        let Some(TransactionRecord::Transaction(key, value)) = TransactionRecord::decode(key, value)? else {
            return Ok(None);
        };
        let to = value.map(of_value).transpose()?;
        Ok(Some(Self { id: key.transactional_id.as_str().into(), to }))
    }
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn value_of(transaction: &Transaction) -> TransactionLogValue {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(topic, partition_ids)| PartitionsSchema { topic: text(topic), partition_ids });
    TransactionLogValue {
        producer_id: transaction.producer_id,
        previous_producer_id: transaction.previous_producer_id,
        next_producer_id: transaction.next_producer_id,
        producer_epoch: transaction.epoch,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state as i8,
        transaction_partitions: (transaction.state != State::Empty).then(|| topics.collect()),
        transaction_last_update_timestamp_ms: transaction.updated_ms,
        transaction_start_timestamp_ms: transaction.start_ms,
        client_transaction_version: transaction.client_version,
        ..TransactionLogValue::default()
    }
}

fn of_value(value: TransactionLogValue) -> Result<Transaction, Malformed> {
    let topics = value.transaction_partitions.unwrap_or_default();
    let partitions = topics.into_iter().flat_map(|topic| {
        let name: Arc<str> = topic.topic.as_str().into();
        topic.partition_ids.into_iter().map(move |partition| (name.clone(), partition))
    });
    Ok(Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        epoch: value.producer_epoch,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state: State::of_number(value.transaction_status).ok_or(Malformed)?,
        partitions: partitions.collect(),
        start_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_an_id_is_read_as_it_was_written_but_for_its_last_epoch() {
        let partitions = [("a", 0), ("a", 3), ("b", 1)];
        let partitions = partitions.map(|(topic, partition)| (topic.into(), partition));
        let mut transaction = Transaction {
            epoch: 5,
            last_epoch: 4,
            next_producer_id: 9,
            previous_producer_id: 6,
            start_ms: 11,
            client_version: 2,
            partitions: partitions.into(),
            ..Transaction::new(7, 60_000, 12)
        };
        for state in State::ALL {
            transaction.state = state;
            if state == State::Empty {
                transaction.partitions.clear();
            }
            let change = Change { id: "id".into(), to: Some(transaction.clone()) };
            let (key, value) = change.encode().expect("short strings");
            let read = Change::decode(key, value).expect("our own").expect("a known type");
            let stored = Transaction { last_epoch: NO_EPOCH, ..transaction.clone() };
            assert_eq!(read, Change { id: "id".into(), to: Some(stored) });
        }
        let gone = Change { id: "id".into(), to: None };
        let (key, value) = gone.encode().expect("short strings");
        assert_eq!(Change::decode(key.clone(), value), Ok(Some(gone)));
        assert!(Change::decode(key, Some(bytes::Bytes::from_static(&[0, 1, 9]))).is_err());
    }
}
