//! `cargo xtask accept NAME`: one command for each line of what Thalweg must show.

mod report;

use crate::{cargo, measurements};
use anyhow::Result;
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

/// The lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Line {
    /// todo
    RoundTrip,
}

/// Checks the line, prints its figures, fails when one misses its target.
pub fn run(arguments: &Arguments) -> Result<()> {
    cargo::use_release_broker()?;
    let mut report = Report::default();
    report.note("a", "b");
    println!("{report}");
    if arguments.record { measurements::record("x", &report.to_string()) } else { Ok(()) }
}
