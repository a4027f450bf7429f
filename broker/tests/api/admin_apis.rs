//! What administrators store and ask, beyond topics and brokers' settings. The expectations are answers of Kafka 4.3.1.

use super::{
    admin_catalogue::{alteration, component, deletion, upsertion},
    bed::{Bed, answer, rest_of, text, topic},
    catalogue::{batch, produce_request},
    versions::furnished,
};
use thalweg_protocol::{ApiKey, RequestHeader, messages::*};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

type Told = (i16, Option<String>);

fn told(code: i16, message: Option<&StrBytes>) -> Told {
    (code, message.map(ToString::to_string))
}

fn refused(code: i16, message: &str) -> Told {
    (code, Some(message.to_owned()))
}

const DONE: Told = (0, None);

async fn change(bed: &Bed, kind: i8, name: &str, changes: &[(&str, i8, &str)]) -> Told {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let changes = changes.iter().map(|(name, operation, value)| {
        let config = AlterableConfig::default().with_name(text(name)).with_config_operation(*operation);
        config.with_value((*operation != DELETE).then(|| text(value)))
    });
    let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    let resource = resource.with_configs(changes.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = answer!(bed.ask(1, request), IncrementalAlterConfigs);
    told(response.responses[0].error_code, response.responses[0].error_message.as_ref())
}

/// A line for each value that isn't a default: `name=value from: synonyms`.
async fn set_values(bed: &Bed, kind: i8, name: &str) -> Vec<String> {
    let wanted = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![wanted]).with_include_synonyms(true);
    let response = answer!(bed.ask(4, request), DescribeConfigs);
    assert_eq!(response.results[0].error_code, 0, "{response:?}");
    let set = response.results[0].configs.iter().filter(|config| config.config_source != 5);
    let line = |config: &describe_configs_response::DescribeConfigsResourceResult| {
        let synonym = |synonym: &describe_configs_response::DescribeConfigsSynonym| {
            let value = synonym.value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{}={value} ({})", synonym.name, synonym.source)
        };
        let synonyms: Vec<_> = config.synonyms.iter().map(synonym).collect();
        let value = config.value.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}={value}: {}", config.name, synonyms.join(", "))
    };
    set.map(line).collect()
}

async fn resources(bed: &Bed, version: i16, kinds: &[i8]) -> (i16, Vec<(i8, String)>) {
    let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
    let response = answer!(bed.ask(version, request), ListConfigResources);
    let listed = response.config_resources.iter();
    (response.error_code, listed.map(|one| (one.resource_type, one.resource_name.to_string())).collect())
}

#[tokio::test]
async fn groups_have_settings_that_outlive_the_broker() {
    let (bed, _) = furnished().await;
    let both =
        [("consumer.heartbeat.interval.ms", SET, "6000"), ("consumer.session.timeout.ms", SET, "50000")];
    assert_eq!(change(&bed, GROUP, "g", &both).await, DONE);
    let bed = bed.restarted().await;
    assert_eq!(
        set_values(&bed, GROUP, "g").await,
        [
            "consumer.heartbeat.interval.ms=6000: consumer.heartbeat.interval.ms=6000 (8), group.consumer.heartbeat.interval.ms=5000 (5)",
            "consumer.session.timeout.ms=50000: consumer.session.timeout.ms=50000 (8), group.consumer.session.timeout.ms=45000 (5)",
        ]
    );
    let group = bed.group_config("g");
    assert_eq!((group.consumer_heartbeat_interval_ms, group.consumer_session_timeout_ms), (6000, 50_000));
    assert_eq!(bed.group_config("other").consumer_heartbeat_interval_ms, 5000);
    assert_eq!(resources(&bed, 1, &[GROUP]).await, (0, vec![(GROUP, "g".into())]));
    let gone = [("consumer.heartbeat.interval.ms", DELETE, ""), ("consumer.session.timeout.ms", DELETE, "")];
    assert_eq!(change(&bed, GROUP, "g", &gone).await, DONE);
    assert_eq!(resources(&bed, 1, &[GROUP]).await, (0, vec![]));
    assert_eq!(set_values(&bed, GROUP, "g").await, [""; 0]);
}

#[tokio::test]
async fn settings_of_groups_are_refused_in_kafkas_words() {
    let (bed, _) = furnished().await;
    let interval = "consumer.heartbeat.interval.ms";
    for (name, key, operation, value, expected) in [
        ("", interval, SET, "6000", refused(42, "Default group resources are not allowed.")),
        ("g", "nope", SET, "0", refused(40, "Unknown group config name: nope")),
        (
            "g",
            interval,
            SET,
            "1",
            refused(
                40,
                "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms",
            ),
        ),
        (
            "g",
            interval,
            APPEND,
            "1",
            refused(40, "Can't APPEND to key consumer.heartbeat.interval.ms because its type is not LIST."),
        ),
    ] {
        assert_eq!(change(&bed, GROUP, name, &[(key, operation, value)]).await, expected);
    }
    assert_eq!(resources(&bed, 1, &[GROUP]).await, (0, vec![]), "nothing was stored");
}

