//! Kafka's semantics: transactions and Kafka Streams over kill -9, on MinIO.

use super::{Report, runtime};
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{KafkaTools, WordCount},
    kafka::{self, Batch, Connection, ProduceRequest},
    process::Process,
    servers::{MinIo, Options, Thalweg},
    wait,
};

/// Times that the broker is killed while the copiers copy.
const KILLS: u32 = 100;
const COPIERS: i32 = 4;
/// Enough for each copier to be busy through all the kills.
const RECORDS_EACH: usize = 40_000;
const INPUT: &str = "input";
const OUTPUT: &str = "output";
/// How long a life may take until every copier has committed something in it.
const LIFE_PATIENCE: Duration = Duration::from_secs(120);
/// How long the copiers may take for what is left after the last kill.
const END_PATIENCE: Duration = Duration::from_secs(1200);
/// How long Kafka Streams counts words, and how often its broker is killed meanwhile.
const STREAMS_DURATION: Duration = Duration::from_secs(600);
const STREAMS_KILL_PERIOD: Duration = Duration::from_secs(10);
const WORDS_PER_SECOND: u64 = 200;

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    copy(report, &minio)?;
    stream(report, &minio)
}

fn broker(minio: &MinIo, bucket: &str) -> Result<Thalweg> {
    Options::on_minio(minio, bucket)?.set("group.initial.rebalance.delay.ms", 0).start()
}

fn copy(report: &mut Report, minio: &MinIo) -> Result<()> {
    let mut broker = broker(minio, "copiers")?;
    runtime()?.block_on(fill(broker.address()))?;
    let tools = KafkaTools::new(broker.address())?;
    let folder = TempDir::new()?;
    let mut copiers = start_copiers(&tools, folder.path())?;
    let killed = kill_often(&mut broker, &mut copiers);
    report
        .must_succeed(&format!("{KILLS} lives, in each of which every copier commits, each killed"), killed);
    for (number, copier) in copiers.iter_mut().enumerate() {
        report.must_succeed(&format!("copier {number} copies to the end"), ends_well(copier));
    }
    let copied = tools.consume_committed(OUTPUT)?;
    report.note("records copied in transactions of 50, a third of them aborted", copied.len());
    count(report, &copied);
    let listed = tools.transactions(&["list"])?.expect_success()?.stdout;
    let complete = listed.lines().filter(|line| line.starts_with("copier-") && line.contains("Complete"));
    report.equals("transactional ids whose last transaction is complete", complete.count() as u64, 4);
    Ok(())
}

/// Writes the numbers that are to be copied, the same count to each partition.
async fn fill(address: SocketAddr) -> Result<()> {
    for topic in [INPUT, OUTPUT] {
        kafka::create_topic(address, topic, COPIERS).await?;
    }
    let mut connection = Connection::open(address).await?;
    let per_request = 1_000;
    for first in (0..RECORDS_EACH).step_by(per_request) {
        let batch = |partition: i32| {
            let values = (first..first + per_request).map(|number| format!("{partition}/{number}").into());
            (partition, Batch::plain(values.collect()).encode())
        };
        let partitions: Vec<_> = (0..COPIERS).map(batch).collect();
        let request = ProduceRequest { topic: INPUT, acks: -1, partitions: &partitions };
        let answers = connection.produce(&request).await?;
        ensure!(answers.iter().all(|answer| answer.error == 0), "{answers:?}");
    }
    Ok(())
}

fn start_copiers(tools: &KafkaTools, folder: &Path) -> Result<Vec<Process>> {
    let start = |partition: i32| {
        let log = folder.join(partition.to_string());
        tools.start_copier(INPUT, OUTPUT, partition, RECORDS_EACH, &log)
    };
    (0..COPIERS).map(start).collect()
}

/// Kills the broker at a random moment of each life, once every copier has committed something in it.
fn kill_often(broker: &mut Thalweg, copiers: &mut [Process]) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(1);
    for life in 1..=KILLS {
        let before: Vec<_> = copiers.iter().map(progress).collect::<Result<_>>()?;
        wait::until("every copier commits", LIFE_PATIENCE, || {
            let mut all_moved = true;
            for (copier, before) in copiers.iter_mut().zip(&before) {
                ensure!(copier.is_running(), "a copier has ended\n{}", copier.output_tail());
                all_moved &= progress(copier)? > *before;
            }
            Ok(all_moved.then_some(()))
        })
        .with_context(|| format!("life {life}\n{}", broker.process().output_tail()))?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..1000)));
        broker.kill()?;
        broker.start_again().with_context(|| format!("life {life}"))?;
        if life % 20 == 0 {
            eprintln!("  {life} kills");
        }
    }
    Ok(())
}

/// How many records a copier says that it has copied.
fn progress(copier: &Process) -> Result<u64> {
    let end = copier.output_end(4096)?;
    let Some((_, behind)) = end.rsplit_once("\"totalProcessed\":") else { return Ok(0) };
    Ok(behind.split(',').next().unwrap_or_default().parse().unwrap_or(0))
}

fn ends_well(copier: &mut Process) -> Result<()> {
    let status = copier.wait_for_exit(END_PATIENCE)?;
    ensure!(status.success(), "{status}\n{}", copier.output_tail());
    Ok(())
}

/// Each record must be there once. One of an aborted transaction would be there twice, as it's copied again.
fn count(report: &mut Report, copied: &[String]) {
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for record in copied {
        *times.entry(record).or_default() += 1;
    }
    let expected = COPIERS as u64 * RECORDS_EACH as u64;
    let doubled = times.values().filter(|times| **times > 1).count() as u64;
    report.equals("records lost", expected.saturating_sub(times.len() as u64), 0);
    report.equals("records doubled, or seen from an aborted transaction", doubled, 0);
}

fn stream(report: &mut Report, minio: &MinIo) -> Result<()> {
    let mut broker = broker(minio, "streams")?;
    let words = STREAMS_DURATION.as_secs() * WORDS_PER_SECOND;
    let mut word_count = WordCount::start(broker.address(), words, WORDS_PER_SECOND)?;
    let (started, mut kills) = (Instant::now(), 0_u64);
    while started.elapsed() + STREAMS_KILL_PERIOD < STREAMS_DURATION {
        std::thread::sleep(STREAMS_KILL_PERIOD);
        word_count.is_writing()?;
        broker.kill()?;
        broker.start_again()?;
        kills += 1;
    }
    report.note("times that the broker of Kafka Streams was killed", kills);
    report.note("words", words);
    report.must_succeed(
        "Kafka Streams, exactly_once_v2: the counts are those of the input",
        word_count.check(),
    );
    Ok(())
}
