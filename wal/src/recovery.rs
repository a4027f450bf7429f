//! Take-over of a dead incarnation: fence its WAL, keep what continues, adopt it by reference.
//!
//! 1. Raise its record: from then on its commits fail, so its trim point and the committed ends of its logs are final.
//! 2. LIST its WAL; read what is there; fill the rest with fences until nothing can become durable in it any more (`fencing.rs`).
//! 3. Keep what continues the committed end of each log that it still owns (`continuity.rs`).
//! 4. Write a manifest that points at the kept blocks, and adopt it in one transaction.
//!
//! An incarnation that died before it owned a log has written nothing, and costs nothing of this but the two transactions.
//!
//! Any number of recoverers may do this at once and die anywhere: fences and objects are written once, whoever reads them
//! comes to the same log, and the one whose ballot stands adopts it. Memory: the index blocks of one WAL, whose size is
//! bounded by its flush.

use crate::{
    continuity::{self, Objects, Overlap, OwnedLog, Run},
    fencing::{Fencing, Filled},
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use thalweg_metadata::{IncarnationRecord, IndexError, Metadata, MetadataError, ObjectShape, SharedRecord};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    BlockEntry, Encoded, ErrorKind, Footer, FormatError, Incarnation, Index, Kind, LogId, Offset, Purpose,
    ReadError, SegmentId, SegmentWriter, Store, StoreError, WalSequence, check_block, manifest_number,
    read_index, segment_path, wal_path, wal_prefix, wal_sequence,
};
use tokio::time::Instant;

/// Requests that a take-over has under way.
const CONCURRENCY: usize = 64;
/// First and longest wait before a request is repeated.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// What a recoverer must know of the logs of the dead incarnation.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Whether the dead incarnation may have written anything: only the owner of a log does. Asked once, after its record was
    /// raised, from when on it can't become the owner of anything. An unrecovered incarnation that owns nothing has never
    /// owned anything either: ownership is only taken from who is recovered.
    async fn may_have_written(&self) -> Result<bool, IndexError>;

    /// Those of `logs` that the dead incarnation still owns. Asked once, after its record was raised: the answer must be
    /// read then, since what was read before may lack its last commits.
    async fn owned(&self, logs: &BTreeSet<LogId>) -> Result<BTreeMap<LogId, OwnedLog>, IndexError>;
}

/// What a take-over has done.
#[derive(Debug)]
pub struct Recovered {
    /// The manifest that the object index now has; none where nothing was kept.
    pub manifest: Option<(SharedRecord, Arc<Index>)>,
    /// Each log that the WAL held something of and the dead incarnation still owned, and its recovered end.
    pub ends: BTreeMap<LogId, Offset>,
    /// WAL objects that were read.
    pub objects: usize,
    /// Fences that were written or found.
    pub fences: usize,
}

/// Why a take-over did not end.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The metadata store failed, or another recoverer has a higher ballot.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The committed ends of the logs could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An object of the WAL can't be read. It is not a gap: its logs must not be opened without it.
    #[error("the write-ahead log of {incarnation} can't be read: {source}")]
    Unreadable {
        /// Whose.
        incarnation: Incarnation,
        /// Why.
        source: ReadError,
    },
    /// Objects of the WAL contradict one another or the object index.
    #[error("the write-ahead log of {incarnation} contradicts itself: {source}")]
    Contradictory {
        /// Whose.
        incarnation: Incarnation,
        /// Where.
        source: Overlap,
    },
}

/// Takes over `dead` in the name of `recoverer` (an open incarnation). Safe to repeat, and to run in several brokers at once.
///
/// While the object store is out of reach it goes on trying; drop the future to give up.
pub async fn take_over(
    runtime: &Runtime,
    store: &Store,
    metadata: &Metadata,
    dead: Incarnation,
    recoverer: &IncarnationRecord,
    logs: &dyn Logs,
) -> Result<Recovered, RecoveryError> {
    let recoverer = recoverer.incarnation;
    let raised = metadata.raise(dead, recoverer.epoch).await?;
    tracing::info!(%dead, %recoverer, trim = %raised.trim, window = raised.window, "taking over a write-ahead log");
    let takeover = TakeOver { runtime, store, metadata, dead, recoverer };
    let error = match takeover.run(&raised, logs).await {
        Ok(recovered) => return Ok(recovered),
        Err(error @ (RecoveryError::Metadata(_) | RecoveryError::Index(IndexError::Metadata(_)))) => {
            return Err(error);
        }
        Err(error) => error,
    };
    // A recoverer that was overtaken may see the logs after somebody else has gone on with them. That is no damage.
    if metadata.incarnation(dead).await? != Some(raised) {
        let what = format!("incarnation {dead}");
        return Err(MetadataError::Conflict { what }.into());
    }
    tracing::error!(%dead, %error, "a write-ahead log can't be taken over; its logs stay closed");
    Err(error)
}

