use super::command::{Finished, run, run_into};
use crate::{process::Process, tools::KafkaJars};
use anyhow::{Result, bail};
use std::{net::SocketAddr, path::Path, process::Command};

/// Kafka's own command-line tools, pointed at a broker.
#[derive(Clone)]
pub struct KafkaTools {
    jars: KafkaJars,
    address: SocketAddr,
}

impl KafkaTools {
    /// Tools for the broker at `address`; fetches Kafka's jars the first time.
    pub fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self { jars: KafkaJars::fetch()?, address })
    }

    /// `kafka-topics.sh`.
    pub fn topics(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.TopicCommand", arguments)
    }

    /// `kafka-configs.sh`.
    pub fn configs(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("kafka.admin.ConfigCommand", arguments)
    }

    /// `kafka-get-offsets.sh`.
    pub fn get_offsets(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.GetOffsetShell", arguments)
    }

    /// `kafka-consumer-groups.sh`.
    pub fn consumer_groups(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", arguments)
    }

    /// `kafka-groups.sh`.
    pub fn groups(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.GroupsCommand", arguments)
    }

    /// `kafka-console-consumer.sh --group`: what is left of `topic` for the group, a record a line. It stops after `records`.
    pub fn consume_in_group(&self, topic: &str, group: &str, records: usize) -> Result<Vec<String>> {
        let records = records.to_string();
        let arguments = ["--topic", topic, "--group", group, "--timeout-ms", "60000", "--from-beginning"];
        let arguments = [&arguments[..], &["--max-messages", &records]].concat();
        let finished =
            self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments)?.expect_success()?;
        Ok(finished.stdout.lines().map(str::to_owned).collect())
    }

    /// `kafka-console-consumer.sh` with one of Kafka's formatters: the records of an internal topic, until no more come.
    pub fn formatted(&self, topic: &str, formatter: &str) -> Result<String> {
        let formatter = format!("org.apache.kafka.tools.consumer.{formatter}");
        let arguments =
            ["--topic", topic, "--from-beginning", "--timeout-ms", "10000", "--formatter", &formatter];
        Ok(self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments)?.stdout)
    }

    /// `kafka-transactions.sh`.
    pub fn transactions(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.TransactionsCommand", arguments)
    }

    /// `kafka-console-consumer.sh --isolation-level read_committed`: the records of `topic`, until no more come for a while.
    pub fn consume_committed(&self, topic: &str) -> Result<Vec<String>> {
        // Its log, which says that no more came, goes to its output too.
        let mut command = self.jars.java();
        command.args(["-Dorg.apache.logging.log4j.level=OFF", "-XX:TieredStopAtLevel=1", "-Xmx256m"]);
        command.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", &self.address.to_string(), "--topic", topic, "--from-beginning"]);
        command.args(["--timeout-ms", "10000", "--isolation-level", "read_committed"]);
        let finished = run(&mut command, None)?;
        Ok(finished.stdout.lines().map(str::to_owned).collect())
    }

    /// Kafka's `TransactionalMessageCopier`, from partition 0 of `input` to `output`: each transaction has 50 records and the
    /// offsets that it has read. Some it aborts by chance.
    pub fn start_copier(&self, input: &str, output: &str, records: usize, log: &Path) -> Result<Process> {
        let mut command = self.java("org.apache.kafka.tools.TransactionalMessageCopier");
        command.args(["--broker-list", &self.address.to_string(), "--transactional-id", "the-copier"]);
        command.args(["--input-topic", input, "--input-partition", "0", "--output-topic", output]);
        command.args(["--consumer-group", "copiers", "--transaction-size", "50"]);
        command.args(["--max-messages", &records.to_string(), "--enable-random-aborts"]);
        Process::spawn(&mut command, log)
    }

    /// `kafka-delete-records.sh`.
    pub fn delete_records(&self, arguments: &[&str]) -> Result<Finished> {
        self.run("org.apache.kafka.tools.DeleteRecordsCommand", arguments)
    }

    /// `kafka-broker-api-versions.sh`.
    pub fn api_versions(&self) -> Result<Finished> {
        self.run("org.apache.kafka.tools.BrokerApiVersionsCommand", &[])
    }

    /// Another of Kafka's tools, by its class in `org.apache.kafka.tools`.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<Finished> {
        self.run(&format!("org.apache.kafka.tools.{class}"), arguments)
    }

    /// `kafka-cluster.sh`, whose command comes first.
    pub fn cluster(&self, command: &str, arguments: &[&str]) -> Result<Finished> {
        let mut java = self.java("org.apache.kafka.tools.ClusterTool");
        java.args([command, "--bootstrap-server", &self.address.to_string()]).args(arguments);
        run(&mut java, None)
    }

    /// `kafka-console-producer.sh`: a record a line of `input`.
    pub fn console_producer(&self, topic: &str, codec: &str, input: &Path) -> Result<()> {
        let mut command = self.command("org.apache.kafka.tools.ConsoleProducer");
        command.args(["--topic", topic, "--compression-codec", codec]);
        let finished = run(&mut command, Some(input))?.expect_success()?;
        // It ends with status 0 even when records failed; then it says so.
        if finished.stderr.contains("ERROR") || finished.stdout.contains("ERROR") {
            bail!("console-producer: {}{}", finished.stdout, finished.stderr);
        }
        Ok(())
    }

    /// `kafka-console-consumer.sh --partition 0` from the start: the first `records` records in `output`,
    /// each followed by `separator`.
    pub fn console_consumer(
        &self,
        topic: &str,
        records: usize,
        separator: &str,
        output: &Path,
    ) -> Result<()> {
        let mut command = self.command("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--topic", topic, "--partition", "0", "--offset", "earliest", "--timeout-ms", "60000"]);
        command.args(["--max-messages", &records.to_string()]);
        command.args(["--formatter-property", &format!("line.separator={separator}")]);
        let errors = output.with_extension("stderr");
        if !run_into(&mut command, None, output, &errors)? {
            bail!("console-consumer {topic}: {}", std::fs::read_to_string(errors)?);
        }
        Ok(())
    }

    /// `java` with Kafka's jars and a main class that takes no `--bootstrap-server`, such as the perf tools.
    pub fn java(&self, class: &str) -> Command {
        let mut command = self.jars.java();
        command.arg("-Xmx512m").arg(class);
        command
    }

    /// The broker's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Result<Finished> {
        run(self.command(class).args(arguments), None)
    }

    /// A tool that is to start quickly rather than run fast.
    fn command(&self, class: &str) -> Command {
        let mut command = self.jars.java();
        command.args(["-XX:TieredStopAtLevel=1", "-Xmx256m", class]);
        command.args(["--bootstrap-server", &self.address.to_string()]);
        command
    }
}
