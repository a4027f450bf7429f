//! AddPartitionsToTxn: partitions join a transaction, all or none. From version 4 on for brokers: several transactions at once, and
//! questions whether a partition has joined (KIP-890).

use super::{Handlers, init_producer_id::fenced_for};
use crate::{
    context::{Operation, RequestContext, Resource},
    coordinator::transactions::{Producer, TopicPartition},
    topics::is_internal,
};
use std::sync::Arc;
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
            let codes = self.add_to_transaction(context, version, &transaction).await;
            return response.with_results_by_topic_v3_and_below(results(&transaction.topics, &codes));
        }
        if !self.authorizer.allows(context, Operation::ClusterAction, Resource::Cluster) {
            return response.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
        }
        let mut transactions = Vec::with_capacity(request.transactions.len());
        for transaction in request.transactions {
            let codes = self.add_to_transaction(context, version, &transaction).await;
            let result = AddPartitionsToTxnResult::default()
                .with_topic_results(results(&transaction.topics, &codes))
                .with_transactional_id(transaction.transactional_id);
            transactions.push(result);
        }
        response.with_results_by_transaction(transactions)
    }

    /// A code for each partition, in the order of the request.
    async fn add_to_transaction(
        &self,
        context: &RequestContext,
        version: i16,
        transaction: &AddPartitionsToTxnTransaction,
    ) -> Vec<ErrorCode> {
        let partitions = partitions_of(&transaction.topics);
        let all = |code| vec![code; partitions.len()];
        let id = &transaction.transactional_id;
        if version < BATCHED && !self.allows_transactional_id(context, Operation::Write, id) {
            return all(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let found: Vec<_> = partitions.iter().map(|one| self.may_join(context, version, one)).collect();
        if found.iter().any(|code| code.is_error()) {
            let told = |code| if code == ErrorCode::None { ErrorCode::OperationNotAttempted } else { code };
            return found.into_iter().map(told).collect();
        }
        let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let protocol = if version >= BATCHED { 2 } else { 0 };
        let joined = match transaction.verify_only {
            true => self.broker.verify_in_transaction(id, producer, &partitions).await,
            false => {
                let added = self.broker.add_to_transaction(id, producer, &partitions, protocol).await;
                added.map(|()| all(ErrorCode::None))
            }
        };
        joined.unwrap_or_else(|code| all(fenced_for(version < PRODUCER_FENCED, code)))
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

fn results(topics: &Topics, codes: &[ErrorCode]) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut codes = codes.iter();
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().zip(codes.by_ref()).map(|(partition, code)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code.code())
        });
        let partitions = partitions.collect();
        let result = AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone());
        results.push(result.with_results_by_partition(partitions));
    }
    results
}
