//! Produce: checks each batch, appends all of them, answers when they are durable.
//!
//! Taken in, the request's batches have their offsets. Everything after that is waiting: consecutive requests of a connection
//! overlap in it.

use super::{Answer, Handlers, Later, named_once::named_once};
use crate::{
    api::batch_check::{Checked, Refusal, check_batch, check_shape},
    broker::Broker,
    context::{Operation, QuotaKind, RequestContext, Resource},
    partition::{AppendError, Appended, Closed, Log, SequenceError, Verification},
    topics::Topic,
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;
use thalweg_segment::{Attributes, Batch, BatchError, Offset};
use tokio::time::Instant;

use produce_request::{PartitionProduceData, TopicProduceData};
use produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse};

/// How long a batch that the broker has made larger may wait for memory.
const EXPANDED_PATIENCE: Duration = Duration::from_secs(10);
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// What became of one partition's batch.
enum Outcome {
    Refused { refusal: Refusal, log_start: Offset },
    Appended { log: Arc<Log>, at: Appended, append_time: Option<i64> },
}

impl Outcome {
    /// A refusal by the state of `log`, where it came so far, tells where the log begins.
    fn refused(refusal: Refusal, log: Option<&Log>) -> Self {
        Self::Refused { refusal, log_start: log.map_or(Offset(-1), |log| log.view().start) }
    }
}

struct Partition {
    index: i32,
    outcome: Outcome,
}

struct TopicOutcome {
    name: TopicName,
    id: uuid::Uuid,
    partitions: Vec<Partition>,
}

/// A batch that has passed its checks.
pub(super) struct Ready {
    pub(super) topic: Arc<Topic>,
    pub(super) log: Arc<Log>,
    pub(super) checked: Checked,
    /// Where it may begin a transaction.
    pub(super) verification: Option<Verification>,
}

impl Handlers {
    pub(super) async fn produce(
        &self,
        context: RequestContext,
        version: i16,
        request: ProduceRequest,
        charge: Charge,
    ) -> Later {
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let acks = request.acks;
        let refusal = broken(&request).or_else(|| self.refusal_of_all(&context, &request));
        // What isn't there is told before acks that there are not, not before what the caller may not do.
        let yields = refusal.as_ref().is_some_and(|refusal| refusal.code == ErrorCode::InvalidRequiredAcks);
        let mut topics = Vec::with_capacity(request.topic_data.len());
        for data in last_named(request.topic_data) {
            let topic = self.produce_topic(&context, version, &data.name, data.topic_id);
            let mut checked = Vec::with_capacity(data.partition_data.len());
            for partition in data.partition_data {
                let index = partition.index;
                let ready = match (&refusal, &topic) {
                    (Some(refusal), _) if !yields => Err(refusal.clone()),
                    (Some(refusal), Ok(topic)) if topic.log(index).is_some() => {
                        let records = partition.records.unwrap_or_default();
                        Err(check_shape(version, records).err().unwrap_or_else(|| refusal.clone()))
                    }
                    (_, Err(refusal)) => Err(refusal.clone()),
                    (_, Ok(topic)) => self.check(topic, version, partition, &charge).await,
                };
                checked.push((index, ready));
            }
            topics.push((data.name, data.topic_id, checked));
        }
        let id = request.transactional_id.as_ref();
        self.verify_transaction(version, id.map(|id| id.as_str()), &mut topics).await;
        let outcomes = self.append_all(topics);
        if acks == 0 {
            return unanswered(outcomes);
        }
        let handlers = self.clone();
        Box::pin(async move { handlers.wait_for_all(&context, outcomes, deadline).await.into() })
    }

    /// An error that holds for every partition of the request.
    fn refusal_of_all(&self, context: &RequestContext, request: &ProduceRequest) -> Option<Refusal> {
        if !matches!(request.acks, -1..=1) {
            return Some(ErrorCode::InvalidRequiredAcks.into());
        }
        let id = request.transactional_id.as_ref();
        if id.is_some_and(|id| !self.allows_transactional_id(context, Operation::Write, id)) {
            return Some(ErrorCode::TransactionalIdAuthorizationFailed.into());
        }
        let allowed = self.authorizer.allows(context, Operation::IdempotentWrite, Resource::Cluster);
        (!allowed).then(|| ErrorCode::ClusterAuthorizationFailed.into())
    }

