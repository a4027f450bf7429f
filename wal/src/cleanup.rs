//! Deletes trimmed WAL objects that nobody needs any more.
//!
//! What is still to be deleted is a queue of ranges of sequences, adjacent ones joined: between them lie objects that the index
//! refers to. So however long the store refuses to delete, nothing is forgotten, and a range in a while is all that grows; only
//! what is left at the end of the process is for the garbage collection.

use crate::upload::backoff;
use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};
use thalweg_runtime::{Runtime, TaskHandle};
use thalweg_segment::{Incarnation, Purpose, Store, WalSequence, wal_path};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// S3 deletes this many objects with one request.
const AT_ONCE: u64 = 1000;
/// First and longest wait before a deletion is tried again, which the store client has repeated for its own patience by then.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Sequences to be deleted, in order.
type Queue = VecDeque<Range<WalSequence>>;

/// What is still to be done. The task ends with this.
pub(crate) struct Cleanup {
    queue: Arc<watch::Sender<Queue>>,
    _task: TaskHandle,
}

impl Cleanup {
    /// With nothing to do yet.
    pub fn start(runtime: &Runtime, store: Store, incarnation: Incarnation) -> Self {
        let queue = Arc::new(watch::Sender::new(Queue::new()));
        let deleter = Deleter { runtime: runtime.clone(), store, incarnation, queue: queue.clone() };
        let task = runtime.spawn_essential("the clean-up of the write-ahead log", deleter.run());
        Self { queue, _task: task }
    }

    /// These objects are to be deleted; they lie behind all that were given before. Returns at once.
    pub fn delete(&self, range: Range<WalSequence>) {
        self.queue.send_modify(|queue| match queue.back_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => queue.push_back(range),
        });
    }

    /// Waits until all of it is deleted, though no longer than `patience`.
    pub async fn finish(&self, patience: Duration) {
        let mut queue = self.queue.subscribe();
        // What is left over is garbage, which is collected by others.
        let _ = timeout(patience, queue.wait_for(Queue::is_empty)).await;
    }
}

struct Deleter {
    runtime: Runtime,
    store: Store,
    incarnation: Incarnation,
    queue: Arc<watch::Sender<Queue>>,
}

impl Deleter {
    /// For ever: it is stopped with its handle.
    async fn run(self) {
        let mut queue = self.queue.subscribe();
        loop {
            let next = queue.wait_for(|queue| !queue.is_empty()).await.map(|queue| queue.front().cloned());
            let Ok(Some(Range { start, end })) = next else { return };
            let end = end.min(WalSequence(start.0 + AT_ONCE));
            self.delete(start, end).await;
            self.queue.send_modify(|queue| pass(queue, end));
        }
    }

    /// However long the store refuses.
    async fn delete(&self, from: WalSequence, to: WalSequence) {
        let mut repetition = 0;
        loop {
            let paths = (from.0..to.0).map(|at| wal_path(self.incarnation, WalSequence(at))).collect();
            let Err(error) = self.store.delete(paths, Purpose::Cleanup).await else { return };
            match repetition {
                0 => tracing::warn!(%error, "trimmed WAL objects can't be deleted yet"),
                _ => tracing::debug!(%error, repetition, "trimmed WAL objects can't be deleted yet"),
            }
            sleep(self.runtime.random().jitter(backoff(BACKOFF, repetition))).await;
            repetition += 1;
        }
    }
}

/// The first range is done up to `end`.
fn pass(queue: &mut Queue, end: WalSequence) {
    if let Some(first) = queue.front_mut() {
        first.start = end;
    }
    queue.pop_front_if(|first| first.is_empty());
}
