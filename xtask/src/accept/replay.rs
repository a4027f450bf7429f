//! Ten consumers replay the same data one after another; the block cache's disk is larger than it, memory smaller.

use super::{
    Report,
    cold_reader::{ColdReader, Content, cold_subject},
    runtime,
};
use anyhow::Result;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use thalweg_benches::{Subject, warm_up};
use thalweg_end_to_end::{
    proxy::{Counts, Kind, Operation},
    servers::MinIo,
};
use tokio::time::sleep;

/// Records of 1 KiB: 4 GiB.
const RECORDS: u64 = 4 << 20;
const PARTITIONS: i32 = 4;
const CONSUMERS: usize = 10;
const TOPIC: &str = "replayed";
/// Each consumer begins when the one before it has read so much.
const APART: u64 = 64 << 20;

pub fn check(report: &mut Report) -> Result<()> {
    warm_up()?;
    let minio = MinIo::start()?;
    let disk = tempfile::tempdir()?;
    let mut subject = cold_subject(&minio, (disk.path(), 8 << 30), TOPIC, PARTITIONS, RECORDS)?;
    let runtime = runtime()?;
    let reader = runtime.block_on(ColdReader::new(subject.address(), TOPIC, PARTITIONS))?;
    let (first, cost, took) = replay(&subject, &runtime, &reader)?;
    let data = first.bytes as f64;
    report.note("data, GiB", format!("{:.2}", data / f64::from(1 << 30)));
    let fetched = of_data(&cost);
    report.at_most("bytes fetched by ten consumers, in sizes of the data", fetched.1 as f64 / data, 1.2);
    report.note("GETs of data", fetched.0);
    report.note("all of them together, MB/s", rate(&first, took));
    let (again, cost, took) = replay(&subject, &runtime, &reader)?;
    report.equals("GETs of data by a second replay", of_data(&cost).0, 0);
    report.note("all of them together, MB/s", rate(&again, took));
    report.must("it is the same data", again == first);
    subject.restart()?;
    let (restarted, cost, _) = replay(&subject, &runtime, &reader.at(subject.address()))?;
    report.note("bytes fetched by a third, after a restart, in sizes of the data", {
        format!("{:.3}", of_data(&cost).1 as f64 / data)
    });
    report.must("it is the same data still", restarted == first);
    let peak = subject.usage()?.resident_peak as f64 / f64::from(1 << 20);
    report.at_most("largest resident memory, MiB", peak, 1024.0 * 1.2);
    Ok(())
}

/// Ten readers, one after another. Returns what they read, what it cost, and how long it took.
fn replay(
    subject: &Subject,
    runtime: &tokio::runtime::Runtime,
    reader: &ColdReader,
) -> Result<(Content, Counts, Duration)> {
    let (before, started) = (subject.counts(), Instant::now());
    let contents = runtime.block_on(async {
        let mut readers = Vec::new();
        for _ in 0..CONSUMERS {
            let reader = reader.another();
            let progress = reader.progress();
            readers.push(tokio::spawn(async move { reader.read().await }));
            while progress.load(Ordering::Relaxed) < APART
                && !readers.iter().all(|reader| reader.is_finished())
            {
                sleep(Duration::from_millis(5)).await;
            }
        }
        let mut contents = Vec::new();
        for reader in readers {
            contents.push(reader.await??);
        }
        anyhow::Ok(contents)
    })?;
    let took = started.elapsed();
    anyhow::ensure!(contents.iter().all(|content| *content == contents[0]), "they read different things");
    let cost = &subject.counts() - &before;
    let first = contents.into_iter().next().expect("there are ten");
    Ok((first, cost, took))
}

/// Requests for, and bytes of, what the broker reads for consumers.
fn of_data(cost: &Counts) -> (u64, u64) {
    let tallies = [Kind::Segment, Kind::Wal].map(|kind| cost.of(Operation::Get, kind));
    (tallies.iter().map(|tally| tally.requests).sum(), tallies.iter().map(|tally| tally.bytes_down).sum())
}

fn rate(content: &Content, took: Duration) -> String {
    format!("{:.0}", content.bytes as f64 * CONSUMERS as f64 / 1e6 / took.as_secs_f64())
}
