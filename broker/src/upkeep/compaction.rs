//! Compaction: shared segments become log segments and larger shared ones, small segments larger ones. What is worth it is
//! decided by `thalweg_object_compactor::plan`, in rounds; this carries the plans of a round out, one after the other.
//!
//! Whatever fails is tried again in a later round. An input that turns out to be damaged is left alone from then on, until the
//! next start, and told once.

use crate::broker::Broker;
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use thalweg_metadata::{IndexError, ObjectIndex, ObjectRecord};
use thalweg_object_compactor::{
    execute::{ExecuteError, ExecuteErrorKind, Executor, Rewritten},
    plan::{Plan, Sizes, Snapshot, Work, plan},
};
use thalweg_runtime::Budget;
use thalweg_segment::{LogId, ReadError, SegmentId, Store, WalSequence, segment_path};
use thalweg_wal::{Rewrite, RewriteError};
use tokio::time::{Instant, sleep};

/// Settings of compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// `compaction.enable`.
    pub enabled: bool,
    /// `compaction.interval.ms`.
    pub interval: Duration,
    /// `compaction.memory.bytes`, as far as `memory.bytes` allows.
    pub memory: usize,
    /// From `compaction.log.bytes` and `compaction.plan.bytes`.
    pub sizes: Sizes,
}

/// Where nothing was flushed for so many intervals, small objects wait for no others of their kind.
const SETTLED_AFTER: u32 = 10;

