//! AddPartitionsToTxn: partitions join a transaction, all or none. From version 4 on for brokers: several transactions at once, and
//! questions whether a partition has joined (KIP-890).

use super::{Handlers, init_producer_id::fenced_for};
use crate::{
    context::{Operation, RequestContext, Resource},
    coordinator::transactions::{Producer, TopicPartition},
    topics::is_internal,
};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_protocol::{ErrorCode, messages::*};

use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};

/// First version whose clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 2;
/// First version that is for brokers.
const BATCHED: i16 = 4;

type Topics = Vec<AddPartitionsToTxnTopic>;

impl Handlers {
    pub(super) async fn add_partitions_to_txn(
        &self,
        context: &RequestContext,
        version: i16,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        let response = AddPartitionsToTxnResponse::default();
        if version < BATCHED {
            let transaction = only_transaction(request);
            let topics = &transaction.topics;
            let results = self.add_to_transaction(context, version, &transaction, topics, topics).await;
            return response.with_results_by_topic_v3_and_below(results);
        }
        if !self.authorizer.allows(context, Operation::ClusterAction, Resource::Cluster) {
            return response.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
        }
        // Where an id is there twice, Kafka adds what is named last with it, and tells of what is named first.
        let named = request.transactions.iter().map(|one| (&one.transactional_id, &one.topics));
        let (last, first): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (named.clone().collect(), named.rev().collect());
        let mut transactions = Vec::with_capacity(request.transactions.len());
        for transaction in &request.transactions {
            let id = &transaction.transactional_id;
            let [asked, told] = [&last, &first].map(|all| *all.get(id).unwrap_or(&&transaction.topics));
            let results = self.add_to_transaction(context, version, transaction, asked, told).await;
            let result = AddPartitionsToTxnResult::default().with_topic_results(results);
            transactions.push(result.with_transactional_id(id.clone()));
        }
        response.with_results_by_transaction(transactions)
    }

    /// Adds the partitions that are `asked` for. Of what comes of all of them it is `told` as the request names them; where they fare
    /// differently, each partition is told of once.
    async fn add_to_transaction(
        &self,
        context: &RequestContext,
        version: i16,
        transaction: &AddPartitionsToTxnTransaction,
        asked: &Topics,
        told: &Topics,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let partitions = partitions_of(asked);
        let all = |code| {
            results(told.iter().map(|topic| (&topic.name, topic.partitions.iter().map(|one| (*one, code)))))
        };
        let id = &transaction.transactional_id;
        if version < BATCHED && !self.allows_transactional_id(context, Operation::Write, id) {
            return all(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let found: Vec<_> = partitions.iter().map(|one| self.may_join(context, version, one)).collect();
        if found.iter().any(|code| code.is_error()) {
            let code = |code| if code == ErrorCode::None { ErrorCode::OperationNotAttempted } else { code };
            return each(&partitions, found.into_iter().map(code));
        }
        let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let protocol = if version >= BATCHED { 2 } else { 0 };
        if transaction.verify_only {
            let verified = self.broker.verify_in_transaction(id, producer, &partitions).await;
            let codes = verified.unwrap_or_else(|code| vec![code; partitions.len()]);
            return each(&partitions, codes);
        }
        let added = self.broker.add_to_transaction(id, producer, &partitions, protocol).await;
        all(added.err().map_or(ErrorCode::None, |code| fenced_for(version < PRODUCER_FENCED, code)))
    }

    fn may_join(
        &self,
        context: &RequestContext,
        version: i16,
        (topic, partition): &TopicPartition,
    ) -> ErrorCode {
        let allowed =
            version >= BATCHED || !is_internal(topic) && self.allows_topic(context, Operation::Write, topic);
        let known = self.broker.topics.by_name(topic);
        match known.is_some_and(|known| known.log(*partition).is_some()) {
            _ if !allowed => ErrorCode::TopicAuthorizationFailed,
            true => ErrorCode::None,
            false => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// The one transaction of a client's request, as those of brokers have it.
fn only_transaction(request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnTransaction {
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(request.v3_and_below_transactional_id)
        .with_producer_id(request.v3_and_below_producer_id)
        .with_producer_epoch(request.v3_and_below_producer_epoch)
        .with_topics(request.v3_and_below_topics)
}

fn partitions_of(topics: &Topics) -> Vec<TopicPartition> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.iter().map(move |partition| (name.clone(), *partition)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// Each partition once, with its own code.
fn each(
    partitions: &[TopicPartition],
    codes: impl IntoIterator<Item = ErrorCode>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut topics: BTreeMap<TopicName, BTreeMap<i32, ErrorCode>> = BTreeMap::new();
    for ((topic, partition), code) in partitions.iter().zip(codes) {
        let name = TopicName(StrBytes::from_string(topic.to_string()));
        topics.entry(name).or_default().insert(*partition, code);
    }
    results(
        topics.iter().map(|(name, codes)| (name, codes.iter().map(|(partition, code)| (*partition, *code)))),
    )
}

fn results<'a, C>(topics: impl Iterator<Item = (&'a TopicName, C)>) -> Vec<AddPartitionsToTxnTopicResult>
where
    C: Iterator<Item = (i32, ErrorCode)>,
{
    let result = |(partition, code): (i32, ErrorCode)| {
        let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(partition);
        result.with_partition_error_code(code.code())
    };
    let topics = topics.map(|(name, codes)| {
        let results = codes.map(result).collect();
        AddPartitionsToTxnTopicResult::default().with_name(name.clone()).with_results_by_partition(results)
    });
    topics.collect()
}
