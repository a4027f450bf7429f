//! The metadata lost, with 10,000 objects in the bucket.

use super::{Report, runtime};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    process::Output,
    time::{Duration, Instant},
};
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, ProduceRequest},
    servers::{MinIo, Options, Thalweg},
    wait,
};

const BUCKET: &str = "restore";
const TOPICS: usize = 5;
const PARTITIONS: i32 = 20;
/// Objects that are there at least.
const OBJECTS: u64 = 10_000;
/// Above what makes a log get a segment of its own in a flush.
const BATCH_BYTES: usize = 72 << 10;
/// Long enough for a flush and a snapshot.
const PATIENCE: Duration = Duration::from_secs(120);
const GROUP: &str = "readers";

/// What clients see of the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// By topic and partition: start, end, and a hash of all records.
    partitions: BTreeMap<(String, i32), (i64, i64, u64)>,
    configs: BTreeMap<String, BTreeMap<String, Option<String>>>,
    committed: Option<i64>,
}

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let options = Options::on_minio(&minio, BUCKET)?
        .set("flush.interval.ms", 200)
        .set("flush.log.bytes", 65_536)
        .set("flush.bytes", 4 << 20)
        .set("wal.put.rate", 0)
        .set("metadata.snapshot.interval.ms", 1_000);
    let mut broker = options.start()?;
    let runtime = runtime()?;
    runtime.block_on(create(broker.address()))?;
    let objects = runtime.block_on(fill(&minio, broker.address()))?;
    report.at_least("segments in the bucket", objects as f64, OBJECTS as f64);
    runtime.block_on(has_snapshot(&minio))?;
    must_be_clean(report, "beside the running broker", &broker)?;
    let before = runtime.block_on(see(broker.address()))?;
    // These are in the WAL, or just flushed.
    runtime.block_on(produce_everywhere(broker.address(), 1))?;
    let last = runtime.block_on(see(broker.address()))?;
    ensure!(last != before, "the last records are not there");
    broker.kill()?;
    let lost = runtime.block_on(lose_metadata(&minio))?;
    report.note("objects of the metadata store deleted", lost);

    let started = Instant::now();
    let output = run(&broker, &["restore", "--json"])?;
    report.note("thalweg restore, s", format!("{:.2}", started.elapsed().as_secs_f64()));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    for field in [
        "objects",
        "log_segments",
        "shared_segments",
        "manifests",
        "not_needed",
        "rows",
        "read_ms",
        "write_ms",
    ] {
        report.note(&format!("restore says: {field}"), &said[field]);
    }
    report.must("restore says that all came back", output.status.code() == Some(0));
    if output.status.code() != Some(0) {
        report.note("restore", said);
    }
    must_be_clean(report, "after the restoration", &broker)?;
    broker.start_again()?;
    let after = runtime.block_on(see(broker.address()))?;
    report.must("the same records at the same offsets", after.partitions == last.partitions);
    report.must("the same settings of topics", after.configs == last.configs);
    report.must("the same committed offset", after.committed == last.committed);
    runtime.block_on(produce_everywhere(broker.address(), 1))?;
    must_be_clean(report, "after the next start", &broker)
}

fn topic(number: usize) -> String {
    format!("kept-{number}")
}

async fn create(address: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    for number in 0..TOPICS {
        let retention = (number as u64 + 1) * 86_400_000;
        let configs = [("retention.ms", retention.to_string()), ("max.message.bytes", "2000000".to_owned())];
        let configs: Vec<_> = configs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let error = connection.create_topic(&topic(number), PARTITIONS, &configs).await?;
        ensure!(error == 0, "CreateTopics: error {error}");
        // It is there; this waits until it can be written to.
        kafka::create_topic(address, &topic(number), PARTITIONS).await?;
    }
    wait::until_ok("an offset is committed", PATIENCE, || async {
        Connection::open(address).await?.commit_first_offset(GROUP, &topic(0), 17).await
    })
    .await
}

