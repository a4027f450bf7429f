//! What the index blocks of a plan's inputs say of what it moves. Read one after the other: of each, little is kept.

use super::{ExecuteError, reads::Piece};
use crate::plan::{Move, Place, Plan, Source};
use object_store::path::Path;
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use thalweg_metadata::{Extent, ObjectRef};
use thalweg_segment::{
    AbortedTransaction, BlockEntry, FormatError, Index, Kind, LogId, Offset, Purpose, ReadError, StateEntry,
    Store,
};

/// Everything that is known before the first block is read.
pub(super) struct Inputs {
    objects: Vec<Arc<ObjectRef>>,
    /// The object that each cursor reads.
    pub paths: Vec<Path>,
    /// For each source of each move, in order.
    sources: Vec<SourceRead>,
    /// Those of each move.
    of_moves: Vec<Range<usize>>,
    /// The newest states that are kept, by move.
    newest: BTreeMap<usize, (u32, StateEntry)>,
    /// Bytes that were read.
    pub read: u64,
}

/// What to read of one source.
#[derive(Default)]
pub(super) struct SourceRead {
    /// In order of offset.
    pub blocks: Vec<Block>,
    /// The state that its object has of the log, and the cursor that reads it.
    pub state: Option<(u32, StateEntry)>,
    /// Those whose marker readers see in it.
    pub aborted: Vec<AbortedTransaction>,
    /// There are some, but the object doesn't say where they began.
    pub computes_aborted: bool,
}

/// A block, or the part of it that readers see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// What reads it.
    pub cursor: u32,
    pub position: u64,
    pub size: u32,
    pub crc: u32,
    /// First offset that is seen.
    pub base: Offset,
    /// Offset after the last.
    pub end: Offset,
}

/// What a cursor goes through: the blocks of one object, or its states. Both lie in the order in which they are wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Of an input; for a manifest, of one of its WAL objects.
    Blocks(usize, u64),
    States(usize),
}

pub(super) async fn read(store: &Store, plan: &Plan) -> Result<Inputs, ExecuteError> {
    let mut reading = Reading::new(plan);
    let wanted = wanted_of(plan);
    for (input, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()) {
        let object = reading.inputs.objects[input].clone();
        let index = object.read_index(store, Purpose::Compaction).await?;
        reading.inputs.read += object.shape.size - object.shape.index_position;
        for one in wanted {
            reading.take(one, &object, &index)?;
        }
    }
    Ok(reading.inputs)
}

/// Something that an input is asked for.
enum Asked<'a> {
    Source { at: usize, of: &'a Move, source: &'a Source, is_last: bool },
    Newest { at: usize, log: LogId, input: usize, end: Offset },
}

fn wanted_of(plan: &Plan) -> Vec<Vec<Asked<'_>>> {
    let mut wanted: Vec<Vec<Asked<'_>>> = plan.inputs.iter().map(|_| Vec::new()).collect();
    let mut next = 0;
    for (at, one) in plan.moves.iter().enumerate() {
        for (nth, source) in one.sources.iter().enumerate() {
            let is_last = one.to == Place::Own && nth + 1 == one.sources.len();
            wanted[source.input].push(Asked::Source { at: next, of: one, source, is_last });
            next += 1;
        }
        if let Some((input, end)) = one.newest_state {
            wanted[input].push(Asked::Newest { at, log: one.log, input, end });
        }
    }
    wanted
}

struct Reading {
    inputs: Inputs,
    lanes: BTreeMap<Lane, u32>,
}

impl Reading {
    fn new(plan: &Plan) -> Self {
        let mut next = 0;
        let of_moves = plan.moves.iter().map(|one| {
            let first = next;
            next += one.sources.len();
            first..next
        });
        let of_moves: Vec<_> = of_moves.collect();
        let inputs = Inputs {
            objects: plan.inputs.iter().map(ObjectRef::of).collect(),
            paths: Vec::new(),
            sources: (0..next).map(|_| SourceRead::default()).collect(),
            of_moves,
            newest: BTreeMap::new(),
            read: 0,
        };
        Self { inputs, lanes: BTreeMap::new() }
    }

