//! Carries a plan out: reads what it moves, writes it anew, and says what to commit.
//!
//! ```text
//! inputs   index blocks → which blocks, states and aborted transactions of each run are wanted     (one object at a time)
//! reads    those blocks in the order in which they are written, by few range GETs, each checked     (bounded memory)
//! output   segments, in parts where they are larger than one
//! ```
//! Runs come in order of log and offset, and so do the blocks in each object. So everything is read once, from front to back,
//! however many logs there are: for each object no more than one range is held at a time.
//!
//! **States.** An output has the state of each log at the end of what it holds of it. As a rule it stands in the last input.
//! Where that has none (the manifest of a recovery) or one of a later offset (readers see only a part of it), it is what the
//! index gives for that offset. Aborted transactions are carried over, those of a recovery's manifest are computed.

mod inputs;
pub(crate) mod output;
mod reads;
#[cfg(test)]
mod tests;

use crate::plan::{Move, Place, Plan, Sizes};
use bytes::Bytes;
use inputs::{Block, Inputs, SourceRead};
use output::{Output, Written};
use reads::{Piece, Reads};
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use thalweg_metadata::{Commit, IndexError, LogSegmentRecord, ObjectIndex, SharedRecord};
use thalweg_runtime::Budget;
use thalweg_segment::{
    AbortedTransaction, Batch, ErrorKind, FormatError, Index, Kind, LogId, LogState, Offset, ReadError,
    SegmentId, StateEntry, Store, StoreError, decode_state,
};

/// Bytes of a part of a large output.
pub const PART_BYTES: u64 = 8 << 20;

/// States that are asked of the index together.
const STATES_AT_ONCE: usize = 256;

/// Bytes that are handled between two chances for others to run.
const STEP_BYTES: usize = 1 << 20;

/// Why a plan was not carried out. What was written of it is garbage.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] IndexError),
    /// Something could not be written.
    #[error(transparent)]
    Write(StoreError),
    /// The index has something else of a log by now.
    #[error("log {log} was changed meanwhile")]
    Changed {
        /// Which.
        log: LogId,
    },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecuteErrorKind {
    /// Try again later.
    Retry,
    /// An input was replaced or a log deleted meanwhile: plan anew.
    Stale,
    /// An input is damaged, or lacks what the index says it has: a person must look. No plan with it succeeds.
    Corrupt,
}

impl ExecuteError {
    /// What to do about it.
    pub fn kind(&self) -> ExecuteErrorKind {
        match self {
            Self::Read(IndexError::Read(ReadError::Format { .. })) => ExecuteErrorKind::Corrupt,
            Self::Read(IndexError::Read(ReadError::Store(error))) if error.kind() == ErrorKind::NotFound => {
                ExecuteErrorKind::Stale
            }
            Self::Changed { .. } => ExecuteErrorKind::Stale,
            Self::Read(_) | Self::Write(_) => ExecuteErrorKind::Retry,
        }
    }
}

impl From<ReadError> for ExecuteError {
    fn from(error: ReadError) -> Self {
        Self::Read(error.into())
    }
}

/// A plan that was carried out, but for its commit.
#[derive(Debug)]
pub struct Rewritten {
    /// What it adds and removes.
    pub commit: Commit,
    /// The index of its shared segment.
    pub shared: Option<Arc<Index>>,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
}

/// Carries plans out, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    store: Store,
    index: ObjectIndex,
    memory: Budget,
    part_bytes: u64,
}

impl Executor {
    /// One that takes no more than `memory` for what it reads. What it writes takes a few parts beside, and the index of the
    /// output, which the plan bounds.
    pub fn new(store: Store, index: ObjectIndex, memory: Budget) -> Self {
        Self { store, index, memory, part_bytes: PART_BYTES }
    }

    /// The same with parts of another size, for tests.
    #[must_use]
    pub fn with_parts(self, part_bytes: u64) -> Self {
        Self { part_bytes, ..self }
    }

    /// Reads and writes what `plan` says. `name` gives the names of what is written; they have to be reserved until the commit.
    pub async fn execute(
        &self,
        plan: &Plan,
        sizes: &Sizes,
        name: &mut (dyn FnMut() -> SegmentId + Send),
    ) -> Result<Rewritten, ExecuteError> {
        let memory = self.memory.charge(self.memory.capacity()).await;
        let inputs = inputs::read(&self.store, plan).await?;
        let wanted = Wanted::new(plan, &inputs);
        let reads = Reads::new(self.store.clone(), inputs.paths.clone(), &wanted.pieces, memory.bytes());
        let mut run = Run {
            executor: self,
            plan,
            sizes,
            name,
            inputs: &inputs,
            wanted: &wanted,
            reads,
            states: BTreeMap::new(),
            shared: None,
            own: None,
            commit: Commit::default(),
            written: 0,
            unyielded: 0,
        };
        match run.all().await {
            Ok(shared) => {
                let (read, written) = (run.reads.bytes() + inputs.read, run.written);
                Ok(Rewritten { commit: run.commit, shared, read, written })
            }
            Err(error) => {
                run.abort().await;
                Err(error)
            }
        }
    }
}

