//! Writes snapshots of the metadata into the bucket, from which `thalweg restore` makes them anew should they be lost.
//!
//! One is due at each interval, if anything has changed since the last one; within a minute after topics were created, grew or were deleted,
//! since no object knows a topic's name; and at an orderly end.

use crate::{broker::Broker, topics::TopicList};
use bytes::Bytes;
use std::{collections::BTreeMap, hash::Hasher, sync::Arc, time::Duration};
use thalweg_metadata::{Metadata, MetadataError, OwnerRecord, Snapshot, write_snapshot};
use thalweg_runtime::Runtime;
use thalweg_segment::{Store, StoreError};
use tokio::time::{Instant, sleep, timeout};
use twox_hash::XxHash3_64;

/// Snapshots that are kept.
const KEPT: usize = 3;
/// How often it is looked whether one is due.
const TICK: Duration = Duration::from_secs(60);
/// How long an orderly end waits for its last one.
const LAST: Duration = Duration::from_secs(5);

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The rows could not be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the snapshots of one life of the broker.
pub struct Snapshots {
    runtime: Runtime,
    store: Store,
    metadata: Metadata,
    cluster_id: String,
    owner: OwnerRecord,
    /// None where they are off.
    interval: Option<Duration>,
    taken: tokio::sync::Mutex<Taken>,
}

/// What was written so far.
#[derive(Default)]
struct Taken {
    /// How many.
    count: u64,
    /// Of the last one's rows.
    hash: Option<u64>,
}

impl Snapshots {
    /// For the broker that `owner` says owns the logs; none are taken without an `interval`.
    pub fn new(
        runtime: Runtime,
        store: Store,
        metadata: Metadata,
        cluster_id: String,
        owner: OwnerRecord,
        interval: Option<Duration>,
    ) -> Self {
        Self { runtime, store, metadata, cluster_id, owner, interval, taken: tokio::sync::Mutex::default() }
    }

    /// Writes one, unless nothing has changed since the last. Gives whether it did.
    pub async fn take(&self) -> Result<bool, SnapshotError> {
        let mut taken = self.taken.lock().await;
        let rows = self.metadata.rows_for_snapshot().await?;
        let hash = hash(&rows);
        if taken.hash == Some(hash) {
            return Ok(false);
        }
        let snapshot = Snapshot {
            cluster_id: self.cluster_id.clone(),
            taken_by: self.owner.incarnation,
            leader_epoch: self.owner.leader_epoch,
            number: taken.count,
            taken_at_ms: self.runtime.now_ms(),
            rows,
        };
        // Its number is used up, whatever becomes of the request: a PUT may arrive late.
        taken.count += 1;
        write_snapshot(&self.store, &snapshot, KEPT).await?;
        taken.hash = Some(hash);
        tracing::debug!(path = %snapshot.path(), rows = snapshot.rows.len(), "wrote a snapshot of the metadata");
        Ok(true)
    }

    /// The last one of an orderly end.
    pub async fn take_last(&self) {
        if self.interval.is_none() {
            return;
        }
        match timeout(LAST, self.take()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last snapshot of the metadata was not written"),
            Err(_) => tracing::warn!("the last snapshot of the metadata was not written in time"),
        }
    }

    async fn take_or_tell(&self) -> bool {
        let taken = self.take().await;
        taken
            .inspect_err(|error| tracing::warn!(%error, "a snapshot of the metadata can't be written yet"))
            .is_ok()
    }
}

/// Takes snapshots for as long as the broker lives.
pub fn keep(broker: &Arc<Broker>) {
    let Some(interval) = broker.snapshots.interval else { return };
    let weak = Arc::downgrade(broker);
    let topics = broker.topics.list();
    let task = broker.runtime.spawn_essential("the snapshots of the metadata", async move {
        let mut due = Due::new(interval);
        loop {
            sleep(interval.min(TICK)).await;
            let Some(broker) = weak.upgrade() else { return };
            let (now, version) = (Instant::now(), TopicList::version(&topics));
            if due.is_due(now, version) && broker.snapshots.take_or_tell().await {
                due.taken(now, version);
            }
        }
    });
    task.detach();
}

/// When one is due.
#[derive(Debug)]
struct Due {
    interval: Duration,
    last: Option<(Instant, u64)>,
}

impl Due {
    fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    fn is_due(&self, now: Instant, topics: u64) -> bool {
        self.last.is_none_or(|(at, version)| now >= at + self.interval || topics != version)
    }

    fn taken(&mut self, now: Instant, topics: u64) {
        self.last = Some((now, topics));
    }
}

fn hash(rows: &BTreeMap<Bytes, Bytes>) -> u64 {
    let mut hasher = XxHash3_64::with_seed(0);
    for part in rows.iter().flat_map(|(key, value)| [key, value]) {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_first_of_all_then_at_the_interval_or_when_topics_have_changed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut due = Due::new(Duration::from_secs(100));
        assert!(due.is_due(at(0), 0));
        due.taken(at(0), 0);
        assert!(!due.is_due(at(99), 0));
        assert!(due.is_due(at(100), 0));
        assert!(due.is_due(at(1), 1));
        due.taken(at(1), 1);
        assert!(!due.is_due(at(100), 1));
    }

    #[test]
    fn rows_that_differ_in_anything_have_another_hash() {
        let rows = |pairs: &[(&'static str, &'static str)]| -> BTreeMap<Bytes, Bytes> {
            pairs.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
        };
        let some = hash(&rows(&[("a", "b")]));
        assert_eq!(some, hash(&rows(&[("a", "b")])));
        for other in [rows(&[]), rows(&[("a", "")]), rows(&[("ab", "")]), rows(&[("", "ab")])] {
            assert_ne!(hash(&other), some);
        }
    }
}
