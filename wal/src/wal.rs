//! The running write-ahead log of one incarnation, as its owner sees it.

use crate::{
    WalConfig,
    budget::PutBudget,
    cleanup::Cleanup,
    driver::{Driver, events},
    flush::Flusher,
    hedge::HedgePolicy,
    metrics::Metrics,
    numbers::{Numbers, Reservation},
    probe::Probe,
    rewrite::{self, Rewrite, RewriteError},
    sequencer::{Limits, Sequencer},
    shared::{Base, End, Progress, Shared},
    upload::Uploader,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{Commit, IncarnationRecord, IncarnationState, Metadata};
use thalweg_runtime::{Runtime, TaskHandle};
use thalweg_segment::{Batch, Forgetting, Index, LogId, LogState, Offset, SegmentId, Store, WalSequence};
use tokio::{sync::mpsc, time::Instant};

/// What the owner of the logs is told. Called from the WAL's tasks; must not block.
pub trait Observer: Send + Sync + 'static {
    /// Every batch of each log below its offset is durable: the high watermark may move there, producers be answered.
    fn durable(&self, advanced: &[(LogId, Offset)]);

    /// A flush was committed: the object index has these objects now. `flushed` gives, for each log in it, the offset below
    /// which its batches need not be held in memory any more.
    fn flushed(&self, commit: &Commit, shared: Option<Arc<Index>>, flushed: &[(LogId, Offset)]);

    /// A rewrite was committed: the object index has what it adds, and no longer what it removes.
    fn rewritten(&self, commit: &Commit, shared: Option<Arc<Index>>);

    /// This incarnation can neither acknowledge nor commit any more. Called once; nothing follows it.
    fn fenced(&self, why: &str);
}

/// A handle on the write-ahead log. Cheap to clone. Its tasks end with the last handle; what isn't durable by then is as lost
/// as in a crash.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    numbers: Numbers,
    rewrites: mpsc::Sender<rewrite::Request>,
    /// The driver, which owns all other tasks.
    _driver: Arc<TaskHandle>,
}

/// While it lives, objects are cut only when full: so all batches that are appended under one hold come into one object, and
/// a produce request costs one PUT whatever the number of partitions in it. To be held for moments, across no await: after
/// some milliseconds a hold is passed over.
#[must_use = "a hold ends when it is dropped"]
pub struct Hold<'a>(&'a Shared);

impl Wal {
    /// Starts the tasks that cut, upload and flush. `record` is the incarnation's, open, and its window is the law.
    pub fn start(
        runtime: Runtime,
        store: Store,
        metadata: Metadata,
        record: IncarnationRecord,
        config: WalConfig,
        observer: Arc<dyn Observer>,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        assert_eq!(record.state, IncarnationState::Open, "only an open incarnation writes");
        let metrics = Metrics::register(registry);
        let shared = Arc::new(Shared::new(sequencer(&config, &record)));
        let (sender, events) = events();
        let (rewrites, requests) = rewrite::requests();
        let numbers = Numbers::new(record.incarnation);
        let uploader = Arc::new(Uploader {
            runtime: runtime.clone(),
            store: store.clone(),
            incarnation: record.incarnation,
            config: config.clone(),
            metrics: metrics.clone(),
            hedges: Mutex::new(HedgePolicy::new(config.hedge_min, config.hedge_max)),
            draw_hedge: draw_hedge(&shared),
            rejected: false.into(),
        });
        let probe = Probe {
            shared: shared.clone(),
            store: store.clone(),
            incarnation: record.incarnation,
            events: sender.clone(),
        };
        let cleanup = Cleanup::start(&runtime, store.clone(), record.incarnation);
        let flusher = Flusher {
            shared: shared.clone(),
            runtime: runtime.clone(),
            store,
            metadata,
            record,
            config,
            metrics,
            events: sender.clone(),
            numbers: numbers.clone(),
            rewrites: requests,
            cleanup,
        };
        let tasks = [
            runtime.spawn_essential("the flusher of the write-ahead log", flusher.run()),
            runtime.spawn_essential("the probe for fences", probe.run()),
        ];
        let uploads = BTreeMap::new();
        let driver =
            Driver { shared: shared.clone(), uploader, observer, sender, events, uploads, _tasks: tasks };
        let driver = runtime.spawn_essential("the driver of the write-ahead log", driver.run());
        Self { shared, numbers, rewrites, _driver: Arc::new(driver) }
    }

    /// Tells the state of `log` at its committed end, from which flushes compute state blocks. Before its first append: what
    /// is appended to a log that isn't open is dropped, and never acknowledged. Changes nothing where the log is open.
    pub fn open_log(&self, log: LogId, committed: LogState) {
        let mut core = self.shared.core.lock();
        core.sequencer.open_log(log, committed.end);
        self.shared.bases.lock().entry(log).or_insert_with(|| Base::new(committed));
    }

    /// Forgets a deleted log; what is in flight of it becomes garbage.
    pub fn close_log(&self, log: LogId) {
        let mut core = self.shared.core.lock();
        core.sequencer.close_log(log);
        self.shared.bases.lock().remove(&log);
    }

    /// Forgets producers of `log`, as its owner has: state blocks leave them out from the next flush on.
    pub fn forget_producers(&self, log: LogId, what: Forgetting) {
        if let Some(base) = self.shared.bases.lock().get_mut(&log) {
            base.forget(what);
        }
    }