/// Where a run's state comes from.
#[derive(Clone, Copy, Debug)]
enum StateSource {
    /// A later run of the same log in the same segment says it.
    None,
    /// A state block of an input, and the cursor that reads it.
    Block(u32, StateEntry),
    /// The index, for this offset.
    Index(Offset),
}

/// What is read, in order.
struct Wanted {
    pieces: Vec<Piece>,
    /// Of each move.
    states: Vec<StateSource>,
}

impl Wanted {
    fn new(plan: &Plan, inputs: &Inputs) -> Self {
        let mut wanted = Self { pieces: Vec::new(), states: Vec::with_capacity(plan.moves.len()) };
        for (at, one) in plan.moves.iter().enumerate() {
            let sources = inputs.of_move(at);
            let blocks = sources.iter().flat_map(|source| &source.blocks);
            wanted.pieces.extend(blocks.map(Block::piece));
            let next = plan.moves[at + 1..].iter().find(|next| next.to == one.to || next.log != one.log);
            let is_last = one.to == Place::Own || next.is_none_or(|next| next.log != one.log);
            let state = if is_last { state_source(one, inputs, at) } else { StateSource::None };
            if let StateSource::Block(cursor, entry) = state {
                wanted.pieces.push(Piece { cursor, position: entry.position, size: entry.size });
            }
            wanted.states.push(state);
        }
        wanted
    }
}

/// The state of a log at the end of `one`, or the newest one where that is to be kept.
fn state_source(one: &Move, inputs: &Inputs, at: usize) -> StateSource {
    let end = one.end();
    if let Some((cursor, entry)) = inputs.newest(at) {
        // What a log segment's row says of its end is where its state is.
        let fits = match one.to {
            Place::Own => Some(entry.end) == end,
            Place::Shared => end.is_none_or(|end| entry.end >= end),
        };
        if fits {
            return StateSource::Block(cursor, entry);
        }
    }
    match (inputs.of_move(at).last(), end) {
        (Some(SourceRead { state: Some((cursor, entry)), .. }), Some(end)) if entry.end == end => {
            StateSource::Block(*cursor, *entry)
        }
        (_, Some(end)) => StateSource::Index(end),
        (_, None) => StateSource::None,
    }
}

