//! What is to be rewritten, decided from a snapshot of the object index. Pure.
//!
//! ```text
//! flush, take-over ──► shared segments, manifests ──extract──► log segments ──merge──► larger ones, up to 256 MiB
//!                          │         ▲
//!                          └──merge──┘   larger ones, up to 1 GiB
//! ```
//! In order of what is gained for the bytes that are moved:
//! 1. *Remove* objects in which nothing live is left: no byte of a log that exists at or behind its start, and no state that
//!    isn't held elsewhere (`dead`).
//! 2. *Extract*: a log with enough bytes in shared segments gets a segment of its own (`extract`). It is only added: readers
//!    prefer log segments, and the shared ones are removed once nothing else is seen of them. So however many objects a
//!    log's bytes lie in, and however many logs an object holds, no commit becomes too large.
//! 3. *Merge shared segments* into one, sorted by log and offset (`shared`). Manifests first, since each keeps dozens of WAL
//!    objects from being deleted.
//! 4. *Merge log segments* that are adjacent in their log (`logs`).
//!
//! **What a byte costs.** A merge is worth its bytes where the result is so many times as large as the largest input
//! ([`Sizes::growth`]). So a byte is rewritten once for each such step from the size of a flush to the largest size, and
//! neighbours that are too unlike wait for others. Where nothing is written any more, [`Sizes::settled`] goes further.
//!
//! **What a plan may take.** Bytes, index blocks and metadata operations of each plan are bounded. Those of one call use
//! no object twice, but for extractions, which remove none.
//!
//! **What is copied is what readers see**: extents as the index has them, whatever else the objects hold. One object may hold
//! several runs of a log, with what others hold between them; the writer keeps such runs in different blocks.

mod dead;
mod extract;
mod logs;
mod order;
mod runs;
mod shared;
mod snapshot;
#[cfg(test)]
mod tests;

use snapshot::bytes_of;
pub use snapshot::{LogParts, Object, Part, Snapshot};

use std::collections::BTreeSet;
use thalweg_metadata::ObjectRecord;
use thalweg_segment::{LogId, Offset};

/// Sizes in bytes and bounds that plans go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A log with this many bytes side by side in shared segments gets a segment of its own.
    pub own: u64,
    /// Log segments are merged, and ended, at this size.
    pub log: u64,
    /// Shared segments are merged up to this size.
    pub shared: u64,
    /// Bytes that a plan moves, unless one extent of a log alone has more.
    pub plan: u64,
    /// Bytes of the index blocks of all inputs of a merge: what the index block of the result is about.
    pub index: u64,
    /// A merge is worth it where the result has this many hundredths of its largest input's size …
    pub growth: u64,
    /// … or, where it is final for being about as large as any may be, this many.
    pub final_growth: u64,
    /// So many manifests of flushes side by side are rewritten, however small they are.
    pub manifests: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            own: 8 << 20,
            log: 256 << 20,
            shared: 1 << 30,
            plan: 1 << 30,
            index: 8 << 20,
            growth: 800,
            final_growth: 400,
            manifests: 8,
        }
    }
}

impl Sizes {
    /// The same for an index that hardly changes any more: merges what else would wait for more of its like.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { growth: 125, final_growth: 125, manifests: 1, ..self }
    }
}

/// Metadata operations of one transaction that are left for rows.
const OPERATIONS: usize = 126;
/// Operations of a row that is removed.
const REMOVAL: usize = 2;
/// The most objects that one plan removes, for a row or two that it adds.
const MOST_REMOVED: usize = (OPERATIONS - 4) / REMOVAL;

/// One rewrite: what to read, what to write, what is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What kind of work it is, for metrics and logs.
    pub work: Work,
    /// The objects that are read, or removed.
    pub inputs: Vec<ObjectRecord>,
    /// In order of log and offset.
    pub moves: Vec<Move>,
    /// Whether the inputs are removed from the index by the same commit.
    pub removes: bool,
    /// Bytes that are moved.
    pub bytes: u64,
}

/// The kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Removes objects with nothing live.
    Remove,
    /// Shared segments → log segments.
    Extract,
    /// Shared segments and manifests → one shared segment.
    MergeShared,
    /// Log segments → larger ones.
    MergeLogs,
}

impl Work {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Extract => "extract",
            Self::MergeShared => "merge_shared",
            Self::MergeLogs => "merge_logs",
        }
    }
}

/// A run of one log that goes to one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose.
    pub log: LogId,
    /// The log's start: batches that end by it are left out.
    pub start: Offset,
    /// Extents that follow one another as readers see them. Empty where only the state is to be kept.
    pub sources: Vec<Source>,
    /// Where to.
    pub to: Place,
    /// The input that has the log's newest state, at which offset, where that goes with this move.
    pub newest_state: Option<(usize, Offset)>,
}

/// Where a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A segment of its own.
    Own,
    /// The plan's shared segment.
    Shared,
}

/// An extent, or the part of it that readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which of the plan's inputs.
    pub input: usize,
    /// First offset.
    pub base: Offset,
    /// Offset after the last.
    pub end: Offset,
    /// Bytes, about.
    pub bytes: u64,
}

impl Move {
    /// Bytes that it moves, about.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }

    /// Offset after the last source, if there is one.
    pub fn end(&self) -> Option<Offset> {
        self.sources.last().map(|source| source.end)
    }
}

impl Plan {
    /// Operations that its rows take in the transaction of its commit, given the most segments it may come to.
    pub fn operations(&self, sizes: &Sizes) -> usize {
        let removed = if self.removes { self.inputs.len() * REMOVAL } else { 0 };
        let own = self.moves.iter().filter(|one| one.to == Place::Own);
        let own: usize = own.map(|one| segments(one.bytes(), sizes)).sum();
        removed + own + usize::from(self.moves.iter().any(|one| one.to == Place::Shared))
    }
}

/// The most log segments that so many bytes of a log come to. Each is ended once it has reached its size.
fn segments(bytes: u64, sizes: &Sizes) -> usize {
    usize::try_from(bytes / sizes.log.max(1) + 1).unwrap_or(usize::MAX)
}

/// What is worth doing, the best first. Empty where all is well.
pub fn plan(snapshot: &Snapshot, sizes: &Sizes) -> Vec<Plan> {
    let mut planner = Planner { snapshot, sizes, taken: snapshot.damaged.clone(), plans: Vec::new() };
    planner.remove_dead();
    planner.extract();
    planner.merge_shared();
    planner.merge_logs();
    planner.plans
}

/// Plans in the making.
struct Planner<'a> {
    snapshot: &'a Snapshot,
    sizes: &'a Sizes,
    /// Objects that a plan uses already, or that can't be read.
    taken: BTreeSet<usize>,
    plans: Vec<Plan>,
}
