//! For every API requests in any of its versions: some that are fine, and some that are not.

use super::{
    admin_catalogue,
    bed::{text, topic},
    transaction_requests as transactions,
};
use bytes::Bytes;
use thalweg_protocol::{ApiKey, Request, messages::*};
use thalweg_segment::testing::BatchBuilder;
use uuid::Uuid;

/// What the requests are about.
#[derive(Clone, Debug)]
pub struct World {
    /// A topic with two partitions.
    pub there: &'static str,
    /// Its id.
    pub id: Uuid,
    /// Makes names that are new in every version.
    pub round: u32,
}

impl World {
    fn fresh(&self, version: i16) -> String {
        format!("fresh-{}-{version}", self.round)
    }
}

/// The requests of one API in one version, each with what it shows.
pub fn requests(api: ApiKey, version: i16, world: &World) -> Vec<(String, Request)> {
    match api {
        ApiKey::Produce => named(produce(version, world)),
        ApiKey::Fetch => named(fetch(version, world)),
        ApiKey::ListOffsets => named(list_offsets(version, world)),
        ApiKey::Metadata => named(metadata(version, world)),
        ApiKey::FindCoordinator => named(find_coordinator(version)),
        ApiKey::ApiVersions => named(api_versions(version)),
        ApiKey::CreateTopics => named(create_topics(version, world)),
        ApiKey::DeleteTopics => named(delete_topics(version, world)),
        ApiKey::DeleteRecords => named(delete_records(world)),
        ApiKey::InitProducerId => named(init_producer_id(version)),
        ApiKey::OffsetForLeaderEpoch => named(offset_for_leader_epoch(version, world)),
        ApiKey::DescribeConfigs => named(describe_configs(version, world)),
        ApiKey::AlterConfigs => named(alter_configs(world)),
        ApiKey::CreatePartitions => named(create_partitions(world)),
        ApiKey::IncrementalAlterConfigs => named(incremental_alter_configs(world)),
        ApiKey::DescribeCluster => named(describe_cluster(version)),
        ApiKey::DescribeTopicPartitions => named(describe_topic_partitions(world)),
        ApiKey::JoinGroup => named(join_group(version)),
        ApiKey::SyncGroup => named(sync_group(version)),
        ApiKey::Heartbeat => named(heartbeat(version)),
        ApiKey::LeaveGroup => named(leave_group(version)),
        ApiKey::OffsetCommit => named(offset_commit(version, world)),
        ApiKey::OffsetFetch => named(offset_fetch(version, world)),
        ApiKey::OffsetDelete => named(offset_delete(world)),
        ApiKey::DescribeGroups => named(describe_groups(version)),
        ApiKey::ListGroups => named(list_groups(version)),
        ApiKey::DeleteGroups => named(delete_groups()),
        ApiKey::AddPartitionsToTxn => named(transactions::add_partitions(version, world)),
        ApiKey::AddOffsetsToTxn => named(transactions::add_offsets()),
        ApiKey::EndTxn => named(transactions::end()),
        ApiKey::WriteTxnMarkers => named(transactions::write_markers(version, world)),
        ApiKey::TxnOffsetCommit => named(transactions::commit_offsets(version, world)),
        ApiKey::DescribeProducers => named(transactions::describe_producers(world)),
        ApiKey::DescribeTransactions => named(transactions::describe()),
        ApiKey::ListTransactions => named(transactions::list(version)),
        ApiKey::ListConfigResources => named(admin_catalogue::list_config_resources(version)),
        ApiKey::DescribeLogDirs => named(admin_catalogue::describe_log_dirs(world)),
        ApiKey::AlterReplicaLogDirs => named(admin_catalogue::alter_replica_log_dirs(world)),
        ApiKey::ElectLeaders => named(admin_catalogue::elect_leaders(version, world)),
        ApiKey::AlterPartitionReassignments => {
            named(admin_catalogue::alter_partition_reassignments(version, world))
        }
        ApiKey::ListPartitionReassignments => named(admin_catalogue::list_partition_reassignments(world)),
        ApiKey::DescribeQuorum => named(admin_catalogue::describe_quorum()),
        ApiKey::UpdateFeatures => named(admin_catalogue::update_features(version)),
        ApiKey::UnregisterBroker => named(admin_catalogue::unregister_broker()),
        ApiKey::AddRaftVoter => named(admin_catalogue::add_raft_voter()),
        ApiKey::RemoveRaftVoter => named(admin_catalogue::remove_raft_voter()),
        ApiKey::DescribeClientQuotas => named(admin_catalogue::describe_client_quotas()),
        ApiKey::AlterClientQuotas => named(admin_catalogue::alter_client_quotas(version, world)),
        ApiKey::DescribeUserScramCredentials => named(admin_catalogue::describe_user_scram_credentials()),
        ApiKey::AlterUserScramCredentials => named(admin_catalogue::alter_user_scram_credentials()),
        ApiKey::DescribeAcls => named(admin_catalogue::describe_acls()),
        ApiKey::CreateAcls => named(admin_catalogue::create_acls()),
        ApiKey::DeleteAcls => named(admin_catalogue::delete_acls()),
        ApiKey::CreateDelegationToken => named(admin_catalogue::create_delegation_token(version)),
        ApiKey::RenewDelegationToken => {
            vec![("a token".into(), RenewDelegationTokenRequest::default().into())]
        }
        ApiKey::ExpireDelegationToken => {
            vec![("a token".into(), ExpireDelegationTokenRequest::default().into())]
        }
        ApiKey::DescribeDelegationToken => {
            vec![("all".into(), DescribeDelegationTokenRequest::default().with_owners(None).into())]
        }
    }
}

