//! The block cache's part on a local disk, which holds nothing that matters. Whatever is wrong with the disk costs speed alone:
//! what it does not give, does not give in time, or gives wrong, is read from the object store.
//!
//! ```text
//! DiskCache      bounded waits, what is checked, the switch             (this file)
//!   health       when to switch off, and when to try again: no I/O      (pure)
//!   queue        blocks that wait to be written; beyond its bound, none
//!   Shelf        blocks under keys in files                             (files: foyer's block engine)
//! ```
//!
//! *Writing.* Blocks are offered when they come from the object store, and again when memory lets go of them; one task writes
//! them in batches, and looks whether they are there afterwards: foyer only logs what it could not write. While the disk is
//! slower than the readers, offers are declined.
//!
//! *Reading.* A block is looked for in memory (foyer's index), then read on threads of the disk's own, so that a disk that hangs
//! takes no others; at most [`READS`] at a time, each for [`READ_PATIENCE`]. Its bytes count only with the checksum of the object
//! index, so files of another cluster, or a disk that lies, give nothing.
//!
//! *The switch.* An error, or a row of slow reads, switches the disk off, with one line of WARN; after a while it is opened
//! anew, which takes the blocks in that are still good. One that only refuses to be written to (full, read-only) is read on
//! until then. Whatever lies, or can't be opened, is begun anew with nothing in it.

mod files;
mod health;
mod queue;
mod second_chance;
#[cfg(test)]
mod tests;

use crate::{metrics::DiskCacheMetrics, reader::BlockKey};
use bytes::Bytes;
use files::Directory;
use futures::future::BoxFuture;
use health::{Health, Trouble, Verdict};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use queue::Queue;
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use thalweg_runtime::{Runtime, TaskHandle};
use thalweg_segment::{BlockEntry, check_block};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

/// Reads from the disk at a time. Beyond that the object store is asked at once.
const READS: usize = 32;
/// How long a read may take before the object store is asked instead. Tests on a busy machine are not about that.
const READ_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 20_000 } else { 500 });
/// How long a batch may take to be written.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the files may take to be opened and looked through.
const OPEN_PATIENCE: Duration = Duration::from_secs(600);

/// Where the disk cache lies, and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// A directory for it alone; created where there is none.
    pub path: PathBuf,
    /// Bytes that its files may take.
    pub bytes: u64,
}

impl DiskSettings {
    /// Memory for what is on its way to the disk: taken from the block cache's part in memory, of which it is a quarter at most.
    pub fn buffer_bytes(memory: usize) -> usize {
        (memory / 4).clamp(MIN_BUFFERS, MAX_BUFFERS)
    }
}

/// Small machines cache small blocks only.
const MIN_BUFFERS: usize = 1 << 20;
const MAX_BUFFERS: usize = 32 << 20;

/// Opens shelves: foyer's in a directory, or one of a test.
pub(crate) trait OpenShelf: Send + Sync + 'static {
    /// Opens what is there, or nothing (`empty`), which throws away what is.
    fn open(&self, empty: bool) -> BoxFuture<'static, io::Result<Arc<dyn Shelf>>>;
}

/// Blocks under keys, somewhere slower than memory. What it gives is not to be trusted.
pub(crate) trait Shelf: Send + Sync + 'static {
    /// Whether a block is likely there.
    fn holds(&self, key: &BlockKey) -> bool;
    /// The block, unless it is gone, or bad.
    fn read(&self, key: &BlockKey) -> BoxFuture<'static, io::Result<Option<Bytes>>>;
    /// Writes blocks, and returns how many are there afterwards.
    fn write(&self, blocks: Vec<(BlockKey, Bytes)>) -> BoxFuture<'static, io::Result<usize>>;
}

/// The disk's part of the block cache. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DiskCache {
    inner: Arc<Inner>,
    /// Opens, writes, closes. Ends with the last clone.
    _keeper: Arc<TaskHandle>,
}

struct Inner {
    state: Mutex<State>,
    queue: Queue,
    reads: Semaphore,
    /// Told when the keeper must look at the state.
    switched: Notify,
    metrics: DiskCacheMetrics,
}

struct State {
    health: Health,
    shelf: Option<Arc<dyn Shelf>>,
    /// What the keeper has to do next, once the disk has been switched off.
    reopen: Option<Reopen>,
}

#[derive(Clone, Copy, Debug)]
struct Reopen {
    after: Duration,
    empty: bool,
}

impl DiskCache {
    /// Begins to open the cache in `settings.path`, for the cluster `cluster`; until that is done, it holds nothing. It takes
    /// `buffers` bytes of memory.
    pub(crate) fn begin(
        runtime: &Runtime,
        settings: &DiskSettings,
        cluster: &str,
        buffers: usize,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let directory = Directory::new(settings, cluster, buffers)?;
        Ok(Self::of(runtime, Box::new(Arc::new(directory)), buffers / 2, registry))
    }

