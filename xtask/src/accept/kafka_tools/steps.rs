//! What is asked of Kafka's command-line tools: their documented uses, and misuses.

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const ACLS: &str = "org.apache.kafka.tools.AclCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const LEADER_ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const CLIENT_METRICS: &str = "org.apache.kafka.tools.ClientMetricsCommand";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const DELEGATION_TOKENS: &str = "org.apache.kafka.tools.DelegationTokenCommand";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER_PERF: &str = "org.apache.kafka.tools.ConsumerPerformance";
const LATENCY: &str = "org.apache.kafka.tools.EndToEndLatency";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";

/// What reads its records from its input.
pub const READS_INPUT: &str = PRODUCER;

/// What is done one after another: the tool's class, and its arguments, with a space between them. `PLAN` and `MOVES` stand for
/// files.
pub const STEPS: &[(&str, &str)] = &[
    (TOPICS, "--list"),
    (TOPICS, "--create --topic a --partitions 3 --replication-factor 1"),
    (
        TOPICS,
        "--create --topic b --partitions 1 --config retention.ms=1234567 --config cleanup.policy=compact --config message.timestamp.type=LogAppendTime",
    ),
    (TOPICS, "--create --topic a --partitions 3"),
    (TOPICS, "--create --topic a --partitions 3 --if-not-exists"),
    (TOPICS, "--create --topic c --partitions 1 --replication-factor 3"),
    (TOPICS, "--create --topic c --partitions 1 --config no.such.key=1"),
    (TOPICS, "--create --topic c --partitions 1 --config retention.ms=soon"),
    (TOPICS, "--create --topic bad/name --partitions 1"),
    (TOPICS, "--list"),
    (TOPICS, "--describe"),
    (TOPICS, "--describe --topic b"),
    (TOPICS, "--describe --topic none"),
    (TOPICS, "--describe --under-replicated-partitions"),
    (TOPICS, "--describe --topics-with-overrides"),
    (TOPICS, "--alter --topic a --partitions 4"),
    (TOPICS, "--alter --topic a --partitions 2"),
    (CONFIGS, "--describe --entity-type topics --entity-name b"),
    (
        CONFIGS,
        "--alter --entity-type topics --entity-name b --add-config max.message.bytes=54321,segment.ms=100000",
    ),
    (CONFIGS, "--alter --entity-type topics --entity-name b --add-config no.such.key=1"),
    (CONFIGS, "--alter --entity-type topics --entity-name b --delete-config segment.ms"),
    (CONFIGS, "--describe --entity-type topics --entity-name b"),
    (CONFIGS, "--describe --entity-type topics --entity-name b --all"),
    (PRODUCER, "--topic b --reader-property parse.key=true --reader-property key.separator=:"),
    (
        CONSUMER,
        "--topic b --from-beginning --max-messages 3 --formatter-property print.key=true --formatter-property print.offset=true --formatter-property print.partition=true",
    ),
    (CONSUMER, "--topic b --partition 0 --offset 1 --max-messages 1"),
    (OFFSETS, "--topic b"),
    (OFFSETS, "--topic b --time earliest"),
    (OFFSETS, "--topic b --time max-timestamp"),
    (OFFSETS, "--topic-partitions a:0,b:0"),
    (CONSUMER, "--topic b --group readers --from-beginning --max-messages 2"),
    (CONSUMER_GROUPS, "--list"),
    (CONSUMER_GROUPS, "--list --state"),
    (CONSUMER_GROUPS, "--describe --group readers"),
    (CONSUMER_GROUPS, "--describe --group readers --members"),
    (CONSUMER_GROUPS, "--describe --group readers --state"),
    (CONSUMER_GROUPS, "--describe --group none"),
    (CONSUMER_GROUPS, "--group readers --topic b --reset-offsets --to-earliest --dry-run"),
    (CONSUMER_GROUPS, "--group readers --topic b --reset-offsets --to-offset 1 --execute"),
    (CONSUMER_GROUPS, "--describe --all-groups"),
    (GROUPS, "--list"),
    (CONSUMER_GROUPS, "--delete-offsets --group readers --topic b"),
    (CONSUMER_GROUPS, "--delete --group readers"),
    (CONSUMER_GROUPS, "--delete --group none"),
    (TRANSACTIONS, "list"),
    (TRANSACTIONS, "describe --transactional-id none"),
    (TOPICS, "--create --topic d --partitions 1"),
    (PRODUCER, "--topic d"),
    (OFFSETS, "--topic d"),
    (DELETE_RECORDS, "--offset-json-file PLAN"),
    (OFFSETS, "--topic d --time earliest"),
    (CONSUMER, "--topic d --from-beginning --max-messages 1"),
    (FEATURES, "describe"),
    (LEADER_ELECTION, "--election-type preferred --topic a --partition 0"),
    (LEADER_ELECTION, "--election-type preferred --all-topic-partitions"),
    (LOG_DIRS, "--describe --topic-list d"),
    (ACLS, "--list"),
    (ACLS, "--add --allow-principal User:a --operation read --topic a"),
    (QUORUM, "describe --status"),
    (QUORUM, "describe --replication"),
    (CLUSTER, "cluster-id"),
    (CLUSTER, "list-endpoints"),
    (API_VERSIONS, ""),
    (REASSIGN, "--list"),
    (REASSIGN, "--reassignment-json-file MOVES --execute"),
    (REASSIGN, "--reassignment-json-file MOVES --verify"),
    (CLIENT_METRICS, "--list"),
    (CLIENT_METRICS, "--alter --name m --metrics org.apache.kafka.consumer. --interval 1000"),
    (CLIENT_METRICS, "--describe --name m"),
    (CLIENT_METRICS, "--delete --name m"),
    (CLIENT_METRICS, "--list"),
    (CONFIGS, "--describe --entity-type brokers --entity-name 1"),
    (CONFIGS, "--alter --entity-type brokers --entity-name 1 --add-config log.cleaner.threads=2"),
    (CONFIGS, "--describe --entity-type brokers --entity-name 1"),
    (CONFIGS, "--alter --entity-type brokers --entity-default --add-config log.cleaner.threads=1"),
    (CONFIGS, "--describe --entity-type brokers --entity-default"),
    (CONFIGS, "--alter --entity-type clients --entity-name c --add-config producer_byte_rate=1024"),
    (CONFIGS, "--describe --entity-type clients"),
    (CONFIGS, "--alter --entity-type users --entity-name u --add-config consumer_byte_rate=2048"),
    (CONFIGS, "--describe --entity-type users"),
    (CONFIGS, "--alter --entity-type users --entity-name u --delete-config consumer_byte_rate"),
    (CONFIGS, "--alter --entity-type users --entity-name s --add-config SCRAM-SHA-256=[password=secret]"),
    (CONFIGS, "--describe --entity-type users"),
    (CONFIGS, "--alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=50000"),
    (CONFIGS, "--describe --entity-type groups --entity-name g"),
    (DELEGATION_TOKENS, "--describe"),
    (PRODUCER_PERF, "--topic d --num-records 100 --record-size 10 --throughput -1"),
    (CONSUMER_PERF, "--topic d --num-records 100 --group perf"),
    (LATENCY, "--topic d --num-records 10 --producer-acks all --record-size 16"),
    (TOPICS, "--create --topic e --partitions 1"),
    (VERIFIABLE_PRODUCER, "--topic e --max-messages 10 --value-prefix 1"),
    (VERIFIABLE_CONSUMER, "--topic e --group-id verified --max-messages 10 --reset-policy earliest"),
    (CONSUMER_GROUPS, "--describe --group verified"),
    (
        CONSUMER,
        "--topic __consumer_offsets --partition 29 --from-beginning --timeout-ms 4000 --formatter org.apache.kafka.tools.consumer.OffsetsMessageFormatter",
    ),
    (
        CONSUMER,
        "--topic __consumer_offsets --partition 29 --from-beginning --timeout-ms 4000 --formatter org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter",
    ),
    (
        PRODUCER_PERF,
        "--topic d --num-records 10 --record-size 10 --throughput -1 --transactional-id perf --transaction-duration-ms 1000",
    ),
    (TRANSACTIONS, "list"),
    (TRANSACTIONS, "describe --transactional-id perf"),
    (TRANSACTIONS, "describe-producers --topic d --partition 0"),
    (TRANSACTIONS, "find-hanging --topic d"),
    (
        CONSUMER,
        "--topic __transaction_state --from-beginning --timeout-ms 4000 --formatter org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
    ),
    (TOPICS, "--delete --topic a"),
    (TOPICS, "--delete --topic none"),
    (TOPICS, "--list"),
];

/// What is produced.
pub const INPUT: &str = "key1:value1\nkey2:value2\nkey3:value3\n";
/// What is to be deleted.
pub const PLAN: &str = r#"{"version":1,"partitions":[{"topic":"d","partition":0,"offset":1}]}"#;
/// Where replicas are to go.
pub const MOVES: &str = r#"{"version":1,"partitions":[{"topic":"d","partition":0,"replicas":[1]}]}"#;

/// Whether a tool tells how fast it was, when, or numbers that each cluster has of its own.
pub fn numbers_differ(class: &str, arguments: &str) -> bool {
    let classes = [
        PRODUCER_PERF,
        CONSUMER_PERF,
        LATENCY,
        VERIFIABLE_PRODUCER,
        VERIFIABLE_CONSUMER,
        QUORUM,
        TRANSACTIONS,
    ];
    classes.contains(&class) || arguments.contains("MessageFormatter")
}
