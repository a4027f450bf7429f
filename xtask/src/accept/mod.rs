//! `cargo xtask accept NAME`: one command for each line of what Thalweg must show.

mod catch_up;
mod cold_reader;
mod coordinator_costs;
mod coordinator_load;
mod coordinator_seeds;
mod differential;
mod disk_faults;
mod exactly_once;
mod franz_go;
mod fresh_clone;
mod fuzz;
mod group_latency;
mod hostile;
mod kafka_tools;
mod kill_loops;
mod log_compaction;
mod produce;
mod produce_latency;
mod put_count;
mod recovery;
mod replay;
mod report;
mod restore;
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
    /// franz-go's own tests without those of share groups: no failure and the same passes as on Kafka, three runs in a row, and once in chaos
    FranzGo,
    /// Kafka's copier over 100 times kill -9, and Kafka Streams while the broker is killed every 10 s: nothing lost, doubled or seen from an aborted transaction
    ExactlyOnce,
    /// Offset commits of 1,000 groups a second share PUTs; a transaction of one small batch commits in ≤ 4 sequential PUT times
    CoordinatorCosts,
    /// 100,000 committed groups: loaded in ≤ 2 s from MinIO, ≤ 1 KiB resident a group beyond its own strings
    CoordinatorLoad,
    /// A consumer in a new group gets its first record ≤ 200 ms later than on Kafka; 50 members over 1,000 partitions settle in ≤ 1.2 × Kafka's time
    GroupLatency,
    /// Kafka's command-line tools say the same of Thalweg as of Kafka, but for ids, times and addresses
    KafkaTools,
    /// 20,000 simulation seeds of transactions and groups clean: each input takes effect exactly once; the coordinators' mutations caught
    CoordinatorSeeds,
    /// The metadata of 10,000 objects lost: `thalweg restore` brings back every flushed record, offsets, topics and settings; fsck is clean before and after
    Restore,
    /// Every API in every version, asked of a real Kafka and of Thalweg: no difference that isn't meant
    Differential,
    /// 10 GiB of cold data read from MinIO by Kafka's perf consumer: ≥ 0.8 × the raw GET rate or ≥ 0.9 × Kafka's from its page cache; processor time ≤ 1.5 × Kafka's
    CatchUp,
    /// Ten staggered consumers replay 4 GiB through a disk cache: each byte is fetched 1.2 times at most, and by a second replay not at all
    Replay,
    /// The disk cache filled up, overwritten, cut off, removed, made read-only: consumers see no error and the right bytes
    DiskFaults,
    /// Kafka's log compaction and Thalweg's on the same 10 million records of 1 million keys, with tombstones and transactions: the same survives
    LogCompaction,
}

/// Checks the line, prints its figures, fails when one misses its target.
pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.name {
        Line::FreshClone => {}
        // What is measured is not this tool, and what drives it has programs of its own.
        Line::FranzGo
        | Line::ExactlyOnce
        | Line::CoordinatorCosts
        | Line::CoordinatorLoad
        | Line::GroupLatency
        | Line::KafkaTools
        | Line::CatchUp
        | Line::Replay
        | Line::DiskFaults
        | Line::LogCompaction => {
            cargo::use_release_broker_only()?;
        }
        _ => cargo::use_release_broker()?,
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
        Line::FranzGo => franz_go::check(report),
        Line::ExactlyOnce => exactly_once::check(report),
        Line::CoordinatorCosts => coordinator_costs::check(report),
        Line::CoordinatorLoad => coordinator_load::check(report),
        Line::GroupLatency => group_latency::check(report),
        Line::KafkaTools => kafka_tools::check(report),
        Line::CoordinatorSeeds => coordinator_seeds::check(report),
        Line::Restore => restore::check(report),
        Line::Differential => differential::check(report),
        Line::CatchUp => catch_up::check(report),
        Line::Replay => replay::check(report),
        Line::DiskFaults => disk_faults::check(report),
        Line::LogCompaction => log_compaction::check(report),
    }
}

/// A runtime for the checks that drive many connections.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
