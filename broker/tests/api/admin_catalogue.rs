//! For every API of administrators requests in any of its versions: some that are fine, and some that are not.

use super::{
    bed::{text, topic},
    catalogue::{Named, World},
};
use bytes::Bytes;
use thalweg_protocol::messages::*;
use uuid::Uuid;

pub fn list_config_resources(version: i16) -> Named<ListConfigResourcesRequest> {
    let of = |kinds: &[i8]| ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
    match version {
        0 => vec![("all", of(&[]))],
        _ => vec![
            ("all", of(&[])),
            ("topics and groups", of(&[2, 32])),
            ("brokers", of(&[4])),
            ("loggers", of(&[8])),
            ("an unknown kind", of(&[0])),
            ("a kind of the future", of(&[99])),
        ],
    }
}

pub fn describe_log_dirs(world: &World) -> Named<DescribeLogDirsRequest> {
    let of = |topics: &[(&str, &[i32])]| {
        let topic = |(name, partitions): &(&str, &[i32])| describe_log_dirs_request::DescribableLogDirTopic {
            topic: text(name),
            partitions: partitions.to_vec(),
        };
        DescribeLogDirsRequest { topics: Some(topics.iter().map(topic).collect()) }
    };
    vec![
        ("all", DescribeLogDirsRequest { topics: None }),
        ("none", of(&[])),
        ("a partition", of(&[(world.there, &[1])])),
        ("a partition twice", of(&[(world.there, &[1, 1]), (world.there, &[1])])),
        ("no such partition", of(&[(world.there, &[9, -1])])),
        ("no such topic", of(&[("nowhere", &[0])])),
    ]
}

pub fn alter_replica_log_dirs(world: &World) -> Named<AlterReplicaLogDirsRequest> {
    let of = |path: &str, name: &str, partition: i32| {
        let wanted = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default();
        let wanted = wanted.with_name(topic(name)).with_partitions(vec![partition]);
        let dir = alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(text(path));
        AlterReplicaLogDirsRequest::default().with_dirs(vec![dir.with_topics(vec![wanted])])
    };
    let long = "n".repeat(249);
    vec![
        ("no such directory", of("/nowhere", world.there, 0)),
        ("no such topic", of("/nowhere", "nowhere", 0)),
        ("a name that is too long", of("/nowhere", &long, 0)),
        ("nothing", AlterReplicaLogDirsRequest::default()),
    ]
}

pub fn elect_leaders(version: i16, world: &World) -> Named<ElectLeadersRequest> {
    let of = |name: &str, partitions: &[i32]| {
        let wanted = elect_leaders_request::TopicPartitions::default().with_topic(topic(name));
        let wanted = wanted.with_partitions(partitions.to_vec());
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![wanted])).with_timeout_ms(1000)
    };
    let mut requests = vec![
        ("partitions", of(world.there, &[0, 1])),
        ("no such partition", of(world.there, &[9])),
        ("no such topic", of("nowhere", &[0])),
        ("all", ElectLeadersRequest::default().with_topic_partitions(None)),
    ];
    if version >= 1 {
        requests.push(("an unclean election", of(world.there, &[0]).with_election_type(1)));
        requests.push(("an unknown election", of(world.there, &[0]).with_election_type(9)));
    }
    requests
}

pub fn alter_partition_reassignments(
    version: i16,
    world: &World,
) -> Named<AlterPartitionReassignmentsRequest> {
    let of = |name: &str, index: i32, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
        let partition = alter_partition_reassignments_request::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas);
        let wanted = alter_partition_reassignments_request::ReassignableTopic::default();
        let wanted = wanted.with_name(topic(name)).with_partitions(vec![partition]);
        AlterPartitionReassignmentsRequest::default().with_topics(vec![wanted])
    };
    let mut requests = vec![
        ("where it is", of(world.there, 0, Some(&[1]))),
        ("back", of(world.there, 0, None)),
        ("to nobody", of(world.there, 0, Some(&[]))),
        ("to another broker", of(world.there, 0, Some(&[7]))),
        ("to the same broker twice", of(world.there, 0, Some(&[1, 1]))),
        ("no such partition", of(world.there, 9, Some(&[1]))),
        ("no such topic", of("nowhere", 0, Some(&[1]))),
    ];
    if version >= 1 {
        let request = of(world.there, 0, Some(&[1])).with_allow_replication_factor_change(false);
        requests.push(("as many replicas", request));
    }
    requests
}

