//! One partition of `__consumer_offsets`: its groups, and its log, kept in step.
//!
//! An operation is decided, appended and taken into the state under one lock, so that the log has the order of the decisions.
//! Its answer waits until the log's high watermark has passed its records. What goes on after that, and what is due at a time,
//! is the work of one task per shard.
//!
//! An append fails for good only when the log is closed: another broker owns it now, or its topic is deleted. Then the state
//! is dropped as a whole, and whoever waits is told to look for the coordinator.

use super::{
    groups::{After, Effects, GroupSettings, Groups, Now, Parked, Position, Ticket},
    records::batch_of,
};
use crate::partition::{AppendError, Log};
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
use thalweg_protocol::{ErrorCode, coordinator_records::GroupRecord};
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::Offset;
use thalweg_wal::Wal;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// What all shards of a broker work with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) runtime: Runtime,
    pub(super) wal: Wal,
    pub(super) cache: LogCache,
    /// What batches are charged to until they leave the log cache.
    pub(super) produce: Budget,
    pub(super) settings: Arc<GroupSettings>,
    /// Where the forward-running clock begins.
    pub(super) began: Instant,
    pub(super) memory: Arc<Memory>,
}

/// What the state of all groups weighs, and how much it may.
pub(super) struct Memory {
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
pub struct Shard {
    log: Arc<Log>,
    means: Means,
    /// Largest batch that the topic takes, in bytes.
    max_batch: usize,
    inner: Mutex<Inner>,
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

struct Inner {
    phase: Phase,
    groups: Groups,
    /// What the groups weighed when they were counted last.
    weighed: usize,
    /// Parked requests. As many as the groups know of, which are bounded.
    waiting: BTreeMap<Ticket, oneshot::Sender<Parked>>,
    tickets: u64,
    /// End of the last append: whoever tells of the state waits until that is durable.
    end: Offset,
    /// What goes on once the log is durable up to an offset. At most one for each group.
    afters: VecDeque<(Offset, After)>,
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

impl Shard {
    /// The shard of `log`, which is yet to be read, unless nothing is in it.
    pub(super) fn new(log: Arc<Log>, max_batch: usize, means: Means) -> Arc<Self> {
        let inner = Inner {
            phase: Phase::Loading,
            groups: Groups::new(means.settings.clone(), means.runtime.random().clone()),
            weighed: 0,
            waiting: BTreeMap::new(),
            tickets: 0,
            end: log.view().end,
            afters: VecDeque::new(),
        };
        let shard = Arc::new(Self { log, means, max_batch, inner: Mutex::new(inner), news: Arc::default() });
        shard.means.runtime.spawn_essential("group shard", serve(Arc::downgrade(&shard))).detach();
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

    /// Waits until batches of `bytes` more would find memory.
    pub async fn room(&self, bytes: usize) {
        drop(self.means.produce.charge(bytes).await);
    }

    /// Whether the state of all groups may grow.
    pub fn has_room(&self) -> bool {
        self.means.memory.used() < self.means.memory.limit
    }

    /// Does an operation.
    pub fn run<T>(
        &self,
        operation: impl FnOnce(&mut Groups, Now, &mut Effects) -> T,
    ) -> Result<Pending<T>, ErrorCode> {
        let mut inner = self.ready()?;
        let value = self.apply(&mut inner, operation)?;
        Ok(Pending { value, log: self.log.clone(), end: inner.end })
    }

    /// Does an operation whose answer may come later: when others have joined, or when an assignment is stored.
    pub fn park(
        &self,
        operation: impl FnOnce(&mut Groups, Ticket, Now, &mut Effects),
    ) -> Result<oneshot::Receiver<Parked>, ErrorCode> {
        let mut inner = self.ready()?;
        inner.tickets += 1;
        let ticket = Ticket(inner.tickets);
        let (answer, answered) = oneshot::channel();
        inner.waiting.insert(ticket, answer);
        self.apply(&mut inner, |groups, now, effects| operation(groups, ticket, now, effects))?;
        Ok(answered)
    }

    fn ready(&self) -> Result<parking_lot::MutexGuard<'_, Inner>, ErrorCode> {
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
        inner: &mut Inner,
        operation: impl FnOnce(&mut Groups, Now, &mut Effects) -> T,
    ) -> Result<T, ErrorCode> {
        let before = (inner.groups.next_deadline_ms(), inner.afters.len());
        let mut effects = Effects::default();
        let value = operation(&mut inner.groups, self.now(), &mut effects);
        let done = self.carry_out(inner, effects);
        self.weigh(inner);
        let next = inner.groups.next_deadline_ms();
        let sooner = next.is_some_and(|next| before.0.is_none_or(|known| next < known));
        if sooner || inner.afters.len() > before.1 {
            self.news.notify_one();
        }
        done.map(|()| value)
    }

