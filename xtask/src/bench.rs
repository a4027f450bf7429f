//! `cargo xtask bench`.

use crate::{cargo, measurements};
use anyhow::Result;

/// How much is measured.
#[derive(clap::Args)]
pub struct Arguments {
    /// Records of 1 KiB of each run
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// Rounds over all brokers
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Write the table into docs/measurements.md
    #[arg(long)]
    record: bool,
}

/// Runs the macro benchmark and prints its table.
pub fn run(arguments: &Arguments) -> Result<()> {
    cargo::use_release_broker()?;
    let table = thalweg_benches::compare(arguments.records, arguments.rounds)?.to_string();
    println!("{table}");
    if arguments.record { measurements::record("bench", &table) } else { Ok(()) }
}
