//! `cargo xtask test`: everything that can be run on this machine, and a word on what could not.

use crate::cargo::{self, Profile, cargo};
use anyhow::{Result, bail};
use std::{env, process::Command};
use thalweg_end_to_end::tools;

/// Which tests.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Leave out the end-to-end tests, which start real servers
    #[arg(long)]
    no_end_to_end: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// A tool that some end-to-end tests need. Those are in a module of the name `module`, in whatever file.
struct Need {
    module: &'static str,
    fetch: fn() -> Result<()>,
}

const NEEDS: [Need; 4] = [
    Need { module: "on_minio", fetch: || tools::minio().map(drop) },
    Need { module: "with_kcat", fetch: || tools::kcat().map(drop) },
    Need { module: "with_kafka_tools", fetch: || tools::KafkaJars::fetch().map(drop) },
    Need { module: "with_franz_go", fetch: || tools::franz_go_tests().map(drop) },
];

/// Sum of what Cargo's test programs say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs the tests.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut tally = Tally::default();
    let filter = arguments.filter.as_deref();
    let not_run = if arguments.no_end_to_end {
        run_without_servers(&mut tally, filter)?
    } else {
        run_all(&mut tally, filter)?
    };
    for line in &not_run {
        println!("not run: {line}");
    }
    if !not_run.is_empty() && is_ci() {
        tally.failed += 1;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

fn run_without_servers(tally: &mut Tally, filter: Option<&str>) -> Result<Vec<String>> {
    let servers = ["--exclude", "thalweg-end-to-end", "--exclude", "thalweg-differential"];
    let mut command = cargo(&["test", "--no-fail-fast", "--workspace"]);
    count(tally, command.args(servers).arg("--").args(filter))?;
    Ok(Vec::new())
}

/// Runs every test that this machine has the tools for; what the others lack.
fn run_all(tally: &mut Tally, filter: Option<&str>) -> Result<Vec<String>> {
    let broker = cargo::build_broker(Profile::Dev)?;
    let (mut skip, mut not_run) = (Vec::new(), Vec::new());
    for need in NEEDS {
        if let Err(error) = (need.fetch)() {
            skip.extend(["--skip", need.module]);
            not_run.push(format!("end-to-end tests {}: {error:#}", need.module.replace('_', " ")));
        }
    }
    let mut command = cargo(&["test", "--no-fail-fast", "--workspace", "--"]);
    count(tally, command.args(filter).args(skip).env(cargo::BROKER_VARIABLE, broker))?;
    Ok(not_run)
}

/// Runs one `cargo test` and adds what it says. One that fails without naming a test (it did not compile, a program
/// aborted) counts as a failure.
fn count(tally: &mut Tally, command: &mut Command) -> Result<()> {
    let failed_before = tally.failed;
    let success = cargo::run_seeing(command, |line| tally.add_result(line))?;
    if !success && tally.failed == failed_before {
        tally.failed += 1;
    }
    Ok(())
}

fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; …`; other lines say nothing.
    fn add_result(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| -> u64 {
            let before = result.split(word).next().unwrap_or_default();
            before.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_over_test_programs() {
        let mut tally = Tally::default();
        tally.add_result("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.add_result("running 3 tests");
        tally.add_result("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(tally, Tally { passed: 14, failed: 1 });
    }
}
