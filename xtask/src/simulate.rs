//! `cargo xtask simulate`: many seeds of the simulation, built for speed.

use crate::cargo::{self, cargo};
use anyhow::Result;

/// Which seeds.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Passed on to the simulation as they are
    #[arg(last = true)]
    others: Vec<String>,
}

/// Runs the simulation's program in release mode.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { seeds, from, others } = arguments;
    run_seeds(*seeds, *from, others)
}

/// Runs `seeds` seeds from `from` on; an error if one of them fails.
pub fn run_seeds(seeds: u64, from: u64, others: &[String]) -> Result<()> {
    let (seeds, from) = (seeds.to_string(), from.to_string());
    let mut simulation = cargo(&["run", "--quiet", "--release", "--package", "thalweg-simulation", "--"]);
    cargo::run(simulation.args(["--seeds", &seeds, "--from", &from]).args(others))
}

/// Runs the simulation with each of its deliberate faults; an error if one is not noticed.
pub fn run_mutations(others: &[String]) -> Result<()> {
    let simulation =
        ["run", "--quiet", "--release", "--package", "thalweg-simulation", "--features", "mutations"];
    cargo::run(cargo(&simulation).args(["--", "--mutations"]).args(others))
}
