//! The files of the disk cache: foyer's block engine, in a directory that is ours alone.
//!
//! ```text
//! PATH/lock      held for as long as a process uses the directory
//! PATH/blocks/   about                       what the files are: format, cluster, sizes
//!                foyer-storage-direct-fs-*   blocks, written round and round
//! ```
//!
//! Files of another cluster or of other sizes are thrown away. What a killed process has left half written is found out by foyer's
//! checksums, then by the object index's.

use super::{
    DiskSettings, OpenShelf, Shelf,
    second_chance::{Condition, SecondChance},
};
use crate::reader::BlockKey;
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, Error, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, Load, PsyncIoEngineConfig, RecoverMode, Spawner, StorageFilter,
};
use futures::{FutureExt, future::BoxFuture};
use object_store::path::Path;
use parking_lot::Mutex;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};
use thalweg_runtime::IoThreads;

/// Version of the files as a whole; foyer's own format is checked by foyer.
const FORMAT: u32 = 1;
/// Threads that may wait for the disk.
const THREADS: usize = 32;
/// The disk is overwritten in so many parts, one after the other.
const PARTS: u64 = 128;
const SMALLEST_PART: u64 = 4 << 20;
const LARGEST_PART: u64 = 1 << 30;
/// Longest key that is read back.
const MAX_KEY: u64 = 4096;

/// Where the files are, and how they are opened.
pub(super) struct Directory {
    path: PathBuf,
    bytes: u64,
    cluster: String,
    buffers: usize,
    threads: Arc<IoThreads>,
    lock: Mutex<Option<File>>,
}

impl Directory {
    pub(super) fn new(settings: &DiskSettings, cluster: &str, buffers: usize) -> io::Result<Self> {
        let DiskSettings { path, bytes } = settings.clone();
        let threads = Arc::new(IoThreads::begin("disk-cache", THREADS)?);
        Ok(Self { path, bytes, cluster: cluster.to_owned(), buffers, threads, lock: Mutex::default() })
    }

    fn part_bytes(&self) -> u64 {
        (self.bytes / PARTS).clamp(SMALLEST_PART, LARGEST_PART).next_multiple_of(4096)
    }

