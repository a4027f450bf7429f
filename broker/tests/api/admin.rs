//! Topics and settings.

use super::{
    bed::{Bed, answer, rest_of, text, topic},
    catalogue::new_topic,
    versions::furnished,
};
use thalweg_broker::net::Reply;
use thalweg_protocol::messages::*;

async fn change(
    bed: &Bed,
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (i16, Option<String>) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let changes = changes.iter().map(|(name, operation, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    let resource = resource.with_configs(changes.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = answer!(bed.ask(1, request), IncrementalAlterConfigs);
    let first = &response.responses[0];
    (first.error_code, first.error_message.as_ref().map(ToString::to_string))
}

async fn describe(
    bed: &Bed,
    kind: i8,
    name: &str,
    key: &str,
) -> describe_configs_response::DescribeConfigsResourceResult {
    let wanted = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![wanted]).with_include_synonyms(true);
    let mut response = answer!(bed.ask(4, request), DescribeConfigs);
    response.results.remove(0).configs.remove(0)
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

#[tokio::test]
async fn lists_grow_and_shrink_by_items_and_nothing_else_does() {
    let (bed, _) = furnished().await;
    let value =
        async || describe(&bed, TOPIC, "there", "cleanup.policy").await.value.expect("a value").to_string();
    assert_eq!(change(&bed, TOPIC, "there", &[("cleanup.policy", APPEND, Some("compact"))]).await.0, 0);
    assert_eq!(value().await, "delete,compact");
    assert_eq!(change(&bed, TOPIC, "there", &[("cleanup.policy", SUBTRACT, Some("delete"))]).await.0, 0);
    assert_eq!(value().await, "compact");
    for (operation, word) in [(APPEND, "APPEND"), (SUBTRACT, "SUBTRACT")] {
        let refused = change(&bed, TOPIC, "there", &[("retention.ms", operation, Some("1"))]).await;
        assert_eq!(
            refused,
            (40, Some(format!("Can't {word} to key retention.ms because its type is not LIST.")))
        );
    }
}

#[tokio::test]
async fn a_dynamic_setting_of_the_broker_holds_at_once_for_topics_and_after_a_restart() {
    let (bed, _) = furnished().await;
    assert_eq!(change(&bed, BROKER, "", &[("message.max.bytes", SET, Some("2000"))]).await, (0, None));
    let seen = describe(&bed, TOPIC, "there", "max.message.bytes").await;
    assert_eq!(
        (seen.value.as_deref().map(|value| value.to_string()), seen.config_source),
        (Some("2000".into()), 3)
    );
    let bed = bed.restarted().await;
    let sources = describe(&bed, TOPIC, "there", "max.message.bytes").await.synonyms;
    let sources: Vec<_> = sources.iter().map(|synonym| (synonym.name.to_string(), synonym.source)).collect();
    assert_eq!(sources, [("message.max.bytes".to_owned(), 3), ("message.max.bytes".to_owned(), 5)]);
}

#[tokio::test]
async fn faults_of_values_are_told_in_kafkas_words() {
    let (bed, _) = furnished().await;
    for (key, value, expected) in [
        ("retention.ms", "x", "Not a number of type LONG"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("cleanup.policy", "burn", "String must be one of: compact, delete"),
    ] {
        let refused = change(&bed, TOPIC, "there", &[(key, SET, Some(value))]).await;
        assert_eq!(refused, (40, Some(format!("Invalid value {value} for configuration {key}: {expected}"))));
    }
}

#[tokio::test]
async fn a_topic_named_twice_is_refused_and_answered_once() {
    let (bed, _) = furnished().await;
    let request =
        CreateTopicsRequest::default().with_topics(vec![new_topic("new", 1, 1), new_topic("new", 2, 1)]);
    let created = answer!(bed.ask(7, request), CreateTopics);
    assert_eq!(created.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [42]);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("there"), topic("there")]);
    let deleted = answer!(bed.ask(5, request), DeleteTopics);
    assert_eq!(deleted.responses.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [42]);
    assert!(bed.broker.topics.by_name("there").is_some());
}

#[tokio::test]
async fn ten_thousand_partitions_a_request_are_the_most() {
    let (bed, _) = furnished().await;
    let topics = vec![new_topic("large", 10_000, 1), new_topic("small", 1, 1)];
    let created = answer!(bed.ask(7, CreateTopicsRequest::default().with_topics(topics)), CreateTopics);
    assert!(created.topics.iter().all(|topic| topic.error_code == 44), "{created:?}");
}

#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    let (bed, _) = furnished().await;
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(1);
    let mut seen = Vec::new();
    loop {
        let page = answer!(bed.ask(0, request.clone()), DescribeTopicPartitions);
        seen.extend(page.topics.iter().flat_map(|topic| {
            let name = topic.name.as_ref().expect("a name").to_string();
            topic.partitions.iter().map(move |partition| (name.clone(), partition.partition_index))
        }));
        let Some(next) = page.next_cursor else { break };
        let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(next.topic_name);
        request.cursor = Some(cursor.with_partition_index(next.partition_index));
    }
    let expected = [("col.lide", 0), ("empty", 0), ("there", 0), ("there", 1)];
    assert_eq!(seen, expected.map(|(name, partition)| (name.to_owned(), partition)));
}

/// In proportion to their number: a quadratic one would take minutes.
#[tokio::test]
async fn requests_of_very_many_parts_are_answered() {
    let (bed, world) = furnished().await;
    let parts = 100_000;
    let names = (0..parts)
        .map(|n| metadata_request::MetadataRequestTopic::default().with_name(Some(topic(&format!("n{n}")))));
    let request =
        MetadataRequest::default().with_topics(Some(names.collect())).with_allow_auto_topic_creation(false);
    assert_eq!(answer!(bed.ask(13, request), Metadata).topics.len(), parts);

    let one = list_offsets_request::ListOffsetsPartition::default()
        .with_timestamp(-1)
        .with_current_leader_epoch(-1);
    let wanted = list_offsets_request::ListOffsetsTopic::default().with_name(topic(world.there));
    let wanted =
        wanted.with_partitions((0..parts as i32).map(|n| one.clone().with_partition_index(n)).collect());
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted]);
    assert_eq!(answer!(bed.ask(7, request), ListOffsets).topics[0].partitions.len(), parts);

    let mut request = super::catalogue::fetch_request(18, &world, 0, 0).with_session_epoch(0);
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..parts as i32).map(|n| one.clone().with_partition(n)).collect();
    let fetched = answer!(bed.ask(18, request), Fetch);
    assert_eq!(fetched.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), parts);

    let one = describe_configs_request::DescribeConfigsResource::default().with_resource_type(TOPIC);
    let one =
        one.with_configuration_keys(Some(vec![text("retention.ms")])).with_resource_name(text(world.there));
    let request = DescribeConfigsRequest::default().with_resources(vec![one; parts]);
    assert_eq!(answer!(bed.ask(4, request), DescribeConfigs).results.len(), parts);
}

#[tokio::test]
async fn a_large_response_is_charged_until_it_is_written() {
    let (bed, _) = furnished().await;
    bed.create("wide", 1000, &[]).await;
    let responses = &bed.broker.budgets.responses;
    let header = RequestHeader {
        api_key: ApiKey::Metadata,
        api_version: 12,
        correlation_id: 1,
        client_id: "test".into(),
    };
    let ask = || bed.reply(&header, MetadataRequest::default().with_topics(None).into());
    let Reply::Send(first) = ask().await else { panic!("an answer") };
    assert!(first.len() > 20_000, "{} bytes", first.len());
    assert_eq!(responses.used(), first.len());

    // The next is not even made before there is room for it.
    let rest = rest_of(responses);
    let mut second = Box::pin(ask());
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(responses.waiting(), 1);
    drop(first);
    let Reply::Send(second) = second.await else { panic!("an answer") };
    drop((second, rest));
    assert_eq!(responses.used(), 0);
}
