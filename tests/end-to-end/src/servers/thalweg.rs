use super::{ACCESS_KEY, MinIo, REGION, SECRET_KEY};
use crate::{kafka::Connection, process::Process, wait};
use anyhow::{Context, Result, bail};
use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};
use tempfile::TempDir;

/// Names the program under test, in place of the one that Cargo built beside us.
const BINARY_VARIABLE: &str = "XTASK_BROKER";

const START_PATIENCE: Duration = Duration::from_secs(60);

/// How the binary says where it listens; the line may have an indent and other words before it.
const LISTENING: &str = "listening on PLAINTEXT://";

/// The `thalweg` program: `$XTASK_BROKER`, else the one in the folder of the running program's profile.
pub fn binary() -> Result<PathBuf> {
    if let Some(program) = env::var_os(BINARY_VARIABLE) {
        return Ok(program.into());
    }
    let this = env::current_exe()?;
    let found = this.ancestors().map(|folder| folder.join("thalweg")).find(|program| program.is_file());
    found.with_context(|| format!("no thalweg beside {}: run `cargo build --bin thalweg`", this.display()))
}

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Options {
    program: PathBuf,
    settings: Vec<(String, String)>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Options {
    /// The program at [`binary`], on a port from the system, records in `file:` below its temporary folder.
    pub fn new() -> Result<Self> {
        Ok(Self { program: binary()?, settings: Vec::new(), arguments: Vec::new(), environment: Vec::new() })
    }

    /// The same with its records in `bucket` of `minio`.
    pub fn on_minio(minio: &MinIo, bucket: &str) -> Result<Self> {
        minio.bucket(bucket)?;
        Self::on_s3(minio.address(), bucket)
    }

    /// The same with its records in a bucket behind the S3 endpoint at `address` (MinIO, or a proxy before one).
    pub fn on_s3(address: SocketAddr, bucket: &str) -> Result<Self> {
        Ok(Self::new()?
            .set("object.store.url", format!("s3://{bucket}/thalweg"))
            .set("object.store.s3.endpoint", format!("http://{address}"))
            .set("object.store.s3.region", REGION)
            .set("object.store.s3.path.style.access", "true")
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY))
    }

    /// Adds `--set key=value`. The last one of a key counts.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Adds a command-line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts a broker in a new temporary folder and waits until it answers.
    pub fn start(self) -> Result<Thalweg> {
        Thalweg::start(self, TempDir::with_prefix("thalweg-broker-")?)
    }

    /// Starts the program in `folder` without waiting for anything.
    pub fn spawn_in(&self, folder: &Path) -> Result<Process> {
        Process::spawn(&mut self.command(folder), &folder.join("thalweg.log"))
    }

    /// Runs the program to its end, for command lines that start no broker.
    pub fn run_in(&self, folder: &Path) -> Result<std::process::Output> {
        Ok(self.command(folder).output()?)
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // The user's own settings are not the tests'.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THALWEG_")) {
            command.env_remove(name);
        }
        command.current_dir(folder).args(&self.arguments).envs(self.environment.iter().cloned());
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }
}

/// A running broker.
pub struct Thalweg {
    options: Options,
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl Thalweg {
    fn start(options: Options, folder: TempDir) -> Result<Self> {
        let listener = options.clone();
        let any_port = "PLAINTEXT://127.0.0.1:0";
        let chosen = listener.settings.iter().any(|(key, _)| key == "listeners");
        let listener = if chosen { listener } else { listener.set("listeners", any_port) };
        let mut process = listener.spawn_in(folder.path())?;
        let address = wait_until_serving(&mut process)?;
        // A restart keeps the port, as clients know no other.
        let options = options.set("listeners", format!("PLAINTEXT://{address}"));
        Ok(Self { options, process, address, folder })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until it ends by itself.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.wait_for_exit(patience)
    }

    /// Its working folder: local data (if any) and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How it was started, with the port that it got.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Starts it again with the same options, folder and port, after it has ended. Does not wait.
    pub fn spawn_again(&mut self) -> Result<()> {
        if self.process.is_running() {
            bail!("the broker still runs");
        }
        // The lines of its last life must not be taken for those of this one.
        std::fs::rename(self.folder.path().join("thalweg.log"), self.folder.path().join("thalweg.log.1"))?;
        self.process = self.options.spawn_in(self.folder.path())?;
        Ok(())
    }

    /// Starts it again with the same options, folder and port, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn_again()?;
        self.address = wait_until_serving(&mut self.process)?;
        Ok(())
    }

    /// Starts it elsewhere: everything local is deleted first.
    pub fn start_again_with_empty_disk(self) -> Result<Self> {
        let Self { options, mut process, folder, .. } = self;
        process.kill()?;
        folder.close()?;
        options.start()
    }
}

/// Waits for the line that names the port, then for an answer.
fn wait_until_serving(process: &mut Process) -> Result<SocketAddr> {
    let address =
        process.wait_for_output("thalweg says where it listens", START_PATIENCE, listening_address)?;
    let answers = || async move { Connection::open(address).await?.api_versions().await };
    wait::block_on(wait::until_ok("thalweg answers", START_PATIENCE, answers))?;
    Ok(address)
}

fn listening_address(output: &str) -> Option<SocketAddr> {
    let (_, behind) = output.split_once(LISTENING)?;
    let end = behind.find(|c: char| c.is_whitespace() || c == ',')?;
    let (host, port) = behind[..end].rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(
        host.parse()
            .map_or_else(|_| (Ipv4Addr::LOCALHOST, port).into(), |ip: std::net::IpAddr| (ip, port).into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_off_the_start_block_once_its_line_is_whole() {
        let block = "thalweg 0.1.0\n  listening on PLAINTEXT://127.0.0.1:40001\n  records go to file:x\n";
        assert_eq!(listening_address(block), Some("127.0.0.1:40001".parse().unwrap()));
        assert_eq!(listening_address("  listening on PLAINTEXT://127.0.0.1:4"), None);
    }
}
