//! DescribeTopicPartitions: topics in order of name, a page at a time (KIP-966).

use super::{Handlers, authorized_operations::UNKNOWN, metadata::topic_name};
use crate::{
    context::{Operation, RequestContext},
    topics::{Topic, is_internal},
};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};

use describe_topic_partitions_request::TopicRequest;
use describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition as Partition,
    DescribeTopicPartitionsResponseTopic as Described,
};

impl Handlers {
    pub(super) fn describe_topic_partitions(
        &self,
        context: &RequestContext,
        request: DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        let most = self.broker.dynamic().max_request_partitions;
        let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut left = asked.min(most).max(1);
        let cursor = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        if let Some(cursor) = &cursor
            && !fits(cursor, &request.topics)
        {
            return refused(request.topics, ErrorCode::InvalidRequest);
        }
        if cursor.is_none() && request.topics.iter().any(|wanted| wanted.name.is_empty()) {
            // Kafka takes it for the cursor's, looks for that and fails.
            return refused(request.topics, ErrorCode::UnknownServerError);
        }
        let mut response = DescribeTopicPartitionsResponse::default().with_next_cursor(None);
        for name in self.names(request.topics, cursor.as_ref().map(|(name, _)| name.as_str())) {
            let from = cursor.as_ref().filter(|(at, _)| *at == name).map_or(0, |(_, partition)| *partition);
            if left == 0 {
                response.next_cursor =
                    Some(Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(from));
                break;
            }
            let (described, next) = self.describe_page(context, &name, from, left);
            left = left.saturating_sub(described.partitions.len());
            response.topics.push(described);
            if let Some(next) = next {
                response.next_cursor =
                    Some(Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(next));
                break;
            }
        }
        response
    }

    /// The names asked for (or all), from the cursor's on, in order.
    fn names(&self, asked: Vec<TopicRequest>, from: Option<&str>) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = match asked.is_empty() {
            true => self.broker.topics.all().iter().map(|topic| topic.name().to_owned()).collect(),
            false => asked.into_iter().map(|topic| topic.name.to_string()).collect(),
        };
        names.retain(|name| from.is_none_or(|from| name.as_str() >= from));
        names
    }

    fn describe_page(
        &self,
        context: &RequestContext,
        name: &str,
        from: i32,
        most: usize,
    ) -> (Described, Option<i32>) {
        let described = Described::default()
            .with_name(Some(topic_name(name)))
            .with_is_internal(is_internal(name))
            .with_topic_authorized_operations(self.topic_operations(context, true, name));
        if !self.allows_topic(context, Operation::Describe, name) {
            let described = described.with_topic_authorized_operations(UNKNOWN).with_is_internal(false);
            return (described.with_error_code(ErrorCode::TopicAuthorizationFailed.code()), None);
        }
        match self.broker.topics.by_name(name) {
            Some(topic) => {
                let (partitions, next) = self.page(&topic, from, most);
                (described.with_topic_id(topic.id()).with_partitions(partitions), next)
            }
            None if thalweg_protocol::validate_topic_name(name).is_err() => {
                (described.with_error_code(ErrorCode::InvalidTopicException.code()), None)
            }
            None => (described.with_error_code(ErrorCode::UnknownTopicOrPartition.code()), None),
        }
    }

    fn page(&self, topic: &Topic, from: i32, most: usize) -> (Vec<Partition>, Option<i32>) {
        let leader = self.broker.settings.broker.0.into();
        let logs = (0..).zip(&topic.logs).skip(usize::try_from(from).unwrap_or(0));
        let mut logs = logs.peekable();
        let page = logs.by_ref().take(most).map(|(index, log)| {
            Partition::default()
                .with_partition_index(index)
                .with_leader_id(leader)
                .with_leader_epoch(log.leader_epoch().0)
                .with_replica_nodes(vec![leader])
                .with_isr_nodes(vec![leader])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        let page = page.collect();
        (page, logs.peek().map(|(index, _)| *index))
    }
}

/// A cursor points into one of the topics asked for.
fn fits((topic, partition): &(String, i32), asked: &[TopicRequest]) -> bool {
    *partition >= 0 && (asked.is_empty() || asked.iter().any(|wanted| wanted.name.as_str() == topic))
}

/// As Kafka answers a request that can't be: every topic bears the error.
fn refused(asked: Vec<TopicRequest>, code: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topics = asked.into_iter().map(|wanted| {
        let topic =
            Described::default().with_name(Some(wanted.name)).with_topic_authorized_operations(UNKNOWN);
        topic.with_error_code(code.code())
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect()).with_next_cursor(None)
}