    fn produce_topic(
        &self,
        context: &RequestContext,
        version: i16,
        name: &TopicName,
        id: uuid::Uuid,
    ) -> Result<Arc<Topic>, Refusal> {
        let topic = match version >= TOPIC_IDS {
            true => self.broker.topics.by_id(id).ok_or(Refusal::from(ErrorCode::UnknownTopicId))?,
            false => {
                let known = self.broker.topics.by_name(name);
                known.ok_or(Refusal::from(ErrorCode::UnknownTopicOrPartition))?
            }
        };
        if !self.allows_topic(context, Operation::Write, topic.name()) {
            return Err(ErrorCode::TopicAuthorizationFailed.into());
        }
        Ok(topic)
    }

    async fn check(
        &self,
        topic: &Arc<Topic>,
        version: i16,
        data: PartitionProduceData,
        charge: &Charge,
    ) -> Result<Ready, Refusal> {
        let unknown = Refusal::from(ErrorCode::UnknownTopicOrPartition);
        let log = topic.log(data.index).cloned().ok_or(unknown)?;
        if crate::topics::is_internal(topic.name()) {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let records = data.records.unwrap_or_default();
        let Broker { runtime, budgets, .. } = &*self.broker;
        let arrived = records.len();
        let mut checked = check_batch(runtime, &budgets.unpacking, version, records, &topic.settings).await?;
        let charge = match checked.batch.len() > arrived {
            true => self.charge_expanded(checked.batch.len()).await?,
            false => charge.clone(),
        };
        checked.batch = checked.batch.with_charge(Some(charge));
        Ok(Ready { topic: topic.clone(), log, checked, verification: None })
    }

    /// Charges a batch that has become larger than it came in, because its topic stores another codec. Its request holds memory
    /// meanwhile, so it doesn't wait for ever.
    async fn charge_expanded(&self, bytes: usize) -> Result<Charge, Refusal> {
        let charged =
            tokio::time::timeout(EXPANDED_PATIENCE, self.broker.budgets.produce.charge(bytes)).await;
        charged.map_err(|_| ErrorCode::RequestTimedOut.into())
    }

    /// Appends what has passed. All of it lands in one WAL object, unless that is full.
    fn append_all(&self, topics: Vec<Checks>) -> Vec<TopicOutcome> {
        let _one_object = self.broker.wal.hold();
        let append = |(index, ready): (i32, Result<Ready, Refusal>)| {
            let outcome = match ready {
                Ok(ready) => self.append(ready),
                Err(refusal) => Outcome::refused(refusal, None),
            };
            Partition { index, outcome }
        };
        topics
            .into_iter()
            .map(|(name, id, checks)| TopicOutcome {
                name,
                id,
                partitions: checks.into_iter().map(append).collect(),
            })
            .collect()
    }

    fn append(&self, Ready { log, checked, verification, .. }: Ready) -> Outcome {
        let Broker { cache, wal, .. } = &*self.broker;
        match log.append_verified(checked.batch, verification.as_ref(), cache, wal) {
            // A repetition is answered with the timestamp of its first copy.
            Ok(at) => Outcome::Appended { append_time: at.duplicate_of.or(checked.append_time), log, at },
            Err(error) => Outcome::refused(refusal_of(&error), Some(&log)),
        }
    }

    async fn wait_for_all(
        &self,
        context: &RequestContext,
        topics: Vec<TopicOutcome>,
        deadline: Instant,
    ) -> ProduceResponse {
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for Partition { index, outcome } in topic.partitions {
                partitions.push(wait_for(index, outcome, deadline).await);
            }
            let response = TopicProduceResponse::default().with_name(topic.name).with_topic_id(topic.id);
            responses.push(response.with_partition_responses(partitions));
        }
        let throttle = self.quotas.record(context, QuotaKind::Produce, 0);
        let throttle_ms = i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX);
        ProduceResponse::default().with_responses(responses).with_throttle_time_ms(throttle_ms)
    }
}

/// Kafka looks at the first batch of each partition, up to one of a transaction, before all else. If that can't be told for one, the
/// request is refused as a whole.
fn broken(request: &ProduceRequest) -> Option<Refusal> {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    for records in partitions.filter_map(|partition| partition.records.as_ref()) {
        match Batch::split_from(&mut records.clone()) {
            Ok(batch) if batch.attributes() & Attributes::TRANSACTIONAL != 0 => return None,
            Err(BatchError::BadMagic(0 | 1)) => {}
            Err(error @ (BatchError::BadMagic(_) | BatchError::BadLength(_))) => return Some(error.into()),
            _ => {}
        }
    }
    None
}

