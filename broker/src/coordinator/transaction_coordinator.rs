//! Which shard coordinates a transactional id, the topic that transactions keep their state in, and what transactions want done:
//! markers in every partition that is part of one.

use super::{
    markers::EndMarker,
    shard::{Means, Shard},
    shards::{Shards, partition_of},
    transactions::{
        AddPartitions, EndTransaction, Ended, InitProducer, Initialised, Producer, Task, TopicPartition,
        TransactionSettings, Transactions,
    },
};
use crate::{
    broker::Broker,
    mutation::{Mutation, mutated},
    partition::{Closed, Log},
    topics::{TRANSACTIONS_TOPIC, Topic},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use thalweg_metadata::MetadataError;
use thalweg_protocol::ErrorCode;
use thalweg_segment::Offset;
use tokio::time::Instant;

/// The transaction coordinator of a broker: a shard for each partition of `__transaction_state` that it owns.
pub type TransactionCoordinator = Shards<Transactions>;

/// A shard of the transaction coordinator.
pub type TransactionShard = Shard<Transactions>;

/// Version of the transaction protocol in which what is written joins its transaction by itself (KIP-890).
pub const ADDING: i16 = 2;

/// Wait before something is tried again that another part of the broker isn't ready for.
const RETRY: Duration = Duration::from_millis(50);

impl TransactionCoordinator {
    /// A coordinator without shards.
    pub(crate) fn of_transactions(means: Means, settings: TransactionSettings) -> Self {
        let settings = Arc::new(settings);
        Self::new(means, Arc::new(move || Transactions::new(settings.clone())), perform)
    }
}

/// Begins a task, in the background.
fn perform(broker: &Weak<Broker>, task: Task) {
    let Some(upgraded) = broker.upgrade() else { return };
    let weak = broker.clone();
    let work = async move {
        match task {
            Task::WriteMarkers { id, producer, committed, version, partitions } => {
                let ending = Ending { id, producer, committed, version };
                ending.carry_out(&weak, partitions).await;
            }
            Task::DrawProducerId { id } => abort_timed_out(&weak, &id).await,
        }
    };
    upgraded.runtime.spawn_essential("the end of a transaction", work).detach();
}

/// A transaction whose end is decided, durably.
struct Ending {
    id: Arc<str>,
    producer: Producer,
    committed: bool,
    version: i16,
}

/// What became of a marker in the partitions of its transaction.
#[derive(Default)]
struct Appending {
    /// What to wait for.
    appended: Vec<(Arc<Log>, Offset)>,
    /// Partitions to try again.
    refused: Vec<TopicPartition>,
    /// A newer coordinator has written to one of them: the transaction is its.
    fenced: bool,
}

impl Ending {
    /// Writes the markers, again and again until they are durable in all partitions, and says so. Gives up when the broker isn't
    /// the owner any more: the next one reads the decision from the log.
    async fn carry_out(self, broker: &Weak<Broker>, mut left: Vec<TopicPartition>) {
        loop {
            let Some(broker) = broker.upgrade() else { return };
            let Ok(shard) = broker.transaction_shard(&self.id) else { return };
            if shard.log().closed().is_some() {
                return;
            }
            let Appending { appended, refused, fenced } = broker.append_markers(&self.marker(&shard), left);
            for (log, end) in appended.into_iter().filter(|_| !mutated(Mutation::CompleteBeforeMarkers)) {
                if log.durable(end).await == Err(Closed::NotOwner) {
                    return;
                }
            }
            if fenced {
                tracing::error!(id = %self.id, "a transaction is left as it is: a newer coordinator has ended it");
                return;
            }
            if refused.is_empty() {
                // An error says that the shard is closed.
                let _ = shard.run(|transactions, now, effects| {
                    transactions.markers_written(&self.id, self.producer, now, effects);
                });
                return;
            }
            left = refused;
            let wait = broker.runtime.random().jitter(RETRY);
            drop((shard, broker));
            tokio::time::sleep(wait).await;
        }
    }

    fn marker(&self, shard: &TransactionShard) -> EndMarker {
        EndMarker {
            producer_id: self.producer.id,
            epoch: self.producer.epoch,
            coordinator_epoch: shard.log().leader_epoch().0,
            committed: self.committed,
            transaction_version: self.version,
        }
    }
}

async fn abort_timed_out(broker: &Weak<Broker>, id: &Arc<str>) {
    let Some(broker) = broker.upgrade() else { return };
    // Without one, the next look finds the transaction again.
    let Ok(fresh) = broker.fresh_producer_id().await else { return };
    if let Ok(shard) = broker.transaction_shard(id) {
        // An error says that the shard is closed.
        let _ = shard.run(|transactions, now, effects| transactions.abort_timed_out(id, fresh, now, effects));
    }
}

impl Broker {
    /// Begins to load all transactions, in the background.
    pub fn load_transactions(self: &Arc<Self>) {
        drop(self.transaction_shards());
    }

    /// The shard that coordinates a transactional id. NOT_COORDINATOR where there is no topic for its state yet.
    pub fn transaction_shard(self: &Arc<Self>, id: &str) -> Result<Arc<TransactionShard>, ErrorCode> {
        let topic = self.topics.by_name(TRANSACTIONS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let log = topic.logs.get(partition_of(id, topic.logs.len())).ok_or(ErrorCode::NotCoordinator)?;
        Ok(self.transactions.shard(self, &topic, log))
    }

    /// All shards.
    pub fn transaction_shards(self: &Arc<Self>) -> Vec<Arc<TransactionShard>> {
        let Some(topic) = self.topics.by_name(TRANSACTIONS_TOPIC) else { return Vec::new() };
        topic.logs.iter().map(|log| self.transactions.shard(self, &topic, log)).collect()
    }

    /// The topic of the transactions' state, created the first time with Kafka's settings.
    pub async fn transactions_topic(self: &Arc<Self>) -> Result<Arc<Topic>, MetadataError> {
        let settings = &self.settings.transactions;
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "uncompressed".to_owned()),
            ("segment.bytes", settings.topic_segment_bytes.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        self.coordinator_topic(TRANSACTIONS_TOPIC, settings.topic_partitions, &configs).await
    }

    /// A producer id that nobody has.
    pub async fn fresh_producer_id(&self) -> Result<i64, ErrorCode> {
        let fresh = self.producer_ids.next().await.map_err(|error| {
            tracing::warn!(%error, "no producer ids from the metadata store");
            ErrorCode::CoordinatorLoadInProgress
        })?;
        Ok(fresh.0)
    }

    /// Gives a transactional producer its id and epoch, once that is durable.
    pub async fn init_transactional_producer(
        self: &Arc<Self>,
        mut init: InitProducer<'_>,
    ) -> Result<Producer, ErrorCode> {
        loop {
            let shard = self.transaction_shard(init.id)?;
            init.has_room = shard.has_room();
            let done = shard.run(|state, now, effects| state.init_producer_id(init, now, effects))?;
            match done.durable().await?? {
                Initialised::As(producer) => return Ok(producer),
                Initialised::NeedsProducerId => init.fresh = Some(self.fresh_producer_id().await?),
            }
        }
    }

    /// Ends a transaction: answers once the decision is durable. From version 2 on with who the producer is from then on.
    pub async fn end_transaction(
        self: &Arc<Self>,
        mut end: EndTransaction<'_>,
    ) -> Result<Option<Producer>, ErrorCode> {
        loop {
            let shard = self.transaction_shard(end.id)?;
            let done = shard.run(|state, now, effects| state.end(end, now, effects))?;
            match done.durable().await?? {
                Ended::As(producer) => return Ok(producer),
                Ended::NeedsProducerId => end.fresh = Some(self.fresh_producer_id().await?),
            }
        }
    }

    /// Adds partitions to a transaction, durably.
    pub async fn add_to_transaction(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
        version: i16,
    ) -> Result<(), ErrorCode> {
        let shard = self.transaction_shard(id)?;
        let add = AddPartitions { id, producer, partitions, version, has_room: shard.has_room() };
        shard.run(|state, now, effects| state.add_partitions(add, now, effects))?.durable().await?
    }

    /// Whether each of the partitions is part of a transaction.
    pub async fn verify_in_transaction(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self.transaction_shard(id)?;
        let done = shard.run(|state, _, _| state.verify_partitions(id, producer, partitions))?;
        done.durable().await?
    }

    /// Has partitions join a transaction before they are written to: by adding them where `adds`, else by looking whether the
    /// client has. Who adds waits a moment for the transaction before to be complete: clients wait longer before they try again.
    /// Its last marker ends what the partitions' logs had begun to verify, so `renew` is called before each further attempt.
    pub async fn join_transaction(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
        adds: bool,
        mut renew: impl FnMut(),
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if !adds {
            return self.verify_in_transaction(id, producer, partitions).await;
        }
        let settings = &self.settings.transactions;
        let until = Instant::now() + settings.join_patience;
        loop {
            match self.add_to_transaction(id, producer, partitions, ADDING).await {
                Err(ErrorCode::ConcurrentTransactions) if Instant::now() < until => {
                    tokio::time::sleep(settings.join_backoff).await;
                    renew();
                }
                added => return added.map(|()| vec![ErrorCode::None; partitions.len()]),
            }
        }
    }

    /// Appends a marker to partitions, in one WAL object.
    fn append_markers(self: &Arc<Self>, marker: &EndMarker, partitions: Vec<TopicPartition>) -> Appending {
        let _one_object = self.wal.hold();
        let mut done = Appending::default();
        for (name, partition) in partitions {
            // What is of a topic that is no more needs no end.
            let Some(topic) = self.topics.by_name(&name) else { continue };
            match self.append_marker(&topic, partition, marker) {
                Ok((log, at)) => done.appended.push((log, at.end)),
                Err(ErrorCode::UnknownTopicOrPartition) => {}
                // Nothing of this transaction is open there: a later one could not have begun before.
                Err(ErrorCode::InvalidProducerEpoch) => {
                    tracing::warn!(topic = %name, partition, ?marker, "a partition has seen a later end");
                }
                Err(ErrorCode::TransactionCoordinatorFenced) => {
                    tracing::warn!(topic = %name, partition, ?marker, "a partition has seen a newer coordinator");
                    done.fenced = true;
                }
                Err(_) => done.refused.push((name, partition)),
            }
        }
        done
    }
}
