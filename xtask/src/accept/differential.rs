//! Side by side with a real Kafka: every API in every version, answers compared field by field.

use super::Report;
use anyhow::Result;
use thalweg_differential::{Plan, run};

/// Cases for each version of each API, at the least.
const CASES: u64 = 20;

pub fn check(report: &mut Report) -> Result<()> {
    let result = run(&Plan::whole())?;
    eprint!("{result}");
    report.note("APIs that both offer", result.apis);
    report.note("versions of them, all together", result.versions);
    report.note("answers compared", result.cases);
    report.at_least(
        "answers compared in the version with the fewest",
        result.fewest_cases as f64,
        CASES as f64,
    );
    report.note("differences that are meant (tests/differential/meant.toml)", result.meant);
    report.equals("other differences", result.findings.len() as u64, 0);
    report.equals(
        "differences of APIs that nobody has gone through yet",
        result.not_examined.len() as u64,
        0,
    );
    report.equals("lines of that list that nothing meets", result.unmet.len() as u64, 0);
    let (meant, others): (Vec<_>, Vec<_>) = result.not_offered.iter().partition(|(_, why)| why.is_some());
    let names = meant.iter().map(|(api, _)| api.as_str()).collect::<Vec<_>>().join(", ");
    report.note(
        "APIs of Kafka that are not offered, with a reason in that list",
        format!("{}: {names}", meant.len()),
    );
    report.equals("APIs that are not offered without a reason", others.len() as u64, 0);
    Ok(())
}
