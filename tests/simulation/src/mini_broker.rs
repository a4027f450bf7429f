//! The smallest broker that keeps the promises: a partition table directly on the write-ahead log and the object index. It
//! takes every other unrecovered incarnation for dead.

use crate::{
    broker::{Broker, Fetched, LiveStates, Means, Refusal, StartError},
    mutation::Mutation,
    world::World,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use thalweg_metadata::{
    Commit, IncarnationRecord, IndexError, KvError, Metadata, MetadataError, MetadataErrorKind, ObjectIndex,
};
use thalweg_segment::{
    Batch, BatchEntry, ErrorKind, Incarnation, Index, LeaderEpoch, LogId, LogState, Offset, Patience,
    Purpose, ReadError, Store, check_block, split_batches,
};
use thalweg_wal::{Logs, Observer, OwnedLog, RecoveryError, Wal, take_over};
use tokio::{sync::oneshot, time::sleep};

const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(3),
    total: Duration::from_secs(20),
    backoff: Duration::from_millis(20),
    max_backoff: Duration::from_secs(1),
};
const FETCH_BYTES: usize = 4000;

/// One log.
struct Partition {
    /// As of the last append, durable or not.
    live: LogState,
    high_watermark: Offset,
    /// Batches that the object index may lack.
    tail: VecDeque<Batch>,
    /// Producers that wait for their batch, by its end.
    waiting: Vec<(Offset, oneshot::Sender<()>)>,
}

/// What the broker's requests and its write-ahead log share.
struct Table {
    world: World,
    incarnation: Incarnation,
    leader_epoch: LeaderEpoch,
    partitions: BTreeMap<LogId, Mutex<Partition>>,
    index: ObjectIndex,
    fenced: AtomicBool,
    mutation: Option<Mutation>,
    live_states: LiveStates,
}

/// See the module.
pub struct MiniBroker {
    table: Arc<Table>,
    wal: Wal,
    store: Store,
}

/// Starts one: registers, takes over every other incarnation, becomes the owner of all logs, opens them.
pub async fn start(means: Means) -> Result<Arc<dyn Broker>, StartError> {
    let metadata = Metadata::new(means.kv.clone(), means.runtime.clone());
    let store = Store::new(means.store.clone(), means.runtime.clone(), PATIENCE);
    let record = metadata.register(means.broker, means.config.window).await.map_err(of_metadata)?;
    match start_as(means, &metadata, store, record.clone()).await {
        // An object of an index that is old may be gone.
        Err(StartError::Broken(why)) => match metadata.confirm(&record).await {
            Ok(()) => Err(StartError::Broken(why)),
            Err(overtaken) => Err(of_metadata(overtaken)),
        },
        started => started,
    }
}

async fn start_as(
    means: Means,
    metadata: &Metadata,
    store: Store,
    record: IncarnationRecord,
) -> Result<Arc<dyn Broker>, StartError> {
    let before = ObjectIndex::load(metadata, store.clone()).await.map_err(of_index)?;
    take_over_all(&means, metadata, &store, &record, &before).await?;
    let owner = metadata.take_ownership(&record).await.map_err(of_metadata)?;
    let index = match means.mutation {
        Some(Mutation::OpenAtCommittedEnd) => before,
        _ => ObjectIndex::load(metadata, store.clone()).await.map_err(of_index)?,
    };
    let mut states = index.states(&means.logs).await.map_err(of_index)?;
    if means.mutation == Some(Mutation::StateFromLive) {
        let live = means.live_states.lock();
        for (log, state) in &mut states {
            state.producers = live.get(log).cloned().unwrap_or_default();
        }
    }
    let table = Arc::new(Table {
        world: means.world.clone(),
        incarnation: record.incarnation,
        leader_epoch: owner.leader_epoch,
        partitions: states.iter().map(|(log, state)| (*log, Mutex::new(Partition::open(state)))).collect(),
        index,
        fenced: AtomicBool::new(false),
        mutation: means.mutation,
        live_states: means.live_states,
    });
    let mut registry = prometheus_client::registry::Registry::default();
    let wal = Wal::start(
        means.runtime,
        store.clone(),
        metadata.clone(),
        record,
        means.config,
        table.clone(),
        &mut registry,
    );
    states.into_iter().for_each(|(log, state)| wal.open_log(log, state));
    Ok(Arc::new(MiniBroker { table, wal, store }))
}

async fn take_over_all(
    means: &Means,
    metadata: &Metadata,
    store: &Store,
    record: &IncarnationRecord,
    before: &ObjectIndex,
) -> Result<(), StartError> {
    loop {
        let all = metadata.unrecovered().await.map_err(of_metadata)?;
        let others: Vec<Incarnation> =
            all.iter().map(|other| other.incarnation).filter(|other| *other != record.incarnation).collect();
        if others.is_empty() {
            return Ok(());
        }
        for dead in others {
            let stale = (means.mutation == Some(Mutation::EndsBeforeRaise)).then(|| before.clone());
            let owned = Owned { metadata: metadata.clone(), store: store.clone(), dead, stale };
            match take_over(&means.runtime, store, metadata, dead, record, &owned).await {
                Ok(recovered) => {
                    let (objects, fences) = (recovered.objects, recovered.fences);
                    means.world.event(format_args!(
                        "{} took over {dead}: {objects} objects, {fences} fences, ends {:?}",
                        record.incarnation, recovered.ends
                    ));
                }
                // Another recoverer was faster, or comes after us.
                Err(RecoveryError::Metadata(MetadataError::Conflict { .. })) => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(of_recovery(error)),
            }
        }
    }
}

