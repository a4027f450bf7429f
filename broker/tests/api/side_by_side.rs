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

#[tokio::test]
async fn of_records_to_delete_that_are_named_twice_the_last_offset_counts() {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let (bed, world) = furnished().await;
    assert!(bed.ask(12, produce_request(12, &world, 0, Some(batch().bytes()))).await.is_some());
    let wanted = |offsets: &[i64]| {
        let partition = |offset: &i64| DeleteRecordsPartition::default().with_offset(*offset);
        let partitions = offsets.iter().map(partition).collect();
        DeleteRecordsTopic::default().with_name(topic("there")).with_partitions(partitions)
    };
    let topics = vec![wanted(&[2, 0]), wanted(&[]), wanted(&[1])];
    let request = DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(1000);
    let response = answer!(bed.ask(2, request), DeleteRecords);
    assert_eq!(response.topics.len(), 1);
    let partitions = &response.topics[0].partitions;
    assert_eq!((partitions.len(), partitions[0].error_code, partitions[0].low_watermark), (1, 0, 1));
    let request = DeleteRecordsRequest::default().with_topics(vec![wanted(&[])]).with_timeout_ms(1000);
    assert!(answer!(bed.ask(2, request), DeleteRecords).topics.is_empty());
}

#[tokio::test]
async fn names_do_not_count_where_one_topic_is_asked_for_by_its_id() {
    let (bed, world) = furnished().await;
    let by_name = MetadataRequestTopic::default().with_name(Some(topic("empty")));
    let by_id = MetadataRequestTopic::default().with_name(Some(topic("empty"))).with_topic_id(world.id);
    let request = MetadataRequest::default().with_topics(Some(vec![by_name, by_id.clone(), by_id]));
    let response = answer!(bed.ask(12, request), Metadata);
    let names: Vec<_> = response.topics.iter().map(|topic| topic.name.clone()).collect();
    assert_eq!(names, [Some(topic("there"))]);
}

#[tokio::test]
async fn metadata_of_a_topic_without_name_and_id_fail_as_a_whole() {
    let (bed, _) = furnished().await;
    let failed = ErrorCode::UnknownServerError.code();
    for (version, top_level) in [(12, 0), (13, failed)] {
        let none = MetadataRequestTopic::default().with_name(None);
        let there = MetadataRequestTopic::default().with_name(Some(topic("there")));
        let request = MetadataRequest::default().with_topics(Some(vec![none, there]));
        let response = answer!(bed.ask(version, request), Metadata);
        assert_eq!((response.error_code, response.brokers.len()), (top_level, 0));
        assert!(response.topics.iter().all(|topic| topic.error_code == failed && topic.name.is_some()));
    }
}

#[tokio::test]
async fn partitions_that_can_not_all_be_added_to_a_transaction_are_told_of_once() {
    use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    let (bed, _) = furnished().await;
    let of = |partitions: &[i32]| {
        AddPartitionsToTxnTopic::default().with_name(topic("there")).with_partitions(partitions.to_vec())
    };
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text("id")))
        .with_v3_and_below_topics(vec![of(&[9, 0]), of(&[0])]);
    let response = answer!(bed.ask(3, request), AddPartitionsToTxn);
    let topics = &response.results_by_topic_v3_and_below;
    assert_eq!(topics.len(), 1);
    let results = topics[0].results_by_partition.iter();
    let results: Vec<_> = results.map(|one| (one.partition_index, one.partition_error_code)).collect();
    let (not_tried, unknown) = (ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(results, [(0, not_tried.code()), (9, unknown.code())]);
}

#[tokio::test]
async fn a_batch_that_can_not_be_looked_at_makes_the_whole_request_fail() {
    let (bed, world) = furnished().await;
    let mut request = produce_request(12, &world, 0, Some(batch().bytes()));
    let mut other = request.topic_data[0].partition_data[0].clone();
    (other.index, other.records) = (99, Some(vec![0xff; 80].into()));
    request.topic_data[0].partition_data.push(other);
    let response = answer!(bed.ask(12, request), Produce);
    let codes = response.responses[0].partition_responses.iter().map(|partition| partition.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::CorruptMessage.code(); 2]);

    // Whether there is one batch is told before acks that there are not.
    let two = [&batch().bytes()[..], &batch().bytes()[..]].concat();
    let request = produce_request(12, &world, 0, Some(two.into())).with_acks(7);
    let response = answer!(bed.ask(12, request), Produce);
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRecord.code());
}

