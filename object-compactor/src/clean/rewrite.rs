//! Reads segments and writes what stays of them. What is written is garbage until its commit.

use super::{CleanError, Edge, Filter, Mapping, RecordCodec};
use crate::execute::output::{Output, Written};
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::path::Path;
use std::{ops::Range, sync::Arc, time::Duration};
use thalweg_metadata::{LogSegmentRecord, ObjectRecord, ObjectRef};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    Batch, BlockEntry, FormatError, Index, Kind, LogId, LogState, Offset, Purpose, SegmentId, Store,
    check_block, read_states, segment_path, split_batches,
};

/// Most bytes of one GET, beside a block that is larger.
const MAX_GET_BYTES: u64 = 4 << 20;
/// GETs that are under way while the one before is worked on.
const GETS_AHEAD: usize = 2;
/// Where nothing has changed so far, so many bytes wait before they are sent: the whole segment may stay as it is.
const HELD_BACK_BYTES: usize = 16 << 20;
/// Shorter pauses are left out.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// What a round works with.
#[derive(Clone)]
pub struct Round {
    /// Time and computing threads.
    pub runtime: Runtime,
    /// Where the segments lie.
    pub store: Store,
    /// Whose they are.
    pub log: LogId,
    /// Reads and writes records.
    pub codec: Arc<dyn RecordCodec>,
    /// Bytes that may be read and written in a second.
    pub bytes_per_second: f64,
    /// What is larger is uploaded in parts of this size: at least 5 MiB, but in tests.
    pub part_bytes: u64,
}

/// A run of blocks that one GET brings.
struct Chunk {
    path: Path,
    blocks: Vec<BlockEntry>,
}

/// Notes the keys of those of `segments` that are dirty.
pub async fn map_dirty(
    round: &Round,
    segments: &[LogSegmentRecord],
    from: Offset,
    mut mapping: Mapping,
) -> Result<Mapping, CleanError> {
    for segment in segments.iter().filter(|segment| segment.end_offset > from) {
        let (_, index) = round.index(segment).await?;
        let dirty = index.blocks.into_iter().filter(|block| block.end_offset > from);
        let mut chunks = round.chunks(chunks(&segment_path(segment.id), dirty));
        while let Some(read) = chunks.next().await {
            let (codec, batches, mut adding) = (round.codec.clone(), read?, mapping);
            let bytes = size(&batches);
            let add = move || {
                let added = batches.iter().try_for_each(|batch| adding.add(batch, &*codec));
                added.map(|()| adding)
            };
            mapping = round.runtime.compute(add).await?;
            round.pace(bytes).await;
            if mapping.is_full() {
                return Ok(mapping);
            }
        }
    }
    Ok(mapping)
}

/// The timestamp of the first batch behind `from` that has one, about: of those of a block or so. Milliseconds since 1970.
pub async fn first_timestamp(
    round: &Round,
    segments: &[LogSegmentRecord],
    from: Offset,
) -> Result<Option<i64>, CleanError> {
    for segment in segments.iter().filter(|segment| segment.end_offset > from) {
        let (path, index) = round.index(segment).await?;
        let Some(block) = index.blocks.into_iter().find(|block| block.end_offset > from) else { continue };
        let batches = Chunk { path, blocks: vec![block] }.read(&round.store).await?;
        let mut dirty = batches.iter().filter(|batch| batch.end_offset() > from);
        return Ok(dirty.find_map(|batch| Some(batch.max_timestamp()).filter(|first| *first > 0)));
    }
    Ok(None)
}

