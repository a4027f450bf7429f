//! Stored data: log compaction beside Kafka's own, on the same records.

use super::Report;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{self, KafkaTools},
    kafka::Connection,
    servers::{Kafka, Options},
    wait,
};

const TOPIC: &str = "compacted";
const RECORDS: u64 = 10_000_000;
const KEYS: u64 = 1_000_000;
/// Of `RECORDS` records, three quarters are committed.
const COMMITTED: u64 = RECORDS / 4 * 3;
/// How long the cleaners may take once everything is written.
const PATIENCE: Duration = Duration::from_secs(900);
const LOOK: Duration = Duration::from_secs(10);
/// A log is clean when this many records are left for each key.
const LEFT: u64 = 2;

/// What is left of a log.
struct Left {
    records: u64,
    survivors: Vec<String>,
    took: Duration,
}

pub fn check(report: &mut Report) -> Result<()> {
    let folder = TempDir::new()?;
    let cleaner = [("log.cleaner.backoff.ms", "500"), ("log.cleaner.min.cleanable.ratio", "0.05")];
    let mut options = Options::new()?;
    for (name, value) in cleaner {
        options = options.set(name, value);
    }
    let of_kafka = {
        let kafka = Kafka::start(&cleaner)?;
        compact(kafka.address(), folder.path()).context("Kafka")?
    };
    options = options.set("flush.interval.ms", 1000).set("flush.log.bytes", 65_536);
    let broker = options.set("compaction.interval.ms", 1000).start()?;
    let of_thalweg = compact(broker.address(), folder.path()).context("Thalweg")?;

    report.note("records written, a quarter of them in transactions that are aborted", RECORDS);
    report.note("keys", KEYS);
    report.note("records left, Kafka (its active segment is never cleaned)", of_kafka.records);
    report.note("records left, Thalweg", of_thalweg.records);
    report.note("seconds from the last record until that was seen, Kafka", of_kafka.took.as_secs());
    report.note("seconds from the last record until that was seen, Thalweg", of_thalweg.took.as_secs());
    report.note("keys that are not deleted", of_kafka.survivors.len());
    let differing = of_kafka.survivors.iter().zip(&of_thalweg.survivors).filter(|(a, b)| a != b).count();
    let missing = of_kafka.survivors.len().abs_diff(of_thalweg.survivors.len());
    report.equals("keys whose last value or its offset differ", (differing + missing) as u64, 0);
    report.at_most(
        "records left for each key, Thalweg",
        of_thalweg.records as f64 / KEYS as f64,
        LEFT as f64,
    );
    Ok(())
}

/// Fills a log, and waits until it is clean.
fn compact(address: SocketAddr, folder: &Path) -> Result<Left> {
    wait::block_on(create(address))?;
    let tools = KafkaTools::new(address)?;
    let run = |arguments: &[&str]| {
        let mut command = tools.own_program("CompactedLog.java");
        command.args([arguments[0], &address.to_string(), TOPIC]).args(&arguments[1..]);
        clients::run(&mut command, None)?.expect_success()
    };
    run(&["fill", &RECORDS.to_string(), &KEYS.to_string()])?;
    let (file, written) = (folder.join("survivors"), Instant::now());
    let file_name = file.to_str().context("a path in Unicode")?;
    loop {
        let said = run(&["survivors", file_name])?.stdout;
        let records = said.lines().find_map(|line| line.strip_prefix("records ")).context(said.clone())?;
        let records: u64 = records.parse()?;
        eprintln!("  {records} of {COMMITTED} records are left");
        if records <= LEFT * KEYS {
            let survivors = fs::read_to_string(&file)?.lines().map(str::to_owned).collect();
            return Ok(Left { records, survivors, took: written.elapsed() });
        }
        ensure!(written.elapsed() < PATIENCE, "{records} records are left");
        std::thread::sleep(LOOK);
    }
}

async fn create(address: SocketAddr) -> Result<()> {
    // Small segments, so that little of Kafka's log is in its active one.
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "8388608")];
    let error = Connection::open(address).await?.create_topic(TOPIC, 1, &configs).await?;
    ensure!(error == 0, "CreateTopics: error {error}");
    Ok(())
}
