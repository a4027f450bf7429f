//! Line 8: how long a crash with a long WAL keeps producers waiting.

use super::{Report, runtime, steady_client::first_acknowledgement};
use anyhow::{Result, ensure};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, ProduceRequest},
    servers::{MinIo, Options},
};
use tokio::time::Instant;

const TARGET_S: f64 = 2.0;
/// By how much more the longer WAL may take.
const DIFFERENCE_S: f64 = 1.0;
const SMALL: u64 = 50 << 20;
const LARGE: u64 = 500 << 20;
const PARTITIONS: i32 = 16;
const BATCH_BYTES: usize = 64 << 10;
/// Crashes of each size; the slowest counts.
const CRASHES: u32 = 3;

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let small = slowest(report, &minio, SMALL)?;
    let large = slowest(report, &minio, LARGE)?;
    report.at_most("first acknowledgement after kill -9 with 500 MiB in the WAL, s", large, TARGET_S);
    report.at_most("by how much that is longer than with 50 MiB, s", large - small, DIFFERENCE_S);
    Ok(())
}

fn slowest(report: &mut Report, minio: &MinIo, bytes: u64) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for crash in 0..CRASHES {
        let took = one_crash(report, minio, &format!("wal-{}-{crash}", bytes >> 20), bytes)?;
        report.note(
            &format!("{} MiB, crash {crash}: first acknowledgement, s", bytes >> 20),
            format!("{took:.2}"),
        );
        slowest = slowest.max(took);
    }
    Ok(slowest)
}

fn one_crash(report: &mut Report, minio: &MinIo, bucket: &str, bytes: u64) -> Result<f64> {
    let runtime = runtime()?;
    // Nothing must leave the WAL before the crash: a part of the memory is for what is not flushed.
    let never_flush =
        Options::on_minio(minio, bucket)?.set("flush.bytes", 4 * LARGE).set("flush.interval.ms", 3_600_000);
    let mut broker = never_flush.set("memory.bytes", 8 * LARGE).start()?;
    runtime.block_on(kafka::create_topic(broker.address(), "recovery", PARTITIONS))?;
    runtime.block_on(fill(broker.address(), bytes))?;
    broker.kill()?;
    let in_wal: u64 =
        runtime.block_on(minio.bucket(bucket)?.list("thalweg/wal/"))?.iter().map(|object| object.size).sum();
    ensure!(in_wal >= bytes, "only {in_wal} bytes are in the WAL");
    report.note(&format!("{bucket}: MiB in the WAL"), in_wal >> 20);
    let started = Instant::now();
    broker.spawn_again()?;
    let deadline = started + Duration::from_secs(120);
    runtime.block_on(first_acknowledgement(broker.address(), "recovery", deadline))?;
    Ok(started.elapsed().as_secs_f64())
}

/// Produces `bytes` bytes, all acknowledged.
async fn fill(address: SocketAddr, bytes: u64) -> Result<()> {
    let batch = Batch::plain(vec![vec![b'x'; BATCH_BYTES].into()]).encode();
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| (partition, batch.clone())).collect();
    let request = ProduceRequest { topic: "recovery", acks: -1, partitions: &partitions };
    let (mut requests, mut answers) = Connection::open(address).await?.split();
    let count = bytes.div_ceil(partitions.len() as u64 * BATCH_BYTES as u64);
    let (mut sent, in_flight) = (0, 5);
    for answered in 0..count {
        while sent < count && sent < answered + in_flight {
            requests.produce(&request).await?;
            sent += 1;
        }
        let produced = answers.produced().await?;
        ensure!(produced.iter().all(|answer| answer.error == 0), "{produced:?}");
    }
    Ok(())
}
