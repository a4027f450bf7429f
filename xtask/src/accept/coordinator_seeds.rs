//! Transactions and groups in the simulation: exactly once, whatever dies.

use super::Report;
use crate::simulate;
use anyhow::Result;

const SEEDS: u64 = 20_000;

pub fn check(report: &mut Report) -> Result<()> {
    let transactions = ["--transactions".to_owned()];
    report.must_succeed(
        &format!("{SEEDS} seeds of transactions and groups are clean"),
        simulate::run_seeds(SEEDS, 0, &transactions),
    );
    let noticed = simulate::run_mutations(&transactions);
    report.must_succeed("every mutation of the coordinators is caught", noticed);
    Ok(())
}
