//! Groups and committed offsets, through whole frames, and over restarts of the broker.

use super::{
    bed::{Bed, answer, text, topic},
    catalogue::{World, commit_request, fetch_offsets},
    versions::furnished,
};
use bytes::Bytes;
use thalweg_broker::{net::Reply, topics::OFFSETS_TOPIC};
use thalweg_protocol::{ApiKey, ErrorCode, RequestHeader, client, messages::*};
use thalweg_segment::{Method, Offset, Purpose};

use offset_commit_response::OffsetCommitResponse;

/// The code of "try again, the groups are being loaded".
const LOADING: i16 = ErrorCode::CoordinatorLoadInProgress.code();

async fn find(bed: &Bed, kind: i8, key: &str) -> find_coordinator_response::Coordinator {
    let request =
        FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
    answer!(bed.ask(6, request), FindCoordinator).coordinators.remove(0)
}

/// A broker with topics, whose clients have found their coordinator.
async fn with_groups() -> (Bed, World) {
    let (bed, world) = furnished().await;
    assert_eq!(find(&bed, 0, "a-group").await.error_code, 0);
    (bed, world)
}

fn codes(response: &OffsetCommitResponse) -> Vec<i16> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

pub async fn commit(bed: &Bed, version: i16, request: OffsetCommitRequest) -> Vec<i16> {
    codes(&answer!(bed.ask(version, request), OffsetCommit))
}

/// The committed offset of partition 0, or the group's error. Asks again while the group is being loaded.
pub async fn committed(bed: &Bed, world: &World) -> Result<i64, i16> {
    loop {
        let fetched = answer!(bed.ask(10, fetch_offsets(10, world, Some(&[0]))), OffsetFetch);
        match fetched.groups[0].error_code {
            0 => return Ok(fetched.groups[0].topics[0].partitions[0].committed_offset),
            LOADING => tokio::task::yield_now().await,
            code => return Err(code),
        }
    }
}

fn member(id: &str) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"))])
}

async fn join(bed: &Bed, request: JoinGroupRequest) -> JoinGroupResponse {
    answer!(bed.ask(9, request), JoinGroup)
}

async fn sync(bed: &Bed, id: &str, generation: i32, assignment: &'static [u8]) -> SyncGroupResponse {
    let assigned = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(text(id))
        .with_assignment(Bytes::from_static(assignment));
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_generation_id(generation)
        .with_member_id(text(id))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(vec![assigned]);
    answer!(bed.ask(5, request), SyncGroup)
}

async fn beat(bed: &Bed, id: &str, generation: i32) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text("a-group")))
        .with_generation_id(generation)
        .with_member_id(text(id));
    answer!(bed.ask(4, request), Heartbeat).error_code
}

/// One member in a stable group.
async fn stable(bed: &Bed) -> String {
    let id = join(bed, member("")).await.member_id.to_string();
    let joined = join(bed, member(&id)).await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1));
    assert_eq!(sync(bed, &id, 1, b"all of it").await.error_code, 0);
    id
}

async fn without_delay() -> (Bed, World) {
    let bed = Bed::with(&[("group.initial.rebalance.delay.ms", "0")]).await;
    let id = bed.create("there", 2, &[]).await;
    assert_eq!(find(&bed, 0, "a-group").await.error_code, 0);
    (bed, World { there: "there", id, round: 0 })
}

#[tokio::test]
async fn the_first_who_looks_for_a_coordinator_brings_kafkas_topic_about() {
    let (bed, world) = furnished().await;
    assert_eq!(committed(&bed, &world).await, Err(ErrorCode::NotCoordinator.code()));
    let found = find(&bed, 0, "a-group").await;
    assert_eq!((found.error_code, found.node_id.0, &*found.host, found.port), (0, 1, "127.0.0.1", 9092));
    let created = bed.broker.topics.by_name(OFFSETS_TOPIC).expect("created");
    assert_eq!(created.logs.len(), 50);
    assert!(created.settings.compact);
    let configs = &created.record.configs;
    assert_eq!(configs.get("cleanup.policy").map(String::as_str), Some("compact"));
    assert_eq!(configs.get("segment.bytes").map(String::as_str), Some("104857600"));

    let request = MetadataRequest::default().with_topics(Some(vec![
        metadata_request::MetadataRequestTopic::default().with_name(Some(topic(OFFSETS_TOPIC))),
    ]));
    assert!(answer!(bed.ask(13, request), Metadata).topics[0].is_internal);
}

