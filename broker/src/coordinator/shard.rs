//! One partition of a coordinator's topic: the state, and its log, kept in step.
//!
//! An operation is decided, appended and taken into the state under one lock, so that the log has the order of the decisions.
//! Its answer waits until the log's high watermark has passed its records. What goes on after that, and what is due at a time,
//! is the work of one task per shard.
//!
//! An append fails for good only when the log is closed: another broker owns it now, or its topic is deleted. Then the state
//! is dropped as a whole, and whoever waits is told to look for the coordinator.

use super::{
    markers::EndMarker,
    records::{Entry, TransactionalBatch, batch_of, transactional_batch_of},
    rules::{EffectsOf, Now, Position, Rules, Ticket},
};
use crate::{
    broker::Broker,
    partition::{AppendError, Appended, Log, SequenceError, Verification},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use thalweg_cache::LogCache;
use thalweg_protocol::ErrorCode;
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{Batch, Offset};
use thalweg_wal::Wal;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// How long a request waits for room for its records, as Kafka's `offsets.commit.timeout.ms` has it.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// Batches, and the records that each holds.
type BatchesOf<R> = Vec<(Batch, Vec<<R as Rules>::Record>)>;
/// Makes an empty state.
pub(super) type Make<R> = Arc<dyn Fn() -> R + Send + Sync>;
/// Begins a task that a state asks for. Called under the lock of a shard, so it spawns.
pub(super) type Perform<R> = fn(&Weak<Broker>, <R as Rules>::Task);

/// What all shards of a broker work with.
#[derive(Clone)]
pub(crate) struct Means {
    pub(super) runtime: Runtime,
    pub(super) wal: Wal,
    pub(super) cache: LogCache,
    /// What batches are charged to until they leave the log cache.
    pub(super) produce: Budget,
    /// Where the forward-running clock begins.
    pub(super) began: Instant,
    pub(super) memory: Arc<Memory>,
}

impl Means {
    /// What coordinators on `wal` work with. Their states may weigh `memory` bytes.
    pub(crate) fn new(runtime: Runtime, wal: Wal, cache: LogCache, produce: Budget, memory: usize) -> Self {
        Self { runtime, wal, cache, produce, began: Instant::now(), memory: Arc::new(Memory::new(memory)) }
    }
}

/// What the states of all coordinators weigh, and how much they may.
pub(crate) struct Memory {
    used: AtomicUsize,
    limit: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn changed(&self, before: usize, after: usize) {
        self.used.fetch_add(after, Ordering::Relaxed);
        self.used.fetch_sub(before, Ordering::Relaxed);
    }
}

/// The shard of one partition.
pub struct Shard<R: Rules> {
    log: Arc<Log>,
    means: Means,
    /// Largest batch that the topic takes, in bytes.
    max_batch: usize,
    make: Make<R>,
    perform: (Perform<R>, Weak<Broker>),
    inner: Mutex<Inner<R>>,
    news: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The log is being read.
    Loading,
    Active,
    /// The log is another broker's, or no more.
    Closed,
}

struct Inner<R: Rules> {
    phase: Phase,
    state: R,
    /// What the state weighed when it was counted last.
    weighed: usize,
    /// Parked requests. As many as the state knows of, which are bounded.
    waiting: BTreeMap<Ticket, oneshot::Sender<R::Answer>>,
    tickets: u64,
    /// End of the last append: whoever tells of the state waits until that is durable.
    end: Offset,
    /// What goes on once the log is durable up to an offset. At most one for each group or transaction.
    afters: VecDeque<(Offset, R::After)>,
}

/// What an operation says, to be told once what it rests on is durable.
pub struct Pending<T> {
    value: T,
    log: Arc<Log>,
    end: Offset,
}

impl<T> Pending<T> {
    /// What may be told although it isn't durable, because it says nothing of what is stored.
    pub fn at_once(self) -> T {
        self.value
    }

    /// A look at it.
    pub fn peek(&self) -> &T {
        &self.value
    }

    /// Waits for that. NOT_COORDINATOR where the log gets another owner before.
    pub async fn durable(self) -> Result<T, ErrorCode> {
        self.log.durable(self.end).await.map_err(|_| ErrorCode::NotCoordinator)?;
        Ok(self.value)
    }
}

impl<R: Rules> Shard<R> {
    /// The shard of `log`, which is yet to be read, unless nothing is in it.
    pub(super) fn new(
        log: Arc<Log>,
        max_batch: usize,
        means: Means,
        make: Make<R>,
        perform: (Perform<R>, Weak<Broker>),
    ) -> Arc<Self> {
        let inner = Mutex::new(Inner {
            phase: Phase::Loading,
            state: make(),
            weighed: 0,
            waiting: BTreeMap::new(),
            tickets: 0,
            end: log.view().end,
            afters: VecDeque::new(),
        });
        let shard = Arc::new(Self { log, means, max_batch, make, perform, inner, news: Arc::default() });
        shard.means.runtime.spawn_essential("coordinator shard", serve(Arc::downgrade(&shard))).detach();
        shard
    }

    /// Its log.
    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().phase == Phase::Closed
    }

    fn now(&self) -> Now {
        let elapsed = self.means.began.elapsed().as_millis();
        Now { wall_ms: self.means.runtime.now_ms(), monotonic_ms: u64::try_from(elapsed).unwrap_or(u64::MAX) }
    }

    /// Waits until batches of `bytes` more would find memory. Who asks holds the memory of a request, so it doesn't wait for ever.
    pub async fn room(&self, bytes: usize) -> Result<(), ErrorCode> {
        let charged = tokio::time::timeout(ROOM_PATIENCE, self.means.produce.charge(bytes)).await;
        charged.map(drop).map_err(|_| ErrorCode::CoordinatorNotAvailable)
    }

    /// Whether the states of all coordinators may grow.
    pub fn has_room(&self) -> bool {
        self.means.memory.used() < self.means.memory.limit
    }

    /// Does an operation.
    pub fn run<T>(
        &self,
        operation: impl FnOnce(&mut R, Now, &mut EffectsOf<R>) -> T,
    ) -> Result<Pending<T>, ErrorCode> {
        let mut inner = self.ready()?;
        let value = self.apply(&mut inner, operation)?;
        Ok(self.pending(&inner, value))
    }

    fn pending<T>(&self, inner: &Inner<R>, value: T) -> Pending<T> {
        Pending { value, log: self.log.clone(), end: inner.end }
    }

    /// Does an operation whose records are part of a producer's transaction, which its marker commits or aborts. It may do no
    /// more than give records.
    pub fn run_in_transaction<T>(
        &self,
        batch: TransactionalBatch,
        verification: Option<&Verification>,
        operation: impl FnOnce(&mut R, Now, &mut EffectsOf<R>) -> T,
    ) -> Result<Pending<T>, ErrorCode> {
        let mut inner = self.ready()?;
        let mut effects = EffectsOf::<R>::default();
        let value = operation(&mut inner.state, self.now(), &mut effects);
        let appended = self.append_in_transaction(&mut inner, batch, verification, effects.records);
        if appended == Err(ErrorCode::NotCoordinator) {
            self.drop_state(&mut inner);
        }
        self.weigh(&mut inner);
        appended.map(|()| self.pending(&inner, value))
    }

    fn append_in_transaction(
        &self,
        inner: &mut Inner<R>,
        producer: TransactionalBatch,
        verification: Option<&Verification>,
        records: Vec<R::Record>,
    ) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        let batch = transactional_batch_of(&records, producer, self.means.runtime.now_ms());
        let batch = self.checked(batch.map_err(|error| unwritable(&error))?)?;
        let Means { cache, wal, .. } = &self.means;
        let appended = self.log.append_verified(batch, verification, cache, wal);
        let appended = appended.map_err(|error| code_of(&error))?;
        self.replay(inner, appended, producer.producer_id, records);
        Ok(())
    }

    /// Ends a producer's transaction in this log and in the state.
    pub(super) fn end_transaction(&self, marker: &EndMarker) -> Result<Appended, AppendToShard> {
        let mut inner = self.ready().map_err(|_| AppendToShard::NotReady)?;
        let batch = marker.batch(self.means.runtime.now_ms());
        let Means { cache, wal, .. } = &self.means;
        let appended = self.log.append_marker(batch, marker.transaction_version, cache, wal)?;
        inner.end = appended.end;
        inner.state.transaction_ended(marker.producer_id, marker.committed);
        self.weigh(&mut inner);
        Ok(appended)
    }

    /// Does an operation whose answer may come later: when others have joined, or when an assignment is stored.
    pub fn park(
        &self,
        operation: impl FnOnce(&mut R, Ticket, Now, &mut EffectsOf<R>),
    ) -> Result<oneshot::Receiver<R::Answer>, ErrorCode> {
        let mut inner = self.ready()?;
        inner.tickets += 1;
        let ticket = Ticket(inner.tickets);
        let (answer, answered) = oneshot::channel();
        inner.waiting.insert(ticket, answer);
        let done = self.apply(&mut inner, |state, now, effects| operation(state, ticket, now, effects));
        match done {
            // Unless it is answered already, by what undid the operation.
            Err(code) if inner.waiting.remove(&ticket).is_some() => Err(code),
            _ => Ok(answered),
        }
    }

    fn ready(&self) -> Result<parking_lot::MutexGuard<'_, Inner<R>>, ErrorCode> {
        let inner = self.inner.lock();
        match inner.phase {
            Phase::Active => Ok(inner),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Closed => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Decides, appends, and takes into the state. An error says that nothing was appended.
    fn apply<T>(
        &self,
        inner: &mut Inner<R>,
        operation: impl FnOnce(&mut R, Now, &mut EffectsOf<R>) -> T,
    ) -> Result<T, ErrorCode> {
        let before = (inner.state.next_deadline_ms(), inner.afters.len());
        let mut effects = EffectsOf::<R>::default();
        let value = operation(&mut inner.state, self.now(), &mut effects);
        let done = self.carry_out(inner, effects);
        self.weigh(inner);
        let next = inner.state.next_deadline_ms();
        let sooner = next.is_some_and(|next| before.0.is_none_or(|known| next < known));
        if sooner || inner.afters.len() > before.1 {
            self.news.notify_one();
        }
        done.map(|()| value)
    }

    fn carry_out(&self, inner: &mut Inner<R>, effects: EffectsOf<R>) -> Result<(), ErrorCode> {
        let EffectsOf::<R> { records, answers, after, tasks } = effects;
        let stored = self.append(inner, records);
        for (ticket, answer) in answers {
            if let Some(waiting) = inner.waiting.remove(&ticket) {
                // The client may have gone away.
                let _ = waiting.send(answer);
            }
        }
        tasks.into_iter().for_each(|task| (self.perform.0)(&self.perform.1, task));
        match (after, stored) {
            (_, Err(ErrorCode::NotCoordinator)) => {
                self.drop_state(inner);
                Err(ErrorCode::NotCoordinator)
            }
            (None, stored) => stored,
            (Some(after), Ok(())) => {
                inner.afters.push_back((inner.end, after));
                Ok(())
            }
            (Some(after), Err(code)) => {
                let mut effects = EffectsOf::<R>::default();
                inner.state.stored(after, Err(code), self.now(), &mut effects);
                self.carry_out(inner, effects)?;
                Err(code)
            }
        }
    }

    /// Appends all records or, where one is too large, none. What is too large for one batch takes several, in one object of the
    /// WAL unless that is full just then: rules order records so that a reader can go on from any prefix of what an operation
    /// has left.
    fn append(&self, inner: &mut Inner<R>, records: Vec<R::Record>) -> Result<(), ErrorCode> {
        let batches = self.batches(records)?;
        let _one_object = (batches.len() > 1).then(|| self.means.wal.hold());
        for (batch, records) in batches {
            let appended = self.log.append(batch, &self.means.cache, &self.means.wal);
            let appended = appended.map_err(|error| code_of(&error))?;
            self.replay(inner, appended, NO_PRODUCER, records);
        }
        Ok(())
    }

    /// The batches that records take, cut in halves until the topic takes each.
    fn batches(&self, records: Vec<R::Record>) -> Result<BatchesOf<R>, ErrorCode> {
        let mut batches = Vec::new();
        let mut left = vec![records];
        while let Some(mut records) = left.pop() {
            if records.is_empty() {
                continue;
            }
            let batch =
                batch_of(&records, self.means.runtime.now_ms()).map_err(|error| unwritable(&error))?;
            if batch.len() > self.max_batch && records.len() > 1 {
                let second = records.split_off(records.len() / 2);
                left.extend([second, records]);
            } else {
                batches.push((self.checked(batch)?, records));
            }
        }
        Ok(batches)
    }

    /// A batch that the topic takes, charged.
    fn checked(&self, batch: Batch) -> Result<Batch, ErrorCode> {
        if batch.len() > self.max_batch {
            let (bytes, max) = (batch.len(), self.max_batch);
            tracing::warn!(bytes, max, "the records of a coordinator are too large for a batch");
            return Err(ErrorCode::UnknownServerError);
        }
        let charge = self.means.produce.try_charge(batch.len());
        Ok(batch.with_charge(charge))
    }

    /// Takes records that were just appended into the state.
    fn replay(&self, inner: &mut Inner<R>, appended: Appended, producer_id: i64, records: Vec<R::Record>) {
        inner.end = appended.end;
        for (offset, record) in (appended.base_offset.0..).zip(records) {
            inner.state.replay(record, Position { offset, producer_id, loading: false });
        }
    }

    /// Takes what stands in the log into the state.
    pub(super) fn load(&self, entries: Vec<Entry<R::Record>>) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Loading {
            return;
        }
        for entry in entries {
            match entry {
                Entry::Record(at, record) => inner.state.replay(record, at),
                Entry::End { producer_id, committed } => {
                    inner.state.transaction_ended(producer_id, committed)
                }
            }
        }
        self.weigh(&mut inner);
    }

    /// Counts the state as it is now towards what all may take.
    fn weigh(&self, inner: &mut Inner<R>) {
        let bytes = inner.state.bytes();
        self.means.memory.changed(std::mem::replace(&mut inner.weighed, bytes), bytes);
    }

    /// The whole log is in the state: begins to serve.
    pub(super) fn loaded(&self) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Loading {
            return;
        }
        inner.phase = Phase::Active;
        // Only a closed log refuses, and then the state is dropped.
        let _ = self.apply(&mut inner, |state, now, effects| state.loaded(now, effects));
    }

    /// Ends the shard's service.
    pub(super) fn close(&self) {
        self.drop_state(&mut self.inner.lock());
    }

    /// Without its sender, a parked request is answered NOT_COORDINATOR.
    fn drop_state(&self, inner: &mut Inner<R>) {
        inner.phase = Phase::Closed;
        inner.state = (self.make)();
        inner.waiting.clear();
        inner.afters.clear();
        self.weigh(inner);
    }

    /// Does what is due: at this time, and by what is durable.
    fn catch_up(&self, durable: Option<Offset>) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Active {
            return;
        }
        while let Some((end, after)) = inner.afters.pop_front() {
            if durable.is_none_or(|durable| durable < end) {
                inner.afters.push_front((end, after));
                break;
            }
            // An error has ended the shard.
            let _ = self.apply(&mut inner, |state, now, effects| state.stored(after, Ok(()), now, effects));
        }
        while self.apply(&mut inner, |state, now, effects| state.expire(now, effects)) == Ok(true) {}
    }

    /// What its task waits for next.
    fn next(&self) -> (Option<Offset>, Option<Instant>) {
        let inner = self.inner.lock();
        let deadline = inner.state.next_deadline_ms();
        let deadline = deadline.and_then(|ms| self.means.began.checked_add(Duration::from_millis(ms)));
        (inner.afters.front().map(|(end, _)| *end), deadline)
    }
}