    /// Makes the directory ours, with files that suit us or none. Returns where they are.
    fn prepare(&self, empty: bool) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.path)?;
        self.take_lock()?;
        let (files, about) = (self.path.join("blocks"), self.about());
        let known = fs::read_to_string(files.join("about")).is_ok_and(|found| found == about);
        if empty || !known {
            match fs::remove_dir_all(&files) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir_all(&files)?,
            }
            fs::write(files.join("about"), about)?;
        }
        Ok(files)
    }

    fn about(&self) -> String {
        let (cluster, bytes, part) = (&self.cluster, self.bytes, self.part_bytes());
        format!("thalweg disk cache {FORMAT}\ncluster {cluster}\nbytes {bytes}\npart {part}\n")
    }

    /// Two processes would overwrite each other's blocks.
    fn take_lock(&self) -> io::Result<()> {
        let mut lock = self.lock.lock();
        if lock.is_none() {
            let file = File::create(self.path.join("lock"))?;
            match file.try_lock() {
                Ok(()) => *lock = Some(file),
                Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process uses it")),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl OpenShelf for Arc<Directory> {
    fn open(&self, empty: bool) -> BoxFuture<'static, io::Result<Arc<dyn Shelf>>> {
        let directory = self.clone();
        let threads = self.threads.clone();
        async move {
            let opened = threads.run(async move { Files::open(&directory, empty).await }).await;
            let files = opened.unwrap_or_else(|| Err(io::Error::other("opening it has panicked")))?;
            Ok(Arc::new(files) as Arc<dyn Shelf>)
        }
        .boxed()
    }
}

struct Files {
    cache: HybridCache<BlockKey, Bytes>,
    second_chance: Arc<SecondChance>,
    threads: Arc<IoThreads>,
}

impl Files {
    async fn open(directory: &Directory, empty: bool) -> io::Result<Self> {
        let files = directory.prepare(empty)?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let device = FsDeviceBuilder::new(files).with_capacity(size(directory.bytes)).build();
        // Two buffers take turns; each takes one batch of ours, and as much again that is written anew.
        let buffer = directory.buffers / 2;
        let second_chance = Arc::new(SecondChance::new(buffer / 2));
        let again = StorageFilter::new().with_condition(Condition(second_chance.clone()));
        let engine = BlockEngineConfig::new(device.map_err(io::Error::other)?)
            .with_block_size(size(directory.part_bytes()))
            .with_buffer_pool_size(buffer)
            .with_submit_queue_size_threshold(directory.buffers)
            .with_reinsertion_filter(again);
        // Nothing stays in foyer's memory: what is in memory is the block cache's.
        let cache = HybridCacheBuilder::new()
            .with_name("disk")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(1)
            .with_shards(1)
            .with_filter(|_, _| false)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .with_spawner(Spawner::from(directory.threads.handle()))
            .build()
            .await
            .map_err(io::Error::other)?;
        Ok(Self { cache, second_chance, threads: directory.threads.clone() })
    }
}

impl Shelf for Files {
    fn holds(&self, key: &BlockKey) -> bool {
        self.cache.storage().may_contains(key)
    }

    fn read(&self, key: &BlockKey) -> BoxFuture<'static, io::Result<Option<Bytes>>> {
        self.second_chance.read(self.cache.memory().hash(key));
        let (cache, key, threads) = (self.cache.clone(), key.clone(), self.threads.clone());
        async move {
            let load = async move {
                match cache.storage().load(&key).await {
                    Ok(Load::Entry { value, .. }) => Ok(Some(value)),
                    Ok(Load::Piece { piece, .. }) => Ok(Some(piece.value().clone())),
                    Ok(Load::Miss | Load::Throttled) => Ok(None),
                    Err(error) => Err(io::Error::other(error)),
                }
            };
            threads.run(load).await.unwrap_or_else(|| Err(io::Error::other("reading it has panicked")))
        }
        .boxed()
    }

    fn write(&self, blocks: Vec<(BlockKey, Bytes)>) -> BoxFuture<'static, io::Result<usize>> {
        let (cache, second_chance, threads) =
            (self.cache.clone(), self.second_chance.clone(), self.threads.clone());
        async move {
            let write = async move {
                let mut keys = Vec::with_capacity(blocks.len());
                for (key, bytes) in blocks {
                    second_chance.wrote(bytes.len());
                    keys.push(key.clone());
                    cache.storage_writer(key).force().insert(bytes);
                }
                cache.storage().wait().await;
                keys.iter().filter(|key| cache.storage().may_contains(*key)).count()
            };
            threads.run(write).await.ok_or_else(|| io::Error::other("writing it has panicked"))
        }
        .boxed()
    }
}

/// As it stands on the disk: the length of the path, the path, the position.
impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let path = self.path.as_ref().as_bytes();
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(Error::io_error);
        write(&(path.len() as u64).to_be_bytes())?;
        write(path)?;
        write(&self.position.to_be_bytes())
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let len = read_u64(reader)?;
        if len > MAX_KEY {
            return Err(malformed());
        }
        let mut path = String::new();
        reader.take(len).read_to_string(&mut path).map_err(Error::io_error)?;
        let path = Path::parse(&path).map_err(|_| malformed())?;
        Ok(Self { path, position: read_u64(reader)? })
    }

    fn estimated_size(&self) -> usize {
        self.path.as_ref().len() + 16
    }
}

fn read_u64(reader: &mut impl Read) -> foyer::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).map_err(Error::io_error)?;
    Ok(u64::from_be_bytes(bytes))
}

fn malformed() -> Error {
    Error::new(foyer::ErrorKind::ChecksumMismatch, "a key on the disk is none")
}