/// Writes what `filter` leaves of `sources`, adjacent segments, as one segment called `id`. Returns its record, which says that the log is
/// clean up to `cleaned_to`. None where there is one source of which everything stays, unless it `must` be written.
pub async fn clean_group(
    round: &Round,
    sources: &[LogSegmentRecord],
    filter: Filter,
    id: SegmentId,
    cleaned_to: Offset,
    must: bool,
) -> Result<(Filter, Option<LogSegmentRecord>), CleanError> {
    let mut indexes = Vec::with_capacity(sources.len());
    for source in sources {
        indexes.push(round.index(source).await?);
    }
    let (first, last) = (&sources[0], &sources[sources.len() - 1]);
    let state = round.state(last, &indexes[indexes.len() - 1].1).await?;
    let blocks = || indexes.iter().flat_map(|(_, index)| &index.blocks);
    let ends =
        blocks().map(|block| block.base_offset).min().zip(blocks().map(|block| block.end_offset).max());
    let work = Work {
        filter,
        output: Output::new(round.store.clone(), Kind::Log, id, round.part_bytes),
        log: round.log,
        ends,
        changed: sources.len() > 1,
    };
    let (mut work, filled) = fill(round, indexes, work).await;
    if filled.is_err() || !work.changed && !must {
        work.output.abort().await;
        work.filter.take_aborted();
        return filled.map(|()| (work.filter, None));
    }
    let unsent = work.unsent();
    let (filter, written) = work.finish(&state).await?;
    let record = LogSegmentRecord {
        log: round.log,
        base_offset: first.base_offset,
        end_offset: last.end_offset,
        max_timestamp: max_timestamp(&written.index).unwrap_or_else(|| newest(sources)),
        id,
        shape: written.shape,
        cleaned_to,
    };
    round.pace(unsent).await;
    Ok((filter, Some(record)))
}

/// Goes through the segments of these indexes.
async fn fill(round: &Round, indexes: Vec<(Path, Index)>, mut work: Work) -> (Work, Result<(), CleanError>) {
    for (path, index) in indexes {
        let mut chunks = round.chunks(chunks(&path, index.blocks));
        while let Some(read) = chunks.next().await {
            let batches = match read {
                Ok(batches) => batches,
                Err(error) => return (work, Err(error)),
            };
            let bytes = size(&batches);
            let mut working = work;
            let taking_in = move || {
                let taken = working.batches(&batches);
                (working, taken)
            };
            let taken;
            (work, taken) = round.runtime.compute(taking_in).await;
            let before = work.unsent();
            let sent = match taken {
                Ok(()) if work.changed || before > HELD_BACK_BYTES => work.output.send_parts().await,
                Ok(()) => Ok(()),
                Err(error) => return (work, Err(error)),
            };
            if let Err(error) = sent {
                return (work, Err(error.into()));
            }
            round.pace(bytes + before.saturating_sub(work.unsent())).await;
        }
    }
    (work, Ok(()))
}

fn max_timestamp(index: &Index) -> Option<i64> {
    index.blocks.iter().map(|block| block.max_timestamp).max()
}

fn newest(segments: &[LogSegmentRecord]) -> i64 {
    segments.iter().map(|segment| segment.max_timestamp).max().unwrap_or(-1)
}

/// A segment that is being written.
struct Work {
    filter: Filter,
    output: Output,
    log: LogId,
    /// Where the first batch begins and the last one ends.
    ends: Option<(Offset, Offset)>,
    /// Whether anything is not as it was.
    changed: bool,
}

impl Work {
    /// Takes in the batches of a chunk.
    fn batches(&mut self, batches: &[Batch]) -> Result<(), CleanError> {
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            let edge = match self.ends {
                Some((_, end)) if batch.end_offset() == end => Some(Edge::Last),
                Some((first, _)) if batch.base_offset() == first => Some(Edge::First),
                _ => None,
            };
            let cleaned = self.filter.batch(batch, edge)?;
            self.changed |= cleaned.as_ref().is_none_or(|cleaned| cleaned.head() != batch.head());
            kept.extend(cleaned);
        }
        // What stays must not keep all that goes in memory, until the segment is written.
        let few = size(&kept) < size(batches) / 4 * 3;
        for batch in &kept {
            self.output.writer.batch(self.log, &if few { copied(batch) } else { batch.clone() });
        }
        Ok(())
    }

    /// Bytes that are in memory.
    fn unsent(&self) -> usize {
        usize::try_from(self.output.unsent()).unwrap_or(usize::MAX)
    }

    async fn finish(mut self, state: &LogState) -> Result<(Filter, Written), CleanError> {
        let writer = &mut self.output.writer;
        writer.state(self.log, state);
        for aborted in self.filter.take_aborted() {
            writer.aborted(self.log, aborted);
        }
        Ok((self.filter, self.output.finish().await?))
    }
}

