use super::free_address;
use crate::{process::Process, tools::KafkaJars};
use anyhow::{Result, bail};
use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const START_PATIENCE: Duration = Duration::from_secs(120);

/// One Apache Kafka, broker and controller in one process, on its own disk: formatted as its quickstart has it.
pub struct Kafka {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Kafka {
    /// Starts one with 1 GiB of heap (fetching Kafka's jars the first time) and waits until it serves. `settings` come
    /// on top of those that a single node needs.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let jars = KafkaJars::fetch()?;
        let folder = TempDir::with_prefix("thalweg-kafka-")?;
        let address = free_address()?;
        let properties = folder.path().join("server.properties");
        fs::write(&properties, server_properties(folder.path(), address, free_address()?, settings)?)?;
        format_disk(&jars, &properties)?;
        let mut command = jars.java();
        command.args(["-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "kafka.Kafka"]).arg(&properties);
        let log = folder.path().join("kafka.log");
        let mut process = Process::spawn(with_logging(&mut command, folder.path())?, &log)?;
        let started = |log: &str| log.contains("Kafka Server started").then_some(());
        process.wait_for_output("Kafka has started", START_PATIENCE, started)?;
        Ok(Self { process, address, _folder: folder })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn server_properties(
    folder: &Path,
    broker: SocketAddr,
    controller: SocketAddr,
    settings: &[(&str, &str)],
) -> Result<String> {
    let logs = folder.join("logs");
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers={controller}\n\
         listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        logs.display()
    );
    for (key, value) in settings {
        writeln!(text, "{key}={value}")?;
    }
    Ok(text)
}

/// Any 16 bytes in URL-safe base 64 will do.
const CLUSTER_ID: &str = "dGhhbHdlZ19iZW5jaG1hcg";

fn format_disk(jars: &KafkaJars, properties: &Path) -> Result<()> {
    let output = jars
        .java()
        .args(["kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", CLUSTER_ID, "--config"])
        .arg(properties)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("formatting Kafka's disk: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Kafka's jars carry no log4j configuration; without one it logs nothing of what we wait for.
fn with_logging<'a>(command: &'a mut Command, folder: &Path) -> Result<&'a mut Command> {
    let configuration = folder.join("log4j2.yaml");
    fs::write(
        &configuration,
        "Configuration:\n  Appenders:\n    Console: {name: S, target: SYSTEM_OUT, PatternLayout: {pattern: \"[%d] %p %m (%c)%n\"}}\n  \
         Loggers:\n    Root: {level: INFO, AppenderRef: [{ref: S}]}\n",
    )?;
    Ok(command.env("JDK_JAVA_OPTIONS", format!("-Dlog4j2.configurationFile={}", configuration.display())))
}
