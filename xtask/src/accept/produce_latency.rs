//! Line 6, second part: many small producers, with the latency of real S3.

use super::{Report, runtime};
use anyhow::Result;
use bytes::Bytes;
use std::{net::SocketAddr, time::Duration};
use thalweg_benches::{Subject, raw_put};
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, Latencies, ProduceRequest},
    proxy::{Counts, Latency},
    s3::Bucket,
    servers::MinIo,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

const CONNECTIONS: i32 = 200;
/// Records a second of all connections together.
const RATE: i32 = 1000;
const DURATION: Duration = Duration::from_secs(60);
const RECORD_BYTES: usize = 1024;
/// What the broker may add to a PUT.
const ADDED_MS: f64 = 4.0;
const TOPIC: &str = "small-producers";
const SECONDS_A_MONTH: f64 = 30.0 * 86_400.0;

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let (fast, raw, _) = measure(&minio, "fast", &[("wal.put.rate", "400")])?;
    report.note("raw PUT of 4 KiB with S3's latency", &raw);
    report.note("200 connections, 1,000 records/s, wal.put.rate=400", &fast);
    report.at_most("its P50, ms", fast.percentile_ms(0.5), raw.percentile_ms(0.5) + ADDED_MS);
    let (standard, _, cost) = measure(&minio, "standard", &[])?;
    report.note("the same at the default rate", standard);
    let dollars = cost.dollars() / DURATION.as_secs_f64() * SECONDS_A_MONTH;
    report.note("its requests, in dollars a month", format!("{dollars:.0}"));
    report.note("its requests in a minute", cost);
    Ok(())
}

/// Latencies of the producers, of raw PUTs through the same proxy, and what the producers cost.
fn measure(minio: &MinIo, bucket: &str, settings: &[(&str, &str)]) -> Result<(Latencies, Latencies, Counts)> {
    let runtime = runtime()?;
    let subject = Subject::on_minio(minio, bucket, Latency::S3, settings)?;
    runtime.block_on(kafka::create_topic(subject.address(), TOPIC, CONNECTIONS))?;
    let store = subject.store_address().map(|address| Bucket::new(address, bucket));
    let raw = match store {
        Some(store) => runtime.block_on(raw_put(&store, 4 << 10, 2000, 8))?.latencies,
        None => Latencies::default(),
    };
    let before = subject.counts();
    let latencies = runtime.block_on(produce_from_all(subject.address()))?;
    Ok((latencies, raw, &subject.counts() - &before))
}

/// Every connection sends a record to a partition of its own at a steady rate, none at the same moment as another.
async fn produce_from_all(address: SocketAddr) -> Result<Latencies> {
    let period = Duration::from_secs(1) * CONNECTIONS.unsigned_abs() / RATE.unsigned_abs();
    let begin = Instant::now() + Duration::from_secs(1);
    let mut producers = JoinSet::new();
    for partition in 0..CONNECTIONS {
        let phase = period * partition.unsigned_abs() / CONNECTIONS.unsigned_abs();
        producers.spawn(produce_at(address, partition, begin + phase, period));
    }
    let mut all = Latencies::default();
    while let Some(of_one) = producers.join_next().await {
        all.extend(of_one??);
    }
    Ok(all)
}

async fn produce_at(
    address: SocketAddr,
    partition: i32,
    begin: Instant,
    period: Duration,
) -> Result<Latencies> {
    let (mut requests, mut answers) = Connection::open(address).await?.split();
    let batch = Batch::plain(vec![Bytes::from(vec![b'x'; RECORD_BYTES])]).encode();
    let partitions = [(partition, batch)];
    let request = ProduceRequest { topic: TOPIC, acks: -1, partitions: &partitions };
    let mut ticks = interval_at(begin, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let count = (DURATION.as_secs_f64() / period.as_secs_f64()) as u64;
    let (sent, mut when_sent) = tokio::sync::mpsc::unbounded_channel();
    // Latencies count from when a record was due: a slow answer must not hide those behind it.
    let receive = async {
        let mut latencies = Latencies::default();
        while let Some(due) = when_sent.recv().await {
            let produced = answers.produced().await?;
            anyhow::ensure!(produced.iter().all(|answer| answer.error == 0), "{produced:?}");
            latencies.add(Instant::now() - due);
        }
        Ok::<_, anyhow::Error>(latencies)
    };
    let send = async move {
        for _ in 0..count {
            let due = ticks.tick().await;
            requests.produce(&request).await?;
            sent.send(due)?;
        }
        // The sending half stays open until the last answer has come.
        Ok::<_, anyhow::Error>(requests)
    };
    let (_requests, latencies) = tokio::try_join!(send, receive)?;
    Ok(latencies)
}
