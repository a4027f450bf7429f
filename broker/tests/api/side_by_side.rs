//! What a real Kafka answered otherwise, found by asking both the same.

use super::{
    bed::{Bed, answer, text, topic},
    catalogue::{batch, fetch_request, produce_request},
    versions::furnished,
};
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

use metadata_request::MetadataRequestTopic;

async fn fetch(bed: &Bed, request: FetchRequest) -> FetchResponse {
    answer!(bed.ask(12, request), Fetch)
}

#[tokio::test]
async fn metadata_by_id_is_refused_in_versions_whose_answer_must_have_a_name() {
    let (bed, world) = furnished().await;
    for version in [10, 11] {
        for (name, id) in [(None, world.id), (Some(topic("there")), world.id), (None, Uuid::nil())] {
            let wanted = MetadataRequestTopic::default().with_name(name).with_topic_id(id);
            let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
            let response = answer!(bed.ask(version, request), Metadata);
            assert_eq!(response.topics[0].error_code, ErrorCode::InvalidRequest.code());
            assert!(response.topics[0].name.is_some() && response.brokers.is_empty());
        }
    }
}

#[tokio::test]
async fn what_may_be_done_to_a_topic_is_told_though_it_is_not_there() {
    let (bed, _) = furnished().await;
    let wanted = MetadataRequestTopic::default().with_name(Some(topic("not there")));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_include_topic_authorized_operations(true);
    let response = answer!(bed.ask(12, request), Metadata);
    assert_eq!(response.topics[0].error_code, ErrorCode::InvalidTopicException.code());
    assert!(response.topics[0].topic_authorized_operations > 0);
}

#[tokio::test]
async fn of_a_partition_that_is_fetched_twice_the_last_mention_counts() {
    let (bed, world) = furnished().await;
    let produced = produce_request(12, &world, 0, Some(batch().bytes()));
    assert!(bed.ask(12, produced).await.is_some());
    let mut request = fetch_request(12, &world, 0, 0);
    request.topics.truncate(1);
    let mut again = request.topics[0].clone();
    again.partitions.truncate(1);
    again.partitions[0].fetch_offset = 100;
    request.topics[0].partitions.truncate(1);
    request.topics.push(again);
    let response = fetch(&bed, request).await;
    assert_eq!(response.topics.len(), 1);
    assert_eq!(response.topics[0].partitions.len(), 1);
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange.code());
}

#[tokio::test]
async fn a_replica_is_told_that_this_is_not_its_leader() {
    let (bed, world) = furnished().await;
    let mut request = fetch_request(12, &world, 0, 0);
    request.replica_id = 5.into();
    let response = fetch(&bed, request).await;
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NotLeaderOrFollower.code());
}

#[tokio::test]
async fn of_a_partition_that_is_produced_to_twice_the_last_batch_counts() {
    let (bed, world) = furnished().await;
    let mut request = produce_request(12, &world, 0, Some(batch().bytes()));
    let mut again = request.topic_data[0].clone();
    again.partition_data[0].records = Some(Default::default());
    let mut without = again.clone();
    without.partition_data.clear();
    request.topic_data.extend([again, without]);
    let response = answer!(bed.ask(12, request), Produce);
    assert_eq!(response.responses.len(), 1);
    let partitions = &response.responses[0].partition_responses;
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].error_code, ErrorCode::InvalidRecord.code());
}

#[tokio::test]
async fn offsets_of_a_partition_are_not_listed_for_who_names_it_twice_be_it_in_two_entries() {
    let (bed, _) = furnished().await;
    let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
    let wanted = list_offsets_request::ListOffsetsTopic::default()
        .with_name(topic("there"))
        .with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted.clone(), wanted]);
    let response = answer!(bed.ask(6, request), ListOffsets);
    assert_eq!(response.topics.len(), 1);
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest.code()]);
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_told_before_acks_that_there_are_not() {
    let (bed, world) = furnished().await;
    for (partition, expected) in
        [(0, ErrorCode::InvalidRequiredAcks), (99, ErrorCode::UnknownTopicOrPartition)]
    {
        let request = produce_request(12, &world, partition, Some(batch().bytes())).with_acks(7);
        let response = answer!(bed.ask(12, request), Produce);
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected.code());
    }
}

