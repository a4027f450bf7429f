use super::free_address;
use crate::{process::Process, s3, tools, wait};
use anyhow::{Result, bail};
use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;

/// The account that every MinIO of ours has.
pub const ACCESS_KEY: &str = "thalweg-tests";
/// Its secret.
pub const SECRET_KEY: &str = "thalweg-secret";
/// The region that it answers for.
pub const REGION: &str = "us-east-1";

const START_PATIENCE: Duration = Duration::from_secs(60);

/// A MinIO server with its data in a temporary folder.
pub struct MinIo {
    program: PathBuf,
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl MinIo {
    /// Starts one (fetching MinIO the first time) and waits until it serves.
    pub fn start() -> Result<Self> {
        let program = tools::minio()?;
        let folder = TempDir::with_prefix("thalweg-minio-")?;
        let address = free_address()?;
        let process = spawn(&program, &folder, address)?;
        let mut minio = Self { program, process, address, folder };
        minio.wait_until_ready()?;
        Ok(minio)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its endpoint URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A signed client of one of its buckets, which is created if need be.
    pub fn bucket(&self, name: &str) -> Result<s3::Bucket> {
        let bucket = s3::Bucket::new(self.address, name);
        wait::block_on(bucket.create())?;
        Ok(bucket)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the server in an orderly way; its data stays.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        Ok(())
    }

    /// Starts it again at the same address with the same data.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, &self.folder, self.address)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let (process, address) = (&mut self.process, self.address);
        wait::until("MinIO serves", START_PATIENCE, || {
            if let Some(status) = process.exit_status()? {
                bail!("MinIO ended with {status}\n{}", process.output_tail());
            }
            Ok(wait::block_on(s3::Bucket::new(address, "any").is_serving()).then_some(()))
        })
    }
}

fn spawn(program: &PathBuf, folder: &TempDir, address: SocketAddr) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .args(["server", "--quiet", "--address", &address.to_string(), "--console-address", "127.0.0.1:0"])
        .arg(folder.path().join("data"))
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .env("MINIO_CALLHOME_ENABLE", "off");
    Process::spawn(&mut command, &folder.path().join("minio.log"))
}
