//! Kafka's own tools for administrators. What they print is what they print of Kafka 4.3.1, line by line.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

mod with_kafka_tools {
    use std::fs;
    use thalweg_end_to_end::{
        clients::{Finished, KafkaTools},
        servers::{Options, Thalweg},
    };

    struct Admin {
        tools: KafkaTools,
        _broker: Thalweg,
    }

    fn started() -> Admin {
        let broker = Options::new().unwrap().start().unwrap();
        Admin { tools: KafkaTools::new(broker.address()).unwrap(), _broker: broker }
    }

    fn printed(finished: anyhow::Result<Finished>) -> String {
        let finished = finished.unwrap().expect_success().unwrap();
        format!("{}{}", finished.stdout, finished.stderr)
    }

    /// What it prints when it fails.
    fn refused(finished: anyhow::Result<Finished>) -> String {
        let finished = finished.unwrap();
        assert!(!finished.success, "{}", finished.stdout);
        format!("{}{}", finished.stdout, finished.stderr)
    }

    impl Admin {
        fn create_topic(&self) {
            printed(self.tools.topics(&["--create", "--topic", "t1", "--partitions", "2"]));
        }

        fn describe(&self, kind: &str, name: &str) -> String {
            printed(self.tools.configs(&["--describe", "--entity-type", kind, "--entity-name", name]))
        }

        fn alter(&self, kind: &str, name: &str, change: &str, what: &str) -> anyhow::Result<Finished> {
            self.tools.configs(&["--alter", "--entity-type", kind, "--entity-name", name, change, what])
        }

        fn tool(&self, class: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
            self.tools.tool(class, arguments)
        }
    }

    #[test]
    fn groups_and_metrics_are_configured() {
        let admin = started();
        let both = "consumer.heartbeat.interval.ms=6000,consumer.session.timeout.ms=50000";
        let done = printed(admin.alter("groups", "g1", "--add-config", both));
        assert_eq!(done, "Completed updating config for group g1.\n");
        assert_eq!(
            admin.describe("groups", "g1"),
            "Dynamic configs for group g1 are:\n  \
             consumer.heartbeat.interval.ms=6000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.heartbeat.interval.ms=6000, \
             DEFAULT_CONFIG:group.consumer.heartbeat.interval.ms=5000}\n  \
             consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, \
             DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}\n"
        );
        let low = refused(admin.alter("groups", "g1", "--add-config", "consumer.heartbeat.interval.ms=1"));
        let reason = "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms";
        assert!(low.contains(reason), "{low}");

        let altered = admin.tool(
            "ClientMetricsCommand",
            &[
                "--alter",
                "--name",
                "m1",
                "--metrics",
                "org.apache",
                "--interval",
                "5000",
                "--match",
                "client_id=a",
            ],
        );
        assert_eq!(printed(altered), "Altered client metrics config for m1.\n");
        assert_eq!(printed(admin.tool("ClientMetricsCommand", &["--list"])), "m1\n");
        assert_eq!(
            printed(admin.tool("ClientMetricsCommand", &["--describe"])),
            "Client metrics configs for m1 are:\n  interval.ms=5000\n  match=client_id=a\n  metrics=org.apache\n"
        );
    }

