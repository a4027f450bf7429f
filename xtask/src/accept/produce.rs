//! Line 6: rates and processor time beside Kafka's and the store's own.

use super::Report;
use anyhow::Result;
use thalweg_benches::{
    Consumed, Load, Produced, RawPut, Run, Subject, consume, in_order_ceiling, produce, raw_put, warm_up,
};
use thalweg_end_to_end::{kafka, proxy::Latency, servers::MinIo, wait};

/// Rounds over all brokers; the median counts.
const ROUNDS: usize = 3;
/// Records of 1 KiB of a tuned producer's run.
const RECORDS: u64 = 2_000_000;
/// 200 MB: smaller than the log cache of a broker with 1 GiB.
const TAIL_RECORDS: u64 = 200_000;
/// Records of a default producer's run.
const DEFAULT_RECORDS: u64 = 1_500_000;
const RAW_PUT_BYTES: usize = 8 << 20;
/// What a default producer puts into one batch of 16 KiB: 15 records of 1 KiB.
const BATCH_PAYLOAD: f64 = 15.0 * 1024.0;
/// Latencies from which the ceiling is simulated.
const SIMULATED_REQUESTS: usize = 100_000;

pub fn check(report: &mut Report) -> Result<()> {
    warm_up()?;
    let minio = MinIo::start()?;
    beside_kafka(report, &minio)?;
    one_default_producer(report, &minio)
}

/// What all rounds gave, by subject: Kafka, `file:`, MinIO.
#[derive(Default)]
struct Rounds {
    produced: [Vec<Run<Produced>>; 3],
    consumed: [Vec<Run<Consumed>>; 3],
    raw: Vec<RawPut>,
}

fn beside_kafka(report: &mut Report, minio: &MinIo) -> Result<()> {
    let subjects =
        [Subject::kafka()?, Subject::file(&[])?, Subject::on_minio(minio, "rates", Latency::NONE, &[])?];
    let raw_bucket = minio.bucket("raw")?;
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        rounds.raw.push(wait::block_on(raw_put(&raw_bucket, RAW_PUT_BYTES, 48, 4))?);
        for (subject, runs) in subjects.iter().zip(&mut rounds.produced) {
            runs.push(produce_to(subject, &format!("tuned-{round}"), 16, Load::tuned(RECORDS))?);
        }
        let topic = format!("tail-{round}");
        for subject in &subjects {
            produce_to(subject, &topic, 16, Load::tuned(TAIL_RECORDS))?;
        }
        for (subject, runs) in subjects.iter().zip(&mut rounds.consumed) {
            runs.push(consume(subject, &topic, 16)?);
        }
    }
    rounds.report(report);
    Ok(())
}

impl Rounds {
    fn report(&self, report: &mut Report) {
        let rate = |runs: &[Run<Produced>]| median(runs.iter().map(|run| run.client.mb_per_s));
        let [kafka, file, minio] = self.produced.each_ref().map(|runs| rate(runs));
        let raw = median(self.raw.iter().map(|raw| raw.mb_per_s));
        report.note("produce, tuned client, Kafka, MB/s", format!("{kafka:.0}"));
        report.note("raw PUT of 8 MiB, four in flight, MB/s", format!("{raw:.0}"));
        report.at_least("produce, tuned client, file:, MB/s", file, 0.8 * kafka);
        report.at_least("produce, tuned client, MinIO, MB/s", minio, 0.8 * raw / 2.0);
        let [kafka, file, minio] = self.produced.each_ref().map(|runs| cpu(runs));
        report.note("produce, Kafka's processor time, s/GiB", format!("{kafka:.2}"));
        report.at_most("produce, processor time on file:, s/GiB", file, 0.6 * kafka);
        report.at_most("produce, processor time on MinIO, s/GiB", minio, 0.6 * kafka);
        if let Some(run) = self.produced[2].first() {
            let (requests, dollars) = (run.requests_per_gib(), run.dollars_per_gib());
            report.note("produce on MinIO, S3 requests per GiB", format!("{requests:.0} (${dollars:.4})"));
        }
        self.report_consumed(report);
    }

    fn report_consumed(&self, report: &mut Report) {
        let rate = |runs: &[Run<Consumed>]| median(runs.iter().map(|run| run.client.mb_per_s));
        let rates = self.consumed.each_ref().map(|runs| rate(runs));
        let times = self.consumed.each_ref().map(|runs| cpu(runs));
        report.note("tail consume, Kafka, MB/s", format!("{:.0}", rates[0]));
        report.note("tail consume, Kafka's processor time, s/GiB", format!("{:.2}", times[0]));
        for (index, place) in [(1, "file:"), (2, "MinIO")] {
            report.at_least(&format!("tail consume, {place}, MB/s"), rates[index], rates[0]);
            report.below(&format!("tail consume, processor time on {place}, s/GiB"), times[index], times[0]);
        }
    }
}

/// One default-configured Java producer, with the latency of real S3.
fn one_default_producer(report: &mut Report, minio: &MinIo) -> Result<()> {
    let subject = Subject::on_minio(minio, "default-client", Latency::S3, &[])?;
    let wide = produce_to(&subject, "wide", 64, Load::default_client(DEFAULT_RECORDS))?;
    report.at_least("one default producer, 64 partitions, S3's latency, MB/s", wide.client.mb_per_s, 60.0);
    let narrow = produce_to(&subject, "narrow", 16, Load::default_client(DEFAULT_RECORDS / 3))?;
    let puts = Latency::S3.write.into_iter().flat_map(|profile| profile.draws(1).take(SIMULATED_REQUESTS));
    let ceiling = in_order_ceiling(puts) * 16.0 * BATCH_PAYLOAD / 1e6;
    report.note("ceiling of five in-order requests of 16 batches, MB/s", format!("{ceiling:.1}"));
    report.at_least(
        "one default producer, 16 partitions, S3's latency, MB/s",
        narrow.client.mb_per_s,
        0.8 * ceiling,
    );
    Ok(())
}

fn produce_to(subject: &Subject, topic: &str, partitions: i32, load: Load) -> Result<Run<Produced>> {
    wait::block_on(kafka::create_topic(subject.address(), topic, partitions))?;
    let run = produce(subject, topic, load)?;
    eprintln!(
        "  {}: {topic}: {:.0} MB/s, {:.2} CPU s/GiB",
        subject.name(),
        run.client.mb_per_s,
        run.cpu_per_gib()
    );
    Ok(run)
}

fn cpu<T>(runs: &[Run<T>]) -> f64 {
    median(runs.iter().map(Run::cpu_per_gib))
}

/// The middle value; of an even number the lower of the two. NaN of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