/// Upper bounds of durations, in seconds.
const SECONDS: [f64; 10] = [0.01, 0.05, 0.2, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

type WorkLabel = [(&'static str, &'static str); 1];
type PlanLabels = [(&'static str, &'static str); 2];

/// What compaction works with.
pub struct Compaction {
    settings: CompactionSettings,
    executor: Executor,
    damaged: Mutex<BTreeSet<SegmentId>>,
    metrics: Metrics,
}

/// What became of a plan.
enum Outcome {
    Done,
    /// What it was to replace was replaced before.
    Stale,
    Failed,
}

/// Nothing can be committed any more.
#[derive(Debug)]
pub struct Ended;

impl Compaction {
    /// Compaction of what `index` says is in `store`.
    pub fn new(
        store: Store,
        index: ObjectIndex,
        settings: CompactionSettings,
        registry: &mut Registry,
    ) -> Self {
        let memory = Budget::new("compaction", settings.memory);
        let executor = Executor::new(store, index, memory);
        let metrics = Metrics::register(registry);
        Self { settings, executor, damaged: Mutex::default(), metrics }
    }

    /// How large the segments of a log become.
    pub fn log_segment_bytes(&self) -> u64 {
        self.settings.sizes.log
    }
}

/// Compacts for as long as the broker lives, if that is enabled.
pub fn start(broker: &Arc<Broker>) {
    let CompactionSettings { enabled, interval, sizes, .. } = broker.compaction.settings.clone();
    if !enabled {
        return;
    }
    let weak = Arc::downgrade(broker);
    let random = broker.runtime.random().clone();
    let task = broker.runtime.spawn(async move {
        let mut quiet = Quiet::since_now();
        loop {
            sleep(random.jitter(interval)).await;
            let Some(broker) = weak.upgrade() else { return };
            let quiet = quiet.lasts(broker.wal.trim_point()) >= interval * SETTLED_AFTER;
            let sizes = if quiet { sizes.settled() } else { sizes };
            if round(&broker, &sizes).await.is_err() {
                return;
            }
        }
    });
    task.detach();
}

/// For how long nothing was flushed.
struct Quiet {
    trim: WalSequence,
    since: Instant,
}

impl Quiet {
    fn since_now() -> Self {
        Self { trim: WalSequence(0), since: Instant::now() }
    }

    fn lasts(&mut self, trim: WalSequence) -> Duration {
        if self.trim != trim {
            *self = Self { trim, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

/// Compacts until nothing more is worth it, also what would else wait for more of its kind. For tests and tools.
pub async fn settle(broker: &Broker) -> Result<(), Ended> {
    let sizes = broker.compaction.settings.sizes;
    while round(broker, &sizes).await? > 0 {}
    while round(broker, &sizes.settled()).await? > 0 {}
    Ok(())
}

/// Plans, and carries the plans out. Returns how many were.
pub async fn round(broker: &Broker, sizes: &Sizes) -> Result<usize, Ended> {
    let mut done = 0;
    for plan in plans(broker, sizes).await {
        let started = Instant::now();
        let outcome = carry_out(broker, &plan, sizes).await?;
        let name = match outcome {
            Outcome::Done => "done",
            Outcome::Stale => "stale",
            Outcome::Failed => "failed",
        };
        broker.compaction.metrics.ended(plan.work, name, started.elapsed());
        match outcome {
            Outcome::Done => done += 1,
            // It cost nothing, and nothing rests on it.
            Outcome::Stale if plan.work == Work::Remove => {}
            // The other plans may rest on the same. Those of the next round don't.
            Outcome::Stale | Outcome::Failed => break,
        }
    }
    Ok(done)
}

async fn plans(broker: &Broker, sizes: &Sizes) -> Vec<Plan> {
    let index = broker.topics.index().clone();
    let (logs, sizes, damaged) = (broker.logs.clone(), *sizes, broker.compaction.damaged.lock().clone());
    let compacted = compacted(broker);
    // Of tens of thousands of logs, this takes a while.
    let planned = broker.runtime.compute(move || {
        let index = index.snapshot();
        // Every log that exists is open: they are opened before anything is written to them.
        let start = |log| logs.get(log).map(|log| log.view().start);
        let mut snapshot = Snapshot::new(&index, start, &damaged);
        for log in &index.logs {
            if let Some(latest_ms) = compacted.get(&log.log) {
                snapshot.compacts(log, *latest_ms);
            }
        }
        plan(&snapshot, &sizes)
    });
    planned.await
}

/// The logs that are compacted by key, and when what they hold must have been written to be overdue for that.
fn compacted(broker: &Broker) -> BTreeMap<LogId, Option<i64>> {
    let now_ms = broker.runtime.now_ms();
    let topics = broker.topics.all().into_iter().filter(|topic| topic.settings.compact);
    let logs = topics.flat_map(|topic| {
        let lag_ms = topic.settings.cleaning.max_lag_ms;
        let latest_ms = (lag_ms < i64::MAX).then(|| now_ms.saturating_sub(lag_ms));
        topic.logs.iter().map(|log| (log.id(), latest_ms)).collect::<Vec<_>>()
    });
    logs.collect()
}

async fn carry_out(broker: &Broker, plan: &Plan, sizes: &Sizes) -> Result<Outcome, Ended> {
    let mut reservations = Vec::new();
    let mut name = || {
        let reservation = broker.wal.reserve();
        let id = reservation.id();
        reservations.push(reservation);
        id
    };
    let Compaction { executor, metrics, .. } = &broker.compaction;
    let rewritten = match executor.execute(plan, sizes, &mut name).await {
        Ok(rewritten) => rewritten,
        Err(error) => return Ok(failed(broker, plan, &error)),
    };
    let Rewritten { commit, shared, read, written } = rewritten;
    metrics.moved(read, written);
    let (inputs, outputs) = (plan.inputs.len(), commit.added().count());
    let rewrite = Rewrite { commit, shared, reservations };
    match broker.rewrite(rewrite).await {
        Ok(()) => {
            tracing::debug!(work = plan.work.as_str(), inputs, outputs, read, written, "compacted");
            Ok(Outcome::Done)
        }
        Err(RewriteError::Stale) => Ok(Outcome::Stale),
        Err(RewriteError::Ended(_)) => Err(Ended),
    }
}

fn failed(broker: &Broker, plan: &Plan, error: &ExecuteError) -> Outcome {
    let work = plan.work.as_str();
    match error.kind() {
        ExecuteErrorKind::Stale => return Outcome::Stale,
        ExecuteErrorKind::Retry => tracing::warn!(work, %error, "compaction can't go on yet"),
        ExecuteErrorKind::Corrupt => {
            tracing::error!(work, %error, "a stored object is damaged; compaction leaves it alone");
            broker.compaction.damaged.lock().extend(culprits(plan, error));
        }
    }
    Outcome::Failed
}

/// The input that an error names, or the manifests whose WAL objects it may be.
fn culprits(plan: &Plan, error: &ExecuteError) -> BTreeSet<SegmentId> {
    let ids = |of: &dyn Fn(&ObjectRecord) -> bool| -> BTreeSet<SegmentId> {
        plan.inputs.iter().filter(|input| of(input)).map(ObjectRecord::id).collect()
    };
    let ExecuteError::Read(IndexError::Read(ReadError::Format { path, .. })) = error else {
        return ids(&|_| true);
    };
    let named = ids(&|input| segment_path(input.id()) == *path);
    if named.is_empty() { ids(&|input| input.kind().is_manifest()) } else { named }
}

/// See the help texts.
struct Metrics {
    plans: Family<PlanLabels, Counter>,
    seconds: Family<WorkLabel, Histogram, fn() -> Histogram>,
    read: Counter,
    written: Counter,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            plans: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            read: Counter::default(),
            written: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("thalweg_compaction");
        registry.register("plans", "Rewrites of stored data, by work and outcome", metrics.plans.clone());
        registry.register_with_unit(
            "plan",
            "Time that a rewrite took",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        let read = metrics.read.clone();
        registry.register_with_unit("read", "Bytes that rewrites have read", Unit::Bytes, read);
        let written = metrics.written.clone();
        registry.register_with_unit("written", "Bytes that rewrites have written", Unit::Bytes, written);
        metrics
    }

    fn ended(&self, work: Work, outcome: &'static str, took: Duration) {
        let labels = [("work", work.as_str()), ("outcome", outcome)];
        self.plans.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("work", work.as_str())]).observe(took.as_secs_f64());
    }

    fn moved(&self, read: u64, written: u64) {
        self.read.inc_by(read);
        self.written.inc_by(written);
    }
}