    #[test]
    fn quotas_credentials_and_log_levels_are_configured() {
        let admin = started();
        let rates = "producer_byte_rate=1024,consumer_byte_rate=2048";
        assert_eq!(
            printed(admin.alter("users", "alice", "--add-config", rates)),
            "Completed updating config for user alice.\n"
        );
        printed(admin.alter("users", "bob", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=pw]"));
        assert_eq!(
            admin.describe("users", "alice"),
            "Quota configs for user-principal 'alice' are consumer_byte_rate=2048.0, producer_byte_rate=1024.0\n"
        );
        assert_eq!(
            admin.describe("users", "bob"),
            "SCRAM credential configs for user-principal 'bob' are SCRAM-SHA-256=iterations=8192\n"
        );
        let zero = refused(admin.alter("users", "alice", "--add-config", "producer_byte_rate=0"));
        assert!(zero.contains("Quota producer_byte_rate must be greater than 0"), "{zero}");

        printed(admin.alter("broker-loggers", "1", "--add-config", "thalweg_wal=DEBUG"));
        let levels = admin.describe("broker-loggers", "1");
        assert!(levels.contains("\n  thalweg_wal=DEBUG sensitive=false synonyms={}\n"), "{levels}");
        let root = refused(admin.alter("broker-loggers", "1", "--delete-config", "root"));
        assert!(root.contains("Removing the log level of the root logger is not allowed"), "{root}");
    }

    #[test]
    fn partitions_are_where_they_are() {
        let admin = started();
        admin.create_topic();
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        fs::write(&input, "a\n").unwrap();
        admin
            .tools
            .topics(&["--create", "--topic", "one", "--partitions", "1"])
            .unwrap()
            .expect_success()
            .unwrap();
        admin.tools.console_producer("one", "none", &input).unwrap();
        let dirs = printed(admin.tool("LogDirsCommand", &["--describe", "--topic-list", "one,t1"]));
        // A batch with one record of one byte: 61 bytes of header, 8 of the record.
        for expected in [
            r#"{"partition":"one-0","size":69,"offsetLag":0,"isFuture":false}"#,
            r#"{"partition":"t1-1","size":0,"offsetLag":0,"isFuture":false}"#,
        ] {
            assert!(dirs.contains(expected), "{dirs}");
        }

        let elected = ["--election-type", "preferred", "--topic", "t1", "--partition", "0"];
        assert_eq!(
            printed(admin.tool("LeaderElectionCommand", &elected)),
            "Valid replica already elected for partitions t1-0\n"
        );
        let plan = folder.path().join("plan.json");
        let moved = r#"{"version":1,"partitions":[{"topic":"t1","partition":0,"replicas":[1]}]}"#;
        fs::write(&plan, moved).unwrap();
        let plan = plan.to_str().unwrap();
        let reassign =
            |arguments: &[&str]| printed(admin.tool("reassign.ReassignPartitionsCommand", arguments));
        let started = reassign(&["--execute", "--reassignment-json-file", plan]);
        assert!(started.ends_with("Successfully started partition reassignment for t1-0\n"), "{started}");
        assert_eq!(
            reassign(&["--verify", "--reassignment-json-file", plan]),
            "Status of partition reassignment:\nReassignment of partition t1-0 is completed.\n\n\
             Clearing broker-level throttles on broker 1\nClearing topic-level throttles on topic t1\n"
        );
        assert_eq!(reassign(&["--list"]), "No partition reassignments found.\n");
    }

    #[test]
    fn the_cluster_describes_itself() {
        let admin = started();
        let id = printed(admin.tools.cluster("cluster-id", &[]));
        assert!(id.starts_with("Cluster ID: "), "{id}");
        let gone = refused(admin.tools.cluster("unregister", &["--id", "9"]));
        assert!(gone.contains("Broker ID 9 is not currently registered"), "{gone}");

        let quorum = printed(admin.tool("MetadataQuorumCommand", &["describe", "--status"]));
        for expected in
            ["LeaderId:               1\n", "MaxFollowerLag:         0\n", "CurrentObservers:       []\n"]
        {
            assert!(quorum.contains(expected), "{quorum}");
        }
        let features = printed(admin.tool("FeatureCommand", &["describe"]));
        let version = "Feature: metadata.version                          SupportedMinVersion: 3.3-IV3          \
             SupportedMaxVersion: 4.3-IV0          FinalizedVersionLevel: 4.3-IV0          Epoch: 0";
        assert!(features.contains(version), "{features}");
        let down = refused(admin.tool("FeatureCommand", &["downgrade", "--feature", "metadata.version=29"]));
        let reason = "Could not downgrade metadata.version to 29. The update failed for all features since the following feature had an error: \
             Unsupported metadata.version downgrade from 30 to 29. Refusing to perform the requested downgrade because it might delete \
             metadata information.";
        assert!(down.contains(reason), "{down}");

        let acls = refused(admin.tool("AclCommand", &["--list"]));
        assert!(
            acls.contains("SecurityDisabledException: No Authorizer is configured on the broker"),
            "{acls}"
        );
    }
}
