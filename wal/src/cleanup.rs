//! Deletes the WAL objects below the trim point: nobody needs them any more.
//!
//! What is still to be deleted is one range of sequences, from where this has come to up to the trim point. So however long the store
//! refuses to delete, nothing is forgotten and nothing grows; only what is left at the end of the process is for the garbage
//! collection.

use crate::upload::backoff;
use std::{sync::Arc, time::Duration};
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

/// How far it is. The task ends with this.
pub(crate) struct Cleanup {
    trim: watch::Sender<WalSequence>,
    deleted: Arc<watch::Sender<WalSequence>>,
    _task: TaskHandle,
}

impl Cleanup {
    /// Begins at `trim`, below which nothing is left.
    pub fn start(runtime: &Runtime, store: Store, incarnation: Incarnation, trim: WalSequence) -> Self {
        let deleted = Arc::new(watch::Sender::new(trim));
        let (trim, wanted) = watch::channel(trim);
        let deleter =
            Deleter { runtime: runtime.clone(), store, incarnation, wanted, deleted: deleted.clone() };
        let task = runtime.spawn_essential("the clean-up of the write-ahead log", deleter.run());
        Self { trim, deleted, _task: task }
    }

    /// Everything below `trim` is to be deleted. Returns at once.
    pub fn delete_below(&self, trim: WalSequence) {
        self.trim.send_replace(trim);
    }

    /// Waits until all of it is deleted, though no longer than `patience`.
    pub async fn finish(&self, patience: Duration) {
        let trim = *self.trim.borrow();
        let mut deleted = self.deleted.subscribe();
        // What is left over is garbage, which is collected by others.
        let _ = timeout(patience, deleted.wait_for(|deleted| *deleted >= trim)).await;
    }
}

struct Deleter {
    runtime: Runtime,
    store: Store,
    incarnation: Incarnation,
    wanted: watch::Receiver<WalSequence>,
    deleted: Arc<watch::Sender<WalSequence>>,
}

impl Deleter {
    /// Until nobody can want anything any more.
    async fn run(mut self) {
        loop {
            let from = *self.deleted.borrow();
            let Ok(to) = self.wanted.wait_for(|trim| *trim > from).await.map(|trim| *trim) else { return };
            let to = to.min(WalSequence(from.0 + AT_ONCE));
            self.delete(from, to).await;
            self.deleted.send_replace(to);
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
