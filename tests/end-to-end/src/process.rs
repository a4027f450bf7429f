//! One process that we started: its log, its signals, what it uses.

use crate::wait;
use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// How long an orderly stop may take before it counts as a failure.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A running process with its output in a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// Resident set size, in bytes.
    pub resident: u64,
    /// Largest resident set size so far, in bytes.
    pub resident_peak: u64,
}

impl Process {
    /// Starts `command`; standard output and error are appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let output = fs::File::options().create(true).append(true).open(log)?;
        let errors = output.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its output, for error messages.
    pub fn output_tail(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The last `bytes` bytes of its output, for those who look often.
    pub fn output_end(&self, bytes: u64) -> Result<String> {
        let mut log = fs::File::open(&self.log)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut end = Vec::new();
        log.read_to_end(&mut end)?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until a part of its output makes `read` give a value. Fails when the process ends first.
    pub fn wait_for_output<T>(
        &mut self,
        what: &str,
        patience: Duration,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        wait::until(what, patience, || {
            let ended = self.child.try_wait()?;
            let found = read(&self.output());
            match (found, ended) {
                (None, Some(status)) => {
                    bail!("{what}: the process ended first ({status})\n{}", self.output_tail())
                }
                (found, _) => Ok(found),
            }
        })
        .with_context(|| format!("log: {}", self.log.display()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for_exit(STOP_PATIENCE)
    }

    /// Waits for its end.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until("the process ends", patience, || Ok(self.child.try_wait()?))
            .with_context(|| self.output_tail())
    }

    /// Processor time and memory, from `/proc`.
    pub fn usage(&self) -> Result<Usage> {
        usage_of(self.id())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("the kernel's process ids are positive i32"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.kill();
    }
}

/// Raises this process's limit of open files, which its children inherit, to `wanted` or more.
pub fn raise_file_limit(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))?;
    }
    Ok(())
}

/// Processor time and memory of a process, from `/proc`.
fn usage_of(id: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    Ok(Usage {
        cpu_s: cpu_seconds(&stat).context("/proc/PID/stat")?,
        resident: status_bytes(&status, "VmRSS:").context("VmRSS")?,
        resident_peak: status_bytes(&status, "VmHWM:").context("VmHWM")?,
    })
}

/// Linux counts in hundredths of a second on every architecture that we know of.
const TICKS_PER_SECOND: f64 = 100.0;

/// `utime + stime`: fields 14 and 15 of `/proc/PID/stat`, counted from behind the command's name.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let ticks = |field: usize| behind_name.split_whitespace().nth(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
}

/// One `name: 123 kB` line of `/proc/PID/status`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2 << 20));
    }
}
