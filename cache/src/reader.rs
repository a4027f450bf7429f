//! Reads through the object index: block cache, else one range GET per run of adjacent blocks, single-flight per block.
//!
//! The index says which blocks hold the asked-for offsets (`ObjectIndex::blocks_at`), `blocks` brings their bytes, `cut`
//! takes the wanted batches out of them. Read-ahead belongs in front of `Blocks::get`, an SSD tier behind its cache.

mod blocks;
mod cut;

use blocks::Blocks;
use bytes::Bytes;
use cut::Wanted;
use std::sync::Arc;
use thalweg_metadata::{IndexError, ObjectIndex};
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{LogId, Offset, ReadError, Store, StoreError};

/// Most bytes that one call reads, whatever it is asked for (beside a first batch that is larger).
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// The way to data that is no longer in the log cache. Cheap to clone.
#[derive(Clone)]
pub struct BlockReader(Arc<Inner>);

struct Inner {
    index: ObjectIndex,
    blocks: Blocks,
}

/// Whole batches, contiguous in memory, from the one that holds the asked-for offset on.
#[derive(Clone, Debug)]
pub struct Run {
    /// The batches' bytes: a slice of a cached block, or a copy where that is a small part of it.
    pub bytes: Bytes,
    /// Offset after the last batch.
    pub end: Offset,
}

impl BlockReader {
    /// A reader with a block cache of `capacity` bytes. Blocks in flight from the store are charged to `budget`.
    pub fn new(
        runtime: Runtime,
        store: Store,
        index: ObjectIndex,
        capacity: usize,
        budget: Budget,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let blocks = Blocks::new(runtime, store, capacity, budget, registry);
        Self(Arc::new(Inner { index, blocks }))
    }

    /// Batches of `log` from the one that holds `from`, all below `limit`, as many as fit into `max_bytes` (and
    /// [`MAX_READ_BYTES`]); the first even where it alone is larger, if `at_least_one`. Empty where the index holds nothing
    /// at or behind `from`.
    ///
    /// An error is returned only where it leaves nothing to return: what could be read before it comes first.
    pub async fn read(
        &self,
        log: LogId,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Run>, IndexError> {
        let mut wanted = Wanted::new(from, limit, max_bytes.min(MAX_READ_BYTES), at_least_one);
        let mut runs = Vec::new();
        let mut repeated = false;
        while !wanted.is_done() {
            match self.read_extent(log, &mut wanted, &mut runs).await {
                Ok(()) => {}
                Err(_) if !runs.is_empty() => break,
                // The index may know by now what has replaced the object.
                Err(error) if is_gone(&error) && !repeated => repeated = true,
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }

    /// Reads what is wanted and in one extent.
    async fn read_extent(
        &self,
        log: LogId,
        wanted: &mut Wanted,
        runs: &mut Vec<Run>,
    ) -> Result<(), IndexError> {
        let mut refs = self.0.index.blocks_at(log, wanted.next(), wanted.bytes_left()).await?;
        refs.retain(|block| block.entry.base_offset < wanted.limit());
        if refs.is_empty() {
            wanted.finish();
        }
        let blocks = self.0.blocks.get(&refs).await;
        for (block, bytes) in refs.iter().zip(blocks) {
            runs.extend(wanted.cut(block, &bytes?)?);
            if wanted.is_done() {
                break;
            }
        }
        Ok(())
    }
}

fn is_gone(error: &IndexError) -> bool {
    matches!(error, IndexError::Read(ReadError::Store(StoreError::NotFound { .. })))
}

#[cfg(test)]
mod tests;
