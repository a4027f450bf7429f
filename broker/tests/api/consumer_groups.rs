//! Consumer groups (KIP-848), through whole frames, and over restarts of the broker.

use super::{
    bed::{Bed, answer, text, topic},
    catalogue::{World, commit_request},
    groups::commit,
    versions::furnished_with,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use thalweg_broker::topics::OFFSETS_TOPIC;
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

use consumer_group_heartbeat_request::TopicPartitions;

/// Requests in one version, each with what it shows.
pub fn heartbeats(version: i16) -> Vec<(&'static str, ConsumerGroupHeartbeatRequest)> {
    let joining = joining("a-member", "there");
    let mut requests = vec![
        ("a member joins", joining.clone()),
        ("an unknown member", joining.clone().with_member_epoch(5)),
        ("a member leaves", joining.clone().with_member_epoch(-1)),
        ("no group", joining.clone().with_group_id(GroupId(text("")))),
        ("no member", joining.clone().with_member_id(text(""))),
        ("no timeout", joining.clone().with_rebalance_timeout_ms(-1)),
        ("an epoch that is none", joining.clone().with_member_epoch(-7)),
        ("an unknown assignor", joining.clone().with_server_assignor(Some(text("mine")))),
        (
            "partitions when joining",
            joining.clone().with_topic_partitions(Some(vec![owned(Uuid::nil(), &[0])])),
        ),
    ];
    if version >= 1 {
        let by_regex = |regex| joining.clone().with_subscribed_topic_regex(Some(text(regex)));
        requests.push(("a regular expression", by_regex("th.*")));
        requests.push(("what is no regular expression", by_regex("[")));
    }
    requests
}

pub fn describe() -> Vec<(&'static str, ConsumerGroupDescribeRequest)> {
    let of = |ids: &[&str]| {
        let ids = ids.iter().map(|id| GroupId(text(id))).collect();
        ConsumerGroupDescribeRequest::default().with_group_ids(ids)
    };
    vec![
        ("a group", of(&["a-group"])),
        ("no groups", of(&[])),
        ("one that is not there", of(&["nobody", "nobody"])),
        ("no name", of(&[""])),
        ("with what may be done", of(&["a-group"]).with_include_authorized_operations(true)),
    ]
}

fn joining(member: &str, name: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![topic(name)]))
        .with_topic_partitions(Some(Vec::new()))
}

fn beating(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
}

fn owned(topic: Uuid, partitions: &[i32]) -> TopicPartitions {
    TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.to_vec())
}

/// Sends a heartbeat, again while the group is being loaded.
async fn heartbeat(bed: &Bed, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    loop {
        let answer = answer!(bed.ask(1, request.clone()), ConsumerGroupHeartbeat);
        if answer.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

fn partitions(answer: &ConsumerGroupHeartbeatResponse) -> BTreeSet<i32> {
    let topics = answer.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.flat_map(|topic| topic.partitions.iter().copied()).collect()
}

async fn described(bed: &Bed) -> consumer_group_describe_response::DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("a-group"))]);
    answer!(bed.ask(1, request), ConsumerGroupDescribe).groups.remove(0)
}

/// A broker whose clients have found their coordinator. Assignments follow one another without a pause.
async fn with_groups() -> (Bed, Uuid) {
    let (bed, world) = furnished_with(&[("group.consumer.assignment.interval.ms", "0")]).await;
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a-group")]);
    assert_eq!(answer!(bed.ask(6, request), FindCoordinator).coordinators[0].error_code, 0);
    (bed, world.id)
}

/// Sets one key of a topic (2), a broker (4) or a group (32).
pub async fn alter(bed: &Bed, kind: i8, name: &str, key: &str, value: &str) {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text(key))
        .with_value(Some(text(value)));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = answer!(bed.ask(1, request), IncrementalAlterConfigs).responses.remove(0);
    assert_eq!(answer.error_code, 0, "{answer:?}");
}

/// The end of the groups' log, over all partitions.
fn stored(bed: &Bed) -> i64 {
    let logs = &bed.broker.topics.by_name(OFFSETS_TOPIC).expect("there").logs;
    logs.iter().map(|log| log.view().end.0).sum()
}

