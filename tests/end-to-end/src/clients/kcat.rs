use super::command::{Finished, run, run_into};
use crate::{process::Process, tools};
use anyhow::{Result, bail};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// kcat, pointed at a broker.
pub struct Kcat {
    program: PathBuf,
    address: SocketAddr,
}

impl Kcat {
    /// kcat for the broker at `address`.
    pub fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self { program: tools::kcat()?, address })
    }

    /// Produces the records in `input`, which `delimiter` separates, to partition 0 of `topic`, compressed by `codec`.
    pub fn produce(&self, topic: &str, codec: &str, delimiter: &str, input: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["-P", "-t", topic, "-p", "0", "-z", codec, "-D", delimiter]);
        run(&mut command, Some(input))?.expect_success().map(drop)
    }

    /// Writes all records of partition 0 of `topic`, each followed by `delimiter`, to `output`.
    pub fn consume(&self, topic: &str, delimiter: &str, output: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["-C", "-q", "-u", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-D", delimiter]);
        command.args(["-X", "check.crcs=true"]);
        let errors = output.with_extension("stderr");
        if !run_into(&mut command, None, output, &errors)? {
            bail!("kcat -C {topic}: {}", std::fs::read_to_string(errors)?);
        }
        Ok(())
    }

    /// As a member of `group`: reads `topic` to its end, commits, leaves. What it read, a record a line.
    pub fn consume_in_group(&self, group: &str, topic: &str) -> Result<Vec<String>> {
        let finished = run(self.member(group, topic).arg("-e"), None)?.expect_success()?;
        Ok(finished.stdout.lines().map(str::to_owned).collect())
    }

    /// A member of `group` that reads `topic` until it is killed. What it reads is in the process's output, a record a line.
    pub fn start_member(&self, group: &str, topic: &str, log: &Path) -> Result<Process> {
        Process::spawn(self.member(group, topic).args(["-u", "-X", "session.timeout.ms=6000"]), log)
    }

    fn member(&self, group: &str, topic: &str) -> Command {
        let mut command = self.command();
        command.args(["-G", group, "-q", "-X", "auto.offset.reset=earliest", topic]);
        command
    }

    /// Runs kcat with other arguments.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        run(self.command().args(arguments), None)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-b", &self.address.to_string()]);
        command
    }
}
