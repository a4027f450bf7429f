//! ElectLeaders: every partition has its leader already (KIP-183, KIP-460).

use super::{
    Handlers,
    topic_admin::{Refused, sentence_if_any},
};
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

use elect_leaders_response::{PartitionResult, ReplicaElectionResult};

/// The kinds of elections.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

impl Handlers {
    pub(super) fn elect_leaders(
        &self,
        context: &RequestContext,
        version: i16,
        request: ElectLeadersRequest,
    ) -> ElectLeadersResponse {
        let refused = if !self.authorizer.allows(context, Operation::Alter, Resource::Cluster) {
            Some(Refused(ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed.".into()))
        } else if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
            // Of nothing, Kafka doesn't look at the rest.
            None
        } else if request.timeout_ms <= 0 {
            Some(Refused(ErrorCode::RequestTimedOut, String::new()))
        } else if ![PREFERRED, UNCLEAN].contains(&request.election_type) {
            let message = format!("Unknown election type {}", request.election_type);
            Some(Refused(ErrorCode::InvalidRequest, message))
        } else {
            None
        };
        let code = refused.as_ref().map_or(ErrorCode::None, |Refused(code, _)| *code);
        let results = match request.topic_partitions {
            Some(topics) => {
                let outcome = |topic: &str, partition| match &refused {
                    Some(Refused(code, message)) => (*code, message.clone()),
                    None => self.elect(topic, partition),
                };
                topics.into_iter().map(|topic| elected(topic, outcome)).collect()
            }
            None if refused.is_some() => Vec::new(),
            // Of all partitions only those are told that need an election: none.
            None => {
                let topics = self.broker.topics.all();
                let none = |name: &str| {
                    ReplicaElectionResult::default().with_topic(super::metadata::topic_name(name))
                };
                topics.iter().map(|topic| none(topic.name())).collect()
            }
        };
        let response = ElectLeadersResponse::default().with_replica_election_results(results);
        if version >= 1 { response.with_error_code(code.code()) } else { response }
    }

    fn elect(&self, topic: &str, partition: i32) -> (ErrorCode, String) {
        match self.broker.topics.by_name(topic) {
            None => (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {topic}")),
            Some(found) if found.log(partition).is_none() => {
                (ErrorCode::UnknownTopicOrPartition, format!("No such partition as {topic}-{partition}"))
            }
            Some(_) => {
                (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.".to_owned())
            }
        }
    }
}

fn elected(
    topic: elect_leaders_request::TopicPartitions,
    outcome: impl Fn(&str, i32) -> (ErrorCode, String),
) -> ReplicaElectionResult {
    let result = |partition: &i32| {
        let (code, message) = outcome(&topic.topic, *partition);
        PartitionResult::default()
            .with_partition_id(*partition)
            .with_error_code(code.code())
            .with_error_message(sentence_if_any(message))
    };
    let results = topic.partitions.iter().map(result).collect();
    ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(results)
}
