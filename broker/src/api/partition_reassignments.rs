//! AlterPartitionReassignments and ListPartitionReassignments: a partition has one replica, which moves by a hand-over, so no
//! reassignment ever takes time (KIP-455, KIP-860).

use super::{
    Handlers,
    topic_admin::{Refused, check_replicas, sentence_if_any},
};
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

use alter_partition_reassignments_request::ReassignablePartition;
use alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse};

const NOT_ALLOWED: &str = "Cluster authorization failed.";

impl Handlers {
    pub(super) fn alter_partition_reassignments(
        &self,
        context: &RequestContext,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let response = AlterPartitionReassignmentsResponse::default().with_error_message(None);
        let response = response.with_allow_replication_factor_change(request.allow_replication_factor_change);
        if !self.authorizer.allows(context, Operation::Alter, Resource::Cluster) {
            let code = ErrorCode::ClusterAuthorizationFailed;
            return response.with_error_code(code.code()).with_error_message(Some(NOT_ALLOWED.into()));
        }
        if request.topics.is_empty() {
            // Kafka answers without a look at the rest.
            return AlterPartitionReassignmentsResponse::default();
        }
        let topics = request.topics.into_iter().map(|topic| {
            let results = topic.partitions.iter().map(|partition| {
                let outcome = self.reassign(&topic.name, partition, request.allow_replication_factor_change);
                let (code, message) = match outcome {
                    Ok(()) => (ErrorCode::None, None),
                    Err(Refused(code, message)) => (code, sentence_if_any(message)),
                };
                ReassignablePartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code.code())
                    .with_error_message(message)
            });
            let results = results.collect();
            ReassignableTopicResponse::default().with_name(topic.name).with_partitions(results)
        });
        response.with_responses(topics.collect())
    }

    /// To the broker that has it is the only place a partition can be moved to.
    fn reassign(&self, name: &str, wanted: &ReassignablePartition, any_factor: bool) -> Result<(), Refused> {
        let missing = |message: String| Refused(ErrorCode::UnknownTopicOrPartition, message);
        let topic = self.broker.topics.by_name(name);
        let topic = topic.ok_or_else(|| missing(format!("Unable to find a topic named {name}.")))?;
        let index = wanted.partition_index;
        if topic.log(index).is_none() {
            return Err(missing(format!("Unable to find partition {name}:{index}.")));
        }
        let Some(replicas) = &wanted.replicas else {
            return Err(Refused(ErrorCode::NoReassignmentInProgress, String::new()));
        };
        check_replicas(self.broker.settings.broker, replicas)?;
        if !any_factor && replicas.len() != 1 {
            let message = format!("The replication factor is changed from 1 to {}", replicas.len());
            return Err(Refused(ErrorCode::InvalidReplicationFactor, message));
        }
        Ok(())
    }

    pub(super) fn list_partition_reassignments(
        &self,
        context: &RequestContext,
    ) -> ListPartitionReassignmentsResponse {
        let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
        if self.authorizer.allows(context, Operation::Describe, Resource::Cluster) {
            return response;
        }
        let code = ErrorCode::ClusterAuthorizationFailed;
        response.with_error_code(code.code()).with_error_message(Some(NOT_ALLOWED.into()))
    }
}
