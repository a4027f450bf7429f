//! Kafka's semantics: its command-line tools, with the same arguments against both brokers.

use super::Report;
use anyhow::{Result, bail};
use std::fs;
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{Finished, KafkaTools},
    servers::{Kafka, MinIo, Options},
};

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

/// What is done one after another: the tool's class, and its arguments, with a space between them. `INPUT` and `PLAN` stand for
/// files.
const STEPS: [(&str, &str); 56] = [
    (TOPICS, "--list"),
    (TOPICS, "--create --topic a --partitions 3 --replication-factor 1"),
    (
        TOPICS,
        "--create --topic b --partitions 1 --config retention.ms=1234567 --config cleanup.policy=compact",
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
    (DELETE_RECORDS, "--offset-json-file PLAN"),
    (OFFSETS, "--topic b --time earliest"),
    (FEATURES, "describe"),
    (LEADER_ELECTION, "--election-type preferred --topic a --partition 0"),
    (LOG_DIRS, "--describe --topic-list b"),
    (ACLS, "--list"),
    (QUORUM, "describe --status"),
    (TOPICS, "--delete --topic a"),
    (TOPICS, "--delete --topic none"),
    (TOPICS, "--list"),
];

const INPUT: &str = "key1:value1\nkey2:value2\nkey3:value3\n";
const PLAN: &str = r#"{"version":1,"partitions":[{"topic":"b","partition":0,"offset":1}]}"#;

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let broker = Options::on_minio(&minio, "tools")?.set("group.initial.rebalance.delay.ms", 0).start()?;
    let kafka = Kafka::start(&[])?;
    let folder = TempDir::new()?;
    let (input, plan) = (folder.path().join("input"), folder.path().join("plan"));
    fs::write(&input, INPUT)?;
    fs::write(&plan, PLAN)?;
    let of_kafka = KafkaTools::new(kafka.address())?;
    let of_thalweg = KafkaTools::new(broker.address())?;
    for (class, arguments) in STEPS {
        let arguments: Vec<String> =
            arguments.split(' ').map(|word| word.replace("PLAN", &plan.to_string_lossy())).collect();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let input = (class == PRODUCER).then_some(input.as_path());
        let said =
            |tools: &KafkaTools| tools.tool_reading(class, &words, input).map(|said| normal(&said, tools));
        let (_, tool) = class.rsplit_once('.').unwrap_or(("", class));
        let what = format!("{tool} {}", words.join(" ")).replace(&*plan.to_string_lossy(), "PLAN");
        report.must_succeed(&what, same(&said(&of_kafka)?, &said(&of_thalweg)?));
    }
    Ok(())
}

/// An error that shows the first line that differs.
fn same(of_kafka: &[String], of_thalweg: &[String]) -> Result<()> {
    let lines = of_kafka.len().max(of_thalweg.len());
    let line = |of: &[String], number: usize| of.get(number).cloned().unwrap_or_else(|| "(nothing)".into());
    match (0..lines).find(|&number| of_kafka.get(number) != of_thalweg.get(number)) {
        None => Ok(()),
        Some(number) => bail!("Kafka: {} Thalweg: {}", line(of_kafka, number), line(of_thalweg, number)),
    }
}

/// What a tool said, without what no two clusters have in common. Kafka's tools list many things in the order of a hash map: the
/// lines are sorted.
fn normal(said: &Finished, tools: &KafkaTools) -> Vec<String> {
    let address = tools.address().to_string();
    let words = |line: &str| {
        let line = line.replace(&address, "ADDRESS").replace(&address.replace(':', " "), "ADDRESS");
        line.split_whitespace().map(normal_word).collect::<Vec<_>>().join(" ")
    };
    // A stack's frames show where in the tool, not what of the broker.
    let is_frame =
        |line: &&str| line.trim_start().starts_with("at ") || line.trim_start().starts_with("... ");
    let text = format!("{}\n{}", said.stdout, said.stderr);
    let mut lines: Vec<_> = text.lines().filter(|line| !is_frame(line)).map(words).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines.push(format!("ended {}", if said.success { "well" } else { "badly" }));
    lines
}

/// Ids of 16 bytes in base 64 and times of the day are no two clusters' own.
fn normal_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', '.', ')', ']']).trim_start_matches(['[', '(']);
    let is_id = bare.len() == 22
        && bare.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
        && bare.chars().any(char::is_uppercase);
    let of_digits = bare.chars().all(|letter| letter.is_ascii_digit() || "-:,.T".contains(letter));
    let is_date = bare.len() >= 10 && bare.starts_with("20") && bare.contains('-');
    let is_time = of_digits && (is_date || bare.matches(':').count() == 2);
    match () {
        () if is_id => word.replace(bare, "ID"),
        () if is_time => word.replace(bare, "TIME"),
        () => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_no_difference() {
        assert_eq!(normal_word("dGhhbHdlZ19iZW5jaG1hcg"), "ID");
        assert_eq!(normal_word("[2026-11-21"), "[TIME");
        assert_eq!(normal_word("10:11:12,123]"), "TIME]");
        assert_eq!(normal_word("retention.ms=1234567"), "retention.ms=1234567");
        assert_eq!(normal_word("PartitionCount:"), "PartitionCount:");
    }

    #[test]
    fn the_first_difference_is_shown() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(same(&lines("a b"), &lines("a b")).is_ok());
        assert!(same(&lines("a b c"), &lines("a b")).is_err());
        assert!(same(&lines("a b"), &lines("a x")).is_err());
    }
}
