//! The disk's part of the cache, in a real directory, so in real time. Nothing here depends on how fast the disk is.

use super::*;
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
};
use tempfile::TempDir;
use tokio::task::yield_now;

const MIB: usize = 1 << 20;
/// 48 MB: more than memory, less than the disk.
const BATCHES: i64 = 160;
const MEMORY: usize = 32 * MIB;

struct DiskWorld {
    world: World,
    directory: TempDir,
}

impl DiskWorld {
    async fn new() -> Self {
        let flushes = Flushes::into(Arc::new(InMemory::new())).await;
        let index = flushes.load().await;
        let budget = Budget::new("fetch", 64 * MIB);
        let reader = reader(&flushes, &index, settings(1, &budget));
        let mut world = World { flushes, index, reader, budget };
        for part in 0..4 {
            let bases = (0..BATCHES / 4).map(|n| 2 * (part * BATCHES / 4 + n));
            world.segment(batches(bases, LARGE)).await;
        }
        let mut new = Self { world, directory: tempfile::tempdir().expect("a directory") };
        new.restart().await;
        new
    }

    /// A new reader with nothing in memory, on the same directory.
    async fn restart(&mut self) {
        self.restart_as("test").await;
    }

    async fn restart_as(&mut self, cluster: &str) {
        let budget = self.world.budget.clone();
        self.world.reader = reader(&self.world.flushes, &self.world.index, settings(1, &budget));
        // The reader before it has gone when its lock is free.
        let lock = self.directory.path().join("lock");
        while fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_err()) {
            yield_now().await;
        }
        self.world.reader = self.another(cluster);
        self.settled().await;
    }

    fn another(&self, cluster: &str) -> BlockReader {
        let disk = DiskSettings { path: self.directory.path().to_owned(), bytes: 96 << 20 };
        let settings = BlockCacheSettings {
            disk: Some(disk),
            cluster_id: cluster.to_owned(),
            read_ahead: Budget::new("read_ahead", 8 * MIB),
            ..settings(MEMORY, &self.world.budget)
        };
        reader(&self.world.flushes, &self.world.index, settings)
    }

    fn disk(&self) -> &DiskCache {
        self.world.reader.0.blocks.disk().expect("there is one")
    }

    /// Waits until the disk is open, or off, and has written what it was given.
    async fn settled(&self) {
        while !self.disk().is_settled() {
            yield_now().await;
        }
    }

    /// Reads the next MiB from `at` on, checks it, and returns where it ends.
    async fn step(&self, at: i64) -> i64 {
        let runs = self.world.read(at, MIB).await;
        let mut next = at;
        for base in bases(&runs) {
            assert_eq!(base, next);
            next += 2;
        }
        let bytes: usize = runs.iter().map(|run| run.bytes.len()).sum();
        assert_eq!(bytes, (next - at) as usize / 2 * batch(0, LARGE).len());
        assert!(next > at);
        next
    }

    /// Ten consumers, each some MiB behind the one before it.
    async fn replay(&self) {
        self.replay_by::<10>().await;
    }

    async fn replay_by<const CONSUMERS: usize>(&self) {
        let mut places = [0; CONSUMERS];
        while places[CONSUMERS - 1] < 2 * BATCHES {
            for n in 0..places.len() {
                let follows = n == 0 || places[n - 1] - places[n] >= 24 || places[n - 1] == 2 * BATCHES;
                if follows && places[n] < 2 * BATCHES {
                    places[n] = self.step(places[n]).await;
                }
            }
            self.settled().await;
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.path().join("blocks")).expect("a directory");
        let paths = files.map(|file| file.expect("readable").path());
        paths.filter(|path| !path.ends_with("about")).collect()
    }
}

/// What is done to the files while they are read.
async fn survives(harm: impl Fn(&DiskWorld)) {
    let world = DiskWorld::new().await;
    world.replay_by::<2>().await;
    harm(&world);
    world.replay_by::<2>().await;
    world.replay_by::<2>().await;
}

#[tokio::test]
async fn ten_consumers_one_after_the_other_fetch_each_byte_once_and_once_more_nothing() {
    let world = DiskWorld::new().await;
    world.replay().await;
    let data = BATCHES as u64 * batch(0, LARGE).len() as u64;
    let fetched = world.world.reader.0.blocks.fetched_bytes();
    assert!(fetched >= data && fetched * 10 <= data * 12, "{fetched} bytes fetched of {data}");
    let before = world.world.gets();
    world.replay().await;
    assert_eq!(world.world.gets(), before);
}

#[tokio::test]
async fn a_restart_keeps_what_the_disk_holds() {
    let mut world = DiskWorld::new().await;
    world.replay().await;
    world.restart().await;
    let before = world.world.gets();
    world.replay().await;
    assert_eq!(world.world.gets(), before);
}

#[tokio::test]
async fn files_of_another_cluster_are_thrown_away() {
    let mut world = DiskWorld::new().await;
    world.replay().await;
    world.restart_as("another").await;
    let before = world.world.gets();
    world.step(0).await;
    assert!(world.world.gets() > before);
}

#[tokio::test]
async fn a_directory_that_another_process_uses_is_left_to_it() {
    let world = DiskWorld::new().await;
    world.replay().await;
    let second = world.another("test");
    while !second.0.blocks.disk().expect("there is one").is_settled() {
        yield_now().await;
    }
    let runs = second.read(LOG, Offset(0), FOREVER, MIB, true).await.expect("readable");
    assert_eq!(bases(&runs)[0], 0);
    let before = world.world.gets();
    world.replay().await;
    assert_eq!(world.world.gets(), before, "the first one goes on as before");
}

#[tokio::test]
async fn files_that_are_overwritten_cost_speed_alone() {
    survives(|world| {
        for path in world.files() {
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            (0..64).for_each(|n| file.write_all_at(&[0x5a; 5000], n * 65_000).expect("written"));
        }
    })
    .await;
}

#[tokio::test]
async fn files_that_are_cut_off_cost_speed_alone() {
    survives(|world| {
        for path in world.files() {
            OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)).expect("cut off");
        }
    })
    .await;
}

#[tokio::test]
async fn files_that_are_removed_cost_speed_alone() {
    survives(|world| fs::remove_dir_all(world.directory.path()).expect("removed")).await;
}

#[tokio::test]
async fn a_path_that_is_no_directory_costs_speed_alone() {
    let mut world = DiskWorld::new().await;
    let file = world.directory.path().join("file");
    fs::write(&file, b"here").expect("written");
    let disk = DiskSettings { path: file, bytes: 96 << 20 };
    let settings = BlockCacheSettings { disk: Some(disk), ..settings(MEMORY, &world.world.budget) };
    world.world.reader = reader(&world.world.flushes, &world.world.index, settings);
    world.settled().await;
    world.replay_by::<2>().await;
}