pub type Named<T> = Vec<(&'static str, T)>;

fn named<T: Into<Request>>(requests: Named<T>) -> Vec<(String, Request)> {
    requests.into_iter().map(|(name, request)| (name.to_owned(), request.into())).collect()
}

/// A batch with two records.
pub fn batch() -> BatchBuilder {
    BatchBuilder::new().record("key", "value").record("other key", "other value")
}

pub fn produce_request(
    version: i16,
    world: &World,
    partition: i32,
    records: Option<Bytes>,
) -> ProduceRequest {
    let partition =
        produce_request::PartitionProduceData::default().with_index(partition).with_records(records);
    let mut data = produce_request::TopicProduceData::default().with_partition_data(vec![partition]);
    match version >= 13 {
        true => data.topic_id = world.id,
        false => data.name = topic(world.there),
    }
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data])
}

fn produce(version: i16, world: &World) -> Named<ProduceRequest> {
    let of = |partition, records: Bytes| produce_request(version, world, partition, Some(records));
    let good = batch().bytes();
    let edited = |at: usize, bytes: &[u8]| {
        let mut bad = good.to_vec();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Bytes::from(bad)
    };
    // With the checksum right, so that what is looked at after it shows.
    let sealed = |at: usize, bytes: &[u8]| {
        let mut bad = edited(at, bytes).to_vec();
        let crc = crc32c::crc32c(&bad[21..]);
        bad[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(bad)
    };
    let elsewhere = World { there: "nowhere", id: Uuid::from_u128(77), ..world.clone() };
    let two = [&good[..], &good[..]].concat();
    let in_acks = |acks| of(0, good.clone()).with_acks(acks);
    let mut requests = vec![
        ("a batch", of(0, good.clone())),
        ("acks=1", in_acks(1)),
        ("acks=2", in_acks(2)),
        ("null records", produce_request(version, world, 0, None)),
        ("no records", of(0, Bytes::new())),
        ("less than a header", of(0, good.slice(..20))),
        ("a batch that is cut off", of(0, good.slice(..good.len() - 1))),
        ("two batches", of(0, two.into())),
        ("garbage behind", of(0, [&good[..], b"garbage"].concat().into())),
        ("no such partition", of(9, good.clone())),
        ("a negative partition", of(-1, good.clone())),
        ("no such topic", produce_request(version, &elsewhere, 0, Some(good.clone()))),
        ("a wrong checksum", of(0, edited(80, b"x"))),
        ("magic 1", of(0, edited(16, &[1]))),
        ("magic 0", of(0, edited(16, &[0]))),
        ("magic 3", of(0, edited(16, &[3]))),
        ("base offset 5", of(0, batch().base_offset(5).bytes())),
        ("a control batch", of(0, BatchBuilder::new().producer(9, 0, -1).marker(true, 0).bytes())),
        ("a count that is too high", of(0, sealed(57, &3_i32.to_be_bytes()))),
        ("a count and a delta that are too high", {
            let more = sealed(57, &3_i32.to_be_bytes());
            let mut more = more.to_vec();
            more[23..27].copy_from_slice(&2_i32.to_be_bytes());
            let crc = crc32c::crc32c(&more[21..]);
            more[17..21].copy_from_slice(&crc.to_be_bytes());
            of(0, more.into())
        }),
        ("no count", of(0, sealed(57, &0_i32.to_be_bytes()))),
        ("a wrong last offset delta", of(0, sealed(23, &7_i32.to_be_bytes()))),
        ("a negative last offset delta", of(0, sealed(23, &(-1_i32).to_be_bytes()))),
        ("append time", of(0, batch().attributes(8).bytes())),
        ("an unknown codec", of(0, batch().attributes(5).bytes())),
        ("not gzip", of(0, batch().attributes(1).bytes())),
        ("not zstd", of(0, batch().attributes(4).bytes())),
        ("a timestamp in the far future", of(0, batch().timestamp(i64::MAX / 2).bytes())),
        ("no timestamp", of(0, batch().timestamp(-1).bytes())),
        ("too large", of(0, BatchBuilder::new().records(1, 1_100_000).bytes())),
        ("a producer id without sequence", of(0, batch().producer(7777, 0, -1).bytes())),
        ("a producer id without epoch", of(0, batch().producer(7777, -1, 0).bytes())),
        ("no topics", ProduceRequest::default().with_acks(1).with_timeout_ms(1000)),
        ("a negative timeout", of(0, good.clone()).with_timeout_ms(-5)),
        ("the same partition twice", {
            let mut request = of(0, good.clone());
            let again = request.topic_data[0].partition_data[0].clone();
            request.topic_data[0].partition_data.push(again);
            request
        }),
    ];
    // The same producers, for answers that depend on what was before.
    let id = 1_000_000 + i64::from(version) + 1000 * i64::from(world.round);
    for (name, epoch, sequence) in [
        ("sequence 0", 0, 0),
        ("sequence 0 again", 0, 0),
        ("the next sequence", 0, 2),
        ("a gap", 0, 9),
        ("a new epoch", 1, 0),
        ("an old epoch", 0, 4),
        ("a new epoch not at 0", 2, 5),
        ("the last sequence of the first again", 1, 1),
    ] {
        requests.push((name, of(1, batch().producer(id, epoch, sequence).bytes())));
    }
    let wrapping = id + 500;
    for (name, sequence) in
        [("the highest sequence", i32::MAX - 1), ("wrapped around", 0), ("and again", i32::MAX - 1)]
    {
        requests.push((name, of(1, batch().producer(wrapping, 0, sequence).bytes())));
    }
    requests
}

pub fn fetch_request(version: i16, world: &World, partition: i32, offset: i64) -> FetchRequest {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let mut wanted = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
    match version >= 13 {
        true => wanted.topic_id = world.id,
        false => wanted.topic = topic(world.there),
    }
    let request =
        FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![wanted]);
    let request = request.with_min_bytes(0).with_max_wait_ms(0);
    if version < 15 { request.with_replica_id((-1).into()) } else { request }
}

