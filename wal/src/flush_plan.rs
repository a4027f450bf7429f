//! What a flush writes: which batches go into which segment, and the state of each log at its end there. Pure.
//!
//! A log with enough bytes gets segments of its own; the others share segments, in order of their ids. A state block is
//! the fold of exactly the flushed batches onto the state at the previous flush, never the live state, which knows batches
//! that may yet be lost.
//!
//! A bulk load is not written again: where the WAL objects hold large blocks, the flush commits them as they are, by a manifest
//! of where their blocks lie. They stay until the compaction has sorted what they hold; so each byte is written once before
//! it is sorted, whatever the load.

use crate::{sequencer::Batches, upload};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};
use thalweg_segment::{
    AbortedTransaction, BLOCK_TARGET_BYTES, Batch, BlockEntry, Encoded, Kind, LogId, LogState, Offset,
    SegmentId, SegmentWriter, WalSequence,
};

/// A segment of one log is ended once it has this many bytes. One PUT carries it on every store.
const LOG_SEGMENT_BYTES: usize = 256 << 20;
/// A shared segment is ended once it has this many bytes.
const SHARED_SEGMENT_BYTES: usize = 64 << 20;

/// How batches are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A log with this many bytes gets segments of its own.
    pub own: usize,
    /// A segment of one log is ended at this size.
    pub log: usize,
    /// A shared segment is ended at this size.
    pub shared: usize,
    /// Objects whose blocks have this many bytes on average are adopted by reference.
    pub adopted_block: usize,
}

impl Sizes {
    /// The usual sizes, where logs of `own` bytes get segments of their own, and objects with blocks of `adopted_block` are
    /// adopted.
    pub fn new(own: usize, adopted_block: usize) -> Self {
        Self { own, log: LOG_SEGMENT_BYTES.max(own), shared: SHARED_SEGMENT_BYTES, adopted_block }
    }
}

/// A segment to be written.
#[derive(Debug)]
pub(crate) struct Segment {
    /// [`Kind::Log`] with one part, [`Kind::Shared`] or [`Kind::FlushManifest`].
    pub kind: Kind,
    /// By log.
    pub parts: Vec<Part>,
    /// The WAL objects that a manifest refers to.
    adopted: Vec<Object>,
}

/// A WAL object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its number.
    pub sequence: WalSequence,
    /// What it holds.
    pub batches: Arc<Batches>,
}

/// What a segment holds of one log.
#[derive(Debug)]
pub(crate) struct Part {
    pub log: LogId,
    runs: Vec<Run>,
    bytes: usize,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Highest timestamp.
    pub max_timestamp: i64,
    /// The log's state at the end of this.
    pub state: Arc<LogState>,
    aborted: Vec<AbortedTransaction>,
}

/// Consecutive batches of a log in one WAL object.
#[derive(Debug)]
struct Run {
    object: Arc<Batches>,
    range: Range<usize>,
}

/// Distributes the batches of `objects`, given in order of their sequence, over segments. `bases` has the state of each log
/// at the previous flush; logs that it lacks were deleted, and batches that it includes are in the object index already:
/// both are left out.
pub(crate) fn plan(
    objects: Vec<Object>,
    bases: &BTreeMap<LogId, Arc<LogState>>,
    sizes: Sizes,
) -> Vec<Segment> {
    let logs = objects_by_log(&objects, bases);
    if is_bulk(&logs, sizes.adopted_block) {
        let parts = logs.iter().flat_map(|(log, (base, objects))| fold(*log, base, objects, usize::MAX));
        return vec![Segment { kind: Kind::FlushManifest, parts: parts.collect(), adopted: objects }];
    }
    let (mut segments, mut shared) = (Vec::new(), Shared::default());
    for (log, (base, objects)) in logs {
        let parts = fold(log, base, &objects, sizes.log);
        if parts.iter().map(|part| part.bytes).sum::<usize>() >= sizes.own {
            segments.extend(parts.into_iter().map(|part| Segment::new(Kind::Log, vec![part])));
        } else {
            parts.into_iter().for_each(|part| shared.push(part, sizes.shared));
        }
    }
    segments.extend(shared.finish());
    segments
}

/// What there is of each log that wasn't deleted: its state at the previous flush, and the objects that hold batches of it.
type ByLog<'a> = BTreeMap<LogId, (&'a LogState, Vec<&'a Arc<Batches>>)>;

fn objects_by_log<'a>(objects: &'a [Object], bases: &'a BTreeMap<LogId, Arc<LogState>>) -> ByLog<'a> {
    let mut by_log = ByLog::new();
    for Object { batches, .. } in objects {
        for log in batches.keys() {
            if let Some(base) = bases.get(log) {
                by_log.entry(*log).or_insert_with(|| (base, Vec::new())).1.push(batches);
            }
        }
    }
    by_log
}

/// The blocks of objects that are adopted hold at most this many batches on average: a manifest has an entry for each.
const ADOPTED_BATCHES: usize = 32;

