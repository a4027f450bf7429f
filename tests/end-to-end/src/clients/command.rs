use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{kafka::Latencies, wait};

/// No client command takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a client command printed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Whether it ended with exit status 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The same, or an error with what it printed.
    pub fn expect_success(self) -> Result<Self> {
        if !self.success {
            bail!("the command failed\n{}\n{}", self.stdout, self.stderr);
        }
        Ok(self)
    }
}

/// Runs a program that prints a line "took MILLISECONDS" for each of the `count` things that it does.
pub fn latencies(command: &mut Command, count: u32) -> Result<Latencies> {
    let finished = run(command, None)?.expect_success()?;
    let mut latencies = Latencies::default();
    for line in finished.stdout.lines() {
        if let Some(milliseconds) = line.strip_prefix("took ") {
            latencies.add(Duration::from_secs_f64(milliseconds.parse::<f64>()? / 1e3));
        }
    }
    ensure!(latencies.count() == usize::try_from(count)?, "{}", finished.stdout);
    Ok(latencies)
}

/// Runs `command` to its end with `input` as its standard input.
pub fn run(command: &mut Command, input: Option<&Path>) -> Result<Finished> {
    let folder = tempfile::tempdir()?;
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let success = run_into(command, input, &stdout, &stderr)?;
    let text = |path| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&std::fs::read(path)?).into_owned());
    Ok(Finished { success, stdout: text(&stdout)?, stderr: text(&stderr)? })
}

/// Runs `command` with its three streams in files; whether it ended well.
pub(super) fn run_into(
    command: &mut Command,
    input: Option<&Path>,
    stdout: &Path,
    stderr: &Path,
) -> Result<bool> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path).with_context(|| format!("opening {}", path.display()))?),
        None => Stdio::null(),
    };
    command.stdin(input).stdout(File::create(stdout)?).stderr(File::create(stderr)?);
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let ended = wait::until("the client command ends", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        // Nothing else would end it.
        let _ = child.kill().and_then(|()| child.wait());
    }
    Ok(ended.with_context(|| format!("{command:?}"))?.success())
}