impl<R: Rules> Drop for Shard<R> {
    fn drop(&mut self) {
        self.news.notify_one();
    }
}

/// No transaction.
const NO_PRODUCER: i64 = -1;

/// Why a marker is not in a shard's log.
#[derive(Debug)]
pub(super) enum AppendToShard {
    /// The shard is loading, or closed.
    NotReady,
    /// The log has refused it.
    Refused(AppendError),
}

impl From<AppendError> for AppendToShard {
    fn from(error: AppendError) -> Self {
        Self::Refused(error)
    }
}

fn unwritable(error: &thalweg_protocol::TooLong) -> ErrorCode {
    tracing::warn!(%error, "a coordinator's record can't be written");
    ErrorCode::UnknownServerError
}

/// NOT_COORDINATOR where nothing will be appended any more.
fn code_of(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Closed(_) | AppendError::Full => ErrorCode::NotCoordinator,
        AppendError::Sequence(SequenceError::StaleEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::NotVerified => ErrorCode::InvalidTxnState,
        AppendError::Sequence(_) | AppendError::CoordinatorFenced { .. } => ErrorCode::UnknownServerError,
    }
}

/// The task of a shard, for as long as that lives and its log is open.
async fn serve<R: Rules>(shard: Weak<Shard<R>>) {
    let Some((log, news)) = shard.upgrade().map(|shard| (shard.log.clone(), shard.news.clone())) else {
        return;
    };
    let never = Offset(i64::MAX);
    loop {
        let Some((after, deadline)) = shard.upgrade().map(|shard| shard.next()) else { return };
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let durable = tokio::select! {
            biased;
            durable = log.durable(after.unwrap_or(never)) => Some(durable),
            () = due => None,
            () = news.notified() => None,
        };
        let Some(shard) = shard.upgrade() else { return };
        match durable {
            Some(Err(_)) => return shard.close(),
            Some(Ok(())) => shard.catch_up(after),
            None => shard.catch_up(None),
        }
    }
}