#[tokio::test]
async fn members_share_a_topic_and_their_heartbeats_store_nothing_once_they_have() {
    let (bed, id) = with_groups().await;
    let one = heartbeat(&bed, joining("one", "there")).await;
    assert_eq!((one.error_code, one.member_epoch, partitions(&one).len()), (0, 2, 2), "{one:?}");
    assert_eq!((one.member_id.as_deref(), one.heartbeat_interval_ms), (Some("one"), 5_000));
    let two = heartbeat(&bed, joining("two", "there")).await;
    assert_eq!((two.member_epoch, partitions(&two).len()), (3, 0));
    let one = heartbeat(&bed, beating("one", 2)).await;
    let kept: Vec<i32> = partitions(&one).into_iter().collect();
    assert_eq!((one.member_epoch, kept.len()), (2, 1));
    let request = beating("one", 2).with_topic_partitions(Some(vec![owned(id, &kept)]));
    assert_eq!(heartbeat(&bed, request).await.member_epoch, 3);
    let two = heartbeat(&bed, beating("two", 3)).await;
    assert_eq!(partitions(&two).len(), 1);
    assert_eq!(&*described(&bed).await.group_state, "Stable");
    let before = stored(&bed);
    for _ in 0..10 {
        let one = heartbeat(&bed, beating("one", 3)).await;
        assert_eq!((one.error_code, one.assignment), (0, None));
    }
    assert_eq!(stored(&bed), before);
    assert_eq!(heartbeat(&bed, beating("one", -1)).await.member_epoch, -1);
    assert_eq!(partitions(&heartbeat(&bed, beating("two", 3)).await).len(), 2);
}

#[tokio::test]
async fn a_group_goes_on_where_it_was_after_a_restart() {
    let (bed, _) = with_groups().await;
    assert_eq!(heartbeat(&bed, joining("one", "there")).await.member_epoch, 2);
    let before = described(&bed).await;
    let bytes = bed.broker.groups.bytes();
    let bed = bed.restarted().await;
    let one = heartbeat(&bed, beating("one", 2)).await;
    assert_eq!((one.error_code, one.member_epoch, one.assignment), (0, 2, None));
    assert_eq!(described(&bed).await, before);
    assert_eq!(bed.broker.groups.bytes(), bytes, "loading counts as appending does");
    let refused = heartbeat(&bed, beating("one", 9)).await;
    assert_eq!(refused.error_code, ErrorCode::FencedMemberEpoch.code());
    assert!(refused.error_message.is_some_and(|words| words.contains("greater member epoch (9)")));
}

#[tokio::test]
async fn of_a_heartbeat_one_record_of_which_is_too_large_nothing_is_stored() {
    let (bed, id) = with_groups().await;
    let world = World { there: "there", id, round: 0 };
    // A group of nothing but offsets, which the first member of a consumer group replaces.
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    let before = stored(&bed);
    let names = (0..6_000).map(|n| topic(&format!("{n:0>200}"))).collect();
    let refused = heartbeat(&bed, joining("one", "").with_subscribed_topic_names(Some(names))).await;
    assert_eq!(refused.error_code, ErrorCode::UnknownServerError.code());
    assert_eq!(stored(&bed), before);
    let listed = answer!(bed.ask(5, ListGroupsRequest::default()), ListGroups).groups;
    assert_eq!((listed.len(), &*listed[0].group_type), (1, "classic"));
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("a-group"))]);
    assert_eq!(answer!(bed.ask(2, request), DeleteGroups).results[0].error_code, 0);
}

#[tokio::test]
async fn a_topic_that_grows_and_one_that_is_deleted_change_the_assignment() {
    let (bed, _) = with_groups().await;
    assert_eq!(partitions(&heartbeat(&bed, joining("one", "there")).await).len(), 2);
    let grown = create_partitions_request::CreatePartitionsTopic::default().with_name(topic("there"));
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![grown.with_count(5).with_assignments(None)])
        .with_timeout_ms(1_000);
    assert_eq!(answer!(bed.ask(3, request), CreatePartitions).results[0].error_code, 0);
    let one = heartbeat(&bed, beating("one", 2)).await;
    assert_eq!((one.member_epoch, partitions(&one).len()), (3, 5));
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("there")]);
    assert_eq!(answer!(bed.ask(5, request), DeleteTopics).responses[0].error_code, 0);
    let one = heartbeat(&bed, beating("one", 3)).await;
    assert!(one.assignment.is_some() && partitions(&one).is_empty());
}