#[tokio::test]
async fn subscriptions_to_metrics_are_stored_and_checked() {
    let (bed, _) = furnished().await;
    let good = [("interval.ms", SET, "1000"), ("metrics", SET, "a.b"), ("match", SET, "client_id=x")];
    assert_eq!(change(&bed, METRICS, "m", &good).await, DONE);
    assert_eq!(change(&bed, METRICS, "m", &[("metrics", APPEND, "c")]).await, DONE);
    assert_eq!(change(&bed, METRICS, "other", &[("metrics", SET, "a,b,a")]).await, DONE);
    assert_eq!(set_values(&bed, METRICS, "other").await, ["metrics=a,b: metrics=a,b (7)"]);
    assert_eq!(change(&bed, METRICS, "other", &[("metrics", DELETE, "")]).await, DONE);
    let bed = bed.restarted().await;
    assert_eq!(
        set_values(&bed, METRICS, "m").await,
        [
            "interval.ms=1000: interval.ms=1000 (7)",
            "match=client_id=x: match=client_id=x (7)",
            "metrics=a.b,c: metrics=a.b,c (7)",
        ]
    );
    assert_eq!(resources(&bed, 0, &[]).await, (0, vec![(METRICS, "m".into())]), "all that version 0 knows");
    for (name, key, value, expected) in [
        ("", "interval.ms", "1000", refused(42, "Subscription name can't be empty")),
        ("m", "nope", "1", refused(42, "Unknown client metrics configuration: nope")),
        ("m", "match", "foo", refused(40, "Illegal client matching pattern: foo")),
        (
            "m",
            "interval.ms",
            "1",
            refused(42, "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)"),
        ),
    ] {
        assert_eq!(change(&bed, METRICS, name, &[(key, SET, value)]).await, expected);
    }
}

#[tokio::test]
async fn loggers_have_levels_that_change_at_once() {
    let (bed, _) = furnished().await;
    let level = async |bed: &Bed| {
        let all = set_values(bed, LOGGER, "1").await;
        all.into_iter().find(|line| line.starts_with("thalweg_wal=")).expect("a part of the program")
    };
    assert_eq!(level(&bed).await, "thalweg_wal=ERROR: ", "no filter was given in this test");
    assert_eq!(
        change(&bed, LOGGER, "1", &[("root", SET, "INFO"), ("thalweg_wal", SET, "DEBUG")]).await,
        DONE
    );
    assert_eq!(level(&bed).await, "thalweg_wal=DEBUG: ");
    assert_eq!(change(&bed, LOGGER, "1", &[("thalweg_wal", DELETE, "")]).await, DONE);
    assert_eq!(level(&bed).await, "thalweg_wal=INFO: ");
    let levels = "Cannot set the log level of root to WRONG as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN";
    for (name, key, operation, value, expected) in [
        ("1", "root", SET, "WRONG", refused(40, levels)),
        ("1", "root", DELETE, "", refused(42, "Removing the log level of the root logger is not allowed")),
        (
            "1",
            "kafka.server.KafkaApis",
            SET,
            "DEBUG",
            refused(40, "Logger kafka.server.KafkaApis does not exist!"),
        ),
        (
            "1",
            "root",
            APPEND,
            "INFO",
            refused(42, "APPEND operation is not allowed for the BROKER_LOGGER resource"),
        ),
        ("7", "root", SET, "INFO", refused(42, "Unexpected node id. Expected 1, but received 7")),
        ("", "root", SET, "INFO", refused(42, "Node id must be an integer, but it is: ")),
    ] {
        assert_eq!(change(&bed, LOGGER, name, &[(key, operation, value)]).await, expected);
    }
}

#[tokio::test]
async fn everything_that_has_settings_is_listed() {
    let (bed, _) = furnished().await;
    let all = [(LOGGER, "1"), (BROKER, "1"), (TOPIC, "col.lide"), (TOPIC, "empty"), (TOPIC, "there")];
    let all = all.map(|(kind, name)| (kind, name.to_owned())).to_vec();
    assert_eq!(resources(&bed, 1, &[]).await, (0, all));
    assert_eq!(resources(&bed, 1, &[BROKER]).await, (0, vec![(BROKER, "1".into())]));
    assert_eq!(resources(&bed, 1, &[TOPIC, 0]).await, (35, vec![]));
}

