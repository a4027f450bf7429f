//! Line 7: how fast it starts, and how much memory it takes.

use super::{Report, runtime, steady_client::first_acknowledgement};
use anyhow::Result;
use std::time::Duration;
use thalweg_benches::{Load, Subject, produce};
use thalweg_end_to_end::{kafka, servers::Options, wait};
use tokio::time::Instant;

const STARTS: u32 = 10;
const START_TARGET_MS: f64 = 300.0;
const RESIDENT_TARGET_MB: f64 = 60.0;
const BUDGET: u64 = 1 << 30;
/// 4 GB: several times what a budget of 1 GiB can hold.
const RECORDS: u64 = 4_000_000;

pub fn check(report: &mut Report) -> Result<()> {
    starts(report)?;
    full_load(report)
}

fn starts(report: &mut Report) -> Result<()> {
    let mut broker = Options::new()?.start()?;
    report.at_most(
        "resident memory of a broker that has just started, MB",
        broker.process().usage()?.resident as f64 / 1e6,
        RESIDENT_TARGET_MB,
    );
    let runtime = runtime()?;
    runtime.block_on(kafka::create_topic(broker.address(), "start", 1))?;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        broker.kill()?;
        let started = Instant::now();
        broker.spawn_again()?;
        let deadline = started + Duration::from_secs(30);
        runtime.block_on(first_acknowledgement(broker.address(), "start", deadline))?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    report.note(
        &format!("start to first acknowledgement on file:, median of {STARTS}, ms"),
        format!("{:.0}", took[took.len() / 2]),
    );
    report.at_most(
        &format!("start to first acknowledgement on file:, slowest of {STARTS}, ms"),
        took[took.len() - 1],
        START_TARGET_MS,
    );
    report.at_most(
        "resident memory after that, MB",
        broker.process().usage()?.resident as f64 / 1e6,
        RESIDENT_TARGET_MB,
    );
    Ok(())
}

fn full_load(report: &mut Report) -> Result<()> {
    let subject = Subject::file(&[("memory.bytes", &BUDGET.to_string())])?;
    wait::block_on(kafka::create_topic(subject.address(), "load", 16))?;
    let run = produce(&subject, "load", Load::tuned(RECORDS))?;
    report.note("under full load: MB/s", format!("{:.0}", run.client.mb_per_s));
    let budget_mib = BUDGET as f64 / f64::from(1 << 20);
    let peak_mib = run.resident_peak as f64 / f64::from(1 << 20);
    report.at_most("largest resident memory under full load, MiB", peak_mib, budget_mib * 1.2);
    Ok(())
}
