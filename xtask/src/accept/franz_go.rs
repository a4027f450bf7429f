//! Kafka's semantics: franz-go's own tests, beside Kafka.

use super::Report;
use crate::cargo::target_folder;
use anyhow::Result;
use std::{fs, net::SocketAddr};
use thalweg_end_to_end::{
    clients::{FranzGo, Outcome, Outcomes},
    servers::{Kafka, MinIo, Options},
};

/// Runs in a row against one broker.
const RUNS: u32 = 3;
/// Records of each chain, a tenth of what the tests take by themselves.
const RECORDS: u32 = 50_000;

pub fn check(report: &mut Report) -> Result<()> {
    let (of_kafka, of_kafka_in_chaos) = {
        let kafka = Kafka::start(&[])?;
        (run(kafka.address(), false, "kafka")?, run(kafka.address(), true, "kafka-chaos")?)
    };
    note(report, "Kafka", &of_kafka);
    note(report, "Kafka, the client cutting its connections", &of_kafka_in_chaos);
    let minio = MinIo::start()?;
    let broker = Options::on_minio(&minio, "franz-go")?.set("group.initial.rebalance.delay.ms", 0).start()?;
    for number in 1..=RUNS {
        let outcomes = run(broker.address(), false, &format!("thalweg-{number}"))?;
        let what = format!("Thalweg, run {number}");
        note(report, &what, &outcomes);
        none(report, &format!("{what}: failed"), outcomes.named(Outcome::Failed));
        passes_as(report, &what, &outcomes, &of_kafka);
    }
    let what = "Thalweg, the client cutting its connections";
    let outcomes = run(broker.address(), true, "thalweg-chaos")?;
    note(report, what, &outcomes);
    passes_as(report, what, &outcomes, &of_kafka_in_chaos);
    Ok(())
}

/// Runs all tests; what they say stays in the target folder.
fn run(address: SocketAddr, chaos: bool, name: &str) -> Result<Outcomes> {
    let folder = target_folder().join("franz-go");
    fs::create_dir_all(&folder)?;
    let log = folder.join(name);
    if log.exists() {
        fs::remove_file(&log)?;
    }
    eprintln!("  {}", log.display());
    FranzGo::new(address, RECORDS, chaos)?.run(".", &log)
}

fn note(report: &mut Report, what: &str, outcomes: &Outcomes) {
    let [passed, failed, skipped] =
        [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| outcomes.count(outcome));
    report.note(what, format!("{passed} passed, {failed} failed, {skipped} skipped"));
}

fn passes_as(report: &mut Report, what: &str, outcomes: &Outcomes, of_kafka: &Outcomes) {
    let missing = outcomes.missing_of(of_kafka);
    none(report, &format!("{what}: passes on Kafka and not here"), missing.iter().map(String::as_str));
}

/// There must be none of what `names` lists.
fn none<'a>(report: &mut Report, what: &str, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    let result = if names.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{}", names.join(", "))) };
    report.must_succeed(&format!("no test {what}"), result);
}
