//! The object index in memory: for each log, which object holds which offsets. Grows by commits, is loaded at start.
//!
//! What stays in memory is one [`Extent`] for each log in each object. What an object says of its blocks and batches is in
//! its index block, which is read when needed and kept in a bounded cache. At start, the index blocks of shared segments and
//! manifests are read to find the logs in them; the metadata record of a log segment says all that is needed.
//!
//! Objects may overlap: after a crash in the middle of a commit of several transactions, adopted WAL objects can hold what
//! committed segments hold too. What overlaps is the same batches, and whole ones. So of two objects, readers see the one
//! that serves them better (see `extents`), and a sequence of extents that never overlap.

mod contents;
mod extents;
mod history;
mod objects;
mod parts;
mod references;
mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use extents::{Extent, rank};
pub use parts::PartKey;
pub use references::DeadObject;
pub use snapshot::{IndexSnapshot, LogSnapshot};

use crate::{Commit, LogSegmentRecord, Metadata, MetadataError, ObjectRecord, ObjectShape, SharedRecord};
use contents::Contents;
use extents::LogExtents;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use objects::Objects;
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_runtime::Budget;
use thalweg_segment::{
    BatchEntry, BlockEntry, Incarnation, Index, Kind, LogId, Offset, ReadError, SegmentId, Store,
    WalSequence, segment_path, wal_path,
};

/// Bytes of decoded index blocks that are kept, unless [`ObjectIndex::load_with`] says otherwise.
pub const INDEX_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Objects that are read at a time.
const PARALLEL_READS: usize = 32;

/// Bytes of index blocks that are in memory at a time while the index is loaded.
const LOAD_BYTES: usize = 64 * 1024 * 1024;

/// About how much larger than its bytes a decoded index block is, at most.
const DECODED_FACTOR: usize = 4;

/// Why something could not be read through the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The metadata store failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// An object could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// An object of the index.
#[derive(Debug)]
pub struct ObjectRef {
    /// Its name.
    pub id: SegmentId,
    /// Shared segment, log segment, or a manifest of either kind.
    pub kind: Kind,
    /// Its key in the store.
    pub path: Path,
    /// Where its index lies.
    pub shape: ObjectShape,
    /// For a manifest: whose WAL objects its blocks lie in.
    pub adopts: Option<Incarnation>,
}

impl ObjectRef {
    /// The object of a row.
    pub fn of(record: &ObjectRecord) -> Arc<Self> {
        let (id, kind, shape) = (record.id(), record.kind(), record.shape());
        let adopts = match record {
            ObjectRecord::Shared(record) => record.adopts,
            ObjectRecord::Log(_) => None,
        };
        Arc::new(Self { id, kind, path: segment_path(id), shape, adopts })
    }

    fn of_shared(record: &SharedRecord) -> Arc<Self> {
        Self::of(&ObjectRecord::Shared(*record))
    }

    fn of_log(record: &LogSegmentRecord) -> Arc<Self> {
        Self::of(&ObjectRecord::Log(*record))
    }

    /// The object that the bytes of one of its blocks lie in.
    pub fn path_of(&self, block: &BlockEntry) -> Path {
        match self.adopts {
            Some(dead) => wal_path(dead, WalSequence(block.object)),
            None => self.path.clone(),
        }
    }
}

/// One block, and the object that its bytes lie in.
#[derive(Clone, Debug)]
pub struct BlockRef {
    /// The object that holds the bytes: for a manifest, the WAL object.
    pub path: Path,
    /// What and where. The block may hold batches outside of `base_offset..end_offset`, which a reader skips; its record count
    /// and max timestamp may count them.
    pub entry: BlockEntry,
    /// The object whose index has it.
    pub object: Arc<ObjectRef>,
}

/// The index of all logs that this broker serves. Index blocks are read when needed and cached. Cheap to clone.
#[derive(Clone)]
pub struct ObjectIndex(Arc<Inner>);

struct Inner {
    objects: Objects,
    logs: RwLock<Logs>,
}

#[derive(Default)]
struct Logs {
    /// Every row.
    objects: BTreeMap<SegmentId, ObjectRecord>,
    extents: BTreeMap<LogId, LogExtents>,
    /// Logs deleted in this process's life; a commit in flight may still hold some of their batches.
    removed: BTreeSet<LogId>,
}

