//! What objects say of themselves, reduced to what is compared. An object never changes, so each is read once.

use crate::{
    findings::{Finding, FindingKind},
    view::View,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{ObjectRecord, ObjectRef};
use thalweg_runtime::Budget;
use thalweg_segment::{
    BlockEntry, Incarnation, Index, Kind, LogId, Offset, Purpose, ReadError, SegmentId, Store, StoreError,
    WalSequence, read_index, wal_path,
};

/// Objects that are read at a time.
pub(crate) const PARALLEL_READS: usize = 32;
/// Bytes of decoded index blocks in memory at a time.
const INDEX_BYTES: usize = 64 << 20;
/// About how much larger than its bytes a decoded index block is, at most.
const DECODED_FACTOR: usize = 4;

/// What an object was found to be.
#[derive(Clone, Debug)]
pub(crate) enum Found<T> {
    /// As it should.
    Sound(Arc<T>),
    /// Not readable, and why.
    Unreadable(String),
    /// It was gone by the time it was read.
    Gone,
}

/// What a segment or manifest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Of each log that it has blocks of: where each run of those begins and ends. A log segment is one run.
    pub extents: Vec<LogExtent>,
    /// Of each log that it has the state of: the offset that it is the state at.
    pub states: Vec<(LogId, Offset)>,
    /// For a manifest: the WAL objects that its blocks lie in, and how long those must be at least.
    pub adopted: BTreeMap<WalSequence, u64>,
    /// Bytes of its blocks.
    pub bytes: u64,
}

/// What an object holds of one log, or one of several runs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogExtent {
    pub log: LogId,
    pub base: Offset,
    pub end: Offset,
    /// Between its blocks.
    pub holes: Vec<(Offset, Offset)>,
    pub max_timestamp: i64,
}

/// What a WAL object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalContents {
    /// Batches.
    Data,
    /// Stands for its writer's end.
    Fence,
}

/// An object of the index, as its row names it.
pub(crate) type Row = Arc<ObjectRef>;

impl View {
    /// Every object that has a row.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let shared = self.shared.iter().copied().map(ObjectRecord::Shared);
        let logs = self.logs.iter().copied().map(ObjectRecord::Log);
        shared.chain(logs).map(|record| ObjectRef::of(&record))
    }
}

/// What was read so far.
pub(crate) struct Objects {
    store: Store,
    memory: Budget,
    pub segments: BTreeMap<SegmentId, Found<Contents>>,
    pub wal: BTreeMap<(Incarnation, WalSequence), Found<WalContents>>,
}

impl Objects {
    pub fn new(store: Store) -> Self {
        let memory = Budget::new("index_blocks", INDEX_BYTES);
        Self { store, memory, segments: BTreeMap::new(), wal: BTreeMap::new() }
    }

    /// Reads those of `rows` that were not read yet. They must be as large as they are said to be.
    pub async fn read_segments(&mut self, rows: impl Iterator<Item = Row>) -> Result<(), StoreError> {
        let rows: Vec<_> = rows.filter(|row| !self.segments.contains_key(&row.id)).collect();
        let reads: Vec<_> =
            rows.into_iter().map(|row| read_segment(&self.store, &self.memory, row)).collect();
        let read: Vec<_> = stream::iter(reads).buffer_unordered(PARALLEL_READS).try_collect().await?;
        self.segments.extend(read);
        Ok(())
    }

    /// Reads those WAL objects that were not read yet.
    pub async fn read_wal(
        &mut self,
        wanted: impl Iterator<Item = (Incarnation, WalSequence)>,
    ) -> Result<(), StoreError> {
        let wanted: Vec<_> = wanted.filter(|one| !self.wal.contains_key(one)).collect();
        let reads: Vec<_> = wanted.into_iter().map(|one| read_wal(&self.store, one)).collect();
        let read: Vec<_> = stream::iter(reads).buffer_unordered(PARALLEL_READS).try_collect().await?;
        self.wal.extend(read);
        Ok(())
    }
}

