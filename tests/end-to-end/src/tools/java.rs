//! Apache Kafka (broker and tools) as jars from Maven Central, at a pinned version.

use super::{Cache, path};
use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The Kafka whose tools are the reference.
pub const KAFKA_VERSION: &str = "4.3.1";

const LOG4J_VERSION: &str = "2.25.1";

/// A Java runtime and the folder of Kafka's jars.
#[derive(Clone, Debug)]
pub struct KafkaJars {
    java: PathBuf,
    folder: PathBuf,
}

impl KafkaJars {
    /// Finds them, fetching the jars the first time.
    pub fn fetch() -> Result<Self> {
        let java = path::require("java", "install a JDK, 17 or newer (Debian: default-jdk-headless)")?;
        let folder = Cache::of_user().entry(&format!("kafka-{KAFKA_VERSION}"), download)?;
        Ok(Self { java, folder })
    }

    /// The jar of one of Kafka's artifacts.
    pub fn jar(&self, artifact: &str) -> PathBuf {
        self.folder.join(format!("{artifact}-{KAFKA_VERSION}.jar"))
    }

    /// `java` with Kafka's jars on its class path; main class and arguments are to follow.
    pub fn java(&self) -> Command {
        let mut command = Command::new(&self.java);
        command.arg("-Djava.awt.headless=true").arg("-cp").arg(self.folder.join("*"));
        command
    }
}

fn download(staging: &Path) -> Result<()> {
    let maven = path::require("mvn", "install Maven (Debian: maven); it fetches Apache Kafka's jars")?;
    let project = tempfile::tempdir()?;
    let pom = project.path().join("pom.xml");
    fs::write(&pom, pom_xml())?;
    path::run(
        Command::new(maven)
            .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", staging.display()))
            .arg("-f")
            .arg(&pom),
    )
}

/// A Maven project whose only content is its dependencies.
fn pom_xml() -> String {
    let kafka = ["kafka_2.13", "kafka-tools", "kafka-clients"];
    let log4j = ["log4j-slf4j-impl", "log4j-core", "log4j-1.2-api"];
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let kafka = kafka.map(|artifact| dependency("org.apache.kafka", artifact, KAFKA_VERSION)).concat();
    let log4j =
        log4j.map(|artifact| dependency("org.apache.logging.log4j", artifact, LOG4J_VERSION)).concat();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>thalweg</groupId><artifactId>kafka-jars</artifactId><version>1</version>\
         <dependencies>{kafka}{log4j}</dependencies></project>"
    )
}