/// A plan on its way.
struct Run<'a> {
    executor: &'a Executor,
    plan: &'a Plan,
    sizes: &'a Sizes,
    name: &'a mut (dyn FnMut() -> SegmentId + Send),
    inputs: &'a Inputs,
    wanted: &'a Wanted,
    reads: Reads,
    /// States from the index, by move.
    states: BTreeMap<usize, LogState>,
    shared: Option<Output>,
    own: Option<Output>,
    commit: Commit,
    written: u64,
    unyielded: usize,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<Option<Arc<Index>>, ExecuteError> {
        let plan = self.plan;
        for (at, one) in plan.moves.iter().enumerate() {
            match one.to {
                Place::Own => self.write_own(at, one).await?,
                Place::Shared => self.write_shared(at, one).await?,
            }
        }
        if plan.removes {
            self.commit.removed = plan.inputs.clone();
        }
        let Some(shared) = self.shared.take() else { return Ok(None) };
        let Written { id, shape, index } = self.finish(shared).await?;
        self.commit.shared = Some(SharedRecord { id, shape, adopts: None });
        Ok(Some(Arc::new(index)))
    }

    async fn write_shared(&mut self, at: usize, one: &Move) -> Result<(), ExecuteError> {
        if self.shared.is_none() {
            self.shared = Some(self.begin(Kind::Shared));
        }
        self.output(Place::Shared).writer.cut_block();
        let inputs = self.inputs;
        for source in inputs.of_move(at) {
            for block in &source.blocks {
                let bytes = self.next(block).await?;
                let kept = kept(block, bytes, one.start, false);
                let kept = kept.map_err(|source| inputs.malformed(block.cursor, source))?;
                self.put(Place::Shared, one.log, kept).await?;
            }
        }
        let aborted = aborted(self.executor, self.inputs, at, one).await?;
        let state = self.state(at, Place::Shared).await?;
        let writer = &mut self.output(Place::Shared).writer;
        aborted.into_iter().for_each(|transaction| writer.aborted(one.log, transaction));
        if let Some(state) = state {
            writer.state(one.log, &state);
        }
        Ok(())
    }

    async fn write_own(&mut self, at: usize, one: &Move) -> Result<(), ExecuteError> {
        let aborted = aborted(self.executor, self.inputs, at, one).await?;
        let inputs = self.inputs;
        let sources = inputs.of_move(at);
        let cleaned_to = cleaned_to(self.plan, one);
        let mut part = OwnPart { log: one.log, base: one.sources[0].base, aborted: &aborted, cleaned_to };
        let mut written = 0;
        for (nth, source) in sources.iter().enumerate() {
            for (at, block) in source.blocks.iter().enumerate() {
                self.end_if_full(&mut part).await?;
                if self.own.is_none() {
                    self.own = Some(self.begin(Kind::Log));
                }
                let bytes = self.next(block).await?;
                let is_last = nth + 1 == sources.len() && at + 1 == source.blocks.len();
                let kept = kept(block, bytes, one.start, is_last && written == 0);
                let kept = kept.map_err(|source| inputs.malformed(block.cursor, source))?;
                written += kept.iter().map(Bytes::len).sum::<usize>();
                self.put(Place::Own, one.log, kept).await?;
            }
        }
        let state = self.state(at, Place::Own).await?;
        let end = one.end().expect("a run of its own has sources");
        if let Some((own, state)) = self.own.take().zip(state) {
            self.end(own, &part, end, state).await?;
        }
        Ok(())
    }

    /// Ends a log segment that is as large as any should be. Not where it replaces others: their number was planned for.
    async fn end_if_full(&mut self, part: &mut OwnPart<'_>) -> Result<(), ExecuteError> {
        let is_full = |own: &&Output| !self.plan.removes && own.writer.data_size() >= self.sizes.log;
        let end = self.own.as_ref().filter(is_full).and_then(|own| own.writer.end_of(part.log));
        let Some(end) = end else { return Ok(()) };
        let state = self.executor.index.states_at(&[(part.log, end)]).await?.pop();
        let state = state.filter(|state| state.end == end).ok_or(ExecuteError::Changed { log: part.log })?;
        let own = self.own.take().expect("it has batches");
        self.end(own, part, end, state).await?;
        part.base = end;
        let rest = part.aborted.partition_point(|transaction| transaction.last_offset < end);
        part.aborted = &part.aborted[rest..];
        Ok(())
    }

    /// Writes the rest of a log segment, which ends at `end`.
    async fn end(
        &mut self,
        mut own: Output,
        part: &OwnPart<'_>,
        end: Offset,
        state: LogState,
    ) -> Result<(), ExecuteError> {
        own.writer.state(part.log, &state);
        let aborted = part.aborted.iter().take_while(|transaction| transaction.last_offset < end);
        aborted.for_each(|transaction| own.writer.aborted(part.log, *transaction));
        let Written { id, shape, index } = self.finish(own).await?;
        self.commit.logs.push(LogSegmentRecord {
            log: part.log,
            base_offset: part.base,
            end_offset: end,
            max_timestamp: index.blocks.iter().map(|block| block.max_timestamp).max().unwrap_or(-1),
            id,
            shape,
            cleaned_to: part.cleaned_to,
        });
        Ok(())
    }

    fn begin(&mut self, kind: Kind) -> Output {
        Output::new(self.executor.store.clone(), kind, (self.name)(), self.executor.part_bytes)
    }

    fn output(&mut self, place: Place) -> &mut Output {
        let output = match place {
            Place::Own => &mut self.own,
            Place::Shared => &mut self.shared,
        };
        output.as_mut().expect("begun before anything is put into it")
    }

    async fn finish(&mut self, output: Output) -> Result<Written, ExecuteError> {
        let written = output.finish().await.map_err(ExecuteError::Write)?;
        self.written += written.shape.size;
        Ok(written)
    }

    async fn abort(&mut self) {
        for output in [self.own.take(), self.shared.take()].into_iter().flatten() {
            output.abort().await;
        }
    }

    /// The bytes of the next block, checked.
    async fn next(&mut self, block: &Block) -> Result<Bytes, ExecuteError> {
        let bytes = self.reads.next().await?;
        self.unyielded += bytes.len();
        if self.unyielded > STEP_BYTES {
            self.unyielded = 0;
            tokio::task::yield_now().await;
        }
        if crc32c::crc32c(&bytes) != block.crc {
            return Err(self
                .inputs
                .malformed(block.cursor, FormatError::BadCrc { what: "data block" })
                .into());
        }
        Ok(bytes)
    }

    async fn put(&mut self, place: Place, log: LogId, runs: Vec<Bytes>) -> Result<(), ExecuteError> {
        let output = self.output(place);
        for run in runs {
            output.writer.batches(log, run).expect("they were taken apart before");
        }
        output.send_parts().await.map_err(ExecuteError::Write)
    }

    /// The state at the end of a move, whose batches are written to `place`.
    async fn state(&mut self, at: usize, place: Place) -> Result<Option<LogState>, ExecuteError> {
        match self.wanted.states[at] {
            StateSource::None => Ok(None),
            StateSource::Block(cursor, entry) => {
                let bytes = self.reads.next().await?;
                let state = decode_state(&bytes, &entry);
                state.map(Some).map_err(|source| self.inputs.malformed(cursor, source).into())
            }
            StateSource::Index(end) => {
                if !self.states.contains_key(&at) {
                    self.ask_states(at).await?;
                }
                let log = self.plan.moves[at].log;
                let output = match place {
                    Place::Own => &self.own,
                    Place::Shared => &self.shared,
                };
                let written = output.as_ref().and_then(|output| output.writer.end_of(log));
                let state = self.states.remove(&at).filter(|state| Some(state.end) >= written);
                let state = state.ok_or(ExecuteError::Changed { log })?;
                // Behind the last batch there may be a hole, in which nothing changes.
                Ok(Some(LogState { end, ..state }))
            }
        }
    }

    /// Asks the index for the next states that are wanted of it: of many logs at once, which lie in few objects.
    async fn ask_states(&mut self, from: usize) -> Result<(), ExecuteError> {
        let mut wanted: BTreeMap<LogId, (usize, Offset)> = BTreeMap::new();
        for (at, source) in self.wanted.states.iter().enumerate().skip(from) {
            let StateSource::Index(end) = source else { continue };
            let log = self.plan.moves[at].log;
            if wanted.len() == STATES_AT_ONCE || wanted.contains_key(&log) {
                break;
            }
            wanted.insert(log, (at, *end));
        }
        let asked: Vec<_> = wanted.iter().map(|(log, (_, end))| (*log, *end)).collect();
        let states = self.executor.index.states_at(&asked).await?;
        self.states = wanted.into_values().map(|(at, _)| at).zip(states).collect();
        Ok(())
    }
}

