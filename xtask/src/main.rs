//! The project's own commands: `cargo xtask test | lint | bench | simulate | accept NAME | gen | ci`.
#![expect(
    clippy::disallowed_methods,
    reason = "a command-line tool that drives real processes, in real time"
)]

mod accept;
mod bench;
mod cargo;
mod r#gen;
mod lint;
mod measurements;
mod simulate;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tests, measures and checks Thalweg.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests: unit, property, simulation, end to end (fetching MinIO and Kafka's tools the first time)
    Test(test::Arguments),
    /// Check formatting, clippy and documentation; warnings are errors
    Lint,
    /// Measure Thalweg beside Apache Kafka and the raw store, with Kafka's own perf clients
    Bench(bench::Arguments),
    /// Run many seeds of the deterministic simulation
    Simulate(simulate::Arguments),
    /// Check one line of what Thalweg must show, and print the figures beside their targets
    Accept(accept::Arguments),
    /// Generate from Kafka's message schemas what `protocol` knows of them
    Gen(r#gen::Args),
    /// What `.ci/run` runs: lint, then test
    Ci,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Lint => lint::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Accept(arguments) => accept::run(&arguments),
        Command::Gen(arguments) => r#gen::run(arguments),
        Command::Ci => {
            lint::run()?;
            test::run(&test::Arguments::default())
        }
    }
}