#[tokio::test]
async fn there_is_one_min_insync_replicas_for_all() {
    let (bed, world) = furnished().await;
    let key = "min.insync.replicas";
    let of_all = "min.insync.replicas=1: min.insync.replicas=1 (3)";
    assert_eq!(set_values(&bed, BROKER, "").await, [of_all]);
    let of_topic = "min.insync.replicas=1: min.insync.replicas=1 (3), min.insync.replicas=1 (5)";
    assert_eq!(set_values(&bed, TOPIC, world.there).await, [of_topic]);
    let kept = refused(40, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.");
    assert_eq!(change(&bed, BROKER, "", &[(key, DELETE, "")]).await, kept);
    let one = refused(40, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.");
    assert_eq!(change(&bed, BROKER, "1", &[(key, SET, "1")]).await, one);
    assert_eq!(change(&bed, BROKER, "", &[(key, SET, "2")]).await, DONE);
    let bed = bed.restarted().await;
    let request = CreateTopicsRequest::default().with_topics(vec![super::catalogue::new_topic("new", 1, 1)]);
    let created = answer!(bed.ask(7, request), CreateTopics);
    let configs = created.topics[0].configs.as_ref().expect("they are told");
    let told = configs.iter().find(|config| config.name == *key).expect("every key is told");
    assert_eq!((told.value.as_deref(), told.config_source), (Some("2"), 3));
    let two = "min.insync.replicas=2: min.insync.replicas=2 (3), min.insync.replicas=1 (5)";
    assert_eq!(set_values(&bed, TOPIC, world.there).await, [two]);
}

/// A longer one can't be sent, but it can be made by appending.
#[tokio::test]
async fn a_value_has_32767_bytes_at_most() {
    let (bed, _) = furnished().await;
    let first = "m".repeat(20_000);
    assert_eq!(change(&bed, METRICS, "m", &[("metrics", SET, &first)]).await, DONE);
    let message =
        "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.";
    let too_much = "n".repeat(12_767);
    assert_eq!(change(&bed, METRICS, "m", &[("metrics", APPEND, &too_much)]).await, refused(40, message));
    assert_eq!(change(&bed, METRICS, "m", &[("metrics", APPEND, &too_much[1..])]).await, DONE);
}

#[tokio::test]
async fn a_kind_that_nothing_is_of_is_refused_with_the_whole_request() {
    let (bed, world) = furnished().await;
    let of = |kind, name: &str| {
        let wanted = describe_configs_request::DescribeConfigsResource::default().with_resource_type(kind);
        wanted.with_resource_name(text(name)).with_configuration_keys(None)
    };
    let request = DescribeConfigsRequest::default().with_resources(vec![of(TOPIC, world.there), of(99, "x")]);
    let response = answer!(bed.ask(4, request), DescribeConfigs);
    let told: Vec<_> = response
        .results
        .iter()
        .map(|result| told(result.error_code, result.error_message.as_ref()))
        .collect();
    let malformed = "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.";
    let expected = refused(42, malformed);
    assert_eq!(told, [expected.clone(), expected]);
}

async fn sizes(bed: &Bed) -> Vec<(String, i32, i64)> {
    let mut response = answer!(bed.ask(5, DescribeLogDirsRequest { topics: None }), DescribeLogDirs);
    assert_eq!(response.results.len(), 1, "one log directory");
    let dir = response.results.remove(0);
    assert_eq!((dir.error_code, dir.log_dir.to_string()), (0, "file:./thalweg-data".to_owned()));
    let of_topic = |topic: describe_log_dirs_response::DescribeLogDirsTopic| {
        let partitions = topic.partitions.into_iter();
        partitions
            .map(move |one| (topic.name.to_string(), one.partition_index, one.partition_size))
            .collect::<Vec<_>>()
    };
    dir.topics.into_iter().flat_map(of_topic).filter(|(name, ..)| name == "there").collect()
}

#[tokio::test]
async fn a_log_is_as_large_as_its_batches_wherever_they_are() {
    let (bed, world) = furnished().await;
    let records = batch().bytes();
    let one = records.len() as i64;
    let there =
        |first: i64, second: i64| vec![("there".to_owned(), 0, first), ("there".to_owned(), 1, second)];
    assert_eq!(sizes(&bed).await, there(0, 0));
    let produce = async |bed: &Bed, partition| {
        let request = produce_request(13, &world, partition, Some(records.clone()));
        let response = answer!(bed.ask(13, request), Produce);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    };
    produce(&bed, 0).await;
    produce(&bed, 0).await;
    produce(&bed, 1).await;
    assert_eq!(sizes(&bed).await, there(2 * one, one), "in the tail");
    bed.broker.wal.flush().await.expect("a flush in memory");
    assert_eq!(sizes(&bed).await, there(2 * one, one), "in a segment");
    produce(&bed, 0).await;
    assert_eq!(sizes(&bed).await, there(3 * one, one), "in both");
    let bed = bed.restarted().await;
    assert_eq!(sizes(&bed).await, there(3 * one, one), "in what was recovered");
}

#[tokio::test]
async fn a_replica_stays_where_it_is() {
    let (bed, world) = furnished().await;
    let code = async |path: &str, name: &str, partition: i32| {
        let wanted = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default();
        let wanted = wanted.with_name(topic(name)).with_partitions(vec![partition]);
        let dir = alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(text(path));
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir.with_topics(vec![wanted])]);
        let response = answer!(bed.ask(2, request), AlterReplicaLogDirs);
        response.results[0].partitions[0].error_code
    };
    let here = "file:./thalweg-data";
    assert_eq!(code(here, world.there, 1).await, 0);
    assert_eq!(code("/elsewhere", world.there, 1).await, 57);
    assert_eq!(code(here, world.there, 9).await, 3);
    assert_eq!(code(here, "nowhere", 0).await, 3);
    assert_eq!(code(here, &"n".repeat(230), 0).await, 17);
}

