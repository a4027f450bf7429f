//! Reads through the object index: block cache, else one range GET per run of adjacent blocks, single-flight per block.
//!
//! The index says which blocks hold the asked-for offsets (`ObjectIndex::blocks_at`), `blocks` brings their bytes, `cut`
//! takes the wanted batches out of them. `memory` and `disk` are what `blocks` looks into first; `read_ahead` asks it for blocks
//! before consumers do; `parts` brings small blocks together with their neighbours.

mod blocks;
mod cut;
mod key;
mod memory;
mod parts;
mod read_ahead;

pub(crate) use key::BlockKey;

use crate::disk::{DiskCache, DiskSettings};
use blocks::Blocks;
use bytes::Bytes;
use cut::Wanted;
use read_ahead::ReadAhead;
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
    read_ahead: ReadAhead,
}

/// What the block cache may take.
#[derive(Clone)]
pub struct BlockCacheSettings {
    /// Bytes of blocks in memory; with a disk, also those on their way there.
    pub memory: usize,
    /// The disk, if any.
    pub disk: Option<DiskSettings>,
    /// Whose blocks they are. Files of another cluster on the disk are thrown away.
    pub cluster_id: String,
    /// Blocks on their way from the disk and from the object store.
    pub reads: Budget,
    /// Blocks that are held for consumers that have not asked for them yet.
    pub read_ahead: Budget,
}

/// How many are expected to read the same blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    One,
    Many,
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
    /// A reader with an empty block cache, but for what the disk holds.
    pub fn new(
        runtime: Runtime,
        store: Store,
        index: ObjectIndex,
        settings: BlockCacheSettings,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let BlockCacheSettings { mut memory, disk, cluster_id, reads, read_ahead } = settings;
        let disk = disk.and_then(|settings| {
            let buffers = DiskSettings::buffer_bytes(memory);
            let begun = DiskCache::begin(&runtime, &settings, &cluster_id, buffers, registry);
            let begun = begun.inspect_err(|error| {
                tracing::warn!(%error, path = %settings.path.display(), "there is no disk cache");
            });
            // Buffers, and the queue in front of them.
            memory = memory.saturating_sub(buffers / 2 * 3).max(memory / 4);
            begun.ok()
        });
        let blocks = Blocks::new(runtime.clone(), store, index.clone(), memory, reads, disk, registry);
        let read_ahead = ReadAhead::new(runtime, index.clone(), blocks.clone(), read_ahead, registry);
        Self(Arc::new(Inner { index, blocks, read_ahead }))
    }

    /// Batches of `log` from the one that holds `from`, all below `limit`, as many as fit into `max_bytes` (and
    /// [`MAX_READ_BYTES`]); the first even where it alone is larger, if `at_least_one`. Empty where the index holds nothing
    /// at or behind `from`.
    ///
    /// Nothing at or behind `limit` is read ahead either: what memory holds of the log's end need not come from the store.
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
        self.0.read_ahead.begins(log, from, limit);
        let wanted = Wanted::new(from, limit, max_bytes.min(MAX_READ_BYTES), at_least_one);
        let runs = self.read_wanted(log, wanted, Readers::Many).await?;
        if let Some(last) = runs.last() {
            let bytes = runs.iter().map(|run| run.bytes.len()).sum();
            self.0.read_ahead.read(log, (from, last.end), bytes, limit);
        }
        Ok(runs)
    }

    /// As [`Self::read`] (the first batch even where it alone is larger), for who reads a log from its start to its end and not
    /// again: nothing is read ahead, and blocks that were read to their ends leave the block cache.
    pub async fn read_once(
        &self,
        log: LogId,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Run>, IndexError> {
        let wanted = Wanted::new(from, limit, max_bytes.min(MAX_READ_BYTES), true);
        self.read_wanted(log, wanted, Readers::One).await
    }

    async fn read_wanted(
        &self,
        log: LogId,
        mut wanted: Wanted,
        readers: Readers,
    ) -> Result<Vec<Run>, IndexError> {
        let mut runs = Vec::new();
        let mut repeated = false;
        while !wanted.is_done() {
            match self.read_extent(log, &mut wanted, readers, &mut runs).await {
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
        readers: Readers,
        runs: &mut Vec<Run>,
    ) -> Result<(), IndexError> {
        let mut refs = self.0.index.blocks_at(log, wanted.next(), wanted.bytes_left()).await?;
        refs.retain(|block| block.entry.base_offset < wanted.limit());
        if refs.is_empty() {
            wanted.finish();
        }
        let blocks = self.0.blocks.get(&refs).await;
        let mut read = 0;
        for (block, bytes) in refs.iter().zip(blocks) {
            let run = wanted.cut(block, &bytes?)?;
            let to_its_end = run.as_ref().is_some_and(|run| run.end >= block.entry.end_offset);
            read += usize::from(to_its_end || !wanted.is_done());
            runs.extend(run);
            if wanted.is_done() {
                break;
            }
        }
        if readers == Readers::One {
            self.0.blocks.forget(&refs[..read]);
        }
        Ok(())
    }
}

fn is_gone(error: &IndexError) -> bool {
    matches!(error, IndexError::Read(ReadError::Store(StoreError::NotFound { .. })))
}

#[cfg(test)]
mod tests;
