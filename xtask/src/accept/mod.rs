//! `cargo xtask accept NAME`: one command for each line of what Thalweg must show.

mod differential;
mod fresh_clone;
mod fuzz;
mod hostile;
mod kill_loops;
mod produce;
mod produce_latency;
mod put_count;
mod recovery;
mod report;
mod round_trip;
mod start;
mod steady_client;
mod store_outage;

use crate::{cargo, measurements};
use anyhow::Result;
use clap::ValueEnum;
use report::Report;

/// Which line.
#[derive(clap::Args)]
pub struct Arguments {
    /// The line to check
    name: Line,
    /// Write the figures into docs/measurements.md
    #[arg(long)]
    record: bool,
}

/// The lines, in the order of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Line {
    /// A clean clone with an empty tool cache: `cargo run --release` and `cargo xtask test` work as the README says; `.ci/run` takes < 45 minutes cold, < 15 warm
    FreshClone,
    /// The Debian package index through kcat with every codec and through the console clients is byte for byte the same, also after kill -9 and deletion of everything local
    RoundTrip,
    /// An acknowledged produce costs exactly one PUT and no GET, whatever the number of partitions; an idle broker with 1,000 partitions makes < 100 requests an hour
    PutCount,
    /// 200 times kill -9 under an idempotent load with lost answers: nothing lost, duplicated or reordered; 20,000 simulation seeds clean; the mutations caught
    KillLoops,
    /// The store away for 60 s and throttling for 60 s: clients wait, Metadata and tail fetches answer, memory stays bounded, producing goes on within 2 s
    StoreOutage,
    /// Produce and tail-consume rates and processor time beside Kafka's, the store's own and the ceiling of five requests in flight
    Produce,
    /// 200 connections at 1,000 records/s with real S3's latency: P50 within 4 ms of the raw PUT's
    ProduceLatency,
    /// First acknowledged produce ≤ 300 ms after process start, ≤ 60 MB resident; under full load within the budget + 20 %
    Start,
    /// kill -9 with 500 MiB in the WAL: first acknowledged produce ≤ 2 s after start, within a second of that with 50 MiB
    Recovery,
    /// 10,000 hostile connections harm nobody; 10 minutes of fuzzed requests find nothing
    Hostile,
    /// Every API in every version, asked of a real Kafka and of Thalweg: no difference that isn't meant
    Differential,
}

/// Checks the line, prints its figures, fails when one misses its target.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.name != Line::FreshClone {
        cargo::use_release_broker()?;
    }
    let mut report = Report::default();
    let outcome = check(arguments.name, &mut report);
    if let Err(error) = &outcome {
        report.failed("the check itself", error);
    }
    println!("{report}");
    if arguments.record {
        let name =
            arguments.name.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        measurements::record(&format!("accept {name}"), &report.to_string())?;
    }
    report.verdict()
}

fn check(line: Line, report: &mut Report) -> Result<()> {
    match line {
        Line::FreshClone => fresh_clone::check(report),
        Line::RoundTrip => round_trip::check(report),
        Line::PutCount => put_count::check(report),
        Line::KillLoops => kill_loops::check(report),
        Line::StoreOutage => store_outage::check(report),
        Line::Produce => produce::check(report),
        Line::ProduceLatency => produce_latency::check(report),
        Line::Start => start::check(report),
        Line::Recovery => recovery::check(report),
        Line::Hostile => hostile::check(report),
        Line::Differential => differential::check(report),
    }
}

/// A runtime for the checks that drive many connections.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