pub fn list_partition_reassignments(world: &World) -> Named<ListPartitionReassignmentsRequest> {
    let wanted = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
        .with_name(topic(world.there))
        .with_partition_indexes(vec![0]);
    let of = |topics| ListPartitionReassignmentsRequest::default().with_topics(topics);
    vec![("all", of(None)), ("of a partition", of(Some(vec![wanted])))]
}

pub fn describe_quorum() -> Named<DescribeQuorumRequest> {
    let of = |name: &str, index: i32| {
        let partition = describe_quorum_request::PartitionData::default().with_partition_index(index);
        let wanted = describe_quorum_request::TopicData::default().with_topic_name(topic(name));
        DescribeQuorumRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])])
    };
    vec![
        ("the metadata", of("__cluster_metadata", 0)),
        ("another partition", of("__cluster_metadata", 1)),
        ("another topic", of("there", 0)),
    ]
}

pub fn update_features(version: i16) -> Named<UpdateFeaturesRequest> {
    let of = |name: &str, level: i16, kind: i8| {
        let update = update_features_request::FeatureUpdateKey::default().with_feature(text(name));
        let update = update.with_max_version_level(level);
        let update = if version >= 1 { update.with_upgrade_type(kind) } else { update };
        UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_timeout_ms(1000)
    };
    let mut requests = vec![
        ("the level in force", of("metadata.version", 30, 1)),
        ("an unknown feature", of("nope.version", 1, 1)),
        ("a level that is too high", of("metadata.version", 99, 1)),
        ("a level that is too low", of("metadata.version", -1, 1)),
        ("nothing", UpdateFeaturesRequest::default()),
    ];
    if version >= 1 {
        requests.push(("a downgrade", of("metadata.version", 29, 2)));
        requests.push(("an unsafe downgrade", of("metadata.version", 29, 3)));
        requests.push(("an unknown kind", of("metadata.version", 29, 9)));
        let only = of("eligible.leader.replicas.version", 0, 2).with_validate_only(true);
        requests.push(("a downgrade that is only checked", only));
    }
    requests
}

pub fn unregister_broker() -> Named<UnregisterBrokerRequest> {
    vec![("another broker", UnregisterBrokerRequest::default().with_broker_id(BrokerId(77)))]
}

pub fn add_raft_voter() -> Named<AddRaftVoterRequest> {
    let listener =
        |name: &str| add_raft_voter_request::Listener { name: text(name), host: text("127.0.0.1"), port: 9 };
    let request = AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: 1000,
        voter_id: 1,
        voter_directory_id: Uuid::from_u128(7),
        listeners: vec![listener("CONTROLLER")],
        ..AddRaftVoterRequest::default()
    };
    vec![
        ("a voter that is there", request.clone()),
        ("another cluster", AddRaftVoterRequest { cluster_id: Some(text("other")), ..request.clone() }),
        ("no directory", AddRaftVoterRequest { voter_directory_id: Uuid::nil(), ..request.clone() }),
    ]
}

pub fn remove_raft_voter() -> Named<RemoveRaftVoterRequest> {
    let request = RemoveRaftVoterRequest::default().with_cluster_id(None).with_voter_id(1);
    let request = request.with_voter_directory_id(Uuid::from_u128(7));
    vec![
        ("a voter that isn't there", request.clone()),
        ("another cluster", request.clone().with_cluster_id(Some(text("other")))),
        ("no directory", request.with_voter_directory_id(Uuid::nil())),
    ]
}

