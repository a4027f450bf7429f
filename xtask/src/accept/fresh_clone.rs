//! Line 1: what the README promises, on a clean clone with empty caches.

use super::Report;
use crate::cargo::{BROKER_VARIABLE, run, workspace};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use thalweg_end_to_end::{clients::Kcat, process::Process, tools};

const COLD_MINUTES: f64 = 45.0;
const WARM_MINUTES: f64 = 15.0;
/// Building a release from nothing.
const BUILD_PATIENCE: Duration = Duration::from_secs(45 * 60);

pub fn check(report: &mut Report) -> Result<()> {
    tools::kcat()?;
    let folder = tempfile::tempdir()?;
    let clone = folder.path().join("thalweg");
    run(Command::new("git").arg("clone").arg("--quiet").arg(workspace()).arg(&clone))?;
    let minutes = ci_minutes(&clone, folder.path()).context("`.ci/run`, cold")?;
    report.below("`.ci/run` (lint and `cargo xtask test`), nothing cached, minutes", minutes, COLD_MINUTES);
    let minutes = ci_minutes(&clone, folder.path()).context("`.ci/run`, warm")?;
    report.below("`.ci/run` again, minutes", minutes, WARM_MINUTES);
    report.must_succeed("`cargo run --release` serves kcat", first_minutes(&clone, folder.path()));
    Ok(())
}

/// A command in the clone that finds none of our caches.
fn in_clone(program: &str, clone: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(clone).env("XDG_CACHE_HOME", folder.join("cache"));
    for variable in ["CARGO_TARGET_DIR", "XTASK_TOOLS", BROKER_VARIABLE, "CARGO_MANIFEST_DIR", "GOCACHE"] {
        command.env_remove(variable);
    }
    command.env("CI", "true");
    command
}

fn ci_minutes(clone: &Path, folder: &Path) -> Result<f64> {
    let started = Instant::now();
    run(&mut in_clone(".ci/run", clone, folder))?;
    Ok(started.elapsed().as_secs_f64() / 60.0)
}

/// The README's first command, and a record through it.
fn first_minutes(clone: &Path, folder: &Path) -> Result<()> {
    let mut command = in_clone("cargo", clone, folder);
    let mut broker = Process::spawn(command.args(["run", "--release"]), &folder.join("thalweg.log"))?;
    let listening = |output: &str| output.contains("listening on").then_some(());
    broker.wait_for_output("thalweg listens", BUILD_PATIENCE, listening)?;
    let (input, output) = (folder.join("input"), folder.join("output"));
    fs::write(&input, "hello\n")?;
    let kcat = Kcat::new("127.0.0.1:9092".parse()?)?;
    kcat.produce("greetings", "none", "\n", &input)?;
    kcat.consume("greetings", "\n", &output)?;
    ensure!(fs::read(&output)? == b"hello\n", "kcat read something else");
    let status = broker.terminate()?;
    ensure!(status.success(), "after SIGTERM it ended with {status}");
    Ok(())
}