impl Logs {
    fn take_in(&mut self, contents: Vec<Contents>) {
        let mut extents: Vec<_> = Vec::new();
        let mut states: Vec<_> = Vec::new();
        for object in contents {
            self.objects.insert(object.record.id(), object.record);
            extents.extend(object.extents);
            states.extend(object.states);
        }
        // In rising order of offsets, almost every insertion is at a log's end.
        extents.sort_by_key(|(log, extent)| (*log, extent.base, extent.object.id));
        let Self { extents: all, removed, .. } = self;
        for (log, extent) in extents.into_iter().filter(|(log, _)| !removed.contains(log)) {
            all.entry(log).or_default().insert(extent);
        }
        for (log, end, object) in states.into_iter().filter(|(log, ..)| !removed.contains(log)) {
            all.entry(log).or_default().note_state(end, object);
        }
    }

    /// Forgets the objects that `commit` removes.
    fn drop_objects(&mut self, commit: &Commit) {
        let gone: BTreeSet<SegmentId> = commit.removed.iter().map(ObjectRecord::id).collect();
        for log in self.touched_by(commit) {
            if let Some(extents) = self.extents.get_mut(&log) {
                extents.drop_objects(&gone);
            }
        }
        gone.iter().for_each(|id| _ = self.objects.remove(id));
    }

    /// See [`ObjectIndex::keeps_ends`].
    fn keeps_ends(&self, commit: &Commit, added: &[Contents]) -> bool {
        let gone: BTreeSet<SegmentId> = commit.removed.iter().map(ObjectRecord::id).collect();
        let mut ends: BTreeMap<LogId, Offset> = BTreeMap::new();
        let mut states: BTreeMap<LogId, Offset> = BTreeMap::new();
        for object in added {
            for (log, extent) in &object.extents {
                ends.entry(*log).and_modify(|end| *end = extent.end.max(*end)).or_insert(extent.end);
            }
            for (log, state, _) in &object.states {
                states.entry(*log).and_modify(|end| *end = (*state).max(*end)).or_insert(*state);
            }
        }
        self.touched_by(commit).into_iter().all(|log| {
            let Some(extents) = self.extents.get(&log) else { return true };
            extents.keeps_end(&gone, ends.get(&log).copied(), states.get(&log).copied())
        })
    }

    /// The logs of which a removed object holds something.
    fn touched_by(&self, commit: &Commit) -> BTreeSet<LogId> {
        let mut logs = BTreeSet::new();
        let mut shared = BTreeSet::new();
        for removed in &commit.removed {
            match removed {
                ObjectRecord::Log(record) => _ = logs.insert(record.log),
                ObjectRecord::Shared(record) => _ = shared.insert(record.id),
            }
        }
        if !shared.is_empty() {
            let of_shared = self.extents.iter().filter(|(_, extents)| extents.any_in(&shared));
            logs.extend(of_shared.map(|(log, _)| *log));
        }
        logs
    }
}

impl ObjectIndex {
    /// Loads the index: every record, and the index blocks of shared segments and manifests, in parallel.
    ///
    /// Objects may hold batches of topics deleted long ago; drop those with [`ObjectIndex::retain`].
    pub async fn load(metadata: &Metadata, store: Store) -> Result<Self, IndexError> {
        Self::load_with(metadata, store, INDEX_CACHE_BYTES).await
    }

    /// As [`ObjectIndex::load`], with a bound of `cache_bytes` bytes on the index blocks that are kept.
    pub async fn load_with(metadata: &Metadata, store: Store, cache_bytes: u64) -> Result<Self, IndexError> {
        let shared = metadata.shared_records().await?;
        let logs = metadata.log_segment_records().await?;
        Self::of_records(&shared, &logs, store, cache_bytes).await
    }

