//! One log: its state, the append, and the news of its high watermark.
//!
//! ```text
//!        start            high watermark         end
//!          |  readable          |   not durable   |
//! ```
//! One short lock protects it. Under it an append judges the producer's sequence, gives offsets, and hands the batch to the
//! log cache and to the WAL, so that all of them see a log's batches in the same order.

use super::{
    ProducerMemory, ProducerMemoryPart,
    ages::Ages,
    idempotence::{SequenceError, Sequencing, judge, judge_marker},
    transactions::{TailTransactions, Verification},
};
use crate::mutation::{Mutation, mutated};
use parking_lot::Mutex;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use thalweg_cache::LogCache;
use thalweg_segment::{
    AbortedTransaction, Batch, BatchEntry, Forgetting, LeaderEpoch, LogId, LogState, Offset, ProducerId,
};
use thalweg_wal::Wal;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// Why a log takes and gives nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// This broker was fenced or is shutting down: another one has the log.
    NotOwner,
    /// The topic was deleted.
    Deleted,
}

/// A log as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// First offset that can be read.
    pub start: Offset,
    /// Everything below is durable.
    pub high_watermark: Offset,
    /// Where readers of committed data must stop.
    pub last_stable: Offset,
    /// Offset of the next record.
    pub end: Offset,
}

/// An accepted batch: where it is, and from when on it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// It is acknowledged once the high watermark is here.
    pub end: Offset,
    /// First offset of the log.
    pub log_start: Offset,
    /// The max timestamp of the batch that was there already, if this one repeats it.
    pub duplicate_of: Option<i64>,
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log is closed.
    #[error("the log is closed: {0:?}")]
    Closed(Closed),
    /// The producer's epoch or sequence is wrong.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A batch would begin a transaction that the coordinator has not been asked about, or was before a marker.
    #[error("the partition was not added to the transaction")]
    NotVerified,
    /// A newer transaction coordinator has written.
    #[error("coordinator epoch {epoch} is older than the current epoch {current}")]
    CoordinatorFenced {
        /// Of the marker.
        epoch: i32,
        /// The newest seen.
        current: i32,
    },
    /// The log has 2^63 records.
    #[error("the log has no offset left")]
    Full,
}

/// A log that this broker owns.
pub struct Log {
    id: LogId,
    leader_epoch: LeaderEpoch,
    inner: Mutex<Inner>,
}

struct Inner {
    state: LogState,
    start: Offset,
    high_watermark: Offset,
    /// Set once, at the end.
    closed: Option<Closed>,
    /// Producers to answer, in the order in which they came, each with the end that it waits for. Those that have given up are
    /// dropped as the list grows.
    producers: Vec<(Offset, oneshot::Sender<Result<(), Closed>>)>,
    /// Long-polling fetches to wake; likewise.
    fetches: Vec<Weak<Notify>>,
    /// When what was appended.
    ages: Ages,
    /// What its idempotent producers take.
    memory: ProducerMemoryPart,
    transactions: TailTransactions,
}

/// A list of waiters is swept when it has grown to this, and to each power of two beyond.
const SWEEP: usize = 32;

fn is_to_be_swept(waiters: usize) -> bool {
    waiters >= SWEEP && waiters.is_power_of_two()
}

impl Log {
    /// Opens a log at its recovered state: everything in it is durable.
    pub fn open(
        id: LogId,
        leader_epoch: LeaderEpoch,
        mut state: LogState,
        start: Offset,
        memory: &ProducerMemory,
    ) -> Self {
        let high_watermark = state.end.max(start);
        state.end = high_watermark;
        state.begin_epoch(leader_epoch, high_watermark);
        let mut inner = Inner {
            state,
            start,
            high_watermark,
            closed: None,
            producers: Vec::new(),
            fetches: Vec::new(),
            ages: Ages::default(),
            memory: memory.part(),
            transactions: TailTransactions::default(),
        };
        inner.count_memory();
        Self { id, leader_epoch, inner: Mutex::new(inner) }
    }

    /// Its id.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The epoch under which this broker owns it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Appends a validated batch to the log, its cached tail and the WAL. One that would begin a transaction is refused.
    pub fn append(&self, batch: Batch, cache: &LogCache, wal: &Wal) -> Result<Appended, AppendError> {
        self.append_verified(batch, None, cache, wal)
    }

    /// The same of a batch whose transaction was verified, where that was needed.
    pub fn append_verified(
        &self,
        batch: Batch,
        verification: Option<&Verification>,
        cache: &LogCache,
        wal: &Wal,
    ) -> Result<Appended, AppendError> {
        let mut inner = self.open_inner()?;
        let entry = batch.entry();
        if let Sequencing::Duplicate(first) = judge(&inner.state, &entry)? {
            return Ok(Appended {
                base_offset: first.base_offset(),
                end: first.last_offset.plus(1),
                log_start: inner.start,
                duplicate_of: Some(first.timestamp),
            });
        }
        if entry.is_transactional() {
            inner.check_verified(&entry, verification)?;
        }
        self.place(&mut inner, batch, cache, wal)
    }

