//! The Fetch response's own encoder against that of `kafka-protocol`, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response as wire;
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;
use thalweg_protocol::messages::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchTopic, FetchedPartition, LeaderIdAndEpoch,
    NodeEndpoint, StrBytes, TopicName,
};
use thalweg_protocol::{ApiKey, RequestHeader, Response, client, encode_response};

fn any_records() -> impl Strategy<Value = Vec<Bytes>> {
    let small = prop::collection::vec(any::<u8>(), 1..100);
    let large = (any::<u8>(), 500..3000usize).prop_map(|(byte, length)| vec![byte; length]);
    prop::collection::vec(prop_oneof![small, large].prop_map(Bytes::from), 0..4)
}

fn any_aborted() -> impl Strategy<Value = Option<Vec<AbortedTransaction>>> {
    let one = any::<(i64, i64)>().prop_map(|(producer, first)| {
        AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
    });
    prop::option::of(prop::collection::vec(one, 0..3))
}

fn any_partition() -> impl Strategy<Value = FetchedPartition> {
    let epoch = (0..9i32, 0..99i64)
        .prop_map(|(epoch, end)| EpochEndOffset::default().with_epoch(epoch).with_end_offset(end));
    let leader = (0..9i32, 0..99i32).prop_map(|(id, epoch)| {
        LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch)
    });
    let tags = (prop::option::of(epoch), prop::option::of(leader));
    let numbers = any::<(i32, i16, i64, i64, i64, i32)>();
    (numbers, tags, any_aborted(), any_records()).prop_map(
        |(numbers, tags, aborted_transactions, records)| FetchedPartition {
            partition_index: numbers.0,
            error_code: numbers.1,
            high_watermark: numbers.2,
            last_stable_offset: numbers.3,
            log_start_offset: numbers.4,
            preferred_read_replica: numbers.5,
            diverging_epoch: tags.0,
            current_leader: tags.1,
            aborted_transactions,
            records,
        },
    )
}

fn any_topic() -> impl Strategy<Value = FetchTopic> {
    ("[a-z]{0,200}", any::<u128>(), prop::collection::vec(any_partition(), 0..4)).prop_map(
        |(name, id, partitions)| FetchTopic {
            name: TopicName(StrBytes::from_string(name)),
            topic_id: uuid::Uuid::from_u128(id),
            partitions,
        },
    )
}

fn any_endpoint() -> impl Strategy<Value = NodeEndpoint> {
    (any::<i32>(), "[a-z.]{0,20}", any::<i32>(), prop::option::of("[a-z]{0,5}")).prop_map(
        |(id, host, port, rack)| {
            NodeEndpoint::default()
                .with_node_id(id.into())
                .with_host(StrBytes::from_string(host))
                .with_port(port)
                .with_rack(rack.map(StrBytes::from_string))
        },
    )
}

fn any_response() -> impl Strategy<Value = FetchResponse> {
    let topics = prop::collection::vec(any_topic(), 0..4);
    let endpoints = prop::collection::vec(any_endpoint(), 0..3);
    (any::<(i32, i16, i32)>(), topics, endpoints).prop_map(|(numbers, topics, node_endpoints)| {
        FetchResponse {
            throttle_time_ms: numbers.0,
            error_code: numbers.1,
            session_id: numbers.2,
            topics,
            node_endpoints,
        }
    })
}

/// The same as the type of `kafka-protocol`, which refuses to leave out fields that a version lacks.
fn as_wire(response: &FetchResponse, version: i16) -> wire::FetchResponse {
    wire::FetchResponse::default()
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_error_code(response.error_code)
        .with_session_id(if version >= 7 { response.session_id } else { 0 })
        .with_responses(response.topics.iter().map(|topic| topic_as_wire(topic, version)).collect())
        .with_node_endpoints(if version >= 16 { response.node_endpoints.clone() } else { Vec::new() })
}

fn topic_as_wire(topic: &FetchTopic, version: i16) -> wire::FetchableTopicResponse {
    let partitions = topic.partitions.iter().map(|partition| partition_as_wire(partition, version)).collect();
    wire::FetchableTopicResponse::default()
        .with_topic(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}

fn partition_as_wire(partition: &FetchedPartition, version: i16) -> wire::PartitionData {
    let replica = if version >= 11 { partition.preferred_read_replica } else { -1 };
    wire::PartitionData::default()
        .with_partition_index(partition.partition_index)
        .with_error_code(partition.error_code)
        .with_high_watermark(partition.high_watermark)
        .with_last_stable_offset(partition.last_stable_offset)
        .with_log_start_offset(partition.log_start_offset)
        .with_diverging_epoch(partition.diverging_epoch.clone().unwrap_or_default())
        .with_current_leader(partition.current_leader.clone().unwrap_or_default())
        .with_aborted_transactions(partition.aborted_transactions.clone())
        .with_preferred_read_replica(replica.into())
        .with_records(Some(partition.records.concat().into()))
}

fn header(api_version: i16) -> RequestHeader {
    RequestHeader { api_key: ApiKey::Fetch, api_version, correlation_id: 5, client_id: String::new() }
}

proptest! {
    #[test]
    fn every_version_is_byte_for_byte_what_kafka_protocol_writes(response in any_response()) {
        for version in 4..=18 {
            let ours = encode_response(&header(version), response.clone().into()).expect("encodes").concat();
            let mut theirs = BytesMut::new();
            as_wire(&response, version).encode(&mut theirs, version).expect("encodes");
            let head = if version >= 12 { 9 } else { 8 };
            prop_assert_eq!(&ours[head..], &theirs[..], "version {}", version);
            prop_assert_eq!(&ours[..4], &(ours.len() as i32 - 4).to_be_bytes());
        }
    }

    #[test]
    fn a_client_reads_what_was_written(response in any_response()) {
        let frame: Bytes = encode_response(&header(16), response.clone().into()).expect("encodes").concat().into();
        let (id, read) = client::decode_response(ApiKey::Fetch, 16, frame.slice(4..)).expect("decodes");
        let Response::Fetch(read) = read else { panic!("not a Fetch response") };
        prop_assert_eq!(id, 5);
        prop_assert_eq!(as_wire(&read, 18).with_responses(vec![]), as_wire(&response, 18).with_responses(vec![]));
        let records = |response: &FetchResponse| -> Vec<Vec<u8>> {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.records.concat()).collect()
        };
        prop_assert_eq!(records(&read), records(&response));
    }
}

#[test]
fn records_are_slices_not_copies() {
    let records = Bytes::from(vec![7; 100_000]);
    let partition = FetchedPartition { records: vec![records.clone()], ..FetchedPartition::default() };
    let topic = FetchTopic { partitions: vec![partition], ..FetchTopic::default() };
    let response = FetchResponse { topics: vec![topic], ..FetchResponse::default() };
    let pieces = encode_response(&header(17), response.into()).expect("encodes");
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1].as_ptr(), records.as_ptr());
}