#[tokio::test]
async fn what_can_not_be_fetched_is_told_last() {
    let (bed, world) = furnished().await;
    let mut request = fetch_request(12, &world, 9, 0);
    let there = fetch_request(12, &world, 0, 0).topics.remove(0);
    let mut empty = there.clone();
    empty.topic = topic("empty");
    request.topics.extend([empty, there]);
    let response = fetch(&bed, request).await;
    let told = response.topics.iter();
    let told: Vec<_> = told.map(|topic| (topic.name.to_string(), topic.partitions.len())).collect();
    assert_eq!(told, [("empty".to_owned(), 1), ("there".to_owned(), 2)]);
}

#[tokio::test]
async fn a_fetch_without_an_id_fails_as_a_whole_unless_it_is_told_last() {
    let (bed, world) = furnished().await;
    let nameless = |partitions: &[i32]| {
        let mut topic = fetch_request(13, &world, 0, 0).topics.remove(0);
        let partition = topic.partitions.remove(0);
        topic.topic_id = Uuid::nil();
        topic.partitions = partitions.iter().map(|index| partition.clone().with_partition(*index)).collect();
        topic
    };
    for (partitions, expected) in [(&[0][..], ErrorCode::None), (&[0, 1], ErrorCode::UnknownServerError)] {
        let mut request = fetch_request(13, &world, 0, 0);
        request.topics.push(nameless(partitions));
        let response = answer!(bed.ask(13, request), Fetch);
        assert_eq!(response.error_code, expected.code(), "{partitions:?}");
    }
}

#[tokio::test]
async fn a_replica_is_told_who_leads_from_version_16_on() {
    let (bed, world) = furnished().await;
    for (version, told) in [(15, false), (16, true)] {
        let mut request = fetch_request(version, &world, 0, 0);
        request.replica_state.replica_id = 5.into();
        let response = answer!(bed.ask(version, request.clone()), Fetch);
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code());
        let leader =
            partition.current_leader.as_ref().map(|leader| (leader.leader_id.0, leader.leader_epoch));
        let epoch = bed.broker.topics.owner().leader_epoch.0;
        assert_eq!(leader, told.then_some((1, epoch)));

        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = answer!(bed.ask(version, request), Fetch);
        let code = response.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::UnknownLeaderEpoch.code());
    }
}

#[tokio::test]
async fn a_wrong_value_is_told_before_that_there_is_no_such_topic() {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let (bed, _) = furnished().await;
    for (value, expected) in [("x", ErrorCode::InvalidConfig), ("1", ErrorCode::UnknownTopicOrPartition)] {
        let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default().with_resource_type(2);
        let resource = resource.with_resource_name(text("nowhere")).with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let response = answer!(bed.ask(2, request), AlterConfigs);
        assert_eq!(response.responses[0].error_code, expected.code());
    }
}

#[tokio::test]
async fn partitions_of_a_topic_without_a_name_can_not_be_described() {
    let (bed, _) = furnished().await;
    let topics = ["", "there"]
        .map(|name| describe_topic_partitions_request::TopicRequest::default().with_name(topic(name)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(topics.to_vec()).with_cursor(None);
    let response = answer!(bed.ask(0, request), DescribeTopicPartitions);
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::UnknownServerError.code(); 2]);
}

#[tokio::test]
async fn who_joins_no_group_keeps_its_id() {
    let (bed, _) = furnished().await;
    let request = JoinGroupRequest::default().with_member_id(text("me")).with_group_instance_id(None);
    let response = answer!(bed.ask(9, request), JoinGroup);
    assert_eq!((response.error_code, &*response.member_id), (ErrorCode::InvalidGroupId.code(), "me"));
}

#[tokio::test]
async fn states_that_nobody_knows_are_told_once() {
    let (bed, _) = furnished().await;
    let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("id")]);
    assert!(bed.ask(6, request).await.is_some());
    let states = ["Odd", "Ongoing", "Odd"].map(text).to_vec();
    let response = loop {
        let request = ListTransactionsRequest::default().with_state_filters(states.clone());
        let response = answer!(bed.ask(0, request), ListTransactions);
        if response.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            break response;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(response.unknown_state_filters, [text("Odd")]);
}
