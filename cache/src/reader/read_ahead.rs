//! Brings blocks before consumers ask for them: what is behind the place of each that reads on and on.
//!
//! `positions` decides, for which consumer and how far. Carrying a plan out takes the blocks that are not in memory and not on
//! their way from `Blocks`, charges them to a budget of their own, and lets a task poll each flight. Whoever asks for a block then
//! finds the flight, under way or arrived, by `Blocks` as if another reader had begun it. A run is given up once the consumer has
//! passed it, or when nothing was read there for a while: sooner where others want the memory.

mod positions;

use super::blocks::{AheadRun, Blocks, Flight};
use crate::metrics::ReadAheadMetrics;
use parking_lot::Mutex;
use positions::{Held, IDLE, Plan, Positions};
use std::sync::{Arc, Weak};
use thalweg_metadata::{BlockRef, IndexError, ObjectIndex};
use thalweg_runtime::{Budget, Charge, Runtime, TaskHandle};
use thalweg_segment::{LogId, Offset};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Reads ahead of consumers.
pub(super) struct ReadAhead {
    inner: Arc<Inner>,
    _sweeper: TaskHandle,
}

struct Inner {
    runtime: Runtime,
    index: ObjectIndex,
    blocks: Blocks,
    budget: Budget,
    positions: Mutex<Positions<Hold>>,
    begun: Notify,
    metrics: ReadAheadMetrics,
}

/// Keeps a run of blocks: in flight, and in memory once it has arrived.
struct Hold {
    _flight: Flight,
    _polling: TaskHandle,
    _charge: Charge,
}

impl ReadAhead {
    pub(super) fn new(
        runtime: Runtime,
        index: ObjectIndex,
        blocks: Blocks,
        budget: Budget,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let positions = Mutex::new(Positions::new(budget.capacity()));
        let (begun, metrics) = (Notify::new(), ReadAheadMetrics::new(registry));
        let inner = Arc::new(Inner { runtime, index, blocks, budget, positions, begun, metrics });
        let _sweeper = inner.runtime.spawn(sweep(Arc::downgrade(&inner)));
        Self { inner, _sweeper }
    }

    /// A consumer begins to read `log` at `from`; nothing from `limit` on is for it yet.
    pub(super) fn begins(&self, log: LogId, from: Offset, limit: Offset) {
        let plan = self.inner.positions.lock().begins(log, from, Instant::now());
        self.carry_out(log, plan, limit);
    }

    /// A consumer has read `bytes` bytes of `log` in `range`; nothing from `limit` on is for it yet.
    pub(super) fn read(&self, log: LogId, range: (Offset, Offset), bytes: usize, limit: Offset) {
        let (plan, passed) = self.inner.positions.lock().read(log, range, bytes, Instant::now());
        self.inner.show_held();
        drop(passed);
        self.inner.begun.notify_one();
        self.carry_out(log, plan, limit);
    }

    fn carry_out(&self, log: LogId, plan: Option<Plan>, limit: Offset) {
        if let Some(plan) = plan {
            // It ends by itself: soon where the store is, and when the patience is at its end where it is not.
            self.inner.runtime.spawn(carry_out(Arc::downgrade(&self.inner), log, plan, limit)).detach();
        }
    }
}

/// Forgets what nobody reads any more.
async fn sweep(inner: Weak<Inner>) {
    while let Some(strong) = inner.upgrade() {
        let (dropped, left) = strong.positions.lock().forget(Instant::now());
        strong.give_up(dropped);
        if left {
            drop(strong);
            sleep(IDLE / 2).await;
        } else {
            strong.begun.notified().await;
        }
    }
}

async fn carry_out(inner: Weak<Inner>, log: LogId, mut plan: Plan, limit: Offset) {
    while let Some(inner) = inner.upgrade() {
        let complete = matches!(inner.bring(log, plan, limit).await, Ok(true));
        match inner.positions.lock().planned(plan.id, complete) {
            Some(next) => plan = next,
            None => return,
        }
    }
}

impl Inner {
    /// Begins to bring what is planned. Returns false where it came to the end of what there is, or of the budget.
    async fn bring(self: &Arc<Self>, log: LogId, plan: Plan, limit: Offset) -> Result<bool, IndexError> {
        let (mut from, mut left) = (plan.from, plan.bytes);
        while left > 0 {
            if from >= limit {
                return Ok(false);
            }
            let mut refs = self.index.blocks_at(log, from, left).await?;
            refs.retain(|block| block.entry.base_offset < limit);
            let Some(last) = refs.last() else { return Ok(false) };
            let (end, bytes) = (last.entry.end_offset, sum(&refs));
            let complete = self.begin(plan, &refs);
            (from, left) = (end, left.saturating_sub(bytes));
            if !complete {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Begins to bring `refs`; false where there was no memory for all of them.
    fn begin(self: &Arc<Self>, plan: Plan, refs: &[BlockRef]) -> bool {
        let mut done = 0;
        for attempt in 0..2 {
            let charge = |bytes: u64| {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                let room = !self.blocks.is_short_of_memory() && bytes <= self.budget.capacity();
                room.then(|| self.budget.try_charge(bytes)).flatten()
            };
            let rest = &refs[done..];
            let (runs, complete) = self.blocks.ahead(rest, charge);
            let end = if complete { rest.len() } else { runs.last().map_or(0, |run| run.range.end) };
            self.hold(plan, &rest[..end], runs);
            done += end;
            if complete {
                return true;
            }
            if attempt == 0 {
                let given_up = self.positions.lock().give_up(Instant::now());
                if given_up.is_empty() {
                    return false;
                }
                self.give_up(given_up);
            }
        }
        false
    }

    /// Holds `runs` of `refs` for a position; the others of `refs` are where they will be found.
    fn hold(self: &Arc<Self>, plan: Plan, refs: &[BlockRef], runs: Vec<AheadRun<Charge>>) {
        let Some(end) = refs.last().map(|block| block.entry.end_offset) else { return };
        let mut held = Vec::new();
        let mut at = 0;
        for AheadRun { range, flight, charge } in runs {
            held.extend(there_already(&refs[at..range.start]));
            at = range.end;
            held.extend(there_already(&refs[range]).map(|run| {
                let polled = flight.clone();
                let _polling = self.runtime.spawn(async move { drop(polled.await) });
                Held { hold: Some(Hold { _flight: flight, _polling, _charge: charge }), ..run }
            }));
        }
        held.extend(there_already(&refs[at..]));
        let not_wanted = self.positions.lock().hold(plan.id, end, held);
        self.give_up(not_wanted);
    }

    fn give_up(&self, held: Vec<Held<Hold>>) {
        let bytes: usize = held.iter().filter(|run| run.hold.is_some()).map(|run| run.bytes).sum();
        self.metrics.dropped_bytes.inc_by(bytes as u64);
        drop(held);
        self.show_held();
    }

    fn show_held(&self) {
        self.metrics.bytes.set(self.budget.used() as i64);
    }
}

fn sum(refs: &[BlockRef]) -> usize {
    refs.iter().map(|block| block.entry.size as usize).sum()
}

/// One run of blocks that nothing needs to be held for; none where there are no blocks.
fn there_already(refs: &[BlockRef]) -> Option<Held<Hold>> {
    let end = refs.last()?.entry.end_offset;
    Some(Held { end, bytes: sum(refs), hold: None })
}
