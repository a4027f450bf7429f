//! Flush: writes what is in the WAL, from memory, as larger and better sorted segments, commits them, trims the WAL.
//!
//! One flush takes the durable objects `[trim, t)`. Its steps, each of which may be cut off by a crash without loss:
//! 1. upload the segments, in parallel. Until they are committed they are garbage;
//! 2. commit them. The trim point moves to `t` in the last transaction only, so that the WAL objects are there for a
//!    recovery until everything in them is in the object index. A recovery that finds both skips what is committed;
//! 3. drop the batches from memory, delete the WAL objects below `t`, unless it is them that were committed, by a manifest.
//!    What is left over is collected as garbage later.
//!
//! Uploads and commits are repeated for ever while a store is out of reach. Appends go on meanwhile, until the memory that
//! they are charged to is used up. The next flush begins after the previous one is committed.

use crate::{
    Reservation, Rewrite, RewriteError, WalConfig, WalError,
    cleanup::Cleanup,
    driver::Event,
    flush_plan::{Object, Part, Segment, Sizes, plan},
    metrics::Metrics,
    mutation::{Mutation, mutated},
    numbers::Numbers,
    rewrite::Request,
    sequencer::{Batches, Flushable},
    shared::{Due, Shared},
    upload::backoff,
};
use futures::{StreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use thalweg_metadata::{
    Commit, IncarnationRecord, KvError, LogSegmentRecord, Metadata, MetadataError, ObjectShape, SharedRecord,
};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    Encoded, ErrorKind, Index, Kind, LogId, LogState, Offset, Purpose, Store, WalSequence, segment_path,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

/// Segments that are encoded and uploaded at once.
const PARALLEL_UPLOADS: usize = 4;
/// Longest wait between two attempts of an upload or a commit; each of them has been repeated with shorter waits inside.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// An orderly end waits this long for the deletion of WAL objects that nobody needs.
const LAST_CLEANUP: Duration = Duration::from_secs(5);

/// A committed part of a flush.
pub(crate) struct Flushed {
    /// What was committed.
    pub commit: Commit,
    /// The index of its shared segment.
    pub shared: Option<Arc<Index>>,
    /// The logs in it, and their committed ends.
    pub ends: Vec<(LogId, Offset)>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committed {
    Done,
    /// What it was to remove does not stand as it says.
    Stale,
}

/// A segment that is in the store.
struct Written {
    segment: Segment,
    name: Reservation,
    shape: ObjectShape,
    index: Index,
}

/// The task that flushes.
pub(crate) struct Flusher {
    pub shared: Arc<Shared>,
    pub runtime: Runtime,
    pub store: Store,
    pub metadata: Metadata,
    /// The incarnation's record as the last commit left it.
    pub record: IncarnationRecord,
    pub config: WalConfig,
    pub metrics: Metrics,
    pub events: mpsc::Sender<Event>,
    /// Names of segments.
    pub numbers: Numbers,
    /// Rewrites to be committed between flushes.
    pub rewrites: mpsc::Receiver<Request>,
    /// Deletes WAL objects.
    pub cleanup: Cleanup,
}

impl Flusher {
    /// Flushes whenever it is due, until the last flush or a fencing, of which it tells the driver.
    pub async fn run(mut self) {
        let end = match self.flush_until_closed().await {
            Ok(()) => Event::Closed,
            Err(WalError::Fenced { why }) => Event::Fenced(why),
            Err(WalError::Failed { why }) => Event::Failed(why),
        };
        // Without a driver nobody waits for the end.
        let _ = self.events.send(end).await;
    }

    async fn flush_until_closed(&mut self) -> Result<(), WalError> {
        loop {
            let (due, taken) = self.take_due();
            match due {
                Due::Now { close } => {
                    self.flush(taken, close).await?;
                    if close {
                        return Ok(());
                    }
                    // Flushes may follow one another without a pause.
                    while let Ok(request) = self.rewrites.try_recv() {
                        self.rewrite(request).await?;
                    }
                }
                Due::At(at) => tokio::select! {
                    biased;
                    () = self.shared.flush.notified() => {}
                    Some(request) = self.rewrites.recv() => self.rewrite(request).await?,
                    () = sleep_until(at) => {}
                },
                Due::Unknown => tokio::select! {
                    biased;
                    () = self.shared.flush.notified() => {}
                    Some(request) = self.rewrites.recv() => self.rewrite(request).await?,
                },
            }
        }
    }

    /// Commits a rewrite, tells the observer, then who asked.
    async fn rewrite(&mut self, request: Request) -> Result<(), WalError> {
        let Request { rewrite: Rewrite { commit, shared, reservations }, done } = request;
        let commit = Commit { trim: self.record.trim, close: false, ..commit };
        let outcome = match self.commit(&commit).await {
            Ok(Committed::Done) => {
                let rewritten = Box::new(Rewrite { commit, shared, reservations });
                self.tell(|told| Event::Rewritten(rewritten, told)).await;
                Ok(())
            }
            Ok(Committed::Stale) => Err(RewriteError::Stale),
            Err(error) => {
                // Who asked may have given up.
                let _ = done.send(Err(error.clone().into()));
                return Err(error);
            }
        };
        let _ = done.send(outcome);
        Ok(())
    }

    /// Whether a flush is due, and if so, what it takes.
    fn take_due(&self) -> (Due, Option<Flushable>) {
        let mut core = self.shared.core.lock();
        let due = core.flush_due(&self.config, Instant::now());
        core.asked.now = false;
        let taken = if matches!(due, Due::Now { .. }) { core.sequencer.flushable() } else { None };
        (due, taken)
    }

    async fn flush(&mut self, taken: Option<Flushable>, close: bool) -> Result<(), WalError> {
        let started = Instant::now();
        let trim = self.record.trim;
        let nothing = Flushable { first: trim, objects: Vec::new(), end: trim };
        let Flushable { first, mut objects, end } = taken.unwrap_or(nothing);
        if mutated(Mutation::TrimTooEarly) {
            objects.pop();
        }
        let segments = self.plan(first, objects).await;
        let adopts = segments.iter().any(|segment| segment.kind == Kind::FlushManifest);
        let written = self.write(segments).await;
        let states = final_states(&written);
        for flushed in commits(written, trim, end, close) {
            let committed = self.commit(&flushed.commit).await?;
            assert_eq!(committed, Committed::Done, "a flush removes nothing that could be out of date");
            let flushed = Box::new(flushed);
            self.tell(|told| Event::Flushed(flushed, told)).await;
        }
        self.metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
        self.finish(states, end, adopts, close).await;
        Ok(())
    }

    async fn plan(&self, first: WalSequence, objects: Vec<Arc<Batches>>) -> Vec<Segment> {
        let bases = self.bases(&objects);
        let sizes = Sizes::new(self.config.flush_log_bytes, self.config.flush_adopt_block_bytes);
        let object = |(sequence, batches)| Object { sequence: WalSequence(sequence), batches };
        let objects = (first.0..).zip(objects).map(object).collect();
        self.runtime.compute(move || plan(objects, &bases, sizes)).await
    }

    /// The states of the logs in `objects` at their last flush. Deleted logs have none.
    fn bases(&self, objects: &[Arc<Batches>]) -> BTreeMap<LogId, Arc<LogState>> {
        let logs: BTreeSet<LogId> = objects.iter().flat_map(|object| object.keys().copied()).collect();
        let bases = self.shared.bases.lock();
        logs.into_iter().filter_map(|log| Some((log, bases.get(&log)?.state.clone()))).collect()
    }

    /// Uploads `segments`; returns once all of them are in the store, in the order given.
    async fn write(&self, segments: Vec<Segment>) -> Vec<Written> {
        let this = self;
        stream::iter(segments)
            .map(|segment| this.write_one(segment, this.numbers.reserve()))
            .buffered(PARALLEL_UPLOADS)
            .collect()
            .await
    }

    async fn write_one(&self, segment: Segment, name: Reservation) -> Written {
        let id = name.id();
        let encode = move || (segment.encode(id), segment);
        let (Encoded { payload, size, footer, index }, segment) = self.runtime.compute(encode).await;
        let mut repetition = 0;
        while let Err(error) = self.store.put(&segment_path(id), payload.clone(), Purpose::Flush).await {
            match (error.kind(), repetition) {
                (ErrorKind::Rejected, 0) => {
                    tracing::error!(%error, "the object store refuses segments; the WAL grows until it takes them");
                }
                (_, 0) => tracing::warn!(%error, "a segment can't be written yet"),
                _ => tracing::debug!(%error, repetition, "a segment can't be written yet"),
            }
            self.back_off(&mut repetition).await;
        }
        self.metrics.flushed_bytes.inc_by(size);
        let shape =
            ObjectShape { size, index_position: footer.index_position, index_size: footer.index_size };
        Written { segment, name, shape, index }
    }

    /// Commits, however long the metadata store is out of reach.
    async fn commit(&mut self, commit: &Commit) -> Result<Committed, WalError> {
        let mut repetition = 0;
        loop {
            match self.metadata.commit(&self.record, commit.clone()).await {
                Ok(record) => {
                    self.record = record;
                    return Ok(Committed::Done);
                }
                Err(MetadataError::Stale { .. }) => return Ok(Committed::Stale),
                Err(error) if is_fencing(&error) => {
                    // An attempt without an answer may have been applied before.
                    self.numbers.seal();
                    return Err(WalError::Fenced { why: error.to_string() });
                }
                Err(error @ MetadataError::Store(KvError::Closed { .. })) => {
                    self.numbers.seal();
                    return Err(WalError::Failed { why: error.to_string() });
                }
                Err(error) if repetition == 0 => tracing::warn!(%error, "a flush can't be committed yet"),
                Err(error) => tracing::debug!(%error, repetition, "a flush can't be committed yet"),
            }
            self.back_off(&mut repetition).await;
        }
    }

    async fn back_off(&self, repetition: &mut u32) {
        let wait = backoff((self.config.backoff.0, MAX_BACKOFF), *repetition);
        sleep(self.runtime.random().jitter(wait)).await;
        *repetition += 1;
    }

    /// Has the driver tell the observer, and waits until it has.
    async fn tell(&self, event: impl FnOnce(oneshot::Sender<()>) -> Event) {
        let (done, taken_in) = oneshot::channel();
        // Where the driver is gone, this task is about to be stopped.
        if self.events.send(event(done)).await.is_ok() {
            let _ = taken_in.await;
        }
    }

    /// Releases what everything below `to` holds in memory and, unless that is adopted, in the store.
    async fn finish(
        &mut self,
        states: BTreeMap<LogId, Arc<LogState>>,
        to: WalSequence,
        adopted: bool,
        close: bool,
    ) {
        self.keep(states);
        let (from, gone) = {
            let sequencer = &mut self.shared.core.lock().sequencer;
            (sequencer.trim_point(), sequencer.trim(to))
        };
        // Hundreds of thousands of batches are dropped here.
        self.runtime.compute(move || drop(gone)).await;
        self.metrics.trim_point.set(i64::try_from(to.0).unwrap_or(i64::MAX));
        if !adopted {
            self.cleanup.delete(from..to);
        }
        if close {
            self.cleanup.finish(LAST_CLEANUP).await;
        }
        self.shared.progress.send_modify(|progress| progress.trim = to);
    }

    /// The next flush computes states from these, unless a log was closed meanwhile.
    fn keep(&self, new: BTreeMap<LogId, Arc<LogState>>) {
        let mut bases = self.shared.bases.lock();
        for (log, state) in new {
            if let Some(base) = bases.get_mut(&log) {
                base.flushed(state);
            }
        }
    }
}

/// Whether somebody else has committed in the name of this incarnation, or fenced it. No repetition of a commit can succeed.
fn is_fencing(error: &MetadataError) -> bool {
    use MetadataError::{Conflict, Fenced, Store};
    matches!(error, Fenced { .. } | Conflict { .. } | Store(KvError::Fenced { .. }))
}

/// The state of each log at the end of the flush: where a log has several segments, the last one's.
fn final_states(written: &[Written]) -> BTreeMap<LogId, Arc<LogState>> {
    let parts = written.iter().flat_map(|written| &written.segment.parts);
    parts.map(|part| (part.log, part.state.clone())).collect()
}

/// The commits of a flush in order. A commit takes one shared segment; the trim point moves in the last one only.
fn commits(written: Vec<Written>, from: WalSequence, to: WalSequence, close: bool) -> Vec<Flushed> {
    let (shared, own): (Vec<_>, Vec<_>) =
        written.into_iter().partition(|written| written.segment.kind != Kind::Log);
    if shared.is_empty() && own.is_empty() && from == to && !close {
        return Vec::new();
    }
    let mut commits: Vec<Flushed> = shared.into_iter().map(|shared| shared_commit(shared, from)).collect();
    if commits.is_empty() {
        let commit = Commit { trim: from, ..Commit::default() };
        commits.push(Flushed { commit, shared: None, ends: Vec::new() });
    }
    let last = commits.last_mut().expect("there is at least one");
    // Of several segments of a log, the last one's end counts.
    let ends: BTreeMap<_, _> = own.iter().flat_map(|written| written.segment.ends()).collect();
    last.ends.extend(ends);
    for written in &own {
        last.commit.logs.extend(written.segment.parts.iter().map(|part| log_record(part, written)));
    }
    last.commit.trim = to;
    last.commit.close = close;
    commits
}

fn shared_commit(written: Written, trim: WalSequence) -> Flushed {
    let id = written.name.id();
    let adopts = (written.segment.kind == Kind::FlushManifest).then_some(id.incarnation);
    let record = SharedRecord { id, shape: written.shape, adopts };
    Flushed {
        commit: Commit { shared: Some(record), trim, ..Commit::default() },
        ends: written.segment.ends().collect(),
        shared: Some(Arc::new(written.index)),
    }
}

fn log_record(part: &Part, written: &Written) -> LogSegmentRecord {
    LogSegmentRecord {
        log: part.log,
        base_offset: part.base_offset,
        end_offset: part.end_offset(),
        max_timestamp: part.max_timestamp,
        id: written.name.id(),
        shape: written.shape,
        cleaned_to: Offset(0),
    }
}