    /// Queues `batch`, whose offset and leader epoch are set. The caller holds the lock of its log, so that batches come in
    /// offset order; one that starts before the end of its log is a broken invariant, and panics. Never waits: memory is
    /// bounded by the charge of the batch. After a fencing or the call of [`Wal::close`] it does nothing.
    pub fn append(&self, log: LogId, batch: Batch) {
        let now = Instant::now();
        let mut core = self.shared.core.lock();
        let wake = !core.stopped && core.sequencer.append(log, batch, now);
        drop(core);
        if wake {
            self.shared.cut.notify_one();
        }
    }

    /// Holds back objects that aren't full until the guard is dropped: around the appends of one request.
    pub fn hold(&self) -> Hold<'_> {
        self.shared.core.lock().sequencer.hold();
        Hold(&self.shared)
    }

    /// Bytes that are appended and not yet flushed.
    pub fn unflushed_bytes(&self) -> usize {
        self.shared.core.lock().sequencer.unflushed_bytes()
    }

    /// Asks for a flush of what is durable now (memory pressure); returns at once.
    pub fn request_flush(&self) {
        self.shared.core.lock().asked.now = true;
        self.shared.flush.notify_one();
    }

    /// Waits until everything appended so far is durable, then flushes and commits it.
    pub async fn flush(&self) -> Result<(), WalError> {
        let until = self.ask_flush(false);
        self.progress(|progress| progress.trim >= until).await
    }

    /// The orderly end: flushes everything, closes the incarnation's record (so that nobody needs to recover it), stops the
    /// tasks. What is appended from the call on is dropped, and never acknowledged.
    pub async fn close(&self) -> Result<(), WalError> {
        self.ask_flush(true);
        self.progress(|_| false).await
    }

    /// The name of a segment to be written beside the flushes.
    pub fn reserve(&self) -> Reservation {
        self.numbers.reserve()
    }

    /// Whether a segment of this incarnation is being written, or waits for its commit. To be asked before the object index,
    /// which learns of a segment before its reservation ends.
    pub fn is_reserved(&self, id: SegmentId) -> bool {
        self.numbers.is_reserved(id)
    }

    /// Whether it is all over: nothing can be committed any more, and what is reserved says nothing.
    pub fn has_ended(&self) -> bool {
        self.shared.progress.borrow().end.is_some()
    }

    /// Everything of this incarnation below this sequence is committed, and its objects are deleted but for those that
    /// manifests refer to.
    pub fn trim_point(&self) -> WalSequence {
        self.shared.progress.borrow().trim
    }

    /// Commits a rewrite, between flushes, and returns once the observer knows. Goes on for as long as the metadata store is
    /// out of reach. Where this is dropped before, the rewrite may still be committed.
    pub async fn rewrite(&self, rewrite: Rewrite) -> Result<(), RewriteError> {
        if let Some(outcome) = rewrite::ask(&self.rewrites, rewrite).await {
            return outcome;
        }
        // The flusher has ended: the driver says how.
        self.progress(|_| false).await?;
        let why = "it is closed".into();
        Err(WalError::Failed { why }.into())
    }

    /// Asks for a flush of everything appended so far: what is below the returned sequence.
    fn ask_flush(&self, close: bool) -> WalSequence {
        let mut core = self.shared.core.lock();
        let until = core.sequencer.appended_end();
        core.asked.until = core.asked.until.max(until);
        core.asked.close |= close;
        core.stopped |= close;
        drop(core);
        self.shared.flush.notify_one();
        until
    }

    /// Waits until flushes have come as far as `reached` says, or it is all over.
    async fn progress(&self, reached: impl Fn(&Progress) -> bool) -> Result<(), WalError> {
        let mut progress = self.shared.progress.subscribe();
        let now = progress
            .wait_for(|progress| progress.end.is_some() || reached(progress))
            .await
            .expect("this handle keeps the sender");
        match &now.end {
            Some(End::Fenced(why)) => Err(WalError::Fenced { why: why.to_string() }),
            Some(End::Failed(why)) => Err(WalError::Failed { why: why.to_string() }),
            Some(End::Closed) | None => Ok(()),
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.0.core.lock().sequencer.release(now) {
            self.0.cut.notify_one();
        }
    }
}

fn sequencer(config: &WalConfig, record: &IncarnationRecord) -> Sequencer {
    let limits = Limits {
        object_bytes: config.object_bytes.max(1),
        window: u64::from(record.window.min(config.window).max(1)),
        inflight_bytes: config.inflight_bytes,
    };
    let budget = PutBudget::new(config.put_rate, config.put_burst, Instant::now());
    Sequencer::new(limits, budget, record.trim)
}

fn draw_hedge(shared: &Arc<Shared>) -> Box<dyn Fn() -> bool + Send + Sync> {
    let shared = shared.clone();
    Box::new(move || shared.core.lock().sequencer.try_draw_hedge(Instant::now()))
}

/// Why the write-ahead log gave up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// This incarnation is fenced.
    #[error("fenced: {why}")]
    Fenced {
        /// What showed it.
        why: String,
    },
    /// It can't go on for another reason. The process is told, see [`Runtime::failed`].
    #[error("the write-ahead log can't go on: {why}")]
    Failed {
        /// Which.
        why: String,
    },
}

#[cfg(test)]
mod tests;