/// A filter's component: kind, how it matches, name.
pub fn component(
    kind: &str,
    match_type: i8,
    name: Option<&str>,
) -> describe_client_quotas_request::ComponentData {
    describe_client_quotas_request::ComponentData::default()
        .with_entity_type(text(kind))
        .with_match_type(match_type)
        .with_match(name.map(text))
}

pub fn describe_client_quotas() -> Named<DescribeClientQuotasRequest> {
    let of = |components: Vec<_>| DescribeClientQuotasRequest::default().with_components(components);
    vec![
        ("all", of(vec![])),
        ("a user", of(vec![component("user", 0, Some("nobody"))])),
        ("the default user", of(vec![component("user", 1, None)])),
        ("any client", of(vec![component("client-id", 2, None)]).with_strict(true)),
        ("a user without name", of(vec![component("user", 0, None)])),
        ("a default with a name", of(vec![component("user", 1, Some("u"))])),
        ("any with a name", of(vec![component("user", 2, Some("u"))])),
        ("an unknown match", of(vec![component("user", 9, None)])),
        ("an unknown kind", of(vec![component("planet", 0, Some("u"))])),
        ("no kind", of(vec![component("", 0, Some("u"))])),
        ("a kind twice", of(vec![component("user", 1, None), component("user", 2, None)])),
        ("an address and a user", of(vec![component("ip", 2, None), component("user", 2, None)])),
    ]
}

/// An alteration of an entity's quotas: its parts, and each key with its value, none to remove it.
pub fn alteration(
    entity: &[(&str, Option<&str>)],
    ops: &[(&str, Option<f64>)],
) -> alter_client_quotas_request::EntryData {
    let entity = entity.iter().map(|(kind, name)| {
        let part = alter_client_quotas_request::EntityData::default().with_entity_type(text(kind));
        part.with_entity_name(name.map(text))
    });
    let ops = ops.iter().map(|(key, value)| {
        let op = alter_client_quotas_request::OpData::default().with_key(text(key));
        op.with_value(value.unwrap_or(0.0)).with_remove(value.is_none())
    });
    alter_client_quotas_request::EntryData::default().with_entity(entity.collect()).with_ops(ops.collect())
}