fn size(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::len).sum()
}

/// The same batch in memory of its own.
fn copied(batch: &Batch) -> Batch {
    Batch::assemble(*batch.head(), Bytes::copy_from_slice(batch.records()))
}

impl Round {
    /// Takes as long as `bytes` may take at the least.
    async fn pace(&self, bytes: usize) {
        let seconds = bytes as f64 / self.bytes_per_second.max(1.0);
        if seconds >= SHORTEST_PAUSE.as_secs_f64() {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
    }

    /// Where a segment lies, and its index.
    async fn index(&self, segment: &LogSegmentRecord) -> Result<(Path, Index), CleanError> {
        let object = ObjectRef::of(&ObjectRecord::Log(*segment));
        let index = object.read_index(&self.store, Purpose::Fetch).await?;
        let path = object.path.clone();
        if index.blocks.iter().any(|block| block.log != self.log) {
            return Err(malformed(&path, "index block: another log's"));
        }
        Ok((path, index))
    }

    /// The log's state at the end of `segment`.
    async fn state(&self, segment: &LogSegmentRecord, index: &Index) -> Result<LogState, CleanError> {
        let path = segment_path(segment.id);
        let entry = index.state_of(self.log).filter(|entry| entry.end == segment.end_offset);
        let entry = *entry.ok_or_else(|| malformed(&path, "index block: no state at the segment's end"))?;
        let states = read_states(&self.store, &path, &[entry]).await?;
        Ok(states.into_iter().next().expect("one was asked for"))
    }

    /// The batches of `chunks`, some GETs ahead.
    fn chunks(&self, chunks: Vec<Chunk>) -> stream::BoxStream<'static, Result<Vec<Batch>, CleanError>> {
        let store = self.store.clone();
        let read = move |chunk: Chunk| {
            let store = store.clone();
            async move { chunk.read(&store).await }
        };
        stream::iter(chunks).map(read).buffered(GETS_AHEAD).boxed()
    }
}

/// Runs of adjacent blocks.
fn chunks(path: &Path, blocks: impl IntoIterator<Item = BlockEntry>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for block in blocks {
        match chunks.last_mut() {
            Some(chunk) if chunk.takes(&block) => chunk.blocks.push(block),
            _ => chunks.push(Chunk { path: path.clone(), blocks: vec![block] }),
        }
    }
    chunks
}

impl Chunk {
    fn range(&self) -> Range<u64> {
        let (first, last) = (&self.blocks[0], &self.blocks[self.blocks.len() - 1]);
        first.position..last.end_position()
    }

    fn takes(&self, block: &BlockEntry) -> bool {
        let Range { start, end } = self.range();
        block.position == end && block.end_position() - start <= MAX_GET_BYTES
    }

    async fn read(self, store: &Store) -> Result<Vec<Batch>, CleanError> {
        let mut bytes = store.get_range(&self.path, self.range(), Purpose::Compaction).await?;
        let mut batches = Vec::new();
        for block in &self.blocks {
            let block_bytes = bytes.split_to((block.size as usize).min(bytes.len()));
            let checked = check_block(&block_bytes, block).and_then(|()| split_batches(block_bytes));
            batches.extend(checked.map_err(|source| CleanError::malformed(&self.path, source))?);
        }
        Ok(batches)
    }
}

fn malformed(path: &Path, what: &'static str) -> CleanError {
    CleanError::malformed(path, FormatError::Malformed { what })
}
