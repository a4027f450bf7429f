//! WriteTxnMarkers: ends transactions in partitions. Other coordinators send it, and administrators to end one that hangs.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext, Resource},
    coordinator::markers::EndMarker,
    partition::{Appended, Closed, Log},
};
use std::sync::Arc;
use thalweg_protocol::{ErrorCode, messages::*};

use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};

type Outcome = Result<(Arc<Log>, Appended), ErrorCode>;

impl Handlers {
    pub(super) async fn write_txn_markers(
        &self,
        context: &RequestContext,
        request: WriteTxnMarkersRequest,
    ) -> WriteTxnMarkersResponse {
        let allows = |operation| self.authorizer.allows(context, operation, Resource::Cluster);
        let allowed = allows(Operation::Alter) || allows(Operation::ClusterAction);
        let mut markers = Vec::with_capacity(request.markers.len());
        for marker in request.markers {
            markers.push(self.write_marker(&marker, allowed).await);
        }
        WriteTxnMarkersResponse { markers }
    }

    async fn write_marker(&self, marker: &WritableTxnMarker, allowed: bool) -> WritableTxnMarkerResult {
        let mut topics = Vec::with_capacity(marker.topics.len());
        let appended: Vec<Vec<Outcome>> =
            marker.topics.iter().map(|topic| self.append_to_topic(marker, topic, allowed)).collect();
        for (topic, outcomes) in marker.topics.iter().zip(appended) {
            let mut partitions = Vec::with_capacity(outcomes.len());
            for (partition_index, outcome) in topic.partition_indexes.iter().zip(outcomes) {
                let error_code = durable(outcome).await.code();
                let partition_index = *partition_index;
                partitions.push(WritableTxnMarkerPartitionResult { partition_index, error_code });
            }
            topics.push(WritableTxnMarkerTopicResult { name: topic.name.clone(), partitions });
        }
        WritableTxnMarkerResult { producer_id: marker.producer_id, topics }
    }

    fn append_to_topic(
        &self,
        marker: &WritableTxnMarker,
        topic: &WritableTxnMarkerTopic,
        allowed: bool,
    ) -> Vec<Outcome> {
        let _one_object = self.broker.wal.hold();
        let known = self.broker.topics.by_name(&topic.name);
        let end = EndMarker {
            producer_id: marker.producer_id,
            epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            committed: marker.transaction_result,
            transaction_version: marker.transaction_version.into(),
        };
        let append = |partition: &i32| match &known {
            _ if !allowed => Err(ErrorCode::ClusterAuthorizationFailed),
            Some(known) => self.broker.append_marker(known, *partition, &end),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        topic.partition_indexes.iter().map(append).collect()
    }
}

async fn durable(outcome: Outcome) -> ErrorCode {
    match outcome {
        Err(code) => code,
        Ok((log, at)) => match log.durable(at.end).await {
            Ok(()) => ErrorCode::None,
            Err(Closed::NotOwner) => ErrorCode::NotLeaderOrFollower,
            Err(Closed::Deleted) => ErrorCode::UnknownTopicOrPartition,
        },
    }
}