#[tokio::test]
async fn coordinators_of_what_nobody_knows_are_refused() {
    let (bed, _) = furnished().await;
    let found = find(&bed, 9, "key").await;
    assert_eq!((found.error_code, found.node_id.0), (ErrorCode::InvalidRequest.code(), -1));
    let request = FindCoordinatorRequest::default().with_key(text("group"));
    let found = answer!(bed.ask(3, request), FindCoordinator);
    assert_eq!((found.error_code, found.node_id.0), (0, 1));
}

#[tokio::test]
async fn committed_offsets_are_there_after_a_restart() {
    let (bed, world) = with_groups().await;
    assert_eq!(committed(&bed, &world).await, Ok(-1));
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0, 1], 3)).await, [0, 0]);
    assert_eq!(committed(&bed, &world).await, Ok(1));
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(1));
    let all = answer!(bed.ask(9, fetch_offsets(9, &world, None)), OffsetFetch);
    let partition = &all.groups[0].topics[0].partitions[1];
    assert_eq!((partition.committed_offset, partition.metadata.as_deref()), (1, Some("mmm")));
}

#[tokio::test]
async fn records_of_an_internal_topic_are_not_for_clients_to_delete() {
    let (bed, world) = with_groups().await;
    commit(&bed, 10, commit_request(10, &world, &[0], 3)).await;
    let wanted = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
    let wanted = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic(OFFSETS_TOPIC))
        .with_partitions(vec![wanted]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![wanted]);
    let answered = answer!(bed.ask(2, request), DeleteRecords);
    assert_eq!(answered.topics[0].partitions[0].error_code, ErrorCode::InvalidTopicException.code());
}

#[tokio::test]
async fn a_commit_says_of_each_partition_what_became_of_it() {
    let (bed, world) = with_groups().await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    // What isn't there is answered first, as by Kafka.
    assert_eq!(commit(&bed, 9, commit_request(9, &world, &[0, 7], 0)).await, [unknown, 0]);
    let elsewhere = World { id: uuid::Uuid::from_u128(5), ..world.clone() };
    let codes = commit(&bed, 10, commit_request(10, &elsewhere, &[0], 0)).await;
    assert_eq!(codes, [ErrorCode::UnknownTopicId.code()]);
    let codes = commit(&bed, 9, commit_request(9, &world, &[0], 4097)).await;
    assert_eq!(codes, [ErrorCode::OffsetMetadataTooLarge.code()]);
}

#[tokio::test]
async fn names_are_as_long_as_a_string_can_be_and_longer_ones_close_the_connection_as_kafkas_do() {
    let (bed, world) = with_groups().await;
    let of = |length: usize| {
        let group_id = StrBytes::from_string("x".repeat(length));
        OffsetCommitRequest { group_id, ..commit_request(9, &world, &[0], 0) }
    };
    assert_eq!(commit(&bed, 9, of(32_767)).await, [0]);
    // Ids of members would be longer than a group's record can hold.
    let long = member("").with_group_instance_id(Some(StrBytes::from_string("x".repeat(32_767))));
    assert_eq!(join(&bed, long).await.error_code, ErrorCode::UnknownServerError.code());

    let header = RequestHeader {
        api_key: ApiKey::OffsetCommit,
        api_version: 9,
        correlation_id: 1,
        client_id: "test".into(),
    };
    let frame = client::encode_request(&header, of(100 * 1024).into()).expect("a compact string");
    let reply = bed.serve(ApiKey::OffsetCommit, frame.slice(4..)).await;
    assert!(matches!(reply, Reply::Close(_)), "{reply:?}");
}