    async fn of_records(
        shared: &[SharedRecord],
        logs: &[LogSegmentRecord],
        store: Store,
        cache_bytes: u64,
    ) -> Result<Self, IndexError> {
        let objects = Objects::new(store, cache_bytes);
        let memory = Budget::new("index_load", LOAD_BYTES);
        // Collected first: with the closure inside, the stream would not be `Send` for every lifetime, nor the future.
        let loads: Vec<_> = shared.iter().map(|record| load_shared(&objects, &memory, record)).collect();
        let mut contents: Vec<_> = stream::iter(loads).buffered(PARALLEL_READS).try_collect().await?;
        contents.extend(logs.iter().map(Contents::of_log));
        let index = Self(Arc::new(Inner { objects, logs: RwLock::default() }));
        index.take_in(contents);
        Ok(index)
    }

    /// Takes in a commit of this broker, all of it at once as readers see it. `shared` is the decoded index of the commit's
    /// shared segment. Taking in the same commit twice changes nothing.
    ///
    /// Panics where there is a shared segment without its index, or the other way round.
    pub fn add(&self, commit: &Commit, shared: Option<Arc<Index>>) {
        let contents = self.contents(commit, shared);
        self.take_in(contents);
    }

    fn contents(&self, commit: &Commit, shared: Option<Arc<Index>>) -> Vec<Contents> {
        assert_eq!(commit.shared.is_some(), shared.is_some(), "a shared segment comes with its index");
        let mut contents: Vec<_> = commit.logs.iter().map(Contents::of_log).collect();
        if let Some((record, index)) = commit.shared.as_ref().zip(shared) {
            contents.push(self.shared_contents(record, index));
        }
        contents
    }

    /// Takes in a rewrite of this broker, all of it at once as readers see it: what it removed goes, what it added comes.
    ///
    /// Panics as [`ObjectIndex::add`] does, and where a log would lose its end, see [`ObjectIndex::keeps_ends`].
    pub fn rewrite(&self, commit: &Commit, shared: Option<Arc<Index>>) {
        let contents = self.contents(commit, shared);
        let mut logs = self.0.logs.write();
        assert!(logs.keeps_ends(commit, &contents), "a rewrite keeps the end of each log");
        logs.drop_objects(commit);
        logs.take_in(contents);
    }

    /// Whether each log would still end where it does, with its state there, once this rewrite is committed. To be asked
    /// before it is: offsets at which batches were acknowledged would else be given again.
    pub fn keeps_ends(&self, commit: &Commit, shared: Option<&Index>) -> bool {
        let mut contents: Vec<_> = commit.logs.iter().map(Contents::of_log).collect();
        if let Some((record, index)) = commit.shared.as_ref().zip(shared) {
            contents.push(Contents::of_shared(record, index).1);
        }
        self.0.logs.read().keeps_ends(commit, &contents)
    }

    /// Takes in what a take-over has adopted.
    pub fn add_manifest(&self, record: &SharedRecord, index: Arc<Index>) {
        let contents = self.shared_contents(record, index);
        self.take_in(vec![contents]);
    }

    fn shared_contents(&self, record: &SharedRecord, index: Arc<Index>) -> Contents {
        let (object, contents) = Contents::of_shared(record, &index);
        self.0.objects.keep(&object, index);
        contents
    }

    fn take_in(&self, contents: Vec<Contents>) {
        self.0.logs.write().take_in(contents);
    }

    /// Every row of the index, also of objects whose extents others hide.
    pub fn objects(&self) -> Vec<ObjectRecord> {
        self.0.logs.read().objects.values().copied().collect()
    }

    /// The log segments of `log` from where it begins on, up to the first of its extents that lies in another kind of object, or of
    /// which another object holds a part.
    pub fn log_segments(&self, log: LogId) -> Vec<LogSegmentRecord> {
        let logs = self.0.logs.read();
        let Some(extents) = logs.extents.get(&log) else { return Vec::new() };
        let whole = |extent: &Extent| match logs.objects.get(&extent.object.id) {
            Some(ObjectRecord::Log(record)) => Some(*record)
                .filter(|record| (record.base_offset, record.end_offset) == (extent.base, extent.end)),
            Some(ObjectRecord::Shared(_)) | None => None,
        };
        extents.from(Offset(0)).iter().map_while(whole).collect()
    }

    /// Whether the index has this object.
    pub fn has_object(&self, id: SegmentId) -> bool {
        self.0.logs.read().objects.contains_key(&id)
    }

