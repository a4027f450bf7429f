//! Cargo, as this tool calls it.

use anyhow::{Context, Result, bail};
use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

/// Which of Cargo's profiles a program is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `dev`: with overflow checks and debug assertions, for tests.
    Dev,
    /// `release`: for measuring.
    Release,
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let here =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

/// `cargo`, to be run in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    command
}

/// Runs `command`; an error unless it ends well.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs `command`, passes its standard output on line by line, and shows each line to `see`. Whether it ended well.
pub fn run_seeing(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {command:?}"))?;
    let stdout = child.stdout.take().context("its standard output is a pipe")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        see(&line);
    }
    Ok(child.wait()?.success())
}

/// Builds the broker; where its program lies.
pub fn build_broker(profile: Profile) -> Result<PathBuf> {
    // The same selection as `cargo test --workspace` has the same features, so that nothing is compiled twice.
    let (arguments, folder): (&[&str], _) = match profile {
        Profile::Dev => (&["build", "--workspace", "--bins", "--tests"], "debug"),
        Profile::Release => (&["build", "--release", "--package", "thalweg-broker"], "release"),
    };
    run(&mut cargo(arguments))?;
    Ok(target_folder().join(folder).join("thalweg"))
}

/// Where Cargo builds.
pub fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |folder| workspace().join(folder))
}

/// Goes on in a release build of this tool, with a release build of the broker: what measures must not be slower than
/// what is measured. In a debug build this doesn't return.
pub fn use_release_broker() -> Result<()> {
    if cfg!(debug_assertions) {
        let given = env::var_os(BROKER_VARIABLE).map(PathBuf::from);
        let broker = given.map_or_else(|| build_broker(Profile::Release), Ok)?;
        let arguments: Vec<String> = env::args().skip(1).collect();
        let mut command = cargo(&["run", "--quiet", "--release", "--package", "xtask", "--"]);
        std::process::exit(
            command.env(BROKER_VARIABLE, broker).args(arguments).status()?.code().unwrap_or(1),
        );
    }
    anyhow::ensure!(env::var_os(BROKER_VARIABLE).is_some(), "name the broker's program in {BROKER_VARIABLE}");
    Ok(())
}

/// Goes on with a release build of the broker, in this build of this tool: where it's not this tool that makes the load.
/// Unless a broker is named already this doesn't return.
pub fn use_release_broker_only() -> Result<()> {
    if env::var_os(BROKER_VARIABLE).is_none() {
        let mut again = Command::new(env::current_exe()?);
        again.args(env::args_os().skip(1)).env(BROKER_VARIABLE, build_broker(Profile::Release)?);
        std::process::exit(again.status()?.code().unwrap_or(1));
    }
    Ok(())
}

/// Tells the harness which program to test.
pub const BROKER_VARIABLE: &str = "XTASK_BROKER";
