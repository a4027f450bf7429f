//! Cold data read by Kafka's perf consumer, beside what it reads from Kafka's page cache and what the store alone gives.

use super::Report;
use anyhow::Result;
use thalweg_benches::{Consumed, Load, Run, Subject, consume_in_group, produce, raw_get, raw_put, warm_up};
use thalweg_end_to_end::{kafka, servers::MinIo, wait};

/// Records of 1 KiB: 10 GiB.
const RECORDS: u64 = 10 << 20;
const PARTITIONS: i32 = 16;
const TOPIC: &str = "cold";
/// The sizes of the broker's own GETs, and about as many at a time.
const RAW_BYTES: usize = 4 << 20;
const RAW_COUNT: usize = 256;
const RAW_IN_FLIGHT: usize = 8;

pub fn check(report: &mut Report) -> Result<()> {
    warm_up()?;
    let minio = MinIo::start()?;
    let raw_bucket = minio.bucket("raw")?;
    wait::block_on(raw_put(&raw_bucket, RAW_BYTES, RAW_COUNT, 4))?;
    let kafka = on(Subject::kafka()?)?;
    let beside = consume_in_group(&kafka, TOPIC, RECORDS)?;
    drop(kafka);
    let mut thalweg = on(Subject::on_minio_directly(&minio, TOPIC, &[])?)?;
    // Nothing of it is in memory afterwards.
    thalweg.restart()?;
    let raw = wait::block_on(raw_get(&raw_bucket, RAW_COUNT, RAW_IN_FLIGHT))?;
    let cold = consume_in_group(&thalweg, TOPIC, RECORDS)?;

    report.note("data, GiB", RECORDS >> 20);
    report.note("raw GET of 4 MiB, eight in flight, MB/s", format!("{raw:.0}"));
    report.note("Kafka, from its page cache, MB/s", format!("{:.0}", beside.client.mb_per_s));
    let least = (0.8 * raw).min(0.9 * beside.client.mb_per_s);
    report.at_least("Thalweg, cold, MB/s", cold.client.mb_per_s, least);
    report.note("Kafka's processor time, s/GiB", format!("{:.2}", beside.cpu_per_gib()));
    report.at_most("Thalweg's processor time, s/GiB", cold.cpu_per_gib(), 1.5 * beside.cpu_per_gib());
    report.at_most("largest resident memory, MiB", resident(&cold), 1024.0 * 1.2);
    Ok(())
}

/// A subject with the data in it.
fn on(subject: Subject) -> Result<Subject> {
    wait::block_on(kafka::create_topic(subject.address(), TOPIC, PARTITIONS))?;
    produce(&subject, TOPIC, Load::tuned(RECORDS))?;
    Ok(subject)
}

fn resident(run: &Run<Consumed>) -> f64 {
    run.resident_peak as f64 / f64::from(1 << 20)
}