fn fetch(version: i16, world: &World) -> Named<FetchRequest> {
    let of = |partition, offset| fetch_request(version, world, partition, offset);
    let elsewhere = World { there: "nowhere", id: Uuid::from_u128(77), ..world.clone() };
    let mut requests = vec![
        ("from the start", of(0, 0)),
        ("committed only", of(0, 0).with_isolation_level(1)),
        ("at the end of an empty partition", of(1, 0)),
        ("out of range", of(0, 1 << 40)),
        ("a negative offset", of(0, -1)),
        ("no such partition", of(9, 0)),
        ("no such topic", fetch_request(version, &elsewhere, 0, 0)),
        ("no bytes", of(0, 0).with_max_bytes(0)),
        ("a negative maximum", of(0, 0).with_max_bytes(-5)),
        ("one byte", of(0, 0).with_max_bytes(1)),
        ("no partitions", of(0, 0).with_topics(Vec::new())),
        ("one byte a partition", {
            let mut request = of(0, 0);
            request.topics[0].partitions[0].partition_max_bytes = 1;
            request
        }),
        ("no byte a partition", {
            let mut request = of(0, 0);
            request.topics[0].partitions[0].partition_max_bytes = 0;
            request
        }),
        ("two partitions, one byte", {
            let mut request = of(0, 0).with_max_bytes(1);
            let second = request.topics[0].partitions[0].clone().with_partition(1);
            request.topics[0].partitions.push(second);
            request
        }),
        ("two partitions, the second wrong", {
            let mut request = of(0, 0);
            let second = request.topics[0].partitions[0].clone().with_partition(7);
            request.topics[0].partitions.push(second);
            request
        }),
    ];
    if version >= 7 {
        requests.push(("an unknown session", of(0, 0).with_session_id(12345).with_session_epoch(3)));
        requests.push(("no session, a later epoch", of(0, 0).with_session_id(0).with_session_epoch(3)));
    }
    if version >= 9 {
        for (name, epoch) in [("a future epoch", 99), ("the epoch before", -1), ("an epoch below all", -7)] {
            let mut request = of(0, 0);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            requests.push((name, request));
        }
    }
    if version >= 12 {
        for (name, epoch) in [("read in a future epoch", 99), ("read in no epoch", -1)] {
            let mut request = of(0, 1);
            request.topics[0].partitions[0].last_fetched_epoch = epoch;
            requests.push((name, request));
        }
    }
    requests
}

