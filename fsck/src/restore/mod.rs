//! The metadata anew, after they were lost: from the newest snapshot in the bucket and from what every segment, manifest and WAL object
//! says of itself.
//!
//! ```text
//! evidence ─→ choose (which objects were the index) ─→ plan (rows, and what could not be restored) ─→ a new metadata store
//! ```
//! Every record that was flushed comes back with its offset, and so does what is in the WAL: the incarnation that owned the logs last is
//! recorded as open, with a window and trim point that let the next start take it over as after any crash.
//!
//! **No broker may run meanwhile**, nor may one that runs on the lost metadata go on afterwards: it would go on writing to what it takes
//! for its metadata store, and what it acknowledges meanwhile may be lost.

mod choose;
mod evidence;
mod plan;
mod report;
mod spans;
mod wal;

pub use report::{NamelessLog, Offsets, Restored, SnapshotUsed, WalRestored};

use evidence::gather;
use std::time::Duration;
use thalweg_metadata::{Metadata, MetadataError};
use thalweg_runtime::Runtime;
use thalweg_segment::{Store, StoreError};
use tokio::time::Instant;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The new metadata store failed, or holds something already.
    #[error("the metadata can't be written: {0}")]
    Metadata(#[from] MetadataError),
    /// The bucket could not be read.
    #[error("the object store can't be read: {0}")]
    Store(#[from] StoreError),
}

/// Writes the metadata of the bucket `store`, of the cluster `cluster_id`, into `metadata`, which must be empty.
/// `window` is what an incarnation's is taken for at least, where no snapshot knows it.
pub async fn restore(
    runtime: &Runtime,
    store: &Store,
    metadata: &Metadata,
    cluster_id: &str,
    window: u32,
) -> Result<Restored, RestoreError> {
    let started = Instant::now();
    let evidence = gather(runtime, store, cluster_id).await?;
    let read = started.elapsed();
    let (rows, mut restored) = plan::plan(&evidence, window, || runtime.random().uuid());
    let count = rows.len();
    metadata.write_new(rows).await?;
    restored.rows = count as u64;
    restored.read_ms = millis(read);
    restored.write_ms = millis(started.elapsed().saturating_sub(read));
    Ok(restored)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