    fn carry_out(&self, inner: &mut Inner, effects: Effects) -> Result<(), ErrorCode> {
        let Effects { records, answers, after } = effects;
        let stored = self.append(inner, records);
        for (ticket, answer) in answers {
            if let Some(waiting) = inner.waiting.remove(&ticket) {
                // The client may have gone away.
                let _ = waiting.send(answer);
            }
        }
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
                let mut effects = Effects::default();
                inner.groups.stored(after, Err(code), self.now(), &mut effects);
                self.carry_out(inner, effects)
            }
        }
    }

    /// Appends records in one batch. Those that only delete may take several, since each is right by itself.
    fn append(&self, inner: &mut Inner, records: Vec<GroupRecord>) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        let batch = batch_of(&records, self.means.runtime.now_ms()).map_err(|error| {
            tracing::warn!(%error, "a group's record can't be written");
            ErrorCode::UnknownServerError
        })?;
        if batch.len() > self.max_batch {
            if records.len() > 1 && records.iter().all(is_tombstone) {
                let mut first = records;
                let second = first.split_off(first.len() / 2);
                return self.append(inner, first).and_then(|()| self.append(inner, second));
            }
            tracing::warn!(
                bytes = batch.len(),
                max = self.max_batch,
                "a group's records are too large for a batch"
            );
            return Err(ErrorCode::UnknownServerError);
        }
        let charge = self.means.produce.try_charge(batch.len());
        let appended = self.log.append(batch.with_charge(charge), &self.means.cache, &self.means.wal);
        let appended = appended.map_err(|error| match error {
            AppendError::Closed(_) | AppendError::Sequence(_) | AppendError::Full => {
                ErrorCode::NotCoordinator
            }
        })?;
        inner.end = appended.end;
        for (offset, record) in (appended.base_offset.0..).zip(records) {
            inner.groups.replay(record, Position { offset, producer_id: -1, loading: false });
        }
        Ok(())
    }

    /// Takes records of the log into the state.
    pub(super) fn load(&self, records: Vec<(Position, GroupRecord)>) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Loading {
            return;
        }
        records.into_iter().for_each(|(at, record)| inner.groups.replay(record, at));
        self.weigh(&mut inner);
    }

    /// Counts the state as it is now towards what all may take.
    fn weigh(&self, inner: &mut Inner) {
        let bytes = inner.groups.bytes();
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
        let _ = self.apply(&mut inner, |groups, now, effects| groups.loaded(now, effects));
    }

    /// Ends the shard's service.
    pub(super) fn close(&self) {
        self.drop_state(&mut self.inner.lock());
    }

    /// Without its sender, a parked request is answered NOT_COORDINATOR.
    fn drop_state(&self, inner: &mut Inner) {
        inner.phase = Phase::Closed;
        inner.groups = Groups::new(self.means.settings.clone(), self.means.runtime.random().clone());
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
            let _ = self.apply(&mut inner, |groups, now, effects| groups.stored(after, Ok(()), now, effects));
        }
        while self.apply(&mut inner, |groups, now, effects| groups.expire(now, effects)) == Ok(true) {}
    }

    /// What its task waits for next.
    fn next(&self) -> (Option<Offset>, Option<Instant>) {
        let inner = self.inner.lock();
        let deadline = inner.groups.next_deadline_ms();
        let deadline = deadline.and_then(|ms| self.means.began.checked_add(Duration::from_millis(ms)));
        (inner.afters.front().map(|(end, _)| *end), deadline)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.news.notify_one();
    }
}

fn is_tombstone(record: &GroupRecord) -> bool {
    matches!(record, GroupRecord::OffsetCommit(_, None) | GroupRecord::GroupMetadata(_, None))
}

/// The task of a shard, for as long as that lives and its log is open.
async fn serve(shard: Weak<Shard>) {
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
