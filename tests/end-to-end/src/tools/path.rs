//! Programs that the machine already has.

use super::Missing;
use anyhow::{Result, bail};
use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The first program called `name` on `$PATH`.
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The program `name`, or a [`Missing`] with `remedy`.
pub(super) fn require(name: &'static str, remedy: &str) -> Result<PathBuf> {
    match find_on_path(name) {
        Some(program) => Ok(program),
        None => Err(Missing { tool: name, remedy: remedy.to_owned() }.into()),
    }
}

/// Runs a fetching command to its end; its output goes to standard error.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