fn list_offsets(version: i16, world: &World) -> Named<ListOffsetsRequest> {
    let of = |name: &str, partitions: &[(i32, i64)]| {
        let partitions = partitions.iter().map(|(partition, timestamp)| {
            let wanted = list_offsets_request::ListOffsetsPartition::default();
            wanted.with_partition_index(*partition).with_timestamp(*timestamp)
        });
        let wanted = list_offsets_request::ListOffsetsTopic::default();
        let wanted = wanted.with_name(topic(name)).with_partitions(partitions.collect());
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted])
    };
    let there = world.there;
    let mut requests = vec![
        ("earliest", of(there, &[(0, -2)])),
        ("latest", of(there, &[(0, -1)])),
        ("highest timestamp", of(there, &[(0, -3)])),
        ("earliest local", of(there, &[(0, -4)])),
        ("latest tiered", of(there, &[(0, -5)])),
        ("earliest pending upload", of(there, &[(0, -6)])),
        ("an unknown special one", of(there, &[(0, -7)])),
        ("at time 0", of(there, &[(0, 0)])),
        ("at a time", of(there, &[(0, 1_700_000_000_000)])),
        ("after all", of(there, &[(0, i64::MAX)])),
        ("an empty partition", of(there, &[(1, -2), (1, -1)])),
        ("highest timestamp of an empty partition", of("empty", &[(0, -3)])),
        ("at a time of an empty partition", of("empty", &[(0, 0)])),
        ("the same partition twice", of(there, &[(0, -1), (0, -2), (1, -1)])),
        ("no such partition", of(there, &[(7, -1)])),
        ("no such topic", of("nowhere", &[(0, -1)])),
    ];
    if version >= 2 {
        requests.push(("committed only", of(there, &[(0, -1)]).with_isolation_level(1)));
    }
    if version >= 4 {
        for (name, epoch) in [("a future epoch", 99), ("an epoch below all", -7)] {
            let mut request = of(there, &[(0, -1)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            requests.push((name, request));
        }
    }
    requests
}

fn metadata(version: i16, world: &World) -> Named<MetadataRequest> {
    let of = |names: &[&str], create| {
        let wanted =
            |name: &&str| metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default().with_topics(Some(names.iter().map(wanted).collect()));
        if version >= 4 { request.with_allow_auto_topic_creation(create) } else { request }
    };
    let mut requests = vec![
        ("a topic", of(&[world.there], false)),
        ("a topic twice", of(&[world.there, world.there], false)),
        ("topics in no order", of(&["empty", world.there], false)),
        ("names that none can have", of(&["", "a b", "..", &"x".repeat(300)], true)),
        ("an internal topic", of(&["__consumer_offsets"], false)),
    ];
    if version >= 1 {
        requests.push(("no topics", of(&[], false)));
    }
    if version >= 4 {
        requests.push(("no such topic", of(&["nowhere"], false)));
        requests.push(("a colliding name", of(&["col_lide"], true)));
    }
    if version >= 8 {
        requests.push(("authorized operations of a topic", {
            of(&[world.there], false).with_include_topic_authorized_operations(true)
        }));
    }
    if (8..=10).contains(&version) {
        requests
            .push(("authorized operations", of(&[], false).with_include_cluster_authorized_operations(true)));
    }
    if version >= 12 {
        let by_id = |id| {
            let wanted = metadata_request::MetadataRequestTopic::default().with_name(None).with_topic_id(id);
            of(&[], false).with_topics(Some(vec![wanted]))
        };
        requests.push(("a topic by id", by_id(world.id)));
        requests.push(("no such id", by_id(Uuid::from_u128(77))));
        requests.push(("neither id nor name", by_id(Uuid::nil())));
        let both = metadata_request::MetadataRequestTopic::default();
        let both = both.with_name(Some(topic(world.there))).with_topic_id(world.id);
        requests.push(("both id and name", of(&[], false).with_topics(Some(vec![both]))));
    }
    requests
}

fn find_coordinator(version: i16) -> Named<FindCoordinatorRequest> {
    let request = FindCoordinatorRequest::default();
    vec![(
        "a group",
        match version {
            0..=3 => request.with_key(text("group")),
            _ => request.with_coordinator_keys(vec![text("group"), text("other")]),
        },
    )]
}

fn api_versions(version: i16) -> Named<ApiVersionsRequest> {
    if version < 3 {
        return vec![("versions", ApiVersionsRequest::default())];
    }
    let of = |name, number| {
        let request = ApiVersionsRequest::default().with_client_software_name(text(name));
        request.with_client_software_version(text(number))
    };
    vec![
        ("versions", of("tests", "1.0")),
        ("a bad name", of("te sts", "1.0")),
        ("no version", of("tests", "")),
    ]
}

/// A topic to be created.
pub fn new_topic(name: &str, partitions: i32, replicas: i16) -> create_topics_request::CreatableTopic {
    let new = create_topics_request::CreatableTopic::default().with_name(topic(name));
    new.with_num_partitions(partitions).with_replication_factor(replicas)
}

fn create_topics(version: i16, world: &World) -> Named<CreateTopicsRequest> {
    let of = |topics| CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    let fresh = world.fresh(version);
    let dry = |topic| of(vec![topic]).with_validate_only(true);
    let assigned = |assignments: &[(i32, &[i32])]| {
        let assignments = assignments.iter().map(|(partition, brokers)| {
            let assignment = create_topics_request::CreatableReplicaAssignment::default();
            assignment
                .with_partition_index(*partition)
                .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
        });
        new_topic("assigned", -1, -1).with_assignments(assignments.collect())
    };
    let configured = |configs: &[(&str, Option<&str>)]| {
        let configs = configs.iter().map(|(name, value)| {
            let config = create_topics_request::CreatableTopicConfig::default().with_name(text(name));
            config.with_value(value.map(text))
        });
        new_topic("configured", 1, 1).with_configs(configs.collect())
    };
    let mut requests = vec![
        ("a topic", of(vec![new_topic(&fresh, 3, 1)])),
        ("a topic that is there", of(vec![new_topic(world.there, 3, 1)])),
        ("to be validated", dry(new_topic("dry", 3, 1))),
        ("named twice", of(vec![new_topic("twice", 1, 1), new_topic("twice", 1, 1)])),
        ("no partitions", dry(new_topic("bad", 0, 1))),
        ("-2 partitions", dry(new_topic("bad", -2, 1))),
        ("no replicas", dry(new_topic("bad", 1, 0))),
        ("10,001 partitions", dry(new_topic("large", 10_001, 1))),
        ("10,000 partitions and one", {
            of(vec![new_topic("large", 10_000, 1), new_topic("small", 1, 1)]).with_validate_only(true)
        }),
        ("a colliding name", dry(new_topic("col_lide", 1, 1))),
        ("assignments", dry(assigned(&[(0, &[1]), (1, &[1])]))),
        ("the same partition assigned twice", dry(assigned(&[(0, &[1]), (0, &[1])]))),
        ("assignments with a hole", dry(assigned(&[(0, &[1]), (2, &[1])]))),
        ("an assignment to nobody", dry(assigned(&[(0, &[])]))),
        ("assignments and a number", dry(assigned(&[(0, &[1])]).with_num_partitions(1))),
        ("configs", dry(configured(&[("retention.ms", Some("1000")), ("cleanup.policy", Some("compact"))]))),
        ("an unknown config", dry(configured(&[("no.such", Some("1"))]))),
        ("a bad value", dry(configured(&[("retention.ms", Some("soon"))]))),
        ("a value out of range", dry(configured(&[("max.message.bytes", Some("-1"))]))),
        ("a bad choice", dry(configured(&[("cleanup.policy", Some("burn"))]))),
        ("a bad timestamp type", dry(configured(&[("message.timestamp.type", Some("Never"))]))),
        ("a null value", dry(configured(&[("retention.ms", None)]))),
        ("no topics", of(Vec::new())),
    ];
    for name in ["", ".", "..", "a b", "a/b"] {
        requests.push(("a name that none can have", dry(new_topic(name, 1, 1))));
    }
    requests.push(("too long a name", dry(new_topic(&"x".repeat(250), 1, 1))));
    if version >= 4 {
        requests.push(("defaults", dry(new_topic("defaults", -1, -1))));
    }
    requests
}

fn delete_topics(version: i16, world: &World) -> Named<DeleteTopicsRequest> {
    let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
    let by_name = |names: &[&str]| match version >= 6 {
        true => {
            request.clone().with_topics(names.iter().map(|name| state(Some(name), Uuid::nil())).collect())
        }
        false => request.clone().with_topic_names(names.iter().map(|name| topic(name)).collect()),
    };
    let fresh = format!("fresh-{}-{}", world.round, (version % 6).max(2));
    let mut requests = vec![
        ("a topic", by_name(&[&fresh])),
        ("no such topic", by_name(&["nowhere"])),
        ("a name that none can have", by_name(&["a b"])),
        ("no topics", by_name(&[])),
        ("no such topic twice", by_name(&["nowhere", "nowhere"])),
    ];
    if version >= 6 {
        let of = |states| request.clone().with_topics(states);
        requests.push(("no such id", of(vec![state(None, Uuid::from_u128(77))])));
        requests.push(("neither name nor id", of(vec![state(None, Uuid::nil())])));
        requests.push(("both", of(vec![state(Some("nowhere"), Uuid::from_u128(77))])));
        requests.push(("a topic by name and by id", {
            of(vec![
                state(Some(world.there), Uuid::nil()),
                state(None, world.id),
                state(Some("nowhere"), Uuid::nil()),
            ])
        }));
        requests.pop();
    }
    requests
}

fn state(name: Option<&str>, id: Uuid) -> delete_topics_request::DeleteTopicState {
    delete_topics_request::DeleteTopicState::default().with_name(name.map(topic)).with_topic_id(id)
}

fn delete_records(world: &World) -> Named<DeleteRecordsRequest> {
    let of = |name, partition, offset| {
        let wanted = delete_records_request::DeleteRecordsPartition::default();
        let wanted = wanted.with_partition_index(partition).with_offset(offset);
        let wanted = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![wanted]);
        DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![wanted])
    };
    vec![
        ("one record", of(world.there, 1, 1)),
        ("nothing", of(world.there, 1, 0)),
        ("beyond the end", of(world.there, 1, 1 << 40)),
        ("a negative offset", of(world.there, 1, -2)),
        ("no such partition", of(world.there, 9, 0)),
        ("no such topic", of("nowhere", 0, 0)),
        ("everything of an empty partition", of("empty", 0, -1)),
    ]
}