#[tokio::test]
async fn every_partition_has_its_leader() {
    let (bed, world) = furnished().await;
    let elect = async |kind: i8, topics: Option<Vec<(&str, i32)>>| {
        let topics = topics.map(|topics| {
            let wanted = |(name, index): &(&str, i32)| {
                let wanted = elect_leaders_request::TopicPartitions::default().with_topic(topic(name));
                wanted.with_partitions(vec![*index])
            };
            topics.iter().map(wanted).collect()
        });
        let request = ElectLeadersRequest::default().with_topic_partitions(topics).with_election_type(kind);
        let response = answer!(bed.ask(2, request), ElectLeaders);
        let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let results: Vec<_> = results.map(|one| told(one.error_code, one.error_message.as_ref())).collect();
        (response.error_code, results)
    };
    let not_needed = refused(84, "Leader election not needed for topic partition.");
    let wanted = vec![(world.there, 0), (world.there, 9), ("nowhere", 0)];
    let expected =
        vec![not_needed, refused(3, "No such partition as there-9"), refused(3, "No such topic as nowhere")];
    assert_eq!(elect(0, Some(wanted.clone())).await, (0, expected.clone()));
    assert_eq!(elect(1, Some(wanted)).await, (0, expected));
    assert_eq!(elect(0, None).await, (0, vec![]));
    let unknown = refused(42, "Unknown election type 9");
    assert_eq!(elect(9, Some(vec![(world.there, 0)])).await, (42, vec![unknown]));
    assert_eq!(elect(9, Some(vec![])).await, (0, vec![]));

    // Without time nobody is asked; version 0 has no code for it.
    for (version, expected) in [(0, 0), (1, 7), (2, 7)] {
        let request = ElectLeadersRequest::default().with_topic_partitions(None).with_timeout_ms(0);
        let response = answer!(bed.ask(version, request), ElectLeaders);
        assert_eq!((response.error_code, response.replica_election_results.len()), (expected, 0));
    }
}

#[tokio::test]
async fn a_partition_can_be_moved_to_where_it_is_alone() {
    let (bed, world) = furnished().await;
    let moved = async |name: &str, index: i32, replicas: Option<&[i32]>, any_factor: bool| {
        let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
        let partition = alter_partition_reassignments_request::ReassignablePartition::default();
        let partition = partition.with_partition_index(index).with_replicas(replicas);
        let wanted = alter_partition_reassignments_request::ReassignableTopic::default();
        let wanted = wanted.with_name(topic(name)).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![wanted]);
        let request = request.with_allow_replication_factor_change(any_factor);
        let response = answer!(bed.ask(1, request), AlterPartitionReassignments);
        assert_eq!((response.error_code, response.error_message), (0, None));
        let result = &response.responses[0].partitions[0];
        told(result.error_code, result.error_message.as_ref())
    };
    let (one, two, other, twice) = (Some(&[1][..]), Some(&[1, 2][..]), Some(&[7][..]), Some(&[1, 1][..]));
    let missing = "The manual partition assignment includes broker 7, but no such broker is registered.";
    let second = "The manual partition assignment includes broker 2, but no such broker is registered.";
    let repeated = "The manual partition assignment includes the broker 1 more than once.";
    let empty = "The manual partition assignment includes an empty replica list.";
    assert_eq!(moved(world.there, 0, one, true).await, DONE);
    assert_eq!(moved(world.there, 0, one, false).await, DONE);
    assert_eq!(moved(world.there, 0, two, false).await, refused(39, second));
    assert_eq!(moved(world.there, 0, other, true).await, refused(39, missing));
    assert_eq!(moved(world.there, 0, twice, true).await, refused(39, repeated));
    assert_eq!(moved(world.there, 0, Some(&[]), true).await, refused(39, empty));
    assert_eq!(moved(world.there, 0, None, true).await, (85, None));
    assert_eq!(moved(world.there, 9, one, true).await, refused(3, "Unable to find partition there:9."));
    assert_eq!(moved("nowhere", 0, one, true).await, refused(3, "Unable to find a topic named nowhere."));
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    assert!(answer!(bed.ask(0, request), ListPartitionReassignments).topics.is_empty());
}

#[tokio::test]
async fn brokers_of_an_assignment_must_be_there_and_be_named_once() {
    let (bed, _) = furnished().await;
    for (ids, code, message) in [
        (
            &[7][..],
            39,
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (&[1, 1], 39, "The manual partition assignment includes the broker 1 more than once."),
        (&[1, 1, 7], 39, "The manual partition assignment includes the broker 1 more than once."),
        (
            &[0, 1, 1],
            39,
            "The manual partition assignment includes broker 0, but no such broker is registered.",
        ),
        (&[], 39, "The manual partition assignment includes an empty replica list."),
    ] {
        let ids: Vec<_> = ids.iter().map(|id| BrokerId(*id)).collect();
        let assignment = create_topics_request::CreatableReplicaAssignment::default();
        let wanted = create_topics_request::CreatableTopic::default()
            .with_name(topic("new"))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment.with_broker_ids(ids.clone())]);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]);
        let created = answer!(bed.ask(7, request), CreateTopics);
        let result = &created.topics[0];
        assert_eq!(told(result.error_code, result.error_message.as_ref()), refused(code, message));

        let assignment = create_partitions_request::CreatePartitionsAssignment::default();
        let wanted = create_partitions_request::CreatePartitionsTopic::default().with_name(topic("empty"));
        let wanted = wanted.with_count(2).with_assignments(Some(vec![assignment.with_broker_ids(ids)]));
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]);
        let grown = answer!(bed.ask(3, request), CreatePartitions);
        let result = &grown.results[0];
        assert_eq!(told(result.error_code, result.error_message.as_ref()), refused(code, message));
    }
}