    fn of(
        runtime: &Runtime,
        opener: Box<dyn OpenShelf>,
        queue_bytes: usize,
        registry: &mut Registry,
    ) -> Self {
        let state = State { health: Health::default(), shelf: None, reopen: None };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            queue: Queue::new(queue_bytes),
            reads: Semaphore::new(READS),
            switched: Notify::new(),
            metrics: DiskCacheMetrics::new(registry),
        });
        let keeper = Arc::new(runtime.spawn(keep(inner.clone(), opener)));
        Self { inner, _keeper: keeper }
    }

    /// Whether the block is likely on the disk.
    pub(crate) fn holds(&self, key: &BlockKey) -> bool {
        self.inner.shelf().is_some_and(|shelf| shelf.holds(key))
    }

    /// The block's bytes, verified, where the disk has them and gives them in time.
    pub(crate) async fn read(&self, key: &BlockKey, entry: &BlockEntry) -> Option<Bytes> {
        let shelf = self.inner.shelf()?;
        let _permit = self.inner.reads.try_acquire().ok()?;
        let trouble = match timeout(READ_PATIENCE, shelf.read(key)).await {
            Ok(Ok(Some(bytes))) if check_block(&bytes, entry).is_ok() => {
                self.inner.metrics.read_bytes.inc_by(bytes.len() as u64);
                self.inner.observe(&shelf, None);
                return Some(bytes);
            }
            Ok(Ok(_)) => Trouble::Bad,
            Ok(Err(error)) => Trouble::Failed(error.to_string()),
            Err(_) => Trouble::SlowRead,
        };
        self.inner.observe(&shelf, Some(trouble));
        None
    }

    /// Whether it is open, or switched off, and nothing waits to be written.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.inner.state.lock();
        state.reopen.is_some() || (state.shelf.is_some() && self.inner.queue.is_empty())
    }

    /// Offers a block that the disk may lack.
    pub(crate) fn offer(&self, key: &BlockKey, bytes: &Bytes) {
        let writable = {
            let state = self.inner.state.lock();
            state.reopen.is_none() && state.shelf.as_ref().is_some_and(|shelf| !shelf.holds(key))
        };
        if writable && !self.inner.queue.offer(key, bytes) {
            self.inner.metrics.declined_bytes.inc_by(bytes.len() as u64);
        }
    }
}

impl Inner {
    fn shelf(&self) -> Option<Arc<dyn Shelf>> {
        self.state.lock().shelf.clone()
    }

    /// Takes note of what became of a request to `shelf`; one that was replaced since no longer counts.
    fn observe(&self, shelf: &Arc<dyn Shelf>, trouble: Option<Trouble>) {
        let mut state = self.state.lock();
        if !state.shelf.as_ref().is_some_and(|current| Arc::ptr_eq(current, shelf)) {
            return;
        }
        let Some(trouble) = trouble else { return state.health.went_well() };
        match state.health.observe(&trouble) {
            // It was read on, and now isn't worth that either.
            Verdict::Off { readable: false, .. } if state.reopen.is_some() => state.shelf = None,
            _ if state.reopen.is_some() => {}
            verdict => self.judge(&mut state, verdict, &trouble),
        }
    }

    fn judge(&self, state: &mut State, verdict: Verdict, trouble: &Trouble) {
        let Verdict::Off { after, first, readable, empty } = verdict else { return };
        if !readable {
            state.shelf = None;
        }
        state.reopen = Some(Reopen { after, empty });
        self.queue.clear();
        self.metrics.switched_off.inc();
        let retry_s = after.as_secs();
        if first {
            tracing::warn!(%trouble, retry_s, "the disk cache is switched off: reads go to the object store");
        } else {
            tracing::debug!(%trouble, retry_s, "the disk cache stays switched off");
        }
        self.switched.notify_one();
    }

    /// Returns once the disk was switched off.
    async fn switched_off(&self) -> Reopen {
        loop {
            let switched = self.switched.notified();
            if let Some(reopen) = self.state.lock().reopen {
                return reopen;
            }
            switched.await;
        }
    }
}

/// Opens the files, writes what is offered until the disk is switched off, waits, and begins anew.
async fn keep(inner: Arc<Inner>, opener: Box<dyn OpenShelf>) {
    let mut empty = false;
    loop {
        match timeout(OPEN_PATIENCE, opener.open(empty)).await {
            Ok(Ok(shelf)) => {
                inner.opened(&shelf);
                tokio::select! {
                    biased;
                    _ = inner.switched_off() => {}
                    never = write(&inner, shelf) => match never {},
                }
            }
            Ok(Err(error)) => inner.not_opened(&Trouble::NotOpened(error.to_string())),
            Err(_) => inner.not_opened(&Trouble::NotOpened("it takes too long".to_owned())),
        }
        let reopen = inner.switched_off().await;
        sleep(reopen.after).await;
        empty = reopen.empty;
        // What lay there must be closed before it is opened again.
        inner.state.lock().shelf = None;
    }
}

impl Inner {
    fn opened(&self, shelf: &Arc<dyn Shelf>) {
        let mut state = self.state.lock();
        (state.shelf, state.reopen) = (Some(shelf.clone()), None);
        if state.health.opened() {
            tracing::info!("the disk cache is in use again");
        }
    }

    fn not_opened(&self, trouble: &Trouble) {
        let mut state = self.state.lock();
        state.shelf = None;
        let verdict = state.health.observe(trouble);
        self.judge(&mut state, verdict, trouble);
    }
}

/// Writes what is offered.
async fn write(inner: &Inner, shelf: Arc<dyn Shelf>) -> std::convert::Infallible {
    loop {
        let batch = inner.queue.next_batch().await;
        let bytes: usize = batch.iter().map(|(_, block)| block.len()).sum();
        let trouble = match timeout(WRITE_PATIENCE, shelf.write(batch)).await {
            Ok(Ok(0)) => Some(Trouble::NotWritten),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Trouble::NotWrittenFor(error.to_string())),
            Err(_) => Some(Trouble::SlowWrite),
        };
        inner.queue.written();
        if trouble.is_none() {
            inner.metrics.written_bytes.inc_by(bytes as u64);
            inner.state.lock().health.wrote();
        } else {
            inner.observe(&shelf, trouble);
        }
    }
}
