//! What a real Kafka answered otherwise, found by asking both the same.

use super::{
    bed::{Bed, answer, topic},
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
