//! The object index as plans see it: small, and without what is dead.

use super::Source;
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::{Extent, IndexSnapshot, LogSnapshot, ObjectRecord};
use thalweg_segment::{Kind, LogId, Offset, SegmentId};

/// The objects of the index, and of each log that exists what readers see, from its start on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every object of the index, in order of id.
    pub objects: Vec<Object>,
    /// Logs that exist.
    pub logs: BTreeMap<LogId, LogParts>,
    /// Objects that can't be read; nothing is planned with them.
    pub damaged: BTreeSet<usize>,
    /// Logs for which log compaction waits, and up to where: what lies before in shared segments is to get segments of its own, however
    /// little it is. See [`Snapshot::compacts`].
    pub compacted: BTreeMap<LogId, Offset>,
}

/// An object of the index.
#[derive(Clone, Debug)]
pub struct Object {
    /// As it is stored.
    pub record: ObjectRecord,
    /// Bytes of live logs that readers see in it.
    pub live: u64,
    /// How many extents those are.
    pub parts: usize,
    /// How many logs have their newest state in it.
    pub states: usize,
}

/// What readers see of a log.
#[derive(Clone, Debug, Default)]
pub struct LogParts {
    /// The log's start.
    pub start: Offset,
    /// Extents that end behind the start, in order, without overlap; and those behind the newest state (a recovery leaves such),
    /// of which the state is all that is still needed.
    pub parts: Vec<Part>,
    /// The offset of the newest state block, and the object that has it.
    pub state: Option<(Offset, usize)>,
}

/// What readers see of a log in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First offset.
    pub base: Offset,
    /// Offset after the last.
    pub end: Offset,
    /// Bytes, about.
    pub bytes: u64,
    /// Which of the snapshot's objects.
    pub object: usize,
}

impl Part {
    /// The same as a plan's source: the part of its input `input`.
    pub(super) fn source(&self, input: usize) -> Source {
        let &Self { base, end, bytes, .. } = self;
        Source { input, base, end, bytes }
    }
}

/// Bytes of several, about.
pub(super) fn bytes_of(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).sum()
}

impl Object {
    /// An object of which nothing is known yet but its record.
    pub fn new(record: ObjectRecord) -> Self {
        Self { record, live: 0, parts: 0, states: 0 }
    }

    /// Its name.
    pub fn id(&self) -> SegmentId {
        self.record.id()
    }

    /// Shared segment, log segment, or a manifest of either kind.
    pub fn kind(&self) -> Kind {
        self.record.kind()
    }

    /// Bytes of its index block.
    pub fn index_bytes(&self) -> u64 {
        self.record.shape().index_size.into()
    }

    /// What a merge compares: its live bytes and what it takes to say what they are.
    pub(super) fn weight(&self) -> u64 {
        self.live.saturating_add(self.index_bytes())
    }
}

impl Snapshot {
    /// `index` without what is dead: `start` says where a log begins, and of logs that don't exist any more, nothing. It is
    /// asked after the snapshot was taken, so that a log that it doesn't know is one that was deleted. `damaged` are objects that
    /// can't be read.
    pub fn new(
        index: &IndexSnapshot,
        mut start: impl FnMut(LogId) -> Option<Offset>,
        damaged: &BTreeSet<SegmentId>,
    ) -> Self {
        let objects = index.objects.iter().map(|record| Object::new(*record)).collect();
        let damaged = damaged.iter().filter_map(|id| index.position(*id)).collect();
        let mut snapshot = Self { objects, logs: BTreeMap::new(), damaged, compacted: BTreeMap::new() };
        for log in &index.logs {
            let Some(start) = start(log.log) else { continue };
            let state = log.state.as_ref().and_then(|(end, object)| Some((*end, index.position(object.id)?)));
            let known_to = state.map_or(Offset(0), |(end, _)| end);
            let parts = log.extents.iter().filter(|extent| extent.end > start.min(known_to));
            let parts = parts.filter_map(|extent| {
                let object = index.position(extent.object.id)?;
                let bytes = if extent.end > start { extent.bytes } else { 0 };
                Some(Part { base: extent.base, end: extent.end, bytes, object })
            });
            snapshot.add(log.log, LogParts { start, parts: parts.collect(), state });
        }
        snapshot
    }

    /// `log` is compacted by key. Log compaction goes over log segments from the log's start on, so it waits for whatever lies in
    /// shared segments with log segments behind it, and for what was written before `latest_ms` (by `max.compaction.lag.ms`; milliseconds
    /// since 1970), by the newest record of an extent.
    pub fn compacts(&mut self, log: &LogSnapshot, latest_ms: Option<i64>) {
        let is_waited_for = |extent: &&Extent| {
            let overdue = |latest| 0 < extent.max_timestamp && extent.max_timestamp < latest;
            extent.object.kind == Kind::Log || latest_ms.is_some_and(overdue)
        };
        if let Some(last) = log.extents.iter().rfind(is_waited_for) {
            self.compacted.insert(log.log, last.end);
        }
    }

    /// Adds a log.
    pub fn add(&mut self, log: LogId, parts: LogParts) {
        for part in &parts.parts {
            let object = &mut self.objects[part.object];
            object.live = object.live.saturating_add(part.bytes);
            object.parts += 1;
        }
        if let Some((_, object)) = parts.state {
            self.objects[object].states += 1;
        }
        self.logs.insert(log, parts);
    }

    /// What recoveries adopted and readers see, but for what can't be read.
    pub(super) fn adopted(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.objects.iter().enumerate();
        let seen = all.filter(|(_, object)| object.kind() == Kind::Manifest && object.parts > 0);
        seen.map(|(at, _)| at).filter(|at| !self.damaged.contains(at))
    }

    /// Whether an object holds batches of many logs.
    pub(super) fn is_shared(&self, object: usize) -> bool {
        self.objects[object].kind() != Kind::Log
    }
}
