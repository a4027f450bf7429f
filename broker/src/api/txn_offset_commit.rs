//! TxnOffsetCommit: stores how far a group has read, as a part of a transaction.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::{TransactionalBatch, groups::OffsetCommit, transactions::Producer},
    partition::Verification,
    topics::OFFSETS_TOPIC,
};
use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::ProducerId;

use txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};

/// First version whose clients know COORDINATOR_LOAD_IN_PROGRESS.
const LOADING: i16 = 2;
/// First version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE: i16 = 4;
/// First version that adds the group to the transaction (KIP-890).
const ADDS: i16 = 5;

impl Handlers {
    pub(super) async fn txn_offset_commit(
        &self,
        context: &RequestContext,
        version: i16,
        request: TxnOffsetCommitRequest,
    ) -> TxnOffsetCommitResponse {
        let refusal = self.refusal_of_commit(context, &request);
        let mut answered = Vec::with_capacity(request.topics.len());
        let mut valid = Vec::new();
        for topic in &request.topics {
            match refusal {
                Some(code) => refuse(&mut answered, topic, code),
                None => self.sort_out(context, topic, &mut valid, &mut answered),
            }
        }
        if !valid.is_empty() {
            let codes = match self.commit_offsets(version, &request, &valid).await {
                Ok(codes) => codes,
                Err(code) => {
                    let code = told(version, code);
                    let all = |topic: &OffsetCommitRequestTopic| {
                        topic.partitions.iter().map(|one| (one.partition_index, code)).collect()
                    };
                    valid.iter().map(all).collect()
                }
            };
            let results = valid.iter().zip(codes);
            if answered.is_empty() {
                // Then the topics are told as they are named, be it twice.
                answered.extend(results.map(|(topic, codes)| told_of(&topic.name, codes)));
            } else {
                results.for_each(|(topic, codes)| add(&mut answered, &topic.name, codes));
            }
        }
        TxnOffsetCommitResponse::default().with_topics(answered)
    }

    fn refusal_of_commit(
        &self,
        context: &RequestContext,
        request: &TxnOffsetCommitRequest,
    ) -> Option<ErrorCode> {
        if !self.allows_transactional_id(context, Operation::Write, &request.transactional_id) {
            return Some(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let allowed = self.allows_group(context, Operation::Read, &request.group_id);
        (!allowed).then_some(ErrorCode::GroupAuthorizationFailed)
    }

    /// What of a topic exists, into `valid`; the rest is answered.
    fn sort_out(
        &self,
        context: &RequestContext,
        topic: &TxnOffsetCommitRequestTopic,
        valid: &mut Vec<OffsetCommitRequestTopic>,
        answered: &mut Vec<TxnOffsetCommitResponseTopic>,
    ) {
        if !self.allows_topic(context, Operation::Read, &topic.name) {
            return refuse(answered, topic, ErrorCode::TopicAuthorizationFailed);
        }
        let Some(known) = self.broker.topics.by_name(&topic.name) else {
            return refuse(answered, topic, ErrorCode::UnknownTopicOrPartition);
        };
        let (there, missing): (Vec<_>, Vec<_>) =
            topic.partitions.iter().partition(|one| known.log(one.partition_index).is_some());
        let missing = missing.iter().map(|one| (one.partition_index, ErrorCode::UnknownTopicOrPartition));
        if missing.len() > 0 {
            add(answered, &topic.name, missing);
        }
        let partitions = there.into_iter().map(|one| OffsetCommitRequestPartition {
            partition_index: one.partition_index,
            committed_offset: one.committed_offset,
            committed_leader_epoch: one.committed_leader_epoch,
            committed_metadata: one.committed_metadata.clone(),
        });
        let partitions: Vec<_> = partitions.collect();
        if !partitions.is_empty() {
            let (name, topic_id) = (topic.name.0.clone(), known.id());
            valid.push(OffsetCommitRequestTopic { name, topic_id, partitions });
        }
    }

    async fn commit_offsets(
        &self,
        version: i16,
        request: &TxnOffsetCommitRequest,
        topics: &[OffsetCommitRequestTopic],
    ) -> Result<Vec<Vec<(i32, ErrorCode)>>, ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let (topic, partition) = self.broker.group_partition(&request.group_id)?;
        let log = topic.logs.get(partition).ok_or(ErrorCode::NotCoordinator)?;
        let mut verification = log.verify(ProducerId(producer.id), producer.epoch, false);
        if verification.is_some() {
            let partition = i32::try_from(partition).map_err(|_| ErrorCode::UnknownServerError)?;
            let offsets = [(OFFSETS_TOPIC.into(), partition)];
            let id = &request.transactional_id;
            let renew = || verification.iter_mut().for_each(Verification::renew);
            let joined = self.broker.join_transaction(id, producer, &offsets, version >= ADDS, renew).await?;
            joined.into_iter().find(|code| code.is_error()).map_or(Ok(()), Err)?;
        }
        let shard = self.broker.group_shard(&request.group_id)?;
        let commit = OffsetCommitRequest {
            group_id: request.group_id.0.clone(),
            generation_id_or_member_epoch: request.generation_id,
            member_id: request.member_id.clone(),
            group_instance_id: request.group_instance_id.clone(),
            ..OffsetCommitRequest::default()
        };
        let commit = OffsetCommit { request: &commit, topics, version, has_room: shard.has_room() };
        let batch = TransactionalBatch { producer_id: producer.id, epoch: producer.epoch };
        let pending = shard.run_in_transaction(batch, verification.as_ref(), |groups, now, effects| {
            groups.commit_in_transaction(commit, now, effects)
        })?;
        pending.durable().await?
    }
}

/// The code as clients of `version` understand it.
fn told(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress if version < LOADING => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < ABORTABLE => ErrorCode::InvalidTxnState,
        code => code,
    }
}

fn refuse(
    answered: &mut Vec<TxnOffsetCommitResponseTopic>,
    topic: &TxnOffsetCommitRequestTopic,
    code: ErrorCode,
) {
    add(answered, &topic.name, topic.partitions.iter().map(|one| (one.partition_index, code)));
}

fn told_of(name: &str, codes: impl IntoIterator<Item = (i32, ErrorCode)>) -> TxnOffsetCommitResponseTopic {
    let partitions = codes.into_iter().map(|(partition, code)| answered(partition, code)).collect();
    let topic = TxnOffsetCommitResponseTopic::default().with_partitions(partitions);
    topic.with_name(TopicName(StrBytes::from_string(name.to_owned())))
}

fn answered(partition: i32, code: ErrorCode) -> TxnOffsetCommitResponsePartition {
    TxnOffsetCommitResponsePartition::default().with_partition_index(partition).with_error_code(code.code())
}

/// Adds partitions to the entry of their topic.
fn add(
    topics: &mut Vec<TxnOffsetCommitResponseTopic>,
    name: &str,
    codes: impl IntoIterator<Item = (i32, ErrorCode)>,
) {
    let mut more = told_of(name, codes);
    match topics.iter_mut().find(|topic| *topic.name.0 == *name) {
        Some(topic) => topic.partitions.append(&mut more.partitions),
        None => topics.push(more),
    }
}