/// Each topic and each partition once: the last batch for a partition counts. What names no partition is left out.
fn last_named(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    let named = topics.into_iter().filter(|topic| !topic.partition_data.is_empty());
    let key = |topic: &TopicProduceData| (topic.name.clone(), topic.topic_id);
    let join = |first: &mut TopicProduceData, mut later: TopicProduceData| {
        first.partition_data.append(&mut later.partition_data);
    };
    let mut kept = named_once(named, key, join);
    for topic in &mut kept {
        let mut seen = HashSet::with_capacity(topic.partition_data.len());
        topic.partition_data.reverse();
        topic.partition_data.retain(|partition| seen.insert(partition.index));
        topic.partition_data.reverse();
    }
    kept
}

pub(super) type Checks = (TopicName, uuid::Uuid, Vec<(i32, Result<Ready, Refusal>)>);

async fn wait_for(index: i32, outcome: Outcome, deadline: Instant) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index).with_log_append_time_ms(-1);
    let (log, at, append_time) = match outcome {
        Outcome::Refused { refusal, log_start } => {
            return refused(response, refusal).with_log_start_offset(log_start.0);
        }
        Outcome::Appended { log, at, append_time } => (log, at, append_time),
    };
    match tokio::time::timeout_at(deadline, log.durable(at.end)).await {
        Ok(Ok(())) => response
            .with_base_offset(at.base_offset.0)
            .with_log_append_time_ms(append_time.unwrap_or(-1))
            .with_log_start_offset(at.log_start.0),
        Ok(Err(closed)) => refused(response, code_of_closed(closed).into()),
        // The append lives on: the client's repetition of it will be recognised.
        Err(_) => refused(response, ErrorCode::RequestTimedOut.into()),
    }
}

fn refused(response: PartitionProduceResponse, refusal: Refusal) -> PartitionProduceResponse {
    let records = refusal.records.into_iter().map(|(index, message)| {
        let error = BatchIndexAndErrorMessage::default().with_batch_index(index);
        error.with_batch_index_error_message(Some(message.into()))
    });
    response
        .with_error_code(refusal.code.code())
        .with_base_offset(-1)
        .with_log_start_offset(-1)
        .with_record_errors(records.collect())
        .with_error_message(refusal.message.map(Into::into))
}

/// With acks=0 there is no answer, so an error can only be told by closing the connection, as Kafka does.
fn unanswered(topics: Vec<TopicOutcome>) -> Later {
    Box::pin(async move {
        let mut close = None;
        for partition in topics.into_iter().flat_map(|topic| topic.partitions) {
            match partition.outcome {
                Outcome::Refused { refusal, .. } => {
                    close = close.or_else(|| {
                        Some(format!("a batch without acknowledgement was refused: {:?}", refusal.code))
                    });
                }
                // What comes next on this connection sees these records.
                Outcome::Appended { log, at, .. } => drop(log.durable(at.end).await),
            }
        }
        Answer { response: None, held: Vec::new(), close }
    })
}

fn refusal_of(error: &AppendError) -> Refusal {
    match error {
        AppendError::Closed(closed) => code_of_closed(*closed).into(),
        AppendError::Sequence(sequence) => {
            let code = match sequence {
                SequenceError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                // Not UNKNOWN_PRODUCER_ID, at which clients send the same records again under a new id.
                SequenceError::OutOfOrder { .. } | SequenceError::Evicted { .. } => {
                    ErrorCode::OutOfOrderSequenceNumber
                }
                SequenceError::NotInTransaction { .. } => ErrorCode::InvalidTxnState,
            };
            Refusal::new(code, &sequence.to_string())
        }
        AppendError::NotVerified => Refusal::new(ErrorCode::InvalidTxnState, &error.to_string()),
        AppendError::CoordinatorFenced { .. } => ErrorCode::UnknownServerError.into(),
        AppendError::Full => Refusal::new(ErrorCode::InvalidRecord, "the log has no offset left"),
    }
}

fn code_of_closed(closed: Closed) -> ErrorCode {
    match closed {
        Closed::NotOwner => ErrorCode::NotLeaderOrFollower,
        Closed::Deleted => ErrorCode::UnknownTopicOrPartition,
    }
}