    fn take(&mut self, asked: &Asked<'_>, object: &ObjectRef, index: &Index) -> Result<(), ReadError> {
        match *asked {
            Asked::Source { at, of, source, is_last } => {
                self.inputs.sources[at] = self.source(of, source, is_last, object, index);
            }
            Asked::Newest { at, log, input, end } => {
                let entry = index.state_of(log).filter(|entry| entry.end == end);
                let missing = FormatError::Malformed { what: "index block: a log has no state" };
                let missing = ReadError::Format { path: object.path.clone(), source: missing };
                let entry = *entry.ok_or(missing)?;
                let cursor = self.cursor(Lane::States(input), || object.path.clone());
                self.inputs.newest.insert(at, (cursor, entry));
            }
        }
        Ok(())
    }

    fn source(
        &mut self,
        of: &Move,
        source: &Source,
        is_last: bool,
        object: &ObjectRef,
        index: &Index,
    ) -> SourceRead {
        let seen = seen_blocks(index, of.log, source);
        let last = seen.last().map(|block| block.base_offset);
        let live = seen
            .iter()
            .filter(|block| block.end_offset > of.start || is_last && Some(block.base_offset) == last);
        let blocks = live.map(|block| {
            let lane = Lane::Blocks(source.input, if object.adopts.is_some() { block.object } else { 0 });
            Block {
                cursor: self.cursor(lane, || object.path_of(block)),
                position: block.position,
                size: block.size,
                crc: block.crc,
                base: block.base_offset.max(source.base),
                end: block.end_offset.min(source.end),
            }
        });
        let blocks = blocks.collect();
        let is_seen = |transaction: &AbortedTransaction| {
            source.base <= transaction.last_offset && transaction.last_offset < source.end
        };
        let aborted = index.aborted_of(of.log).iter().map(|(_, one)| *one).filter(is_seen).collect();
        let state = index
            .state_of(of.log)
            .map(|entry| (self.cursor(Lane::States(source.input), || object.path.clone()), *entry));
        SourceRead {
            blocks,
            state,
            aborted,
            computes_aborted: object.kind == Kind::Manifest && seen.iter().any(aborts),
        }
    }

    fn cursor(&mut self, lane: Lane, path: impl FnOnce() -> Path) -> u32 {
        let next = u32::try_from(self.inputs.paths.len()).expect("objects are far fewer than 2^32");
        *self.lanes.entry(lane).or_insert_with(|| {
            self.inputs.paths.push(path());
            next
        })
    }
}

fn seen_blocks<'a>(index: &'a Index, log: LogId, source: &Source) -> &'a [BlockEntry] {
    let blocks = index.blocks_of(log);
    let first = blocks.partition_point(|block| block.end_offset <= source.base);
    let end = blocks.partition_point(|block| block.base_offset < source.end);
    &blocks[first..end.max(first)]
}

/// Whether a block has the marker of an aborted transaction.
fn aborts(block: &BlockEntry) -> bool {
    block.batches.iter().any(|batch| batch.marker.is_some_and(|marker| !marker.committed))
}

impl Inputs {
    /// The sources of a move.
    pub fn of_move(&self, at: usize) -> &[SourceRead] {
        &self.sources[self.of_moves[at].clone()]
    }

    /// The newest state that goes with a move, and the cursor that reads it.
    pub fn newest(&self, at: usize) -> Option<(u32, StateEntry)> {
        self.newest.get(&at).copied()
    }

    /// A source as the index has it.
    pub fn extent(&self, source: &Source) -> Extent {
        let &Source { input, base, end, bytes } = source;
        Extent { base, end, max_timestamp: 0, bytes, object: self.objects[input].clone() }
    }

    /// Names the object that a cursor reads in an error.
    pub fn malformed(&self, cursor: u32, source: FormatError) -> ReadError {
        ReadError::Format { path: self.paths[cursor as usize].clone(), source }
    }
}

impl Block {
    /// Where it lies.
    pub fn piece(&self) -> Piece {
        Piece { cursor: self.cursor, position: self.position, size: self.size }
    }
}