#[tokio::test]
async fn tiered_storage_is_refused() {
    let (bed, world) = furnished().await;
    let message = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
    let told = change(&bed, TOPIC, world.there, &[("remote.storage.enable", SET, "true")]).await;
    assert_eq!(told, refused(40, message));
    assert_eq!(change(&bed, TOPIC, world.there, &[("remote.storage.enable", SET, "false")]).await, DONE);
    let config = create_topics_request::CreatableTopicConfig::default()
        .with_name(text("remote.storage.enable"))
        .with_value(Some(text("true")));
    let wanted = super::catalogue::new_topic("tiered", 1, 1).with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]);
    assert_eq!(answer!(bed.ask(7, request), CreateTopics).topics[0].error_code, 40);
}

#[tokio::test]
async fn the_quorum_is_this_broker() {
    let (bed, _) = furnished().await;
    let partition = describe_quorum_request::PartitionData::default();
    let wanted = describe_quorum_request::TopicData::default().with_topic_name(topic("__cluster_metadata"));
    let request = DescribeQuorumRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])]);
    let response = answer!(bed.ask(2, request.clone()), DescribeQuorum);
    let data = &response.topics[0].partitions[0];
    assert_eq!((data.error_code, data.leader_id.0, data.current_voters[0].replica_id.0), (0, 1, 1));
    assert_eq!(data.current_voters[0].log_end_offset, data.high_watermark);
    assert!(data.observers.is_empty() && data.leader_epoch > 0);
    let listener = &response.nodes[0].listeners[0];
    assert_eq!((listener.name.to_string(), listener.port), ("CONTROLLER".to_owned(), 9092));
    let before = data.high_watermark;
    let bed = bed.restarted().await;
    let response = answer!(bed.ask(2, request.clone()), DescribeQuorum);
    assert!(response.topics[0].partitions[0].high_watermark > before, "it rises");

    let mut other = request;
    other.topics[0].topic_name = topic("there");
    let response = answer!(bed.ask(2, other), DescribeQuorum);
    let data = &response.topics[0].partitions[0];
    let message = "This server does not host this topic-partition.";
    assert_eq!(told(data.error_code, data.error_message.as_ref()), refused(3, message));
}

#[tokio::test]
async fn the_voters_stay_as_they_are() {
    let (bed, _) = furnished().await;
    let listener =
        add_raft_voter_request::Listener { name: text("CONTROLLER"), host: text("h"), port: 65_535 };
    let request = |id, directory, cluster: Option<&str>| AddRaftVoterRequest {
        cluster_id: cluster.map(text),
        voter_id: id,
        voter_directory_id: uuid::Uuid::from_u128(directory),
        listeners: vec![listener.clone()],
        ..AddRaftVoterRequest::default()
    };
    let add = async |request: AddRaftVoterRequest| {
        let response = answer!(bed.ask(1, request), AddRaftVoter);
        told(response.error_code, response.error_message.as_ref())
    };
    let id = "AAAAAAAAAAAAAAAAAAAABw";
    let set = "[ReplicaKey(id=1, directoryId=AAAAAAAAAAAAAAAAAAAAAA)]";
    let there = format!(
        "The voter id for ReplicaKey(id=1, directoryId={id}) is already part of the set of voters {set}."
    );
    assert_eq!(add(request(1, 7, None)).await, refused(126, &there));
    let away = format!("New voter ReplicaKey(id=2, directoryId={id}) is not ready to receive requests");
    assert_eq!(add(request(2, 7, Some("a-cluster"))).await, refused(7, &away));
    let other = "The given id \"other\" doesn't match the cluster id \"a-cluster\"";
    assert_eq!(add(request(2, 7, Some("other"))).await, refused(104, other));
    assert_eq!(add(request(2, 0, None)).await, refused(42, "Add voter request didn't include a valid voter"));
    let request = RemoveRaftVoterRequest::default().with_cluster_id(None).with_voter_id(1);
    let request = request.with_voter_directory_id(uuid::Uuid::from_u128(7));
    let response = answer!(bed.ask(0, request), RemoveRaftVoter);
    let kept = format!("Cannot remove voter ReplicaKey(id=1, directoryId={id}) from the set of voters {set}");
    assert_eq!(told(response.error_code, response.error_message.as_ref()), refused(127, &kept));
}