    /// Appends the marker that ends a producer's transaction. `version` is that of the transaction protocol.
    pub fn append_marker(
        &self,
        batch: Batch,
        version: i16,
        cache: &LogCache,
        wal: &Wal,
    ) -> Result<Appended, AppendError> {
        let mut inner = self.open_inner()?;
        judge_marker(&inner.state, &batch.entry(), version)?;
        inner.transactions.end_verifications_of(batch.producer_id());
        self.place(&mut inner, batch, cache, wal)
    }

    fn open_inner(&self) -> Result<parking_lot::MutexGuard<'_, Inner>, AppendError> {
        let inner = self.inner.lock();
        match inner.closed {
            Some(closed) => Err(AppendError::Closed(closed)),
            None => Ok(inner),
        }
    }

    /// Gives a batch its offsets, and hands it on.
    fn place(
        &self,
        inner: &mut Inner,
        mut batch: Batch,
        cache: &LogCache,
        wal: &Wal,
    ) -> Result<Appended, AppendError> {
        let base_offset = inner.state.end;
        let next = base_offset.0.checked_add(i64::from(batch.last_offset_delta()) + 1);
        next.ok_or(AppendError::Full)?;
        batch.place(base_offset, self.leader_epoch);
        inner.apply(&batch.entry());
        inner.count_memory();
        cache.append(self.id, batch.clone());
        wal.append(self.id, batch);
        Ok(Appended { base_offset, end: inner.state.end, log_start: inner.start, duplicate_of: None })
    }

    /// Begins to verify that this log is part of `producer`'s transaction. None where its transaction is open here, so that
    /// there is nothing to verify.
    pub fn verify(
        self: &Arc<Self>,
        producer: ProducerId,
        epoch: i16,
        from_zero: bool,
    ) -> Option<Verification> {
        let mut inner = self.inner.lock();
        if inner.has_open_transaction(producer, epoch) {
            return None;
        }
        let number = inner.transactions.begin_verification(producer);
        Some(Verification::new(self.clone(), producer, number, from_zero))
    }

    /// Ends a verification and begins another.
    pub(super) fn renew_verification(&self, producer: ProducerId, number: u64) -> u64 {
        let mut inner = self.inner.lock();
        inner.transactions.end_verification(producer, number);
        inner.transactions.begin_verification(producer)
    }

    pub(super) fn end_verification(&self, producer: ProducerId, number: u64) {
        self.inner.lock().transactions.end_verification(producer, number);
    }

    /// Aborted transactions that a reader of `[from, to)` needs and that no flushed segment tells of. To be asked before the
    /// object index, which learns of them first.
    pub fn aborted_in_tail(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        self.inner.lock().transactions.aborted(from, to)
    }

    /// The object index tells of everything below `end`.
    pub fn flushed(&self, end: Offset) {
        self.inner.lock().transactions.flushed(end);
    }

    /// Looks at the producers that the log knows.
    pub fn with_producers<T>(&self, look: impl FnOnce(&thalweg_segment::Producers) -> T) -> T {
        look(&self.inner.lock().state.producers)
    }

    /// Everything below `end` is durable: moves the high watermark, answers producers, wakes fetches.
    pub fn advance(&self, end: Offset) {
        let mut inner = self.inner.lock();
        if inner.closed.is_some() || end <= inner.high_watermark {
            return;
        }
        inner.high_watermark = end;
        inner.transactions.durable(end);
        let answered: Vec<_> = inner.producers.extract_if(.., |(wanted, _)| *wanted <= end).collect();
        inner.wake_fetches();
        drop(inner);
        for (_, producer) in answered {
            // It may have given up.
            let _ = producer.send(Ok(()));
        }
    }

    /// Ends the log's service here: whoever waits is told why.
    pub fn close(&self, why: Closed) {
        let mut inner = self.inner.lock();
        let why = *inner.closed.get_or_insert(why);
        let refused = std::mem::take(&mut inner.producers);
        inner.wake_fetches();
        drop(inner);
        for (_, producer) in refused {
            let _ = producer.send(Err(why));
        }
    }

    /// Waits until the high watermark is at `end`. Returns why not, where the log closes first.
    pub async fn durable(&self, end: Offset) -> Result<(), Closed> {
        let waiter = {
            let mut inner = self.inner.lock();
            if inner.high_watermark >= end {
                return Ok(());
            }
            if let Some(closed) = inner.closed {
                return Err(closed);
            }
            if is_to_be_swept(inner.producers.len()) {
                inner.producers.retain(|(_, producer)| !producer.is_closed());
            }
            let (producer, waiter) = oneshot::channel();
            inner.producers.push((end, producer));
            waiter
        };
        // The log itself holds the sender until it answers.
        waiter.await.unwrap_or(Err(Closed::NotOwner))
    }

    /// Whether the log has ended its service, and why.
    pub fn closed(&self) -> Option<Closed> {
        self.inner.lock().closed
    }

    /// The log as it is now.
    pub fn view(&self) -> LogView {
        let inner = self.inner.lock();
        let high_watermark = inner.high_watermark;
        // A transaction is open until its marker is durable.
        let open = match mutated(Mutation::ExposeOpen) {
            false => [inner.state.first_open_offset(), inner.transactions.first_ending()],
            true => [None, None],
        };
        // As in Kafka, never before the start: what an open transaction began with may be gone.
        let last_stable = open.into_iter().flatten().fold(high_watermark, Offset::min).max(inner.start);
        LogView { start: inner.start, high_watermark, last_stable, end: inner.state.end }
    }

    /// Wakes `waiter` when there is more to read, until it is dropped.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        let mut inner = self.inner.lock();
        if is_to_be_swept(inner.fetches.len()) {
            inner.fetches.retain(|waiting| waiting.strong_count() > 0);
        }
        inner.fetches.push(Arc::downgrade(waiter));
    }

    /// The offset where `epoch` ends, and the largest epoch at or below it, as OffsetForLeaderEpoch answers (KIP-101). None
    /// of an epoch to come, and of -1, which stands for none. One before the first that is known ends where that begins, be it
    /// a negative one.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let inner = self.inner.lock();
        let epochs = &inner.state.leader_epochs;
        if epoch == self.leader_epoch {
            return Some((epoch, inner.state.end));
        }
        let after = epochs.partition_point(|(known, _)| *known <= epoch);
        let (_, end) = epochs.get(after).filter(|_| epoch.0 != -1)?;
        let found = after.checked_sub(1).map_or(epoch, |at| epochs[at].0);
        Some((found, (*end).max(inner.start)))
    }

    /// The epoch that wrote the record at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let inner = self.inner.lock();
        let after = inner.state.leader_epochs.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map_or(LeaderEpoch(-1), |at| inner.state.leader_epochs[at].0)
    }

    /// Moves the log's start up to `start`. Returns the start as it then is.
    pub fn raise_start(&self, start: Offset) -> Offset {
        let mut inner = self.inner.lock();
        inner.start = inner.start.max(start.min(inner.high_watermark));
        inner.start
    }

    /// Forgets producers that have been silent for `age`. To be called now and then, from the opening on. Returns what the
    /// write-ahead log must forget with it, if anything.
    pub fn expire_producers(&self, now: Instant, age: Duration) -> Option<Forgetting> {
        let mut inner = self.inner.lock();
        let Inner { state, ages, .. } = &mut *inner;
        let expired = ages.pass(now, state.end, age);
        inner.forget(Forgetting { expired, ..Forgetting::default() })
    }

    /// Bytes that its idempotent producers take in memory.
    pub fn producer_memory(&self) -> usize {
        self.inner.lock().state.producers.memory()
    }

    /// Forgets one in `part` of its producers, the least recently active, though at most `most`. Returns what the write-ahead
    /// log must forget with it; none where all that are left have a transaction open.
    pub fn evict_producers(&self, part: usize, most: usize) -> Option<Forgetting> {
        let mut inner = self.inner.lock();
        let producers = &inner.state.producers;
        let evicting = producers.evicting((producers.len() / part + 1).min(most));
        inner.forget(evicting)
    }
}