#[tokio::test]
async fn members_join_and_sync_and_go_on_after_a_restart() {
    let (bed, world) = without_delay().await;
    let id = stable(&bed).await;
    assert_eq!(beat(&bed, &id, 1).await, 0);
    let request = OffsetCommitRequest {
        member_id: text(&id),
        generation_id_or_member_epoch: 1,
        ..commit_request(10, &world, &[0], 0)
    };
    assert_eq!(commit(&bed, 10, request.clone()).await, [0]);
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(1), "once this is told, the group is loaded");
    assert_eq!(beat(&bed, &id, 1).await, 0);
    assert_eq!(&sync(&bed, &id, 1, b"").await.assignment[..], b"all of it");
    let stale = OffsetCommitRequest { generation_id_or_member_epoch: 0, ..request };
    assert_eq!(commit(&bed, 10, stale).await, [ErrorCode::IllegalGeneration.code()]);
}

#[tokio::test]
async fn two_members_share_a_generation_and_a_rebalance_calls_both() {
    let (bed, _) = without_delay().await;
    let first = stable(&bed).await;
    let second = join(&bed, member("")).await.member_id.to_string();
    let (joined, rejoined) = tokio::join!(join(&bed, member(&second)), async {
        // Whoever learns of the rebalance joins again.
        while beat(&bed, &first, 1).await != ErrorCode::RebalanceInProgress.code() {
            tokio::task::yield_now().await;
        }
        join(&bed, member(&first)).await
    });
    assert_eq!((joined.generation_id, rejoined.generation_id), (2, 2));
    assert_eq!((joined.members.len(), rejoined.members.len()), (0, 2));
    let (follower, leader) = tokio::join!(sync(&bed, &second, 2, b""), sync(&bed, &first, 2, b"mine"));
    assert_eq!((follower.error_code, leader.error_code), (0, 0));
    assert_eq!((&leader.assignment[..], follower.assignment.len()), (&b"mine"[..], 0));
}

#[tokio::test]
async fn whoever_waits_when_the_broker_stops_is_told_to_look_for_the_coordinator() {
    let (bed, _) = without_delay().await;
    let first = stable(&bed).await;
    let second = join(&bed, member("")).await.member_id.to_string();
    let (joined, ()) = tokio::join!(join(&bed, member(&second)), async {
        while beat(&bed, &first, 1).await != ErrorCode::RebalanceInProgress.code() {
            tokio::task::yield_now().await;
        }
        bed.broker.close().await.expect("an orderly end");
    });
    assert_eq!(joined.error_code, ErrorCode::NotCoordinator.code());
    assert_eq!(beat(&bed, &first, 1).await, ErrorCode::NotCoordinator.code());
}

#[tokio::test]
async fn a_commit_to_a_closed_log_is_refused_and_leaves_nothing_behind() {
    let (bed, world) = with_groups().await;
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    bed.broker.logs.close_all(thalweg_broker::partition::Closed::NotOwner);
    let refused = [ErrorCode::NotCoordinator.code()];
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[1], 0)).await, refused);
    assert_eq!(committed(&bed, &world).await, Err(refused[0]));
    assert_eq!(bed.broker.groups.bytes(), 0);
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(1));
    let both = answer!(bed.ask(9, fetch_offsets(9, &world, Some(&[0, 1]))), OffsetFetch);
    let offsets: Vec<_> =
        both.groups[0].topics[0].partitions.iter().map(|partition| partition.committed_offset).collect();
    assert_eq!(offsets, [1, -1]);
}