fn init_producer_id(version: i16) -> Named<InitProducerIdRequest> {
    let request =
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let mut requests = vec![("an id", request.clone())];
    if version >= 3 {
        requests.push(("with an id", request.clone().with_producer_id(5.into()).with_producer_epoch(3)));
        requests.push(("with an id and no epoch", request.clone().with_producer_id(5.into())));
        requests.push(("with an epoch and no id", request.clone().with_producer_epoch(5)));
    }
    requests.push(("an empty transactional id", {
        request.with_transactional_id(Some(TransactionalId(text(""))))
    }));
    requests
}

fn offset_for_leader_epoch(version: i16, world: &World) -> Named<OffsetForLeaderEpochRequest> {
    let of = |name, partition, current: i32, epoch| {
        let wanted = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
        let wanted =
            wanted.with_partition(partition).with_current_leader_epoch(current).with_leader_epoch(epoch);
        let wanted = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(topic(name))
            .with_partitions(vec![wanted]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![wanted]);
        if version >= 3 { request.with_replica_id((-1).into()) } else { request }
    };
    vec![
        ("an epoch to come", of(world.there, 0, -1, 99)),
        ("no epoch", of(world.there, 0, -1, -1)),
        ("an unknown current epoch", of(world.there, 0, 99, 0)),
        ("an epoch below all", of(world.there, 0, -7, 0)),
        ("no such partition", of(world.there, 9, -1, 0)),
        ("no such topic", of("nowhere", 0, -1, 0)),
    ]
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn describe_configs(version: i16, world: &World) -> Named<DescribeConfigsRequest> {
    let of = |kind, name: &str, keys: Option<&[&str]>| {
        let wanted = describe_configs_request::DescribeConfigsResource::default();
        let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
        let wanted =
            wanted.with_resource_type(kind).with_resource_name(text(name)).with_configuration_keys(keys);
        let request =
            DescribeConfigsRequest::default().with_resources(vec![wanted]).with_include_synonyms(true);
        if version >= 3 { request.with_include_documentation(false) } else { request }
    };
    vec![
        ("a topic", of(TOPIC, world.there, None)),
        (
            "some keys of a topic",
            of(TOPIC, world.there, Some(&["cleanup.policy", "no.such", "retention.ms"])),
        ),
        ("no keys of a topic", of(TOPIC, world.there, Some(&[]))),
        ("a topic, no synonyms", of(TOPIC, world.there, None).with_include_synonyms(false)),
        ("no such topic", of(TOPIC, "nowhere", None)),
        ("a name that none can have", of(TOPIC, "a b", None)),
        ("no name", of(TOPIC, "", None)),
        (
            "some keys of a broker",
            of(BROKER, "1", Some(&["node.id", "num.partitions", "message.max.bytes", "log.retention.ms"])),
        ),
        ("the defaults of brokers", of(BROKER, "", None)),
        ("another broker", of(BROKER, "77", None)),
        ("not a broker", of(BROKER, "x", None)),
    ]
}

fn alter_configs(world: &World) -> Named<AlterConfigsRequest> {
    let of = |kind, name: &str, configs: &[(&str, Option<&str>)]| {
        let configs = configs.iter().map(|(name, value)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(name))
                .with_value(value.map(text))
        });
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        AlterConfigsRequest::default().with_resources(vec![resource])
    };
    let mut requests = vec![
        ("a topic", of(TOPIC, "empty", &[("retention.ms", Some("7000"))])),
        ("a topic back to its defaults", of(TOPIC, "empty", &[])),
        (
            "a key twice",
            of(TOPIC, "empty", &[("retention.ms", Some("7000")), ("retention.ms", Some("8000"))]),
        ),
        ("a null value", of(TOPIC, "empty", &[("retention.ms", None)])),
        ("an unknown key", of(TOPIC, "empty", &[("no.such", Some("7000"))])),
        ("a bad value", of(TOPIC, "empty", &[("retention.ms", Some("x"))])),
        ("no such topic", of(TOPIC, "nowhere", &[("retention.ms", Some("7000"))])),
        ("a name that none can have", of(TOPIC, "a b", &[])),
        ("no name", of(TOPIC, "", &[])),
        ("a broker", of(BROKER, "1", &[("num.network.threads", Some("4"))])),
        ("a broker back to its defaults", of(BROKER, "1", &[])),
        ("a key that can't change", of(BROKER, "1", &[("node.id", Some("4"))])),
        ("another broker", of(BROKER, "77", &[])),
        ("not a broker", of(BROKER, "x", &[])),
        ("an unknown kind", of(0, "x", &[])),
        ("a kind of the future", of(99, "x", &[])),
    ];
    let mut twice = of(TOPIC, world.there, &[]);
    twice.resources.push(twice.resources[0].clone());
    requests.push(("a resource twice", twice));
    requests
}