impl Inner {
    fn apply(&mut self, entry: &BatchEntry) {
        let begun = match entry.is_control() {
            true => self.state.producers.get(entry.producer_id).and_then(|known| known.transaction_start),
            false => None,
        };
        let aborted = self.state.apply(entry);
        if let Some(first) = begun {
            self.transactions.ended(first, entry.end_offset(), aborted);
        }
    }

    fn has_open_transaction(&self, producer: ProducerId, epoch: i16) -> bool {
        let known = self.state.producers.get(producer);
        known.is_some_and(|known| known.transaction_start.is_some() && known.epoch == epoch)
    }

    /// Checks that a batch continues a transaction, or may begin one.
    fn check_verified(
        &self,
        entry: &BatchEntry,
        verification: Option<&Verification>,
    ) -> Result<(), AppendError> {
        if self.has_open_transaction(entry.producer_id, entry.producer_epoch) {
            return Ok(());
        }
        let verification = verification.filter(|verification| self.transactions.is_verified(verification));
        let Some(verification) = verification else { return Err(AppendError::NotVerified) };
        let unknown = self.state.producers.get(entry.producer_id).is_none();
        if verification.is_from_zero() && unknown && entry.base_sequence > 0 {
            let (producer, found) = (entry.producer_id.0, entry.base_sequence);
            return Err(SequenceError::OutOfOrder { producer, found, last: -1 }.into());
        }
        Ok(())
    }

    fn count_memory(&mut self) {
        self.memory.set(self.state.producers.memory());
    }

    /// Gives `what` back where it says anything new.
    fn forget(&mut self, what: Forgetting) -> Option<Forgetting> {
        let any = self.state.producers.forgets_any(&what);
        self.state.forget_producers(&what);
        self.count_memory();
        any.then_some(what)
    }

    fn wake_fetches(&mut self) {
        self.fetches.retain(|waiting| {
            let waiter = waiting.upgrade();
            waiter.iter().for_each(|waiter| waiter.notify_one());
            waiter.is_some()
        });
    }
}
