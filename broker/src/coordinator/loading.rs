//! Reads a shard's log into its state, from the tail's cache or the object store, a piece at a time.

use super::{
    records::{Unreadable, entries_of},
    rules::Rules,
    shard::Shard,
};
use crate::broker::Broker;
use bytes::{Bytes, BytesMut};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use thalweg_metadata::IndexError;
use thalweg_segment::{Batch, Offset};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shards that are read at a time. What they want lies in the same objects, little of each log in each; read together, each
/// object is asked for once.
const PARALLEL: usize = 64;
/// Bytes that all of them read at a time, about.
const TOGETHER: usize = 32 * 1024 * 1024;
/// Most bytes that one of them reads at a time.
const LARGEST_PIECE: usize = 4 * 1024 * 1024;
/// Wait before reading is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Why a shard can't be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] IndexError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The turns of shards to be loaded: how many are at it, and how much each of them reads at a time.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARALLEL)))
    }
}

impl Turns {
    pub(super) async fn next(&self) -> Turn {
        let held = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        Turn { turns: self.clone(), _held: held }
    }
}

/// One shard's turn, until it is dropped.
pub(super) struct Turn {
    turns: Turns,
    _held: OwnedSemaphorePermit,
}

impl Turn {
    /// Bytes to read at a time, while as many shards are at it as now.
    fn piece(&self) -> usize {
        let at_it = PARALLEL - self.turns.0.available_permits();
        (TOGETHER / at_it.max(1)).min(LARGEST_PIECE)
    }
}

/// Loads `shard`. Tries for as long as the store fails. A log that can't be understood ends the shard, loudly: to serve
/// without some of the records would be to lose them.
pub(super) async fn load<R: Rules>(broker: Weak<Broker>, shard: Arc<Shard<R>>, turn: Turn) {
    let began = tokio::time::Instant::now();
    let view = shard.log().view();
    let mut at = view.start;
    while at < view.end {
        if shard.is_closed() {
            return;
        }
        let Some(broker) = broker.upgrade() else { return };
        match load_piece(&broker, &shard, at, view.end, turn.piece()).await {
            Ok(next) => at = next,
            Err(LoadError::Read(error)) => {
                tracing::warn!(log = %shard.log().id(), %error, "{} can't be read yet", R::NAME);
                let wait = broker.runtime.random().jitter(RETRY);
                drop(broker);
                tokio::time::sleep(wait).await;
            }
            Err(LoadError::Unreadable(error)) => {
                tracing::error!(log = %shard.log().id(), %error, "{} can't be loaded", R::NAME);
                return shard.close();
            }
        }
    }
    shard.loaded();
    if view.start < view.end {
        let records = view.end.0 - view.start.0;
        tracing::debug!(log = %shard.log().id(), records, elapsed = ?began.elapsed(), "{} loaded", R::NAME);
    }
}

/// Loads from `at` on, and says where it goes on.
async fn load_piece<R: Rules>(
    broker: &Broker,
    shard: &Arc<Shard<R>>,
    at: Offset,
    end: Offset,
    bytes: usize,
) -> Result<Offset, LoadError> {
    let slices = broker.read_once(shard.log(), at, end, bytes).await?;
    let (loading, chunks) = (shard.clone(), slices.chunks);
    let next = broker.runtime.compute(move || take_in(&loading, at, joined(chunks))).await?;
    // Where nothing is left of what was there (compaction, deletion), there is nothing more to load.
    Ok(next.unwrap_or(end))
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.remove(0);
    }
    let mut all = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    all.freeze()
}

/// Takes whole batches in, and gives the offset behind the last; none where there is no batch.
fn take_in<R: Rules>(shard: &Shard<R>, from: Offset, mut bytes: Bytes) -> Result<Option<Offset>, Unreadable> {
    let mut next = None;
    while !bytes.is_empty() {
        let unreadable =
            |error: thalweg_segment::BatchError| Unreadable { offset: from.0, reason: error.to_string() };
        let batch = Batch::split_from(&mut bytes).map_err(unreadable)?;
        batch.verify_crc().map_err(unreadable)?;
        shard.load(entries_of(&batch)?);
        next = Some(batch.end_offset());
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_more_shards_are_read_together_the_less_each_of_them_reads_at_a_time() {
        let turns = Turns::default();
        let alone = turns.next().await;
        assert_eq!(alone.piece(), LARGEST_PIECE);
        let mut others = Vec::new();
        for _ in 1..PARALLEL {
            others.push(turns.next().await);
        }
        assert_eq!(alone.piece() * PARALLEL, TOGETHER);
        assert!(futures::poll!(std::pin::pin!(turns.next())).is_pending(), "no more than that");
        drop(others);
        assert_eq!(alone.piece(), LARGEST_PIECE);
    }
}
