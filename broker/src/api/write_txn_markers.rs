//! WriteTxnMarkers: ends transactions in partitions. Other coordinators send it, and administrators to end one that hangs.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext, Resource},
    coordinator::markers::EndMarker,
    partition::{Appended, Closed, Log, NO_PRODUCER_EPOCH},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_protocol::{ErrorCode, messages::*};

use write_txn_markers_request::WritableTxnMarker;
use write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};

/// What came of a marker in each of its partitions.
type Outcomes = BTreeMap<(StrBytes, i32), ErrorCode>;
type Appending = Result<(Arc<Log>, Appended), ErrorCode>;

impl Handlers {
    pub(super) async fn write_txn_markers(
        &self,
        context: &RequestContext,
        request: WriteTxnMarkersRequest,
    ) -> WriteTxnMarkersResponse {
        let allows = |operation| self.authorizer.allows(context, operation, Resource::Cluster);
        let refused = if !allows(Operation::Alter) && !allows(Operation::ClusterAction) {
            Some(ErrorCode::ClusterAuthorizationFailed)
        } else if request.markers.iter().any(|marker| self.is_of_no_producer(marker)) {
            // As Kafka, which fails inside.
            Some(ErrorCode::UnknownServerError)
        } else {
            None
        };
        // Of a producer, and of a partition, that is named again the last outcome is told.
        let mut told: BTreeMap<i64, Outcomes> = BTreeMap::new();
        for marker in &request.markers {
            if let Some(code) = refused {
                let all = partitions_of(marker).into_iter().map(|partition| (partition, code));
                told.insert(marker.producer_id, all.collect());
                continue;
            }
            let outcomes = self.write_marker(marker).await;
            if !outcomes.is_empty() {
                told.entry(marker.producer_id).or_default().extend(outcomes);
            }
        }
        let results = told.into_iter().map(|(producer_id, outcomes)| WritableTxnMarkerResult {
            producer_id,
            topics: by_topic(outcomes),
        });
        WriteTxnMarkersResponse { markers: results.collect() }
    }

    /// Whether there is a partition for a marker, but no producer whose transaction it could end.
    fn is_of_no_producer(&self, marker: &WritableTxnMarker) -> bool {
        let exists = |(topic, partition): &(StrBytes, i32)| {
            self.broker.topics.by_name(topic).is_some_and(|topic| topic.log(*partition).is_some())
        };
        (marker.producer_id == -1 || marker.producer_epoch == NO_PRODUCER_EPOCH)
            && partitions_of(marker).iter().any(exists)
    }

    async fn write_marker(&self, marker: &WritableTxnMarker) -> Outcomes {
        let appending = self.append_to_all(marker);
        let mut outcomes = Outcomes::new();
        for (partition, appending) in appending {
            outcomes.insert(partition, durable(appending).await);
        }
        outcomes
    }

    fn append_to_all(&self, marker: &WritableTxnMarker) -> Vec<((StrBytes, i32), Appending)> {
        let _one_object = self.broker.wal.hold();
        let end = EndMarker {
            producer_id: marker.producer_id,
            epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            committed: marker.transaction_result,
            transaction_version: marker.transaction_version.into(),
        };
        let append = |(topic, partition): &(StrBytes, i32)| match self.broker.topics.by_name(topic) {
            Some(known) => self.broker.append_marker(&known, *partition, &end),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let partitions = partitions_of(marker).into_iter();
        partitions.map(|partition| (partition.clone(), append(&partition))).collect()
    }
}

/// Each once.
fn partitions_of(marker: &WritableTxnMarker) -> BTreeSet<(StrBytes, i32)> {
    let topics = marker.topics.iter();
    topics
        .flat_map(|topic| topic.partition_indexes.iter().map(|index| (topic.name.clone(), *index)))
        .collect()
}

fn by_topic(outcomes: Outcomes) -> Vec<WritableTxnMarkerTopicResult> {
    let mut topics: Vec<WritableTxnMarkerTopicResult> = Vec::new();
    for ((name, partition_index), code) in outcomes {
        if topics.last().is_none_or(|topic| topic.name != name) {
            topics.push(WritableTxnMarkerTopicResult { name, partitions: Vec::new() });
        }
        let result = WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() };
        topics.last_mut().into_iter().for_each(|topic| topic.partitions.push(result.clone()));
    }
    topics
}

async fn durable(appending: Appending) -> ErrorCode {
    match appending {
        Err(code) => code,
        Ok((log, at)) => match log.durable(at.end).await {
            Ok(()) => ErrorCode::None,
            Err(Closed::NotOwner) => ErrorCode::NotLeaderOrFollower,
            Err(Closed::Deleted) => ErrorCode::UnknownTopicOrPartition,
        },
    }
}