/// The logs of a dead incarnation.
struct Owned {
    metadata: Metadata,
    store: Store,
    dead: Incarnation,
    /// For a deliberate fault: an index that was loaded too early.
    stale: Option<ObjectIndex>,
}

#[async_trait]
impl Logs for Owned {
    async fn may_have_written(&self) -> Result<bool, IndexError> {
        Ok(self.metadata.owner().await?.is_some_and(|owner| owner.incarnation == self.dead))
    }

    async fn owned(&self, logs: &BTreeSet<LogId>) -> Result<BTreeMap<LogId, OwnedLog>, IndexError> {
        let Some(owner) = self.metadata.owner().await?.filter(|owner| owner.incarnation == self.dead) else {
            return Ok(BTreeMap::new());
        };
        let index = match &self.stale {
            Some(index) => index.clone(),
            None => ObjectIndex::load(&self.metadata, self.store.clone()).await?,
        };
        let owned = |log: &LogId| OwnedLog {
            committed_end: index.committed_end(*log),
            leader_epoch: owner.leader_epoch,
        };
        Ok(logs.iter().map(|log| (*log, owned(log))).collect())
    }
}

impl Partition {
    fn open(state: &LogState) -> Self {
        Self { live: state.clone(), high_watermark: state.end, tail: VecDeque::new(), waiting: Vec::new() }
    }

    /// The first copy of a batch that was sent before, as `(base, end)`; or none where it is new.
    fn find_duplicate(&self, entry: &BatchEntry) -> Result<Option<(Offset, Offset)>, Refusal> {
        if !entry.producer_id.is_some() {
            return Ok(None);
        }
        let producer = self.live.producers.get(entry.producer_id);
        let sent = producer.map(|producer| &producer.batches);
        let sequences = (entry.base_sequence, entry.last_sequence());
        let mut remembered = sent.into_iter().flatten();
        if let Some(first) = remembered.find(|sent| (sent.base_sequence, sent.last_sequence) == sequences) {
            return Ok(Some((first.base_offset(), first.last_offset.plus(1))));
        }
        let expected = sent.and_then(|sent| sent.back()).map_or(0, |last| last.last_sequence + 1);
        if entry.base_sequence == expected { Ok(None) } else { Err(Refusal::OutOfOrder) }
    }

    fn advance(&mut self, end: Offset) {
        self.high_watermark = self.high_watermark.max(end);
        let high_watermark = self.high_watermark;
        for (_, producer) in self.waiting.extract_if(.., |(end, _)| *end <= high_watermark) {
            // The producer may have given up.
            let _ = producer.send(());
        }
    }
}

impl Observer for Table {
    fn durable(&self, advanced: &[(LogId, Offset)]) {
        for (log, end) in advanced {
            self.partitions[log].lock().advance(*end);
        }
    }

    fn flushed(&self, commit: &Commit, shared: Option<Arc<Index>>, flushed: &[(LogId, Offset)]) {
        self.world.event(format_args!("{} committed a flush, trim {}", self.incarnation, commit.trim));
        self.index.add(commit, shared);
        for (log, end) in flushed {
            let mut partition = self.partitions[log].lock();
            while partition.tail.front().is_some_and(|batch| batch.end_offset() <= *end) {
                partition.tail.pop_front();
            }
        }
    }

    fn rewritten(&self, commit: &Commit, shared: Option<Arc<Index>>) {
        self.world.event(format_args!("{} committed a rewrite", self.incarnation));
        self.index.rewrite(commit, shared);
    }

    fn fenced(&self, why: &str) {
        self.world.event(format_args!("{} is fenced: {why}", self.incarnation));
        self.fenced.store(true, Ordering::Relaxed);
        self.partitions.values().for_each(|partition| partition.lock().waiting.clear());
    }
}

impl MiniBroker {
    /// Appends `batch`, unless it is a duplicate. Returns its base offset, and what to wait for.
    fn append(
        &self,
        log: LogId,
        mut batch: Batch,
    ) -> Result<(Offset, Option<oneshot::Receiver<()>>), Refusal> {
        let table = &self.table;
        let mut partition = table.partitions[&log].lock();
        if table.fenced.load(Ordering::Relaxed) {
            return Err(Refusal::NotLeader);
        }
        let (base, end) = match partition.find_duplicate(&batch.entry())? {
            Some((base, _)) if table.mutation == Some(Mutation::AnswerDuplicateEarly) => {
                return Ok((base, None));
            }
            Some(first) => first,
            None => {
                batch.place(partition.live.end, table.leader_epoch);
                partition.live.apply(&batch.entry());
                if table.mutation == Some(Mutation::StateFromLive) {
                    table.live_states.lock().insert(log, partition.live.producers.clone());
                }
                partition.tail.push_back(batch.clone());
                self.wal.append(log, batch.clone());
                (batch.base_offset(), batch.end_offset())
            }
        };
        if end <= partition.high_watermark {
            return Ok((base, None));
        }
        let (sender, receiver) = oneshot::channel();
        partition.waiting.push((end, sender));
        Ok((base, Some(receiver)))
    }