#[tokio::test]
async fn levels_of_features_are_told_and_change() {
    let (bed, _) = furnished().await;
    let levels = async |bed: &Bed| {
        let response = answer!(bed.ask(4, api_versions()), ApiVersions);
        let name = "eligible.leader.replicas.version";
        let level = response.finalized_features.iter().find(|feature| *feature.name == *name);
        (level.map(|level| level.max_version_level), response.finalized_features_epoch)
    };
    let update = async |bed: &Bed, version: i16, kind: i8, level: i16, only: bool| {
        let update = update_features_request::FeatureUpdateKey::default();
        let update = update.with_feature(text("eligible.leader.replicas.version")).with_upgrade_type(kind);
        let request = UpdateFeaturesRequest::default().with_validate_only(only);
        let request = request.with_feature_updates(vec![update.with_max_version_level(level)]);
        let response = answer!(bed.ask(version, request), UpdateFeatures);
        (told(response.error_code, response.error_message.as_ref()), response.results.len())
    };
    assert_eq!(levels(&bed).await, (Some(1), 0));
    assert_eq!(update(&bed, 2, 2, 0, true).await, (DONE, 0));
    assert_eq!(levels(&bed).await, (Some(1), 0), "it was only checked");
    assert_eq!(update(&bed, 1, 2, 0, false).await, (DONE, 1));
    assert_eq!(levels(&bed).await, (None, 1), "level 0 is off");
    let bed = bed.restarted().await;
    assert_eq!(levels(&bed).await, (None, 1));
    assert_eq!(update(&bed, 2, 1, 1, false).await, (DONE, 0));
    assert_eq!(update(&bed, 2, 1, 1, false).await, (DONE, 0));
    assert_eq!(levels(&bed).await, (Some(1), 2));
    let message = "The update failed for all features since the following feature had an error: Invalid update version 2 for feature eligible.leader.replicas.version. Local controller 1 only supports versions 0-1";
    assert_eq!(update(&bed, 1, 1, 2, false).await, (refused(95, message), 0));
}

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default().with_client_software_name(text("a")).with_client_software_version(text("1"))
}

#[tokio::test]
async fn quotas_are_stored_and_found() {
    let (bed, _) = furnished().await;
    let alter = async |bed: &Bed, entries: Vec<_>| {
        let response =
            answer!(bed.ask(1, AlterClientQuotasRequest::default().with_entries(entries)), AlterClientQuotas);
        let entries = response.entries.iter();
        entries.map(|entry| told(entry.error_code, entry.error_message.as_ref())).collect::<Vec<_>>()
    };
    let ann = [("user", Some("ann"))];
    let ann_and_app = [("user", Some("ann")), ("client-id", Some("app"))];
    let entries = vec![
        alteration(&ann, &[("producer_byte_rate", Some(1024.0)), ("consumer_byte_rate", Some(2048.0))]),
        alteration(&ann_and_app, &[("request_percentage", Some(12.5))]),
        alteration(&[("client-id", None)], &[("producer_byte_rate", Some(99.0))]),
        alteration(&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", Some(10.0))]),
    ];
    assert_eq!(alter(&bed, entries).await, vec![DONE; 4]);
    let bed = bed.restarted().await;
    let find = async |components: Vec<_>, strict| {
        let request = DescribeClientQuotasRequest::default().with_components(components).with_strict(strict);
        let response = answer!(bed.ask(1, request), DescribeClientQuotas);
        assert_eq!((response.error_code, response.error_message), (0, Some(text(""))));
        let line = |entry: describe_client_quotas_response::EntryData| {
            let part = |part: &describe_client_quotas_response::EntityData| {
                let name = part.entity_name.as_ref().map_or("*".to_owned(), ToString::to_string);
                format!("{} {name}", part.entity_type)
            };
            let entity: Vec<_> = entry.entity.iter().map(part).collect();
            let values: Vec<_> =
                entry.values.iter().map(|value| format!("{} {}", value.key, value.value)).collect();
            format!("{}: {}", entity.join(", "), values.join(", "))
        };
        response.entries.expect("no error").into_iter().map(line).collect::<Vec<_>>()
    };
    let of_ann = "user ann: consumer_byte_rate 2048, producer_byte_rate 1024";
    let of_both = "client-id app, user ann: request_percentage 12.5";
    let of_clients = "client-id *: producer_byte_rate 99";
    let of_address = "ip 127.0.0.1: connection_creation_rate 10";
    assert_eq!(find(vec![], false).await, [of_address, of_clients, of_ann, of_both]);
    assert_eq!(find(vec![component("user", 0, Some("ann"))], false).await, [of_ann, of_both]);
    assert_eq!(find(vec![component("user", 0, Some("ann"))], true).await, [of_ann]);
    assert_eq!(find(vec![component("client-id", 2, None)], true).await, [of_clients]);
    assert_eq!(find(vec![component("client-id", 1, None)], false).await, [of_clients]);
    assert_eq!(find(vec![component("ip", 2, None)], false).await, [of_address]);

    let gone = [("producer_byte_rate", None), ("consumer_byte_rate", None)];
    assert_eq!(alter(&bed, vec![alteration(&ann, &gone)]).await, [DONE]);
    assert_eq!(find(vec![component("user", 2, None)], true).await, [""; 0]);
    let twice = vec![
        alteration(&ann, &[("producer_byte_rate", Some(1.0))]),
        alteration(&ann, &[("producer_byte_rate", Some(2.0))]),
    ];
    let ignored = "Ignoring duplicate entity ClientQuotaEntity(entries={user=ann})";
    assert_eq!(alter(&bed, twice).await, [refused(42, ignored)]);
    assert_eq!(find(vec![component("user", 2, None)], true).await, ["user ann: producer_byte_rate 1"]);
}

#[tokio::test]
async fn quotas_are_refused_in_kafkas_words() {
    let (bed, _) = furnished().await;
    let user = [("user", Some("ann"))];
    let ip = [("ip", Some("127.0.0.1"))];
    for (entity, key, value, expected) in [
        (&user[..], "nope", 1.0, "Invalid configuration key nope"),
        (&user, "connection_creation_rate", 1.0, "Invalid configuration key connection_creation_rate"),
        (&user, "producer_byte_rate", 0.0, "Quota producer_byte_rate must be greater than 0"),
        (&user, "request_percentage", -1.0, "Quota request_percentage must be greater than 0"),
        (&user, "request_percentage", f64::NAN, "Quota request_percentage must be greater than 0"),
        (&user, "consumer_byte_rate", 1.5, "consumer_byte_rate cannot be a fractional value."),
        (&user, "consumer_byte_rate", 1e19, "Proposed value for consumer_byte_rate is too large for a LONG."),
        (
            &ip,
            "connection_creation_rate",
            3e9,
            "Proposed value for connection_creation_rate is too large for an INT.",
        ),
        (
            &[("ip", Some("300.1.1.1"))],
            "connection_creation_rate",
            1.0,
            "300.1.1.1 is not a valid IP or resolvable host.",
        ),
        (&[("planet", None)], "producer_byte_rate", 1.0, "Unhandled client quota entity type: planet"),
        (&[], "producer_byte_rate", 1.0, "Invalid empty client quota entity"),
        (
            &[("ip", None), ("user", None)],
            "producer_byte_rate",
            1.0,
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        ),
    ] {
        let entries = vec![alteration(entity, &[(key, Some(value))])];
        let request = AlterClientQuotasRequest::default().with_entries(entries);
        let response = answer!(bed.ask(1, request), AlterClientQuotas);
        let entry = &response.entries[0];
        assert_eq!(told(entry.error_code, entry.error_message.as_ref()), refused(42, expected));
    }
    let request = DescribeClientQuotasRequest::default();
    assert_eq!(
        answer!(bed.ask(1, request), DescribeClientQuotas).entries,
        Some(vec![]),
        "nothing was stored"
    );
    for (components, code, message) in [
        (vec![component("", 0, Some("u"))], 42, "Invalid empty entity type."),
        (vec![component("planet", 2, None)], 35, "Unsupported entity type planet"),
        (
            vec![component("user", 0, None)],
            42,
            "Request specified MATCH_TYPE_EXACT, but set match string to null.",
        ),
        (
            vec![component("user", 2, None), component("user", 1, None)],
            42,
            "Entity type user cannot appear more than once in the filter.",
        ),
    ] {
        let request = DescribeClientQuotasRequest::default().with_components(components);
        let response = answer!(bed.ask(1, request), DescribeClientQuotas);
        assert_eq!(told(response.error_code, response.error_message.as_ref()), refused(code, message));
        assert_eq!(response.entries, None);
    }
}

async fn credentials(bed: &Bed, users: Option<&[&str]>) -> Vec<(String, Told, Vec<(i8, i32)>)> {
    let name =
        |name: &&str| describe_user_scram_credentials_request::UserName::default().with_name(text(name));
    let users = users.map(|users| users.iter().map(name).collect());
    let request = DescribeUserScramCredentialsRequest::default().with_users(users);
    let response = answer!(bed.ask(0, request), DescribeUserScramCredentials);
    let line = |result: &describe_user_scram_credentials_response::DescribeUserScramCredentialsResult| {
        let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations));
        let told = told(result.error_code, result.error_message.as_ref());
        (result.user.to_string(), told, infos.collect())
    };
    response.results.iter().map(line).collect()
}