async fn read_segment(
    store: &Store,
    memory: &Budget,
    row: Row,
) -> Result<(SegmentId, Found<Contents>), StoreError> {
    let _charge = memory.charge(row.shape.index_size as usize * DECODED_FACTOR).await;
    let read = row.read_index(store, Purpose::Fetch).await;
    let found = found(read.map(|index| Contents::of(&index, row.kind)))?;
    Ok((row.id, found))
}

async fn read_wal(
    store: &Store,
    (incarnation, sequence): (Incarnation, WalSequence),
) -> Result<((Incarnation, WalSequence), Found<WalContents>), StoreError> {
    let path = wal_path(incarnation, sequence);
    let found = found(read_index(store, &path).await.and_then(|(footer, _)| {
        let contents = match footer.kind {
            // A fence's writer is whoever has put it there.
            Kind::Fence if footer.number == sequence.0 => return Ok(WalContents::Fence),
            _ => WalContents::Data,
        };
        footer
            .check_name(Kind::Wal, incarnation, sequence.0)
            .map_err(|source| ReadError::Format { path, source })?;
        Ok(contents)
    }))?;
    Ok(((incarnation, sequence), found))
}

/// Tells what can't be there from what couldn't be asked.
fn found<T>(read: Result<T, ReadError>) -> Result<Found<T>, StoreError> {
    match read {
        Ok(contents) => Ok(Found::Sound(Arc::new(contents))),
        Err(ReadError::Store(StoreError::NotFound { .. })) => Ok(Found::Gone),
        Err(ReadError::Store(error)) => Err(error),
        Err(ReadError::Format { source, .. }) => Ok(Found::Unreadable(source.to_string())),
    }
}

impl Contents {
    pub fn of(index: &Index, kind: Kind) -> Self {
        let mut contents = Self {
            states: index.states.iter().map(|state| (state.log, state.end)).collect(),
            bytes: index.blocks.iter().map(|block| u64::from(block.size)).sum(),
            ..Self::default()
        };
        // What lies between two runs of a log in a shared segment may be another object's. A log segment stands for all of its
        // offsets, whatever log compaction has taken out.
        let of_one_run = |a: &BlockEntry, b: &BlockEntry| {
            a.log == b.log && (kind == Kind::Log || a.end_offset == b.base_offset)
        };
        for blocks in index.blocks.chunk_by(of_one_run) {
            let (first, last) = (&blocks[0], &blocks[blocks.len() - 1]);
            let between = blocks.windows(2).map(|pair| (pair[0].end_offset, pair[1].base_offset));
            contents.extents.push(LogExtent {
                log: first.log,
                base: first.base_offset,
                end: last.end_offset,
                holes: between.filter(|(end, base)| end < base).collect(),
                max_timestamp: blocks.iter().map(|block| block.max_timestamp).fold(i64::MIN, i64::max),
            });
        }
        if kind.is_manifest() {
            for block in &index.blocks {
                let length = contents.adopted.entry(WalSequence(block.object)).or_default();
                *length = (*length).max(block.end_position());
            }
        }
        contents
    }
}

/// What is wrong with an object that could not be read.
pub(crate) fn unreadable(path: &Path, why: &str) -> Finding {
    Finding::new(FindingKind::UnreadableObject, why).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_segment::{SegmentWriter, testing::BatchBuilder};

    const LOG: LogId = LogId(1);

    /// The first and the third batch of a log, in an object of this kind.
    fn of_kind(kind: Kind) -> Vec<(Offset, Offset, usize)> {
        let mut writer = SegmentWriter::new(kind, Incarnation::default(), 1);
        for base in [0, 20] {
            writer.cut_block();
            let batch = BatchBuilder::new().base_offset(base).records(10, 5).build();
            writer.batch(LOG, &batch);
        }
        let contents = Contents::of(&writer.finish().index, kind);
        contents.extents.iter().map(|extent| (extent.base, extent.end, extent.holes.len())).collect()
    }

    #[test]
    fn what_lies_between_two_runs_of_a_log_is_another_objects_but_for_log_segments() {
        let of_shared = [(Offset(0), Offset(10), 0), (Offset(20), Offset(30), 0)];
        assert_eq!(of_kind(Kind::Shared), of_shared);
        assert_eq!(of_kind(Kind::Log), [(Offset(0), Offset(30), 1)]);
    }
}