/// Whether the objects hold blocks of `block_bytes` on average, of batches that aren't tiny, and none of them is committed
/// already.
fn is_bulk(logs: &ByLog<'_>, block_bytes: usize) -> bool {
    let (mut bytes, mut blocks, mut batches) = (0, 0, 0);
    for (log, (base, objects)) in logs {
        for of_log in objects.iter().filter_map(|object| object.get(log)) {
            if of_log.first().is_some_and(|first| first.base_offset() < base.end) {
                return false;
            }
            let in_object = of_log.iter().map(Batch::len).sum::<usize>();
            bytes += in_object;
            blocks += in_object.div_ceil(BLOCK_TARGET_BYTES);
            batches += of_log.len();
        }
    }
    blocks > 0 && bytes / blocks >= block_bytes && batches <= blocks * ADOPTED_BATCHES
}

/// Folds the batches of `log` onto `base`, and ends a part whenever it has `part_bytes`.
fn fold(log: LogId, base: &LogState, objects: &[&Arc<Batches>], part_bytes: usize) -> Vec<Part> {
    let mut state = base.clone();
    let mut parts: Vec<Part> = Vec::new();
    let mut open: Option<Part> = None;
    for object in objects {
        for (at, batch) in object[&log].iter().enumerate() {
            if batch.base_offset() < base.end {
                continue;
            }
            let part = open.get_or_insert_with(|| Part::new(log, batch));
            part.push(object, at, batch, state.apply(&batch.entry()));
            if part.bytes >= part_bytes {
                parts.extend(open.take().map(|part| part.at(state.clone())));
            }
        }
    }
    parts.extend(open.map(|part| part.at(state)));
    parts
}

impl Part {
    fn new(log: LogId, first: &Batch) -> Self {
        Self {
            log,
            runs: Vec::new(),
            bytes: 0,
            base_offset: first.base_offset(),
            max_timestamp: first.max_timestamp(),
            state: Arc::default(),
            aborted: Vec::new(),
        }
    }

    fn push(&mut self, object: &Arc<Batches>, at: usize, batch: &Batch, aborted: Option<AbortedTransaction>) {
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.object, object) => run.range.end = at + 1,
            _ => self.runs.push(Run { object: object.clone(), range: at..at + 1 }),
        }
        self.bytes += batch.len();
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp());
        self.aborted.extend(aborted);
    }

    fn at(self, state: LogState) -> Self {
        Self { state: Arc::new(state), ..self }
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.runs.iter().flat_map(|run| &run.object[&self.log][run.range.clone()])
    }

    /// Offset after the last record.
    pub fn end_offset(&self) -> Offset {
        self.state.end
    }

    fn write(&self, writer: &mut SegmentWriter) {
        self.batches().for_each(|batch| writer.batch(self.log, batch));
        self.write_state(writer);
    }

    fn write_state(&self, writer: &mut SegmentWriter) {
        writer.state(self.log, &self.state);
        self.aborted.iter().for_each(|transaction| writer.aborted(self.log, *transaction));
    }
}

impl Segment {
    fn new(kind: Kind, parts: Vec<Part>) -> Self {
        Self { kind, parts, adopted: Vec::new() }
    }

    /// The object's bytes.
    pub fn encode(&self, id: SegmentId) -> Encoded {
        if self.kind == Kind::FlushManifest {
            return self.encode_manifest(id);
        }
        let mut writer = SegmentWriter::new(self.kind, id.incarnation, id.number);
        self.parts.iter().for_each(|part| part.write(&mut writer));
        writer.finish()
    }

    fn encode_manifest(&self, id: SegmentId) -> Encoded {
        let logs: BTreeSet<LogId> = self.parts.iter().map(|part| part.log).collect();
        let of_object = |object: &Object| {
            // As it was written: the same batches make the same object.
            let written = upload::encode(id.incarnation, object.sequence, &object.batches);
            let at = |block| BlockEntry { object: object.sequence.0, ..block };
            written.index.blocks.into_iter().map(at).collect::<Vec<_>>()
        };
        let mut blocks: Vec<_> = self.adopted.iter().flat_map(of_object).collect();
        blocks.retain(|block| logs.contains(&block.log));
        blocks.sort_by_key(|block| (block.log, block.base_offset));
        let mut writer = SegmentWriter::manifest(id.incarnation, id.number, blocks);
        self.parts.iter().for_each(|part| part.write_state(&mut writer));
        writer.finish()
    }

    /// Offset after the last record of each log.
    pub fn ends(&self) -> impl Iterator<Item = (LogId, Offset)> {
        self.parts.iter().map(|part| (part.log, part.end_offset()))
    }
}

/// The shared segments in the making.
#[derive(Default)]
struct Shared {
    done: Vec<Segment>,
    parts: Vec<Part>,
    bytes: usize,
}

impl Shared {
    fn push(&mut self, part: Part, segment_bytes: usize) {
        self.bytes += part.bytes;
        self.parts.push(part);
        if self.bytes >= segment_bytes {
            self.end_segment();
        }
    }

    fn end_segment(&mut self) {
        self.bytes = 0;
        self.done.push(Segment::new(Kind::Shared, std::mem::take(&mut self.parts)));
    }

    fn finish(mut self) -> Vec<Segment> {
        if !self.parts.is_empty() {
            self.end_segment();
        }
        self.done
    }
}

#[cfg(test)]
mod tests;
