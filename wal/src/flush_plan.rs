//! What a flush writes: which batches go into which segment, and the state of each log at its end there. Pure.
//!
//! A log with enough bytes gets segments of its own; the others share segments, in order of their ids. A state block is
//! the fold of exactly the flushed batches onto the state at the previous flush, never the live state, which knows batches
//! that may yet be lost.

use crate::sequencer::Batches;
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use thalweg_segment::{
    AbortedTransaction, Batch, Encoded, Kind, LogId, LogState, Offset, SegmentId, SegmentWriter,
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
}

impl Sizes {
    /// The usual sizes, where logs of `own` bytes get segments of their own.
    pub fn new(own: usize) -> Self {
        Self { own, log: LOG_SEGMENT_BYTES.max(own), shared: SHARED_SEGMENT_BYTES }
    }
}

/// A segment to be written.
#[derive(Debug)]
pub(crate) struct Segment {
    /// [`Kind::Log`] with one part, or [`Kind::Shared`].
    pub kind: Kind,
    /// By log.
    pub parts: Vec<Part>,
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
    objects: &[Arc<Batches>],
    bases: &BTreeMap<LogId, Arc<LogState>>,
    sizes: Sizes,
) -> Vec<Segment> {
    let (mut segments, mut shared) = (Vec::new(), Shared::default());
    for (log, objects) in objects_by_log(objects) {
        let Some(base) = bases.get(&log) else { continue };
        let parts = fold(log, base, &objects, sizes.log);
        if parts.iter().map(|part| part.bytes).sum::<usize>() >= sizes.own {
            segments.extend(parts.into_iter().map(|part| Segment { kind: Kind::Log, parts: vec![part] }));
        } else {
            parts.into_iter().for_each(|part| shared.push(part, sizes.shared));
        }
    }
    segments.extend(shared.finish());
    segments
}

fn objects_by_log(objects: &[Arc<Batches>]) -> BTreeMap<LogId, Vec<&Arc<Batches>>> {
    let mut by_log: BTreeMap<LogId, Vec<_>> = BTreeMap::new();
    for object in objects {
        object.keys().for_each(|log| by_log.entry(*log).or_default().push(object));
    }
    by_log
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
        writer.state(self.log, &self.state);
        self.aborted.iter().for_each(|transaction| writer.aborted(self.log, *transaction));
    }
}

impl Segment {
    /// The object's bytes.
    pub fn encode(&self, id: SegmentId) -> Encoded {
        let mut writer = SegmentWriter::new(self.kind, id.incarnation, id.number);
        self.parts.iter().for_each(|part| part.write(&mut writer));
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
        self.done.push(Segment { kind: Kind::Shared, parts: std::mem::take(&mut self.parts) });
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