    /// Batches from `from` on in the tail; none where that begins behind it.
    fn read_tail(&self, log: LogId, from: Offset) -> (Offset, Option<Vec<Batch>>) {
        let partition = self.table.partitions[&log].lock();
        let high_watermark = partition.high_watermark;
        let in_tail = partition.tail.front().is_some_and(|batch| batch.base_offset() <= from);
        let wanted = |batch: &&Batch| batch.end_offset() > from && batch.end_offset() <= high_watermark;
        let batches = in_tail.then(|| partition.tail.iter().filter(wanted).cloned().collect());
        (high_watermark, batches)
    }

    async fn read_index(
        &self,
        log: LogId,
        from: Offset,
        high_watermark: Offset,
    ) -> Result<Vec<Batch>, IndexError> {
        let mut batches = Vec::new();
        for block in self.table.index.blocks_at(log, from, FETCH_BYTES).await? {
            let range = block.entry.position..block.entry.position + u64::from(block.entry.size);
            let bytes =
                self.store.get_range(&block.path, range, Purpose::Fetch).await.map_err(ReadError::from)?;
            let malformed = |source| ReadError::Format { path: block.path.clone(), source };
            check_block(&bytes, &block.entry).map_err(malformed)?;
            batches.extend(split_batches(bytes).map_err(malformed)?);
        }
        batches.retain(|batch| batch.end_offset() > from && batch.end_offset() <= high_watermark);
        Ok(batches)
    }
}

#[async_trait]
impl Broker for MiniBroker {
    fn incarnation(&self) -> Incarnation {
        self.table.incarnation
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        self.table.leader_epoch
    }

    async fn produce(&self, log: LogId, batch: Batch) -> Result<Offset, Refusal> {
        let (base, wait) = self.append(log, batch)?;
        match wait {
            None => Ok(base),
            Some(wait) => wait.await.map(|()| base).map_err(|_| Refusal::NotLeader),
        }
    }

    async fn fetch(&self, log: LogId, from: Offset) -> Result<Fetched, Refusal> {
        if self.is_fenced() {
            return Err(Refusal::NotLeader);
        }
        let (high_watermark, tail) = self.read_tail(log, from);
        let batches = match tail {
            Some(batches) => batches,
            None if from >= high_watermark => Vec::new(),
            None => match self.read_index(log, from, high_watermark).await {
                Ok(batches) => batches,
                Err(IndexError::Read(ReadError::Store(error))) if error.kind() == ErrorKind::Retry => {
                    return Err(Refusal::Unavailable);
                }
                Err(error) => {
                    let who = self.table.incarnation;
                    self.table.world.violation(format_args!("{who} can't read log {log} at {from}: {error}"));
                    return Err(Refusal::Unavailable);
                }
            },
        };
        Ok(Fetched { batches, high_watermark })
    }

    fn request_flush(&self) {
        self.wal.request_flush();
    }

    async fn close(&self) -> bool {
        self.wal.close().await.is_ok()
    }

    fn is_fenced(&self) -> bool {
        self.table.fenced.load(Ordering::Relaxed)
    }
}

pub(crate) fn of_metadata(error: MetadataError) -> StartError {
    match error.kind() {
        _ if matches!(error, MetadataError::Store(KvError::Fenced { .. })) => {
            StartError::Fenced(error.to_string())
        }
        MetadataErrorKind::Retry | MetadataErrorKind::Conflict | MetadataErrorKind::Fenced => {
            StartError::Again(error.to_string())
        }
        MetadataErrorKind::NotFound | MetadataErrorKind::Corrupt | MetadataErrorKind::Closed => {
            StartError::Broken(error.to_string())
        }
    }
}

pub(crate) fn of_index(error: IndexError) -> StartError {
    match error {
        IndexError::Metadata(error) => of_metadata(error),
        IndexError::Read(ReadError::Store(error)) if error.kind() == ErrorKind::Retry => {
            StartError::Again(error.to_string())
        }
        error => StartError::Broken(error.to_string()),
    }
}

pub(crate) fn of_recovery(error: RecoveryError) -> StartError {
    match error {
        RecoveryError::Metadata(error) => of_metadata(error),
        RecoveryError::Index(error) => of_index(error),
        RecoveryError::Store(error) if error.kind() == ErrorKind::Retry => {
            StartError::Again(error.to_string())
        }
        error => StartError::Broken(error.to_string()),
    }
}