#[tokio::test]
async fn credentials_are_stored_and_described_without_their_secrets() {
    let (bed, _) = furnished().await;
    let alter = async |bed: &Bed, deletions: Vec<_>, upsertions: Vec<_>| {
        let request = AlterUserScramCredentialsRequest::default();
        let request = request.with_deletions(deletions).with_upsertions(upsertions);
        let response = answer!(bed.ask(0, request), AlterUserScramCredentials);
        let results = response.results.iter();
        results
            .map(|result| (result.user.to_string(), told(result.error_code, result.error_message.as_ref())))
            .collect::<Vec<_>>()
    };
    let of = |name: &str, told: Told| (name.to_owned(), told);
    let both = vec![upsertion("bob", 1, 8192), upsertion("ann", 1, 4096)];
    assert_eq!(alter(&bed, vec![], both).await, [of("ann", DONE), of("bob", DONE)]);
    assert_eq!(alter(&bed, vec![], vec![upsertion("bob", 2, 16_384)]).await, [of("bob", DONE)]);
    let bed = bed.restarted().await;
    // Here Kafka's message is not null but empty.
    let found: Told = (0, Some(String::new()));
    let ann = ("ann".to_owned(), found.clone(), vec![(1, 4096)]);
    let bob = ("bob".to_owned(), found.clone(), vec![(1, 8192), (2, 16_384)]);
    assert_eq!(credentials(&bed, None).await, [ann.clone(), bob.clone()]);
    let missing = "Attempt to describe a user credential that does not exist: eve";
    let twice = "Cannot describe SCRAM credentials for the same user twice in a single request: ann";
    assert_eq!(
        credentials(&bed, Some(&["bob", "ann", "eve", "ann"])).await,
        [
            ("ann".to_owned(), refused(92, twice), vec![]),
            bob,
            ("eve".to_owned(), refused(91, missing), vec![])
        ]
    );
    let again = refused(92, "A user credential cannot be altered twice in the same request");
    let told = alter(&bed, vec![deletion("ann", 1)], vec![upsertion("ann", 2, 4096)]).await;
    assert_eq!(told, [of("ann", again)]);
    let missing = refused(91, "Attempt to delete a user credential that does not exist");
    assert_eq!(alter(&bed, vec![deletion("ann", 2)], vec![]).await, [of("ann", missing)]);
    assert_eq!(alter(&bed, vec![deletion("bob", 1)], vec![]).await, [of("bob", DONE)]);
    assert_eq!(credentials(&bed, None).await, [ann, ("bob".to_owned(), found, vec![(2, 16_384)])]);
    for (upsertion, expected) in [
        (upsertion("", 1, 4096), refused(93, "Username must not be empty")),
        (upsertion("u", 3, 4096), refused(33, "Unknown SCRAM mechanism")),
        (upsertion("u", 1, 4095), refused(93, "Too few iterations")),
        (upsertion("u", 2, 16_385), refused(93, "Too many iterations")),
    ] {
        let name = upsertion.name.to_string();
        assert_eq!(alter(&bed, vec![], vec![upsertion]).await, [(name, expected)]);
    }
}