#[tokio::test]
async fn bytes_that_are_less_than_a_header_are_damaged_if_their_length_is_no_batchs() {
    let (bed, world) = furnished().await;
    for (bytes, expected) in [
        (vec![0; 30], ErrorCode::CorruptMessage),
        (vec![0; 11], ErrorCode::InvalidRecord),
        (batch().bytes()[..30].to_vec(), ErrorCode::InvalidRecord),
    ] {
        let request = produce_request(12, &world, 0, Some(bytes.into()));
        let response = answer!(bed.ask(12, request), Produce);
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected.code());
    }
}

fn marker(
    producer: (i64, i16),
    partitions: &[(&str, &[i32])],
) -> write_txn_markers_request::WritableTxnMarker {
    let topics = partitions.iter().map(|(name, indexes)| write_txn_markers_request::WritableTxnMarkerTopic {
        name: text(name),
        partition_indexes: indexes.to_vec(),
    });
    write_txn_markers_request::WritableTxnMarker {
        producer_id: producer.0,
        producer_epoch: producer.1,
        transaction_result: true,
        topics: topics.collect(),
        coordinator_epoch: 0,
        transaction_version: 0,
    }
}

/// Lines of `producer topic partition: code`.
async fn write_markers(bed: &Bed, markers: Vec<write_txn_markers_request::WritableTxnMarker>) -> Vec<String> {
    let response = answer!(bed.ask(1, WriteTxnMarkersRequest { markers }), WriteTxnMarkers);
    let mut lines = Vec::new();
    for marker in &response.markers {
        for topic in &marker.topics {
            for partition in &topic.partitions {
                let (index, code) = (partition.partition_index, partition.error_code);
                lines.push(format!("{} {} {index}: {code}", marker.producer_id, topic.name));
            }
        }
    }
    lines
}

#[tokio::test]
async fn a_marker_that_is_named_again_is_told_once() {
    let (bed, _) = furnished().await;
    let one = marker((7, 0), &[("there", &[0, 9]), ("nowhere", &[0])]);
    let more = marker((7, 0), &[("empty", &[0])]);
    let none = marker((8, 0), &[]);
    let told = write_markers(&bed, vec![one.clone(), one, more, none]).await;
    assert_eq!(told, ["7 empty 0: 0", "7 nowhere 0: 3", "7 there 0: 0", "7 there 9: 3"]);
}

#[tokio::test]
async fn markers_of_no_producer_are_refused_where_there_is_a_partition_for_them() {
    let (bed, _) = furnished().await;
    for producer in [(-1, 0), (7, -1)] {
        let told = write_markers(&bed, vec![marker(producer, &[("nowhere", &[0])])]).await;
        assert_eq!(told, [format!("{} nowhere 0: 3", producer.0)]);
        let both = vec![marker((9, 0), &[("there", &[0])]), marker(producer, &[("there", &[1, 9])])];
        let mut told = write_markers(&bed, both).await;
        told.sort_unstable();
        let of_it = |index| format!("{} there {index}: -1", producer.0);
        let mut expected = vec!["9 there 0: -1".to_owned(), of_it(1), of_it(9)];
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn an_operation_on_settings_that_does_not_exist_fails_with_all_that_kafkas_controller_is_handed() {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let (bed, _) = furnished().await;
    let change = |kind: i8, name: &str, operation: i8| {
        let config = AlterableConfig::default().with_name(text("retention.ms"));
        let config = config.with_config_operation(operation).with_value(Some(text("1000")));
        let resource = AlterConfigsResource::default().with_resource_type(kind);
        resource.with_resource_name(text(name)).with_configs(vec![config])
    };
    let told = async |resources: Vec<AlterConfigsResource>| {
        let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
        let response = answer!(bed.ask(1, request), IncrementalAlterConfigs);
        let told = response.responses.iter();
        told.map(|one| (one.error_code, one.error_message.as_ref().map(ToString::to_string)))
            .collect::<Vec<_>>()
    };
    let failed = (ErrorCode::UnknownServerError.code(), None);
    assert_eq!(told(vec![change(2, "there", 4), change(2, "empty", 0)]).await, [failed.clone(), failed]);
    let refused = (ErrorCode::InvalidRequest.code(), Some("Unknown operations type 4".to_owned()));
    let done = (ErrorCode::None.code(), None);
    assert_eq!(told(vec![change(4, "1", 4), change(2, "empty", 0)]).await, [refused, done]);
}
