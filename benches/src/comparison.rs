//! Everything beside everything, in one run, interleaved: what the machine does meanwhile hits all alike.

use crate::{
    Consumed, Load, Produced, RawPut, Run, Subject, consume, perf::create_topic, produce, raw_put, warm_up,
};
use anyhow::Result;
use std::fmt::{self, Write as _};
use thalweg_end_to_end::{proxy::Latency, servers::MinIo, wait};

/// One row: a subject and a load.
#[derive(Clone, Debug)]
struct Row {
    subject: &'static str,
    load: &'static str,
    cells: Vec<String>,
}

/// The whole table.
#[derive(Clone, Debug)]
pub struct Comparison {
    raw: RawPut,
    rows: Vec<Row>,
}

/// Bytes of the raw PUTs: those of a full WAL object.
const RAW_PUT_BYTES: usize = 8 << 20;

/// Measures. `records` records of 1 KiB for each run, `rounds` rounds over all subjects.
pub fn compare(records: u64, rounds: u32) -> Result<Comparison> {
    warm_up()?;
    let minio = MinIo::start()?;
    let raw = wait::block_on(raw_put(&minio.bucket("raw")?, RAW_PUT_BYTES, 64, 4))?;
    let subjects =
        [Subject::kafka()?, Subject::file(&[])?, Subject::on_minio(&minio, "bench", Latency::NONE, &[])?];
    let mut rows = Vec::new();
    for round in 0..rounds {
        rows.extend(one_round(&subjects, round, records, &raw)?);
    }
    rows.sort_by_key(|row| (row.load, row.subject));
    Ok(Comparison { raw, rows })
}

fn one_round(subjects: &[Subject], round: u32, records: u64, raw: &RawPut) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut first = None;
    for subject in subjects {
        let topic = format!("tuned-{round}");
        create_topic(subject, &topic, 16)?;
        let run = produce(subject, &topic, Load::tuned(records))?;
        let kafka = *first.get_or_insert(run.client.mb_per_s);
        rows.push(produced_row(subject, "produce, tuned", &run, kafka, raw));
        eprintln!("{}: produce, tuned: {:.0} MB/s", subject.name(), run.client.mb_per_s);
    }
    let mut first = None;
    for subject in subjects {
        let run = consume(subject, &format!("tuned-{round}"), 16)?;
        let kafka = *first.get_or_insert(run.client.mb_per_s);
        rows.push(consumed_row(subject, &run, kafka));
        eprintln!("{}: consume: {:.0} MB/s", subject.name(), run.client.mb_per_s);
    }
    let mut first = None;
    for subject in subjects {
        let topic = format!("steady-{round}");
        create_topic(subject, &topic, 16)?;
        let run = produce(subject, &topic, Load::tuned(records / 8).at(10_000))?;
        let kafka = *first.get_or_insert(run.client.mb_per_s);
        rows.push(produced_row(subject, "produce, 10 MB/s", &run, kafka, raw));
        eprintln!("{}: produce at 10 MB/s: P50 {} ms", subject.name(), run.client.p50_ms);
    }
    Ok(rows)
}

fn produced_row(subject: &Subject, load: &'static str, run: &Run<Produced>, kafka: f64, raw: &RawPut) -> Row {
    let Produced { mb_per_s, p50_ms, p99_ms, p999_ms, .. } = run.client;
    let mut cells = vec![format!("{mb_per_s:.1}"), format!("{p50_ms:.0} / {p99_ms:.0} / {p999_ms:.0}")];
    cells.extend(broker_cells(run));
    cells.push(format!("{:.2}", mb_per_s / kafka));
    cells.push(format!("{:.2}", mb_per_s / raw.mb_per_s));
    Row { subject: subject.name(), load, cells }
}

fn consumed_row(subject: &Subject, run: &Run<Consumed>, kafka: f64) -> Row {
    let mut cells = vec![format!("{:.1}", run.client.mb_per_s), "–".into()];
    cells.extend(broker_cells(run));
    cells.extend([format!("{:.2}", run.client.mb_per_s / kafka), "–".into()]);
    Row { subject: subject.name(), load: "consume", cells }
}

fn broker_cells<T>(run: &Run<T>) -> [String; 4] {
    [
        format!("{:.2}", run.cpu_per_gib()),
        format!("{}", run.resident_peak >> 20),
        format!("{:.0}", run.requests_per_gib()),
        format!("{:.5}", run.dollars_per_gib()),
    ]
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { raw, rows } = self;
        writeln!(f, "Raw PUT of 8 MiB, four in flight: {:.0} MB/s, {}\n", raw.mb_per_s, raw.latencies)?;
        f.write_str("| load | broker | MB/s | P50 / P99 / P99.9 ms | CPU s/GiB | peak RSS MiB | S3 requests/GiB | $/GiB | × Kafka | × raw PUT |\n")?;
        f.write_str("|---|---|---|---|---|---|---|---|---|---|\n")?;
        for Row { subject, load, cells } in rows {
            let mut line = format!("| {load} | {subject} |");
            for cell in cells {
                write!(line, " {cell} |")?;
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