#[tokio::test]
async fn groups_are_described_listed_and_deleted() {
    let (bed, world) = without_delay().await;
    let id = stable(&bed).await;
    let describe = async |id: &str| {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![GroupId(text(id))])
            .with_include_authorized_operations(true);
        answer!(bed.ask(6, request), DescribeGroups).groups.remove(0)
    };
    let group = describe("a-group").await;
    assert_eq!(
        (&*group.group_state, &*group.protocol_type, &*group.protocol_data),
        ("Stable", "consumer", "range")
    );
    assert_eq!((&*group.members[0].client_id, &*group.members[0].client_host), ("test", "/127.0.0.1"));
    assert_eq!(&group.members[0].member_assignment[..], b"all of it");
    // Read, Delete, Describe, DescribeConfigs, AlterConfigs.
    assert_eq!(group.authorized_operations, 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11);
    let missing = describe("none").await;
    assert_eq!((missing.error_code, &*missing.group_state), (ErrorCode::GroupIdNotFound.code(), "Dead"));

    let list = async || answer!(bed.ask(5, ListGroupsRequest::default()), ListGroups).groups;
    let listed = list().await;
    assert_eq!((listed.len(), &*listed[0].group_state, &*listed[0].group_type), (1, "Stable", "classic"));

    let delete = async || {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("a-group"))]);
        answer!(bed.ask(2, request), DeleteGroups).results[0].error_code
    };
    assert_eq!(delete().await, ErrorCode::NonEmptyGroup.code());
    let leaving = leave_group_request::MemberIdentity::default().with_member_id(text(&id));
    let request =
        LeaveGroupRequest::default().with_group_id(GroupId(text("a-group"))).with_members(vec![leaving]);
    assert_eq!(answer!(bed.ask(5, request), LeaveGroup).members[0].error_code, 0);
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    assert_eq!(delete().await, 0);
    assert!(list().await.is_empty());
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(-1));
}

#[tokio::test]
async fn a_deleted_topics_offsets_go_with_it() {
    let (bed, world) = with_groups().await;
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("there")]);
    assert_eq!(answer!(bed.ask(5, request), DeleteTopics).responses[0].error_code, 0);
    let all = answer!(bed.ask(9, fetch_offsets(9, &world, None)), OffsetFetch);
    assert!(all.groups[0].topics.is_empty(), "{all:?}");
}

#[tokio::test]
async fn a_topic_does_not_inherit_the_offsets_of_an_earlier_one_whose_deletion_was_not_followed_up() {
    let (bed, world) = with_groups().await;
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    // As where the broker dies before the offsets are deleted.
    let deleted = bed.broker.topics.by_name("there").expect("there");
    bed.broker.topics.delete(&deleted).await.expect("memory does not fail");
    let world = World { id: bed.create("there", 2, &[]).await, ..world };
    let old = answer!(bed.ask(7, fetch_offsets(7, &world, Some(&[0]))), OffsetFetch);
    assert_eq!(old.topics[0].partitions[0].committed_offset, -1);
    let by_name = answer!(bed.ask(9, fetch_offsets(9, &world, Some(&[0]))), OffsetFetch);
    assert_eq!(by_name.groups[0].topics[0].partitions[0].committed_offset, -1);
    assert_eq!(committed(&bed, &world).await, Ok(-1));
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(-1));
    let all = answer!(bed.ask(9, fetch_offsets(9, &world, None)), OffsetFetch);
    assert!(all.groups[0].topics.is_empty(), "{all:?}");
}

#[tokio::test]
async fn the_topics_of_coordinators_do_not_grow() {
    let (bed, _) = with_groups().await;
    let wanted = create_partitions_request::CreatePartitionsTopic::default().with_name(topic(OFFSETS_TOPIC));
    let wanted = wanted.with_count(100).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(1_000);
    let refused = answer!(bed.ask(3, request), CreatePartitions).results.remove(0);
    assert_eq!(refused.error_code, ErrorCode::InvalidPartitions.code());
    assert!(refused.error_message.is_some_and(|words| words.contains("decides where each group")));
}

#[tokio::test]
async fn the_offsets_topic_can_be_deleted_and_groups_begin_anew() {
    let (bed, world) = with_groups().await;
    assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], 0)).await, [0]);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(OFFSETS_TOPIC)]);
    assert_eq!(answer!(bed.ask(5, request), DeleteTopics).responses[0].error_code, 0);
    assert_eq!(committed(&bed, &world).await, Err(ErrorCode::NotCoordinator.code()));
    assert_eq!(find(&bed, 0, "a-group").await.error_code, 0);
    assert_eq!(committed(&bed, &world).await, Ok(-1));
}

