//! Requests that no sane client makes. The expectations are answers of Kafka 4.3.1.

use super::{
    bed::{Bed, answer, text, topic},
    catalogue::{World, batch, fetch_request, new_topic, produce_request},
    versions::furnished,
};
use bytes::Bytes;
use thalweg_protocol::{Compression, compress, messages::*};

const INVALID_RECORD: i16 = 87;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const UNKNOWN_SERVER_ERROR: i16 = -1;

async fn produce(bed: &Bed, world: &World, records: Bytes) -> i16 {
    let response = answer!(bed.ask(13, produce_request(13, world, 0, Some(records))), Produce);
    response.responses[0].partition_responses[0].error_code
}

/// A batch that says that it has `count` records in `codec`, and has `inside`.
fn batch_of(codec: Compression, count: i32, inside: &Bytes) -> Bytes {
    let head = &batch().attributes(codec.bits()).bytes()[..61];
    let mut bytes = [head, &inside[..]].concat();
    let length = i32::try_from(bytes.len() - 12).expect("a small batch");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test]
async fn what_is_inside_of_compression_must_be_what_the_header_says() {
    let (bed, world) = furnished().await;
    let two = batch().bytes().slice(61..);
    let trailing: Bytes = [&two[..], b"xyz"].concat().into();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let packed = |records: &Bytes| compress(codec, None, records).expect("it compresses");
        for (what, count, inside, expected) in [
            ("as it says", 2, packed(&two), 0),
            ("fewer", 3, packed(&two), INVALID_RECORD),
            ("more", 1, packed(&two), INVALID_RECORD),
            ("something behind", 2, packed(&trailing), INVALID_RECORD),
            ("nothing", 2, packed(&Bytes::new()), INVALID_RECORD),
            ("not of the codec", 2, Bytes::from_static(b"not compressed at all"), UNKNOWN_SERVER_ERROR),
        ] {
            let code = produce(&bed, &world, batch_of(codec, count, &inside)).await;
            assert_eq!(code, expected, "{codec:?}: {what}");
        }
    }
}

#[tokio::test]
async fn a_producer_without_an_epoch_may_write_in_any_order_until_it_has_one() {
    let (bed, world) = furnished().await;
    for (id, epoch, sequence, expected) in [
        (7777, -1, 0, 0),
        (7777, -1, 0, 0),
        (7777, -1, 9, 0),
        (7777, 0, 5, 0),
        (7777, -1, 11, INVALID_PRODUCER_EPOCH),
        (7778, -5, 0, INVALID_PRODUCER_EPOCH),
    ] {
        let code = produce(&bed, &world, batch().producer(id, epoch, sequence).bytes()).await;
        assert_eq!(code, expected, "epoch {epoch}, sequence {sequence}");
    }
}

#[tokio::test]
async fn an_unknown_isolation_level_is_refused_as_a_whole() {
    let (bed, world) = furnished().await;
    for level in [-1, 2] {
        let request = |version| fetch_request(version, &world, 0, 0).with_isolation_level(level);
        let old = answer!(bed.ask(12, request(12)), Fetch);
        let partition = &old.topics[0].partitions[0];
        let none = partition.aborted_transactions.as_ref().map(Vec::len);
        assert_eq!((old.error_code, partition.error_code, none), (-1, -1, Some(0)));
        let new = answer!(bed.ask(13, request(13)), Fetch);
        assert_eq!((new.error_code, new.topics.len()), (-1, 0));
    }
}

#[tokio::test]
async fn fewer_bytes_than_none_are_an_error_where_there_is_something_to_read() {
    let (bed, world) = furnished().await;
    let code = async |most: i32, of_partition: i32| {
        let mut request = fetch_request(12, &world, 0, 0).with_max_bytes(most);
        request.topics[0].partitions[0].partition_max_bytes = of_partition;
        let fetched = answer!(bed.ask(12, request), Fetch);
        let partition = &fetched.topics[0].partitions[0];
        let bytes: usize = partition.records.iter().map(Bytes::len).sum();
        (fetched.error_code, partition.error_code, bytes > 0)
    };
    assert_eq!(code(-1, -1).await, (0, 0, false), "nothing is there");
    assert_eq!(produce(&bed, &world, batch().bytes()).await, 0);
    assert_eq!(code(-1, 1000).await, (0, UNKNOWN_SERVER_ERROR, false));
    assert_eq!(code(1000, -1).await, (0, UNKNOWN_SERVER_ERROR, false));
    assert_eq!(code(0, 0).await, (0, 0, true), "one batch always comes");
}

#[tokio::test]
async fn a_name_as_long_as_a_name_can_be_is_answered_in_every_version() {
    let (bed, _) = furnished().await;
    let name = "n".repeat(32_767);
    for version in [2, 7] {
        let request = CreateTopicsRequest::default().with_topics(vec![new_topic(&name, 1, 1)]);
        assert_eq!(answer!(bed.ask(version, request), CreateTopics).topics[0].error_code, 17);
    }
    for version in [1, 4] {
        let wanted = describe_configs_request::DescribeConfigsResource::default().with_resource_type(2);
        let wanted = wanted.with_resource_name(text(&name)).with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![wanted]);
        assert_eq!(answer!(bed.ask(version, request), DescribeConfigs).results[0].error_code, 17);
    }
    for version in [1, 5] {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(&name)]);
        assert_eq!(answer!(bed.ask(version, request), DeleteTopics).responses[0].error_code, 3);
    }
    let wanted = create_partitions_request::CreatePartitionsTopic::default().with_name(topic(&name));
    let request = CreatePartitionsRequest::default().with_topics(vec![wanted.with_count(3)]);
    let grown = answer!(bed.ask(3, request), CreatePartitions);
    assert_eq!((grown.results[0].error_code, grown.results[0].error_message.clone()), (3, None));
    let config = create_topics_request::CreatableTopicConfig::default().with_name(text(&name));
    let wanted = new_topic("new", 1, 1).with_configs(vec![config.with_value(Some(text("1")))]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]);
    assert_eq!(answer!(bed.ask(4, request), CreateTopics).topics[0].error_code, 40);
}
