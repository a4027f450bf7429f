//! OffsetForLeaderEpoch: where an epoch ended, so that a client can tell whether what it has read still stands (KIP-101, KIP-320).

use super::{Handlers, fetch::check_epoch};
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::LeaderEpoch;

use offset_for_leader_epoch_request::OffsetForLeaderPartition;
use offset_for_leader_epoch_response::{EpochEndOffset as Answered, OffsetForLeaderTopicResult};

impl Handlers {
    pub(super) fn offset_for_leader_epoch(
        &self,
        context: &RequestContext,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let answer = |partition| self.end_of_epoch(context, &topic.topic, partition);
            let partitions = topic.partitions.iter().map(answer).collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    fn end_of_epoch(
        &self,
        context: &RequestContext,
        topic: &str,
        wanted: &OffsetForLeaderPartition,
    ) -> Answered {
        let answer =
            Answered::default().with_partition(wanted.partition).with_leader_epoch(-1).with_end_offset(-1);
        let log = self.log_of(context, Operation::Describe, topic, wanted.partition);
        match log.and_then(|log| check_epoch(&log, wanted.current_leader_epoch).map(|()| log)) {
            Err(code) => answer.with_error_code(code.code()),
            Ok(log) => match log.end_of_epoch(LeaderEpoch(wanted.leader_epoch)) {
                Some((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end.0),
                None => answer,
            },
        }
    }
}

impl Handlers {
    /// The log of a partition that the caller may do `operation` to.
    pub(super) fn log_of(
        &self,
        context: &RequestContext,
        operation: Operation,
        topic: &str,
        partition: i32,
    ) -> Result<std::sync::Arc<crate::partition::Log>, ErrorCode> {
        if !self.allows_topic(context, operation, topic) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        let topic = self.broker.topics.by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.log(partition).cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}