#[tokio::test]
async fn groups_take_no_more_memory_than_they_may() {
    // The least budget there is, of which groups may have 8 %.
    let bed = Bed::with(&[("memory.bytes", "67108864"), ("offset.metadata.max.bytes", "1000000")]).await;
    let id = bed.create("there", 30, &[]).await;
    let world = World { there: "there", id, round: 0 };
    assert_eq!(find(&bed, 0, "a-group").await.error_code, 0);
    let partitions: Vec<i32> = (0..30).collect();
    let limit = bed.broker.settings.memory.groups;
    let full = ErrorCode::CoordinatorNotAvailable.code();
    let mut refused = None;
    for n in 0..20 {
        let group_id = text(&format!("group-{n}"));
        let request = OffsetCommitRequest { group_id, ..commit_request(10, &world, &partitions, 30_000) };
        let codes = commit(&bed, 10, request).await;
        if codes != [0; 30] {
            assert_eq!(codes, [full; 30]);
            refused = Some(n);
            break;
        }
    }
    assert!(refused.is_some_and(|n| n > 2), "{refused:?}");
    assert!((limit..limit + 1_000_000).contains(&bed.broker.groups.bytes()));
    assert_eq!(join(&bed, member("")).await.error_code, full);
    // What is there is served, and deleting makes room.
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("group-0"))]);
    assert_eq!(answer!(bed.ask(2, request), DeleteGroups).results[0].error_code, 0);
    assert_eq!(join(&bed, member("")).await.error_code, ErrorCode::MemberIdRequired.code());
}

/// The number of groups, once all are loaded.
async fn loaded(bed: &Bed) -> usize {
    loop {
        let listed = answer!(bed.ask(5, ListGroupsRequest::default()), ListGroups);
        match listed.error_code {
            LOADING => tokio::task::yield_now().await,
            _ => return listed.groups.len(),
        }
    }
}

/// The log of the groups is read back in pieces, from the tail and from the object store.
#[tokio::test]
async fn many_groups_are_loaded_from_what_was_flushed_and_what_was_not() {
    let (bed, world) = with_groups().await;
    let commit_all = async |bed: &Bed, groups: std::ops::Range<i32>| {
        let commits = groups.map(|n| {
            let group_id = text(&format!("group-{n}"));
            commit(bed, 10, OffsetCommitRequest { group_id, ..commit_request(10, &world, &[0, 1], 10) })
        });
        for codes in futures::future::join_all(commits).await {
            assert_eq!(codes, [0, 0]);
        }
    };
    commit_all(&bed, 0..1_000).await;
    bed.broker.close().await.expect("flushed");
    let bed = bed.restarted().await;
    assert_eq!(committed(&bed, &world).await, Ok(-1));
    assert_eq!(loaded(&bed).await, 1_000);
    commit_all(&bed, 1_000..1_500).await;
    let bytes = bed.broker.groups.bytes();
    let bed = bed.restarted().await;
    assert_eq!(loaded(&bed).await, 1_500);
    assert_eq!(bed.broker.groups.bytes(), bytes, "loading counts as appending does");
    let logs = &bed.broker.topics.by_name(OFFSETS_TOPIC).expect("there").logs;
    assert_eq!(logs.iter().map(|log| log.view().end.0).sum::<i64>(), 3_000);
    assert!(logs.iter().all(|log| log.view().start == Offset(0)));
}

/// What the shards of all partitions want lies in the same objects of the write-ahead log, a little of each in each.
#[tokio::test]
async fn all_groups_are_loaded_with_one_request_for_each_object_that_a_crash_has_left() {
    let (bed, world) = with_groups().await;
    for round in 0..10 {
        let commits = (0..200).map(|n| {
            let group_id = text(&format!("group-{n}"));
            commit(&bed, 10, OffsetCommitRequest { group_id, ..commit_request(10, &world, &[0], round) })
        });
        for codes in futures::future::join_all(commits).await {
            assert_eq!(codes, [0]);
        }
    }
    let objects = bed.store.requests().of(Purpose::Wal, Method::Put);
    let bed = bed.restarted().await;
    assert_eq!(loaded(&bed).await, 200);
    let gets = bed.store.requests().of(Purpose::Fetch, Method::Get);
    // One for the index of each, one for what is in each, and some for what the start reads whatever there is.
    assert!(objects >= 10 && gets <= 2 * objects + 8, "{gets} GETs for {objects} objects");
}
