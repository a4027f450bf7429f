//! Logs with enough bytes in shared segments get segments of their own.

use super::{LogParts, Move, OPERATIONS, Part, Place, Plan, Planner, Work, bytes_of, segments};
use std::collections::BTreeMap;
use thalweg_segment::LogId;

impl Planner<'_> {
    /// Neighbouring logs go into one plan: they lie side by side in each input, and are read together.
    pub(super) fn extract(&mut self) {
        let snapshot = self.snapshot;
        let mut open = Extraction::default();
        for (log, parts) in &snapshot.logs {
            for run in self.large_runs(*log, parts) {
                let bytes = bytes_of(run);
                let rows = segments(bytes, self.sizes);
                if open.rows > 0 && (open.bytes + bytes > self.sizes.plan || open.rows + rows > OPERATIONS) {
                    self.end(&mut open);
                }
                open.push(*log, parts, run, rows);
            }
        }
        self.end(&mut open);
    }

    /// Maximal runs of extents in shared segments with enough bytes, or which log compaction waits for, in pieces that a plan can take.
    fn large_runs<'a>(&self, id: LogId, log: &'a LogParts) -> Vec<&'a [Part]> {
        let compacted_to = self.snapshot.compacted.get(&id).copied().unwrap_or_default();
        let least = |run: &[Part]| if run[0].base < compacted_to { 1 } else { self.sizes.own };
        let shared = |part: &Part| {
            self.snapshot.is_shared(part.object) && !self.snapshot.damaged.contains(&part.object)
        };
        let runs = log.parts.chunk_by(|a, b| shared(a) && shared(b));
        let large = runs.filter(|run| shared(&run[0]) && bytes_of(run) >= least(run));
        large.flat_map(|run| self.pieces(run, least(run))).collect()
    }

    /// A last piece with less than the least number of bytes stays where it is.
    fn pieces<'a>(&self, run: &'a [Part], least: u64) -> Vec<&'a [Part]> {
        let (mut pieces, mut from) = (Vec::new(), 0);
        for at in 1..=run.len() {
            let full = run.get(at).is_none_or(|next| bytes_of(&run[from..at]) + next.bytes > self.sizes.plan);
            if full && bytes_of(&run[from..at]) >= least {
                pieces.push(&run[from..at]);
                from = at;
            }
        }
        pieces
    }

    fn end(&mut self, open: &mut Extraction) {
        let Extraction { inputs, moves, bytes, rows } = std::mem::take(open);
        if rows == 0 {
            return;
        }
        self.taken.extend(inputs.keys());
        let mut records = vec![None; inputs.len()];
        for (object, input) in inputs {
            records[input] = Some(self.snapshot.objects[object].record);
        }
        let inputs = records.into_iter().flatten().collect();
        self.plans.push(Plan { work: Work::Extract, inputs, moves, removes: false, bytes });
    }
}

/// A plan in the making.
#[derive(Default)]
struct Extraction {
    /// Objects, and which input each is.
    inputs: BTreeMap<usize, usize>,
    moves: Vec<Move>,
    bytes: u64,
    rows: usize,
}

impl Extraction {
    fn push(&mut self, log: LogId, parts: &LogParts, run: &[Part], rows: usize) {
        let sources = run.iter().map(|part| {
            let next = self.inputs.len();
            let input = *self.inputs.entry(part.object).or_insert(next);
            part.source(input)
        });
        let sources: Vec<_> = sources.collect();
        self.bytes += bytes_of(run);
        self.rows += rows;
        self.moves.push(Move { log, start: parts.start, sources, to: Place::Own, newest_state: None });
    }
}