/// What stands at a sequence.
enum Standing {
    Data(Index),
    Fence,
}

/// One take-over's means.
struct TakeOver<'a> {
    runtime: &'a Runtime,
    store: &'a Store,
    metadata: &'a Metadata,
    dead: Incarnation,
    recoverer: Incarnation,
}

impl TakeOver<'_> {
    /// Everything after the raise.
    async fn run(&self, raised: &IncarnationRecord, logs: &dyn Logs) -> Result<Recovered, RecoveryError> {
        let (began, dead) = (Instant::now(), self.dead);
        if !logs.may_have_written().await? {
            self.metadata.adopt(raised, None).await?;
            tracing::info!(%dead, "it never wrote");
            return Ok(Recovered { manifest: None, ends: BTreeMap::new(), objects: 0, fences: 0 });
        }
        let (objects, fences) = self.complete_log(raised).await?;
        let fenced = began.elapsed();
        let owned = logs.owned(&continuity::logs_of(&objects)).await?;
        let kept = continuity::keep(&objects, &owned)
            .map_err(|source| RecoveryError::Contradictory { incarnation: dead, source })?;
        let manifest = self.write_manifest(&kept.runs).await?;
        self.metadata.adopt(raised, manifest.as_ref().map(|(record, _)| *record)).await?;
        let (blocks, ends, objects) = (kept.runs.len(), kept.ends, objects.len());
        tracing::info!(
            %dead, objects, fences, logs = ends.len(), blocks, ?fenced, took = ?began.elapsed(),
            "took over a write-ahead log"
        );
        Ok(Recovered { manifest, ends, objects, fences })
    }

    /// Reads the log and fences it. Returns the indexes of its data objects, and the number of fences.
    async fn complete_log(&self, raised: &IncarnationRecord) -> Result<(Objects, usize), RecoveryError> {
        let mut fencing = Fencing::new(raised.trim, raised.window, self.list(raised.trim).await?);
        let mut objects = Objects::new();
        loop {
            let wanted = fencing.wanted();
            if wanted.is_empty() {
                return Ok((objects, fencing.fences()));
            }
            for (sequence, standing) in self.settle_all(wanted, &fencing).await? {
                match standing {
                    Standing::Fence => fencing.fill(sequence, Filled::Fence),
                    Standing::Data(index) => {
                        fencing.fill(sequence, Filled::Data);
                        objects.insert(sequence, index);
                    }
                }
            }
        }
    }

    async fn list(&self, trim: WalSequence) -> Result<Vec<WalSequence>, RecoveryError> {
        let mut retry = Retry::new(self.runtime);
        loop {
            let from = wal_path(self.dead, trim);
            match self.store.list(&wal_prefix(self.dead), Some(&from), Purpose::Recovery).await {
                Ok(found) => {
                    return Ok(found.iter().filter_map(|meta| wal_sequence(&meta.location)).collect());
                }
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn settle_all(
        &self,
        wanted: Vec<WalSequence>,
        fencing: &Fencing,
    ) -> Result<Vec<(WalSequence, Standing)>, RecoveryError> {
        stream::iter(wanted)
            .map(|sequence| async move {
                Ok((sequence, self.settle(sequence, fencing.is_listed(sequence)).await?))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Finds out what stands at `sequence` for ever, after creating a fence there where nothing does.
    async fn settle(&self, sequence: WalSequence, listed: bool) -> Result<Standing, RecoveryError> {
        let path = wal_path(self.dead, sequence);
        let fence = SegmentWriter::index_only(Kind::Fence, self.recoverer, sequence.0, Index::default());
        match self.create_or_read(&path, &fence, listed).await? {
            None => Ok(Standing::Fence),
            Some((footer, index)) => self.standing(&path, sequence, footer, index),
        }
    }

    fn standing(
        &self,
        path: &Path,
        sequence: WalSequence,
        footer: Footer,
        index: Index,
    ) -> Result<Standing, RecoveryError> {
        match footer.kind {
            Kind::Fence if footer.number == sequence.0 => Ok(Standing::Fence),
            Kind::Wal if footer.number == sequence.0 && footer.writer == self.dead => {
                Ok(Standing::Data(index))
            }
            _ => Err(self.malformed(path, "WAL object: its footer names another")),
        }
    }

    /// Creates `path` (none), or reads what stands there. An answer that was lost, or "another write is in progress", says
    /// nothing: only an object that was read, or a create that was confirmed, ends this.
    async fn create_or_read(
        &self,
        path: &Path,
        object: &Encoded,
        listed: bool,
    ) -> Result<Option<(Footer, Index)>, RecoveryError> {
        let mut retry = Retry::new(self.runtime);
        let mut read_first = listed;
        loop {
            if !std::mem::take(&mut read_first) {
                match self.store.create_once(path, object.payload.clone(), Purpose::Recovery).await {
                    Ok(()) => return Ok(None),
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => {
                        retry.after(error).await?;
                        continue;
                    }
                }
            }
            match read_index(self.store, path).await {
                Ok(found) => return Ok(Some(found)),
                Err(ReadError::Store(error)) if error.kind() == ErrorKind::NotFound => retry.wait().await,
                Err(ReadError::Store(error)) => {
                    retry.after(error).await?;
                    read_first = true;
                }
                Err(source) => return Err(self.unreadable(source)),
            }
        }
    }

    /// Writes the manifest of `runs`; none where there are none.
    async fn write_manifest(
        &self,
        runs: &[Run<'_>],
    ) -> Result<Option<(SharedRecord, Arc<Index>)>, RecoveryError> {
        if runs.is_empty() {
            return Ok(None);
        }
        // Collected first: with the closure inside, the stream would not be `Send` for every lifetime, nor the future.
        let entries: Vec<_> = runs.iter().map(|run| self.manifest_entry(run)).collect();
        let mut blocks: Vec<_> = stream::iter(entries).buffer_unordered(CONCURRENCY).try_collect().await?;
        blocks.sort_by_key(|block: &BlockEntry| (block.log, block.base_offset));
        let index = Index { blocks, ..Index::default() };
        let mut attempt = 0;
        loop {
            let id = SegmentId { incarnation: self.recoverer, number: manifest_number(self.dead, attempt) };
            let manifest =
                SegmentWriter::index_only(Kind::Manifest, self.recoverer, id.number, index.clone());
            match self.create_or_read(&segment_path(id), &manifest, false).await? {
                Some((footer, _)) if footer != manifest.footer => attempt += 1,
                _ => return Ok(Some((shared_record(id, &manifest, self.dead), Arc::new(index)))),
            }
        }
    }

    /// The entry of a kept run. Where that is not a whole block its checksum is computed from its bytes (rare: the block at
    /// the committed end of its log).
    async fn manifest_entry(&self, run: &Run<'_>) -> Result<BlockEntry, RecoveryError> {
        if run.is_whole() {
            return Ok(run.whole_entry());
        }
        let path = wal_path(self.dead, run.sequence);
        let range =
            run.bytes().ok_or_else(|| self.malformed(&path, "index: batches are larger than their block"))?;
        let bytes = self.read_block(&path, run.block).await?;
        check_block(&bytes, run.block)
            .map_err(|source| self.unreadable(ReadError::Format { path: path.clone(), source }))?;
        let crc = crc32c::crc32c(&bytes[range.clone()]);
        Ok(run.cut_entry(range, crc))
    }

    async fn read_block(&self, path: &Path, block: &BlockEntry) -> Result<bytes::Bytes, RecoveryError> {
        let mut retry = Retry::new(self.runtime);
        let range = block.position..block.position + u64::from(block.size);
        loop {
            match self.store.get_range(path, range.clone(), Purpose::Recovery).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    fn malformed(&self, path: &Path, what: &'static str) -> RecoveryError {
        self.unreadable(ReadError::Format { path: path.clone(), source: FormatError::Malformed { what } })
    }

    fn unreadable(&self, source: ReadError) -> RecoveryError {
        RecoveryError::Unreadable { incarnation: self.dead, source }
    }
}

/// Where a manifest stands in the object index.
fn shared_record(id: SegmentId, manifest: &Encoded, dead: Incarnation) -> SharedRecord {
    let shape = ObjectShape {
        size: manifest.size,
        index_position: manifest.footer.index_position,
        index_size: manifest.footer.index_size,
    };
    SharedRecord { id, shape, adopts: Some(dead) }
}

/// Waits between repetitions, longer each time.
struct Retry<'a> {
    runtime: &'a Runtime,
    next: Duration,
}

impl<'a> Retry<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        Self { runtime, next: BACKOFF.0 }
    }

    /// Waits where repeating may help after `error`; else returns it.
    async fn after(&mut self, error: StoreError) -> Result<(), RecoveryError> {
        if error.kind() != ErrorKind::Retry {
            return Err(error.into());
        }
        tracing::warn!(%error, "recovery repeats a request");
        self.wait().await;
        Ok(())
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.runtime.random().jitter(self.next)).await;
        self.next = (self.next * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests;