/// Name, new number of partitions, and brokers of each that is added.
type Grown<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>);

fn create_partitions(world: &World) -> Named<CreatePartitionsRequest> {
    let of = |topics: &[Grown<'_>]| {
        let topics = topics.iter().map(|(name, count, assignments)| {
            let assignments = assignments.map(|brokers| {
                let one = |ids: &&[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
                let assignment = create_partitions_request::CreatePartitionsAssignment::default;
                brokers.iter().map(|ids| assignment().with_broker_ids(one(ids))).collect()
            });
            let wanted = create_partitions_request::CreatePartitionsTopic::default().with_name(topic(name));
            wanted.with_count(*count).with_assignments(assignments)
        });
        CreatePartitionsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(topics.collect())
            .with_validate_only(true)
    };
    let there = world.there;
    vec![
        ("one more", of(&[(there, 3, None)])),
        ("as many as there are", of(&[(there, 2, None)])),
        ("fewer", of(&[(there, 1, None)])),
        ("none", of(&[(there, 0, None)])),
        ("a negative number", of(&[(there, -1, None)])),
        ("far too many", of(&[(there, 10_003, None)])),
        ("a topic twice", of(&[(there, 3, None), (there, 4, None), ("nowhere", 1, None)])),
        ("no such topic", of(&[("nowhere", 3, None)])),
        ("an assignment", of(&[(there, 3, Some(&[&[1]]))])),
        ("too many assignments", of(&[(there, 3, Some(&[&[1], &[1]]))])),
        ("too few assignments", of(&[(there, 4, Some(&[&[1]]))])),
        ("an assignment to nobody", of(&[(there, 3, Some(&[&[]]))])),
        ("an internal topic", of(&[("__consumer_offsets", 100, None)])),
    ]
}

fn incremental_alter_configs(world: &World) -> Named<IncrementalAlterConfigsRequest> {
    let of = |kind, name: &str, changes: &[(&str, i8, Option<&str>)]| {
        let changes = changes.iter().map(|(name, operation, value)| {
            let change = incremental_alter_configs_request::AlterableConfig::default().with_name(text(name));
            change.with_config_operation(*operation).with_value(value.map(text))
        });
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(changes.collect());
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    let empty = "empty";
    let mut requests = vec![
        ("set", of(TOPIC, empty, &[("retention.ms", 0, Some("7000"))])),
        ("delete", of(TOPIC, empty, &[("retention.ms", 1, None)])),
        ("delete with a value", of(TOPIC, empty, &[("retention.ms", 1, Some("x"))])),
        ("append", of(TOPIC, empty, &[("cleanup.policy", 2, Some("compact"))])),
        ("append what is there", of(TOPIC, empty, &[("cleanup.policy", 2, Some("compact,delete"))])),
        ("subtract", of(TOPIC, empty, &[("cleanup.policy", 3, Some("delete"))])),
        ("subtract all", of(TOPIC, empty, &[("cleanup.policy", 3, Some("compact"))])),
        ("back", of(TOPIC, empty, &[("cleanup.policy", 1, None)])),
        ("append to what is no list", of(TOPIC, empty, &[("retention.ms", 2, Some("1"))])),
        ("subtract from what is no list", of(TOPIC, empty, &[("retention.ms", 3, Some("1"))])),
        ("an unknown operation", of(TOPIC, empty, &[("retention.ms", 9, Some("1"))])),
        ("a key twice", of(TOPIC, empty, &[("retention.ms", 0, Some("7000")), ("retention.ms", 1, None)])),
        ("null values", of(TOPIC, empty, &[("retention.ms", 0, None), ("cleanup.policy", 2, None)])),
        ("an unknown key", of(TOPIC, empty, &[("no.such", 0, Some("7000"))])),
        ("delete an unknown key", of(TOPIC, empty, &[("no.such", 1, None)])),
        ("a bad value", of(TOPIC, empty, &[("retention.ms", 0, Some("x"))])),
        ("a value out of range", of(TOPIC, empty, &[("retention.ms", 0, Some("-2"))])),
        ("a bad choice", of(TOPIC, empty, &[("cleanup.policy", 0, Some("burn"))])),
        ("an empty choice", of(TOPIC, empty, &[("cleanup.policy", 0, Some(""))])),
        ("no such topic", of(TOPIC, "nowhere", &[("retention.ms", 0, Some("7000"))])),
        ("a name that none can have", of(TOPIC, "a b", &[("retention.ms", 0, Some("1"))])),
        ("no name", of(TOPIC, "", &[])),
        ("a broker", of(BROKER, "1", &[("num.network.threads", 0, Some("4"))])),
        ("a broker back", of(BROKER, "1", &[("num.network.threads", 1, None)])),
        ("all brokers", of(BROKER, "", &[("message.max.bytes", 0, Some("1048588"))])),
        ("all brokers back", of(BROKER, "", &[("message.max.bytes", 1, None)])),
        ("a key that can't change", of(BROKER, "1", &[("node.id", 0, Some("4"))])),
        ("a key of one broker for all", of(BROKER, "", &[("listeners", 0, Some("PLAINTEXT://:1"))])),
        ("an unknown key of a broker", of(BROKER, "1", &[("no.such", 0, Some("4"))])),
        ("an unknown key of a broker back", of(BROKER, "1", &[("no.such", 1, None)])),
        ("a bad value of a broker", of(BROKER, "", &[("message.max.bytes", 0, Some("x"))])),
        ("another broker", of(BROKER, "77", &[])),
        ("not a broker", of(BROKER, "x", &[])),
        ("an unknown kind", of(0, "x", &[])),
        ("a kind of the future", of(99, "x", &[])),
    ];
    let mut twice = of(TOPIC, world.there, &[]);
    twice.resources.push(twice.resources[0].clone());
    requests.push(("a resource twice", twice));
    requests
}

fn describe_cluster(version: i16) -> Named<DescribeClusterRequest> {
    let request = DescribeClusterRequest::default();
    let mut requests = vec![
        ("the cluster", request.clone()),
        ("authorized operations", request.clone().with_include_cluster_authorized_operations(true)),
    ];
    if version >= 1 {
        requests.push(("controllers", request.clone().with_endpoint_type(2)));
        requests.push(("an unknown endpoint type", request.clone().with_endpoint_type(9)));
    }
    if version >= 2 {
        requests.push(("fenced brokers too", request.with_include_fenced_brokers(true)));
    }
    requests
}

fn describe_topic_partitions(world: &World) -> Named<DescribeTopicPartitionsRequest> {
    let of = |names: &[&str], limit, cursor: Option<(&str, i32)>| {
        let wanted =
            |name: &&str| describe_topic_partitions_request::TopicRequest::default().with_name(topic(name));
        let cursor = cursor.map(|(name, partition)| {
            let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(topic(name));
            cursor.with_partition_index(partition)
        });
        DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(wanted).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor)
    };
    let there = world.there;
    vec![
        ("topics", of(&[there, "empty"], 2000, None)),
        ("one partition", of(&[there, "empty"], 1, None)),
        ("two partitions", of(&[there, "empty"], 2, None)),
        ("no partition", of(&[there], 0, None)),
        ("a negative limit", of(&[there], -1, None)),
        ("from a cursor", of(&[there, "empty"], 2000, Some((there, 1)))),
        ("from behind a topic", of(&[there, "empty"], 2000, Some((there, 9)))),
        ("a cursor on another topic", of(&[there], 2000, Some(("zzz", 0)))),
        ("a cursor before the topic", of(&[there], 2000, Some(("aaa", 0)))),
        ("a negative cursor", of(&[there], 2000, Some((there, -1)))),
        ("no such topic", of(&["nowhere", there], 2000, None)),
        ("no such topic and a limit", of(&["nowhere", there, "aaa", "zzz"], 1, None)),
        ("a name that none can have", of(&["a b"], 2000, None)),
        ("an internal topic", of(&["__consumer_offsets"], 2000, None)),
    ]
}

/// A group that every version of every group API asks about.
const GROUP: &str = "a-group";

fn member(protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|name| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text(name));
        // A subscription to "there".
        protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x05there\xff\xff\xff\xff"))
    });
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(1)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