/// Until there are enough objects.
async fn fill(minio: &MinIo, address: SocketAddr) -> Result<u64> {
    let bucket = minio.bucket(BUCKET)?;
    loop {
        produce_everywhere(address, 10).await?;
        let objects = bucket.list("thalweg/seg/").await?.len() as u64;
        if objects >= OBJECTS {
            return Ok(objects);
        }
    }
}

/// `rounds` batches to every partition, each round acknowledged before the next.
async fn produce_everywhere(address: SocketAddr, rounds: usize) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    for round in 0..rounds {
        for number in 0..TOPICS {
            let value =
                |partition: i32| vec![(round as u8) ^ (partition as u8) ^ (number as u8); BATCH_BYTES];
            let batch = |partition| Batch::plain(vec![value(partition).into()]).encode();
            let partitions: Vec<_> = (0..PARTITIONS).map(|partition| (partition, batch(partition))).collect();
            let request = ProduceRequest { topic: &topic(number), acks: -1, partitions: &partitions };
            let produced = connection.produce(&request).await?;
            ensure!(produced.iter().all(|answer| answer.error == 0), "{produced:?}");
        }
    }
    Ok(())
}

/// Waits for a snapshot that was taken after the last topic was created.
async fn has_snapshot(minio: &MinIo) -> Result<()> {
    let (bucket, last) = (minio.bucket(BUCKET)?, format!("topic/{}", topic(TOPICS - 1)));
    wait::until_ok("a snapshot that has all topics", PATIENCE, || async {
        let snapshots = bucket.list("thalweg/snapshot/").await?;
        let newest = snapshots.last().context("there is none")?;
        let content = bucket.get(&newest.key).await?;
        let found = content.windows(last.len()).any(|part| part == last.as_bytes());
        ensure!(found, "it has not");
        Ok(())
    })
    .await
}

async fn lose_metadata(minio: &MinIo) -> Result<usize> {
    let bucket = minio.bucket(BUCKET)?;
    let objects = bucket.list("thalweg/meta/").await?;
    for object in &objects {
        bucket.delete(&object.key).await?;
    }
    Ok(objects.len())
}

async fn see(address: SocketAddr) -> Result<Seen> {
    let mut seen = Seen::default();
    for (number, partition) in
        (0..TOPICS).flat_map(|number| (0..PARTITIONS).map(move |partition| (number, partition)))
    {
        let records = kafka::read_all(address, &topic(number), partition).await?;
        let mut hasher = DefaultHasher::new();
        for record in &records {
            record.offset.hash(&mut hasher);
            record.value.hash(&mut hasher);
        }
        let start = records.first().map_or(0, |record| record.offset);
        let end = kafka::end_offset(address, &topic(number), partition).await?;
        seen.partitions.insert((topic(number), partition), (start, end, hasher.finish()));
    }
    for number in 0..TOPICS {
        let configs = Connection::open(address).await?.topic_configs(&topic(number)).await?;
        seen.configs.insert(topic(number), configs);
    }
    let committed = wait::until_ok("the group's offset", PATIENCE, || async {
        let committed = Connection::open(address).await?.committed_offset(GROUP, &topic(0)).await?;
        committed.map_err(|error| anyhow::anyhow!("OffsetFetch: error {error}"))
    });
    seen.committed = Some(committed.await?);
    Ok(seen)
}

fn run(broker: &Thalweg, arguments: &[&str]) -> Result<Output> {
    let options = arguments.iter().fold(broker.options().clone(), |options, one| options.argument(one));
    options.run_in(broker.folder())
}

fn must_be_clean(report: &mut Report, when: &str, broker: &Thalweg) -> Result<()> {
    let started = Instant::now();
    let output = run(broker, &["fsck", "--deep"])?;
    let took = started.elapsed().as_secs_f64();
    report.must(&format!("thalweg fsck --deep {when}: clean"), output.status.code() == Some(0));
    report.note(&format!("thalweg fsck --deep {when}, s"), format!("{took:.2}"));
    if output.status.code() != Some(0) {
        let said = [output.stdout, output.stderr].concat();
        report.note(when, String::from_utf8_lossy(&said));
    }
    Ok(())
}