    /// The end of what the index holds of `log`: 0 where nothing. A state block counts too: it outlives the batches.
    pub fn committed_end(&self, log: LogId) -> Offset {
        self.0.logs.read().extents.get(&log).map(LogExtents::end).unwrap_or_default()
    }

    /// How many rewrites have replaced something of `log`, in this process's life. What is read in several steps is of one piece
    /// where it is the same before and after them.
    pub fn rewrites(&self, log: LogId) -> u64 {
        self.0.logs.read().extents.get(&log).map(LogExtents::rewrites).unwrap_or_default()
    }

    /// The extents of `log` in order. Adjacent, without overlap as a reader sees them.
    pub fn extents(&self, log: LogId) -> Vec<Extent> {
        self.extents_from(log, Offset(0))
    }

    /// Bytes of `log` in the extents from the one that holds `start` on, up to the last that ends by `end`.
    pub fn bytes(&self, log: LogId, start: Offset, end: Offset) -> u64 {
        let logs = self.0.logs.read();
        let Some(extents) = logs.extents.get(&log) else { return 0 };
        extents.from(start).iter().take_while(|extent| extent.end <= end).map(|extent| extent.bytes).sum()
    }

    /// The extent that holds `offset`, or the next one behind it.
    pub fn extent_at(&self, log: LogId, offset: Offset) -> Option<Extent> {
        self.0.logs.read().extents.get(&log)?.from(offset).first().cloned()
    }

    fn extents_from(&self, log: LogId, offset: Offset) -> Vec<Extent> {
        let logs = self.0.logs.read();
        logs.extents.get(&log).map(|extents| extents.from(offset).to_vec()).unwrap_or_default()
    }

    /// Blocks of `log` from the one that holds `offset` (or else the next one) on, within one extent, until `max_bytes` are
    /// covered (at least one). None where the index holds nothing at or behind `offset`. Their batch entries are left out.
    pub async fn blocks_at(
        &self,
        log: LogId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<BlockRef>, IndexError> {
        let Some(extent) = self.extent_at(log, offset) else { return Ok(Vec::new()) };
        let index = self.0.objects.index(&extent.object).await?;
        let mut covered = 0usize;
        let blocks = extent.blocks_in(&index, log).filter(|block| block.end_offset > offset);
        Ok(blocks
            .take_while(|block| {
                let wanted = covered == 0 || covered < max_bytes;
                covered = covered.saturating_add(block.size as usize);
                wanted
            })
            .map(|block| extent.block_ref(block, Vec::new()))
            .collect())
    }

    /// All block entries of `log` in one extent, with their batch entries (for searches by timestamp).
    pub async fn blocks_of(&self, log: LogId, extent: &Extent) -> Result<Vec<BlockRef>, IndexError> {
        let index = self.0.objects.index(&extent.object).await?;
        let block_ref = |block: &BlockEntry| extent.block_ref(block, block.batches.clone());
        Ok(extent.blocks_in(&index, log).map(block_ref).collect())
    }

    /// Entries are exposed for checks in tests. A log segment has none in its index; there they are made from the batches.
    pub async fn entries(&self, log: LogId, extent: &Extent) -> Result<Vec<BatchEntry>, IndexError> {
        let index = self.0.objects.index(&extent.object).await?;
        self.0.objects.entries(&index, log, extent).await
    }

    /// Forgets a deleted log, now and in commits to come.
    pub fn remove(&self, log: LogId) {
        let mut logs = self.0.logs.write();
        logs.extents.remove(&log);
        logs.removed.insert(log);
    }

    /// Forgets what the index holds of logs that `keep` says no to: those of topics deleted before the index was loaded.
    pub fn retain(&self, mut keep: impl FnMut(LogId) -> bool) {
        self.0.logs.write().extents.retain(|log, _| keep(*log));
    }
}

async fn load_shared(
    objects: &Objects,
    memory: &Budget,
    record: &SharedRecord,
) -> Result<Contents, IndexError> {
    let object = ObjectRef::of_shared(record);
    let _charge = memory.charge(record.shape.index_size as usize * DECODED_FACTOR).await;
    let index = objects.index(&object).await?;
    Ok(Contents::of_shared(record, &index).1)
}

#[cfg(test)]
mod tests;