fn join_group(version: i16) -> Named<JoinGroupRequest> {
    let range = || member(&["range"]);
    let mut requests = vec![
        ("an unknown member", range().with_member_id(text("nobody"))),
        ("no group", range().with_group_id(GroupId::default())),
        ("a session that is too short", range().with_session_timeout_ms(1)),
        ("a session that is too long", range().with_session_timeout_ms(i32::MAX)),
        ("no protocol", member(&[])),
    ];
    if version >= 4 {
        // Before version 4 a new member is in the group at once, and waits for the others.
        requests.push(("a new member", range()));
    }
    if version >= 5 {
        let unknown =
            range().with_member_id(text("nobody")).with_group_instance_id(Some(text("an-instance")));
        requests.push(("an unknown static member", unknown));
    }
    if version >= 5 {
        let long = StrBytes::from_string("x".repeat(32_767));
        requests.push(("a group id of 32 KiB", range().with_group_id(GroupId(long.clone()))));
    }
    requests
}

fn sync_group(version: i16) -> Named<SyncGroupRequest> {
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(1)
        .with_member_id(text("nobody"));
    let named = match version >= 5 {
        true => {
            request.clone().with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
        }
        false => request.clone(),
    };
    vec![
        ("an unknown member", named.clone()),
        ("no protocol", request),
        ("no group", named.clone().with_group_id(GroupId::default())),
        ("an unknown group", named.with_group_id(GroupId(text("no-group")))),
    ]
}

fn heartbeat(version: i16) -> Named<HeartbeatRequest> {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(1)
        .with_member_id(text("nobody"));
    let mut requests = vec![
        ("an unknown member", request.clone()),
        ("no group", request.clone().with_group_id(GroupId::default())),
        ("an unknown group", request.clone().with_group_id(GroupId(text("no-group")))),
    ];
    if version >= 3 {
        requests
            .push(("an unknown static member", request.with_group_instance_id(Some(text("an-instance")))));
    }
    requests
}

fn leave_group(version: i16) -> Named<LeaveGroupRequest> {
    let request = LeaveGroupRequest::default().with_group_id(GroupId(text(GROUP)));
    if version < 3 {
        let request = request.with_member_id(text("nobody"));
        return vec![
            ("an unknown member", request.clone()),
            ("an unknown group", request.with_group_id(GroupId(text("no-group")))),
        ];
    }
    let member = leave_group_request::MemberIdentity::default().with_member_id(text("nobody"));
    let instance =
        leave_group_request::MemberIdentity::default().with_group_instance_id(Some(text("nobody")));
    let request = request.with_members(vec![member, instance]);
    vec![
        ("unknown members", request.clone()),
        ("no members", request.clone().with_members(Vec::new())),
        ("no group", request.clone().with_group_id(GroupId::default())),
        ("an unknown group", request.with_group_id(GroupId(text("no-group")))),
    ]
}