#[tokio::test]
async fn acls_and_tokens_are_answered_as_where_they_are_off() {
    let (bed, _) = furnished().await;
    let (_, request) = super::admin_catalogue::describe_acls().remove(0);
    let response = answer!(bed.ask(3, request), DescribeAcls);
    let expected = refused(54, "No Authorizer is configured on the broker");
    assert_eq!(told(response.error_code, response.error_message.as_ref()), expected);
    let (_, request) = super::admin_catalogue::create_acls().remove(0);
    let response = answer!(bed.ask(3, request), CreateAcls);
    let off = refused(54, "No Authorizer is configured.");
    let results = response.results.iter().map(|one| told(one.error_code, one.error_message.as_ref()));
    assert_eq!(results.collect::<Vec<_>>(), [off.clone(), off.clone()]);
    let (_, request) = super::admin_catalogue::delete_acls().remove(0);
    let response = answer!(bed.ask(3, request), DeleteAcls);
    let results = response.filter_results.iter().map(|one| told(one.error_code, one.error_message.as_ref()));
    assert_eq!(results.collect::<Vec<_>>(), [off.clone(), off]);
    let (_, request) = super::admin_catalogue::create_delegation_token(3).remove(0);
    let response = answer!(bed.ask(3, request), CreateDelegationToken);
    assert_eq!((response.error_code, response.expiry_timestamp_ms), (64, -1));
    assert_eq!((&*response.principal_type, &*response.token_requester_principal_name), ("User", "ANONYMOUS"));
    let request = DescribeDelegationTokenRequest::default().with_owners(None);
    assert_eq!(answer!(bed.ask(3, request), DescribeDelegationToken).error_code, 64);
}

#[tokio::test]
async fn only_a_broker_that_is_no_more_is_forgotten() {
    let (bed, _) = furnished().await;
    for (id, code) in [(9, 102), (1, 42)] {
        let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(id));
        assert_eq!(answer!(bed.ask(0, request), UnregisterBroker).error_code, code);
    }
}

#[tokio::test]
async fn records_of_a_topic_that_only_compacts_are_not_deleted() {
    let (bed, _) = furnished().await;
    for (name, policy, code) in [("keeps", "compact", 44), ("both", "compact,delete", 0)] {
        bed.create(name, 1, &[("cleanup.policy", policy)]).await;
        let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
        let wanted = delete_records_request::DeleteRecordsTopic::default().with_name(topic(name));
        let request =
            DeleteRecordsRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])]);
        let response = answer!(bed.ask(2, request), DeleteRecords);
        assert_eq!(response.topics[0].partitions[0].error_code, code, "{policy}");
    }
}

/// The request is small, the answer is not: it waits until there is room for it.
#[tokio::test]
async fn a_long_list_is_charged_until_it_is_written() {
    let (bed, _) = furnished().await;
    bed.create("wide", 1000, &[]).await;
    let header = RequestHeader {
        api_key: ApiKey::DescribeLogDirs,
        api_version: 4,
        correlation_id: 1,
        client_id: "test".into(),
    };
    let responses = &bed.broker.budgets.responses;
    let ask = || bed.reply(&header, DescribeLogDirsRequest { topics: None }.into());
    let thalweg_broker::net::Reply::Send(first) = ask().await else { panic!("an answer") };
    assert!(first.len() > 20_000, "{} bytes", first.len());
    assert_eq!(responses.used(), first.len());
    let rest = rest_of(responses);
    let mut second = Box::pin(ask());
    assert!(futures::poll!(&mut second).is_pending());
    drop((first, rest));
    assert!(matches!(second.await, thalweg_broker::net::Reply::Send(_)));
}