#[tokio::test]
async fn regular_expressions_are_resolved_meanwhile_and_again_when_topics_come() {
    let (bed, _) = with_groups().await;
    let by_regex = joining("one", "").with_subscribed_topic_names(None);
    let joined = heartbeat(&bed, by_regex.with_subscribed_topic_regex(Some(text("the.*|em.ty")))).await;
    assert_eq!((joined.error_code, partitions(&joined).len()), (0, 0));
    let mut epoch = joined.member_epoch;
    let found = loop {
        let answer = heartbeat(&bed, beating("one", epoch)).await;
        epoch = answer.member_epoch;
        if answer.assignment.is_some() {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    let topics: usize = found.assignment.iter().map(|all| all.topic_partitions.len()).sum();
    assert_eq!((topics, partitions(&found)), (2, BTreeSet::from([0, 1])));
    let refused = joining("two", "").with_subscribed_topic_regex(Some(text("(")));
    let refused = heartbeat(&bed, refused).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRegularExpression.code());
    assert_eq!(
        refused.error_message.as_deref(),
        Some("SubscribedTopicRegex `(` is not a valid regular expression: missing closing ).")
    );
}

#[tokio::test]
async fn groups_have_settings_of_their_own() {
    let (bed, _) = with_groups().await;
    alter(&bed, 32, "a-group", "consumer.heartbeat.interval.ms", "7000").await;
    assert_eq!(heartbeat(&bed, joining("one", "there")).await.heartbeat_interval_ms, 7_000);
}

#[tokio::test]
async fn the_pause_between_assignments_can_be_altered_while_the_broker_runs() {
    let (bed, _) = with_groups().await;
    assert_eq!(heartbeat(&bed, joining("one", "there")).await.member_epoch, 2);
    alter(&bed, 4, "", "group.consumer.assignment.interval.ms", "15000").await;
    // The target is as fresh as it must be, so the second member has to wait for one that knows it.
    assert_eq!(heartbeat(&bed, joining("two", "there")).await.member_epoch, 2);
    assert_eq!(&*described(&bed).await.group_state, "Assigning");
}

/// The metadata of a consumer that subscribes to topic "there", in version 1 of its protocol.
const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x05there\xff\xff\xff\xff\0\0\0\0";

#[tokio::test]
async fn members_of_both_protocols_share_a_group() {
    let (bed, id) = with_groups().await;
    assert_eq!(heartbeat(&bed, joining("one", "there")).await.member_epoch, 2);
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(SUBSCRIPTION))]);
    let given = answer!(bed.ask(9, request.clone()), JoinGroup);
    assert_eq!(given.error_code, ErrorCode::MemberIdRequired.code());
    let request = request.with_member_id(given.member_id.clone());
    let joined = answer!(bed.ask(9, request.clone()), JoinGroup);
    assert_eq!((joined.error_code, joined.generation_id), (0, 3));
    assert_eq!(
        (&*joined.leader, joined.members.len(), joined.protocol_name.as_deref()),
        ("", 0, Some("range"))
    );
    let kept = partitions(&heartbeat(&bed, beating("one", 2)).await).into_iter().collect::<Vec<_>>();
    let request_of_one = beating("one", 2).with_topic_partitions(Some(vec![owned(id, &kept)]));
    assert_eq!(heartbeat(&bed, request_of_one).await.member_epoch, 3);
    let joined = answer!(bed.ask(9, request), JoinGroup);
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    let synced = answer!(bed.ask(5, sync), SyncGroup);
    let assignment = thalweg_protocol::decode_assignment(synced.assignment).expect("well-formed");
    assert_eq!((synced.error_code, assignment.assigned_partitions[0].partitions.len()), (0, 1));
    assert_eq!((&*described(&bed).await.group_state, described(&bed).await.members.len()), ("Stable", 2));
    // With the last member of the new protocol the group becomes a classic one.
    assert_eq!(heartbeat(&bed, beating("one", -1)).await.error_code, 0);
    assert_eq!(described(&bed).await.error_code, ErrorCode::GroupIdNotFound.code());
    let groups = DescribeGroupsRequest::default().with_groups(vec![GroupId(text("a-group"))]);
    let classic = answer!(bed.ask(6, groups), DescribeGroups).groups.remove(0);
    assert_eq!((&*classic.group_state, classic.members.len()), ("PreparingRebalance", 1));
}