pub fn alter_client_quotas(version: i16, world: &World) -> Named<AlterClientQuotasRequest> {
    let of = |entries: Vec<_>| AlterClientQuotasRequest::default().with_entries(entries);
    let user = format!("user-{version}-{}", world.round);
    let one = |key: &str, value| of(vec![alteration(&[("user", Some(&user))], &[(key, Some(value))])]);
    let good = alteration(&[("user", Some(&user))], &[("producer_byte_rate", Some(1024.0))]);
    vec![
        ("a user", of(vec![good.clone()])),
        ("a user again", of(vec![good.clone()])),
        (
            "only checked",
            of(vec![alteration(&[("client-id", None)], &[("producer_byte_rate", Some(1.0))])])
                .with_validate_only(true),
        ),
        ("removed", of(vec![alteration(&[("user", Some(&user))], &[("producer_byte_rate", None)])])),
        ("an unknown quota removed", of(vec![alteration(&[("user", Some(&user))], &[("nope", None)])])),
        ("an unknown quota", one("nope", 1.0)),
        ("one of addresses", one("connection_creation_rate", 1.0)),
        ("zero", one("producer_byte_rate", 0.0)),
        ("a fraction", one("producer_byte_rate", 1.5)),
        ("too much", one("producer_byte_rate", 1e300)),
        ("an unknown kind", of(vec![alteration(&[("planet", None)], &[("producer_byte_rate", Some(1.0))])])),
        ("no entity", of(vec![alteration(&[], &[("producer_byte_rate", Some(1.0))])])),
        ("an address and a user", of(vec![alteration(&[("ip", Some("127.0.0.1")), ("user", None)], &[])])),
        (
            "too many connections",
            of(vec![alteration(&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", Some(3e9))])]),
        ),
        ("nothing", of(vec![])),
    ]
}

pub fn describe_user_scram_credentials() -> Named<DescribeUserScramCredentialsRequest> {
    let of = |users: &[&str]| {
        let user =
            |name: &&str| describe_user_scram_credentials_request::UserName::default().with_name(text(name));
        DescribeUserScramCredentialsRequest::default().with_users(Some(users.iter().map(user).collect()))
    };
    vec![
        ("all", DescribeUserScramCredentialsRequest::default().with_users(None)),
        ("nobody", of(&["nobody"])),
        ("a user twice", of(&["nobody", "nobody"])),
    ]
}

/// A new credential.
pub fn upsertion(
    name: &str,
    mechanism: i8,
    iterations: i32,
) -> alter_user_scram_credentials_request::ScramCredentialUpsertion {
    alter_user_scram_credentials_request::ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(Bytes::from_static(b"salt"))
        .with_salted_password(Bytes::from_static(b"hashed often"))
}

/// A credential to be taken away.
pub fn deletion(name: &str, mechanism: i8) -> alter_user_scram_credentials_request::ScramCredentialDeletion {
    let deletion = alter_user_scram_credentials_request::ScramCredentialDeletion::default();
    deletion.with_name(text(name)).with_mechanism(mechanism)
}

pub fn alter_user_scram_credentials() -> Named<AlterUserScramCredentialsRequest> {
    let set = |upsertions: Vec<_>| AlterUserScramCredentialsRequest::default().with_upsertions(upsertions);
    let removed = |deletions: Vec<_>| AlterUserScramCredentialsRequest::default().with_deletions(deletions);
    vec![
        ("a user", set(vec![upsertion("ann", 1, 4096)])),
        ("a user twice", set(vec![upsertion("ann", 1, 4096), upsertion("ann", 2, 4096)])),
        ("too few iterations", set(vec![upsertion("ann", 1, 4095)])),
        ("too many iterations", set(vec![upsertion("ann", 1, 16_385)])),
        ("an unknown mechanism", set(vec![upsertion("ann", 3, 4096)])),
        ("no name", set(vec![upsertion("", 1, 4096)])),
        ("set and removed", set(vec![upsertion("ann", 1, 4096)]).with_deletions(vec![deletion("ann", 1)])),
        ("removed", removed(vec![deletion("ann", 1)])),
        ("removed again", removed(vec![deletion("ann", 1)])),
        ("an unknown mechanism removed", removed(vec![deletion("ann", 0)])),
        ("nothing", AlterUserScramCredentialsRequest::default()),
    ]
}

pub fn describe_acls() -> Named<DescribeAclsRequest> {
    let request = DescribeAclsRequest::default().with_resource_type_filter(2).with_pattern_type_filter(3);
    vec![("of topics", request.with_operation(1).with_permission_type(1))]
}

pub fn create_acls() -> Named<CreateAclsRequest> {
    let creation = create_acls_request::AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("there"))
        .with_resource_pattern_type(3)
        .with_principal(text("User:ann"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3);
    vec![("two", CreateAclsRequest::default().with_creations(vec![creation; 2]))]
}

pub fn delete_acls() -> Named<DeleteAclsRequest> {
    let filter = delete_acls_request::DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_pattern_type_filter(3)
        .with_operation(1)
        .with_permission_type(1);
    vec![("two", DeleteAclsRequest::default().with_filters(vec![filter; 2]))]
}

pub fn create_delegation_token(version: i16) -> Named<CreateDelegationTokenRequest> {
    let request = CreateDelegationTokenRequest::default().with_max_lifetime_ms(-1);
    match version {
        ..3 => vec![("a token", request)],
        _ => vec![
            ("a token", request.clone().with_owner_principal_name(None).with_owner_principal_type(None)),
            (
                "a token for another",
                request
                    .with_owner_principal_type(Some(text("User")))
                    .with_owner_principal_name(Some(text("ann"))),
            ),
        ],
    }
}
