//! The block cache's disk filled up, made read-only, overwritten and removed while consumers read: they see no error, and the
//! right bytes.

use super::{
    Report,
    cold_reader::{ColdReader, Content, cold_subject},
    runtime,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use thalweg_end_to_end::{servers::MinIo, wait};
use tokio::{runtime::Runtime, task::JoinHandle};

/// Records of 1 KiB: 1 GiB.
const RECORDS: u64 = 1 << 20;
const PARTITIONS: i32 = 4;
const CONSUMERS: usize = 3;
const TOPIC: &str = "faults";
/// What a small disk has, where one can be mounted: a third of the data.
const SMALL_DISK: &str = "size=300m";
/// How often everything is read once a fault is there.
const ROUNDS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let folder = tempfile::tempdir()?;
    let disk = SmallDisk::mount(folder.path())?;
    report.note(
        "the disk",
        if disk.mounted { "a tmpfs of 300 MiB" } else { "a folder: nothing can be mounted here" },
    );
    let mut subject = cold_subject(&minio, (&disk.path, 2 << 30), TOPIC, PARTITIONS, RECORDS)?;
    let runtime = runtime()?;
    let reader = runtime.block_on(ColdReader::new(subject.address(), TOPIC, PARTITIONS))?;
    let expected = runtime.block_on(reader.read())?;
    let name = if disk.mounted { "filled up" } else { "as it is" };
    under(report, &runtime, &reader, &expected, name, || Ok(()))?;
    under(report, &runtime, &reader, &expected, "overwritten", || overwrite(&disk.path))?;
    under(report, &runtime, &reader, &expected, "cut off", || cut_off(&disk.path))?;
    under(report, &runtime, &reader, &expected, "removed", || {
        fs::remove_dir_all(disk.path.join("blocks")).context("removing it")
    })?;
    if disk.mounted {
        // What is open for writing can't be made read-only: the next life finds it so.
        subject.kill_and(|| disk.make_read_only())?;
        let reader = reader.at(subject.address());
        under(report, &runtime, &reader, &expected, "read-only at the start", || Ok(()))?;
    }
    report.must("the broker is still there", subject.is_running());
    Ok(())
}

/// Lets consumers read everything again and again while `harm` is done, and for some rounds after it.
fn under(
    report: &mut Report,
    runtime: &Runtime,
    reader: &ColdReader,
    expected: &Content,
    name: &str,
    harm: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let consumers = Consumers::start(runtime, reader, expected);
    consumers.wait_for_rounds(1)?;
    harm()?;
    consumers.wait_for_rounds(1 + ROUNDS)?;
    report.must_succeed(&format!("{name}: no error, and the right bytes"), consumers.finish(runtime));
    Ok(())
}

struct Consumers {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    running: Vec<JoinHandle<Result<()>>>,
}

impl Consumers {
    fn start(runtime: &Runtime, reader: &ColdReader, expected: &Content) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Vec<Arc<AtomicU64>> = (0..CONSUMERS).map(|_| Arc::default()).collect();
        let running = rounds.iter().map(|rounds| {
            let (reader, expected) = (reader.another(), expected.clone());
            let (stop, rounds) = (stop.clone(), rounds.clone());
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    ensure!(reader.read().await? == expected, "other bytes than those that were written");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let running = running.collect();
        Self { stop, rounds, running }
    }

    fn wait_for_rounds(&self, rounds: u64) -> Result<()> {
        wait::until("consumers read everything", PATIENCE, || {
            let done = self.rounds.iter().all(|done| done.load(Ordering::Relaxed) >= rounds);
            Ok((done || self.running.iter().any(JoinHandle::is_finished)).then_some(()))
        })
    }

    fn finish(self, runtime: &Runtime) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.into_iter().try_for_each(|consumer| runtime.block_on(consumer)?)
    }
}

/// A disk that is full soon: a tmpfs, where this process may mount one.
struct SmallDisk {
    path: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    fn mount(folder: &Path) -> Result<Self> {
        let path = folder.join("disk");
        fs::create_dir(&path)?;
        let mounted = run("mount", &["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"], &path).is_ok();
        Ok(Self { path, mounted })
    }

    fn make_read_only(&self) -> Result<()> {
        run("mount", &["-o", "remount,ro"], &self.path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // The broker may still have files there open.
            let _ = run("umount", &["-l"], &self.path);
        }
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(path).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The files that blocks lie in.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path.join("blocks"))?.collect::<std::io::Result<Vec<_>>>()?;
    Ok(entries.iter().map(fs::DirEntry::path).filter(|file| !file.ends_with("about")).collect())
}

fn overwrite(path: &Path) -> Result<()> {
    for file in files(path)? {
        let file = fs::File::options().write(true).open(file)?;
        for place in (0..file.metadata()?.len()).step_by(100_000) {
            // Where the disk is full, a hole can't be filled.
            let _ = file.write_all_at(&[0x5a; 3000], place);
        }
    }
    Ok(())
}

fn cut_off(path: &Path) -> Result<()> {
    for file in files(path)? {
        fs::File::options().write(true).open(file)?.set_len(0)?;
    }
    Ok(())
}