/// Offset 1 of each partition, with metadata of a length.
pub fn commit_request(
    version: i16,
    world: &World,
    partitions: &[i32],
    metadata: usize,
) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = |partition_index: &i32| OffsetCommitRequestPartition {
        partition_index: *partition_index,
        committed_offset: 1,
        committed_metadata: Some(StrBytes::from_string("m".repeat(metadata))),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: if version < 10 { text(world.there) } else { StrBytes::default() },
        topic_id: if version < 10 { Uuid::nil() } else { world.id },
        partitions: partitions.iter().map(partition).collect(),
    };
    OffsetCommitRequest { group_id: text(GROUP), topics: vec![topic], ..OffsetCommitRequest::default() }
}

fn offset_commit(version: i16, world: &World) -> Named<OffsetCommitRequest> {
    let request = || commit_request(version, world, &[0, 1], 0);
    let elsewhere = World { there: "nowhere", id: Uuid::from_u128(77), ..world.clone() };
    let mut requests = vec![
        ("without a group's members", request()),
        ("no such partition", commit_request(version, world, &[0, 9, -1], 0)),
        ("no such topic", commit_request(version, &elsewhere, &[0], 0)),
        ("metadata that is too long", commit_request(version, world, &[0], 4097)),
        (
            "an unknown member",
            OffsetCommitRequest { member_id: text("nobody"), generation_id_or_member_epoch: 3, ..request() },
        ),
        (
            "an unknown group",
            OffsetCommitRequest { group_id: text("no-group"), generation_id_or_member_epoch: 3, ..request() },
        ),
        ("no group", OffsetCommitRequest { group_id: StrBytes::default(), ..request() }),
        ("no topics", OffsetCommitRequest { topics: Vec::new(), ..request() }),
        ("the same topic twice", {
            let mut twice = request();
            twice.topics.push(twice.topics[0].clone());
            twice
        }),
    ];
    let long = StrBytes::from_string("x".repeat(32_767));
    requests.push(("a group id of 32 KiB", OffsetCommitRequest { group_id: long, ..request() }));
    if version <= 4 {
        requests.push(("a retention time", OffsetCommitRequest { retention_time_ms: 1_000, ..request() }));
    }
    requests
}

/// The offsets of partitions, or of everything.
pub fn fetch_offsets(version: i16, world: &World, partitions: Option<&[i32]>) -> OffsetFetchRequest {
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    let group_id = text(GROUP);
    if version >= 8 {
        let topic = |partitions: &[i32]| OffsetFetchRequestTopics {
            name: if version < 10 { text(world.there) } else { StrBytes::default() },
            topic_id: if version < 10 { Uuid::nil() } else { world.id },
            partition_indexes: partitions.to_vec(),
        };
        let topics = partitions.map(|partitions| vec![topic(partitions)]);
        let group = OffsetFetchRequestGroup { group_id, topics, ..OffsetFetchRequestGroup::default() };
        return OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    }
    let topic = |partitions: &[i32]| OffsetFetchRequestTopic {
        name: text(world.there),
        partition_indexes: partitions.to_vec(),
    };
    let topics = partitions.map(|partitions| vec![topic(partitions)]);
    OffsetFetchRequest { group_id, topics, ..OffsetFetchRequest::default() }
}

fn offset_fetch(version: i16, world: &World) -> Named<OffsetFetchRequest> {
    let elsewhere = World { there: "nowhere", id: Uuid::from_u128(77), ..world.clone() };
    let mut requests = vec![
        ("two partitions", fetch_offsets(version, world, Some(&[0, 1]))),
        ("no such partition", fetch_offsets(version, world, Some(&[9, -1]))),
        ("no such topic", fetch_offsets(version, &elsewhere, Some(&[0]))),
    ];
    if version >= 2 {
        requests.push(("everything", fetch_offsets(version, world, None)));
    }
    if version >= 7 {
        let stable = fetch_offsets(version, world, Some(&[0]));
        requests.push(("stable ones", OffsetFetchRequest { require_stable: true, ..stable }));
    }
    if version >= 8 {
        let mut two = fetch_offsets(version, world, Some(&[0]));
        two.groups.push(offset_fetch_request::OffsetFetchRequestGroup {
            group_id: text("no-group"),
            ..two.groups[0].clone()
        });
        requests.push(("two groups", two));
    }
    requests
}

fn offset_delete(world: &World) -> Named<OffsetDeleteRequest> {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let of = |group: &str, name: &str| {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = OffsetDeleteRequestTopic::default().with_name(topic(name));
        OffsetDeleteRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(vec![topic.with_partitions(vec![partition(1), partition(9)])])
    };
    vec![
        ("a partition", of(GROUP, world.there)),
        ("no such topic", of(GROUP, "nowhere")),
        ("an unknown group", of("no-group", world.there)),
        ("no group", of("", world.there)),
    ]
}

fn describe_groups(version: i16) -> Named<DescribeGroupsRequest> {
    let group = |id: &str| GroupId(text(id));
    let request =
        DescribeGroupsRequest::default().with_groups(vec![group(GROUP), group("no-group"), group("")]);
    let mut requests = vec![("three groups", request.clone()), ("none", DescribeGroupsRequest::default())];
    if version >= 3 {
        requests.push(("with what may be done", request.with_include_authorized_operations(true)));
    }
    requests
}

fn list_groups(version: i16) -> Named<ListGroupsRequest> {
    let mut requests = vec![("all", ListGroupsRequest::default())];
    if version >= 4 {
        let states = vec![text("empty"), text("Stable"), text("no state")];
        requests.push(("by state", ListGroupsRequest::default().with_states_filter(states)));
    }
    if version >= 5 {
        let types = vec![text("Classic"), text("no type")];
        requests.push(("by type", ListGroupsRequest::default().with_types_filter(types)));
    }
    requests
}

fn delete_groups() -> Named<DeleteGroupsRequest> {
    let groups = ["no-group", "", "no-group"].map(|id| GroupId(text(id)));
    vec![("groups that are not there", DeleteGroupsRequest::default().with_groups_names(groups.into()))]
}