/// The aborted transactions of a move, in order of their markers.
async fn aborted(
    executor: &Executor,
    inputs: &Inputs,
    at: usize,
    one: &Move,
) -> Result<Vec<AbortedTransaction>, ExecuteError> {
    let mut aborted = Vec::new();
    for (source, of) in inputs.of_move(at).iter().zip(&one.sources) {
        match source.computes_aborted {
            false => aborted.extend_from_slice(&source.aborted),
            true => aborted.extend(executor.index.aborted_in(one.log, &inputs.extent(of)).await?),
        }
    }
    Ok(aborted)
}

/// What goes into the open log segment.
struct OwnPart<'a> {
    log: LogId,
    base: Offset,
    /// Those that aren't in a segment yet.
    aborted: &'a [AbortedTransaction],
    /// How far the log is clean, as far as what is replaced says it.
    cleaned_to: Offset,
}

/// How far log compaction has cleaned the log of a move: a copy of what readers see makes it neither cleaner nor dirtier, so the highest
/// offset that an input gives still holds.
fn cleaned_to(plan: &Plan, one: &Move) -> Offset {
    let of_inputs = one.sources.iter().map(|source| plan.inputs[source.input].cleaned_to());
    of_inputs.max().unwrap_or_default()
}

/// The runs of batches of a block that are copied: what readers see of it, from the log's start on. With `one_at_least` its last
/// batch in any case.
fn kept(block: &Block, bytes: Bytes, start: Offset, one_at_least: bool) -> Result<Vec<Bytes>, FormatError> {
    let malformed = |what| FormatError::Malformed { what };
    let mut runs: Vec<Range<usize>> = Vec::new();
    let (mut rest, mut last, mut at) = (bytes.clone(), None, block.base);
    while !rest.is_empty() {
        let from = bytes.len() - rest.len();
        let batch = Batch::split_from(&mut rest).map_err(|_| malformed("record batch"))?;
        let (base, end) = (batch.base_offset(), batch.end_offset());
        if end <= block.base || base >= block.end {
            continue;
        }
        if base < at || end > block.end {
            return Err(malformed("block: a batch lies across its end, or out of order"));
        }
        at = end;
        let place = from..from + batch.len();
        last = Some(place.clone());
        if end <= start {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == place.start => run.end = place.end,
            _ => runs.push(place),
        }
    }
    if runs.is_empty() && one_at_least {
        runs.extend(last);
    }
    Ok(runs.into_iter().map(|run| bytes.slice(run)).collect())
}
