//! DescribeQuorum: the metadata store as Kafka would show it, a quorum of this broker alone (KIP-595, KIP-853).

use super::{Handlers, metadata::topic_name};
use crate::context::{Operation, RequestContext, Resource};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

use describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};

const TOPIC: &str = "__cluster_metadata";
/// What Kafka calls the listener of controllers by default.
const LISTENER: StrBytes = StrBytes::from_static_str("CONTROLLER");

impl Handlers {
    pub(super) fn describe_quorum(
        &self,
        context: &RequestContext,
        version: i16,
        request: &DescribeQuorumRequest,
    ) -> DescribeQuorumResponse {
        let response = DescribeQuorumResponse::default();
        if !self.authorizer.allows(context, Operation::Describe, Resource::Cluster) {
            return response.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
        }
        let is_it = match &request.topics[..] {
            [topic] => {
                *topic.topic_name == *TOPIC && matches!(&topic.partitions[..], [p] if p.partition_index == 0)
            }
            _ => false,
        };
        if !is_it {
            return response.with_topics(request.topics.iter().map(unknown).collect());
        }
        let mut topic = TopicData::default().with_topic_name(topic_name(TOPIC));
        topic.partitions = vec![self.quorum(version)];
        let nodes = self.endpoint(context).map(|endpoint| {
            let listener = Listener::default().with_name(LISTENER).with_port(endpoint.port);
            let listener = listener.with_host(StrBytes::from_string(endpoint.host.clone()));
            Node::default().with_node_id(self.broker.settings.broker.0.into()).with_listeners(vec![listener])
        });
        response.with_topics(vec![topic]).with_nodes(if version >= 2 {
            nodes.into_iter().collect()
        } else {
            Vec::new()
        })
    }

    /// The high watermark stands for how often the metadata changed hands: Kafka's rises with every change.
    fn quorum(&self, version: i16) -> PartitionData {
        let epoch = self.broker.topics.owner().leader_epoch.0;
        let now = self.broker.runtime.now_ms();
        let mut voter = ReplicaState::default()
            .with_replica_id(self.broker.settings.broker.0.into())
            .with_log_end_offset(epoch.into());
        if version >= 1 {
            voter = voter.with_last_fetch_timestamp(now).with_last_caught_up_timestamp(now);
        }
        if version >= 2 {
            voter = voter.with_replica_directory_id(self.directory_id());
        }
        let data = PartitionData::default().with_partition_index(0).with_leader_epoch(epoch);
        let data = data.with_leader_id(self.broker.settings.broker.0.into());
        data.with_high_watermark(epoch.into()).with_current_voters(vec![voter])
    }

    /// Kafka gives each metadata log an id. There is one for the cluster here, so it is the cluster's.
    pub(super) fn directory_id(&self) -> Uuid {
        let id = BASE64_URL_SAFE_NO_PAD.decode(&self.broker.cluster_id).ok();
        id.and_then(|id| Uuid::from_slice(&id).ok()).unwrap_or_default()
    }
}

fn unknown(topic: &describe_quorum_request::TopicData) -> TopicData {
    let partitions = topic.partitions.iter().map(|partition| {
        let data = PartitionData::default().with_partition_index(partition.partition_index);
        let message = "This server does not host this topic-partition.";
        data.with_error_code(ErrorCode::UnknownTopicOrPartition.code())
            .with_error_message(Some(message.into()))
    });
    TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
}
