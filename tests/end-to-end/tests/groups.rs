//! Consumer groups as people use them: kcat, Kafka's console consumer, Kafka's group tools; over kill -9.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use std::{fmt::Write as _, fs, ops::Range, time::Duration};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{Finished, KafkaTools, Kcat},
    kafka,
    servers::{Options, Thalweg},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn broker() -> Thalweg {
    Options::new().unwrap().set("group.initial.rebalance.delay.ms", 0).start().unwrap()
}

fn lines(range: Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Produces the numbers of a range, a record each, to partition 0.
fn produce(broker: &Thalweg, topic: &str, range: Range<u32>) {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("input");
    let text = range.fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    });
    fs::write(&input, text).unwrap();
    Kcat::new(broker.address()).unwrap().produce(topic, "none", "\n", &input).unwrap();
}

fn ok(finished: anyhow::Result<Finished>) -> String {
    finished.unwrap().expect_success().unwrap().stdout
}

mod with_kcat {
    use super::*;

    #[test]
    fn a_group_goes_on_where_it_was_after_kill_9() {
        let mut broker = broker();
        produce(&broker, "resumed", 0..1_000);
        let read = Kcat::new(broker.address()).unwrap().consume_in_group("g", "resumed").unwrap();
        assert_eq!(read, lines(0..1_000));
        for life in 1..4 {
            broker.kill().unwrap();
            broker.start_again().unwrap();
            let new = life * 1_000..life * 1_000 + 10;
            produce(&broker, "resumed", new.clone());
            let read = Kcat::new(broker.address()).unwrap().consume_in_group("g", "resumed").unwrap();
            assert_eq!(read, lines(new), "life {life}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_member_takes_over_from_one_that_was_killed() {
        let broker = broker();
        kafka::create_topic(broker.address(), "shared", 1).await.unwrap();
        let folder = TempDir::new().unwrap();
        let kcat = Kcat::new(broker.address()).unwrap();
        let mut first = kcat.start_member("g", "shared", &folder.path().join("first")).unwrap();
        produce(&broker, "shared", 0..10);
        let has =
            |last: &'static str| move |output: &str| output.lines().any(|line| line == last).then_some(());
        first.wait_for_output("the first member reads", PATIENCE, has("9")).unwrap();
        first.kill().unwrap();
        let mut second = kcat.start_member("g", "shared", &folder.path().join("second")).unwrap();
        produce(&broker, "shared", 10..20);
        second.wait_for_output("the second member takes over", PATIENCE, has("19")).unwrap();
    }
}

/// The consumer protocol (KIP-848).
mod by_the_consumer_protocol {
    use super::*;
    use std::path::Path;
    use thalweg_end_to_end::process::Process;

    fn reads(member: &mut Process, last: &str) {
        let has = |output: &str| output.lines().any(|line| line == last).then_some(());
        member.wait_for_output("the member reads", PATIENCE, has).unwrap();
    }

    /// The output of `--describe` once it shows what is waited for.
    fn described(tools: &KafkaTools, arguments: &[&str], shows: impl Fn(&str) -> bool) -> String {
        let arguments = [&["--describe", "--group", "g"], arguments].concat();
        thalweg_end_to_end::wait::until("the group's description", PATIENCE, || {
            let described = tools.consumer_groups(&arguments)?.stdout;
            Ok(shows(&described).then_some(described))
        })
        .unwrap()
    }

    /// What stands in the column called `head` of each member's line.
    fn column(described: &str, head: &str) -> Vec<String> {
        let mut lines = described.lines().filter(|line| !line.trim().is_empty());
        let at = lines.clone().find_map(|line| line.split_whitespace().position(|word| word == head));
        let of = |line: &str| line.split_whitespace().nth(at?).map(str::to_owned);
        let is_member = |line: &&str| line.starts_with("g ");
        lines.by_ref().filter(is_member).filter_map(of).collect()
    }

    fn start(tools: &KafkaTools, protocol: &str, folder: &Path, name: &str) -> Process {
        tools.start_member("g", protocol, ["--topic", "shared"], &folder.join(name)).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn kafkas_consumers_share_a_topic_and_kafkas_tools_describe_the_group_over_kill_9() {
        let mut broker = broker();
        kafka::create_topic(broker.address(), "shared", 2).await.unwrap();
        produce(&broker, "shared", 0..10);
        let folder = TempDir::new().unwrap();
        let tools = KafkaTools::new(broker.address()).unwrap();
        let mut first = start(&tools, "consumer", folder.path(), "first");
        reads(&mut first, "9");
        let alone = described(&tools, &["--state"], |described| described.contains("Stable"));
        assert!(alone.contains("uniform"), "{alone}");
        let mut second = start(&tools, "consumer", folder.path(), "second");
        let members = described(&tools, &["--members", "--verbose"], |described| {
            let partitions = column(described, "#PARTITIONS");
            partitions == ["1", "1"]
        });
        assert!(members.contains("shared:0") && members.contains("shared:1"), "{members}");
        broker.kill().unwrap();
        broker.start_again().unwrap();
        let tools = KafkaTools::new(broker.address()).unwrap();
        let again = described(&tools, &["--members", "--verbose"], |described| {
            column(described, "#PARTITIONS") == ["1", "1"]
        });
        let ids = |described: &str| column(described, "CONSUMER-ID");
        assert_eq!(ids(&again), ids(&members), "nobody has joined anew");
        // What goes on being written is never read to its end.
        first.terminate().unwrap();
        second.terminate().unwrap();
        described(&tools, &["--state"], |described| described.contains("Empty"));
        let records = tools.formatted("__consumer_offsets", "OffsetsMessageFormatter").unwrap();
        assert!(records.contains(r#""group":"g","topic":"shared""#), "{records}");
        let all = ok(tools.groups(&["--list"]));
        assert!(all.lines().any(|line| line.split_whitespace().eq(["g", "Consumer", "consumer"])), "{all}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_subscription_by_regular_expression_finds_topics_that_come_later() {
        let broker = broker();
        kafka::create_topic(broker.address(), "log.one", 1).await.unwrap();
        produce(&broker, "log.one", 0..10);
        let folder = TempDir::new().unwrap();
        let tools = KafkaTools::new(broker.address()).unwrap();
        let log = folder.path().join("member");
        let mut member = tools.start_member("g", "consumer", ["--include", r"log\..*"], &log).unwrap();
        reads(&mut member, "9");
        kafka::create_topic(broker.address(), "log.two", 1).await.unwrap();
        produce(&broker, "log.two", 10..20);
        reads(&mut member, "19");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_group_in_use_changes_its_protocol_and_back() {
        let broker = broker();
        kafka::create_topic(broker.address(), "shared", 2).await.unwrap();
        produce(&broker, "shared", 0..10);
        let folder = TempDir::new().unwrap();
        let tools = KafkaTools::new(broker.address()).unwrap();
        let mut classic = start(&tools, "classic", folder.path(), "classic");
        reads(&mut classic, "9");
        let is_of = |kind: &str| {
            let all = ok(tools.groups(&["--list"]));
            all.lines().any(|line| line.split_whitespace().eq(["g", kind, "consumer"]))
        };
        assert!(is_of("Classic"));
        let mut new = start(&tools, "consumer", folder.path(), "new");
        let members = described(&tools, &["--members", "--verbose"], |described| {
            column(described, "#PARTITIONS") == ["1", "1"]
        });
        assert!(is_of("Consumer") && members.contains("shared:1"), "{members}");
        new.terminate().unwrap();
        described(&tools, &["--members"], |described| column(described, "#PARTITIONS") == ["2"]);
        assert!(is_of("Classic"));
        produce(&broker, "shared", 10..20);
        reads(&mut classic, "19");
    }
}

mod with_kafka_tools {
    use super::*;

    /// The columns of a group's one line in `--describe`.
    fn described(tools: &KafkaTools, group: &str) -> Vec<String> {
        let described = ok(tools.consumer_groups(&["--describe", "--group", group]));
        let line =
            described.lines().find(|line| line.starts_with(group)).unwrap_or_else(|| panic!("{described}"));
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn kafkas_console_consumer_goes_on_where_its_group_was_after_kill_9() {
        let mut broker = broker();
        produce(&broker, "console", 0..500);
        let tools = KafkaTools::new(broker.address()).unwrap();
        assert_eq!(tools.consume_in_group("console", "readers", 300).unwrap(), lines(0..300));
        broker.kill().unwrap();
        broker.start_again().unwrap();
        let tools = KafkaTools::new(broker.address()).unwrap();
        // Group, topic, partition, committed offset, log end, lag.
        assert_eq!(described(&tools, "readers")[..6], ["readers", "console", "0", "300", "500", "200"]);
        assert_eq!(tools.consume_in_group("console", "readers", 200).unwrap(), lines(300..500));
    }

    #[test]
    fn kafkas_group_tools_list_describe_reset_and_delete() {
        let broker = broker();
        produce(&broker, "tools", 0..100);
        let tools = KafkaTools::new(broker.address()).unwrap();
        let groups = |arguments: &[&str]| ok(tools.consumer_groups(arguments));
        assert_eq!(tools.consume_in_group("tools", "g", 100).unwrap().len(), 100);
        assert_eq!(groups(&["--list"]).trim(), "g");
        // The head of the table alone.
        assert_eq!(groups(&["--list", "--state", "stable"]).trim().lines().count(), 1);
        assert!(groups(&["--describe", "--group", "g", "--state"]).contains("Empty"));
        let all = ok(tools.groups(&["--list"]));
        assert!(all.lines().any(|line| line.split_whitespace().eq(["g", "Classic", "consumer"])), "{all}");

        let of_topic = ["--group", "g", "--topic", "tools"];
        for (to, expected) in
            [(&["--to-offset", "42"][..], "42"), (&["--shift-by", "-2"], "40"), (&["--to-earliest"], "0")]
        {
            groups(&[&of_topic[..], &["--reset-offsets", "--execute"], to].concat());
            assert_eq!(described(&tools, "g")[3], expected, "{to:?}");
        }
        groups(&[&["--delete-offsets"], &of_topic[..]].concat());
        let described = groups(&["--describe", "--group", "g"]);
        assert!(!described.lines().any(|line| line.starts_with("g ")), "{described}");
        groups(&["--delete", "--group", "g"]);
        assert_eq!(groups(&["--list"]).trim(), "");

        let deleted = tools.consumer_groups(&["--delete", "--group", "g"]).unwrap();
        assert!(deleted.stdout.contains("GroupIdNotFoundException"), "{}", deleted.stdout);
        let records = tools.formatted("__consumer_offsets", "OffsetsMessageFormatter").unwrap();
        let first =
            r#"{"key":{"type":1,"data":{"group":"g","topic":"tools","partition":0}},"value":{"version":4"#;
        assert!(records.contains(first), "{records}");
        let records = tools.formatted("__consumer_offsets", "GroupMetadataMessageFormatter").unwrap();
        assert!(
            records.contains(r#""protocolType":"consumer","generation":1,"protocol":"range""#),
            "{records}"
        );
    }
}
