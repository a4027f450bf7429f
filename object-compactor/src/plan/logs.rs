//! Small log segments that are adjacent in their log become larger ones.

use super::{
    LogParts, MOST_REMOVED, Move, OPERATIONS, Part, Place, Plan, Planner, REMOVAL, Work, bytes_of,
    runs::{Limits, Weight, worthwhile},
};
use thalweg_metadata::ObjectRecord;
use thalweg_segment::{LogId, Offset};

impl Planner<'_> {
    /// Merges of several logs share a commit.
    pub(super) fn merge_logs(&mut self) {
        let mut merges: Vec<(LogId, &LogParts, &[Part])> = Vec::new();
        for (log, parts) in &self.snapshot.logs {
            let clean = self.cleaned_to(parts);
            let together = |a: &Part, b: &Part| {
                self.can_go(parts, a) && self.can_go(parts, b) && (a.end <= clean) == (b.end <= clean)
            };
            for stretch in parts.parts.chunk_by(together) {
                merges.extend(self.runs_in(parts, stretch).into_iter().map(|run| (*log, parts, run)));
            }
        }
        merges.sort_by_key(|(log, _, run)| (std::cmp::Reverse(run.len()), *log));
        let mut open = empty();
        let mut plans = Vec::new();
        for (log, parts, run) in merges {
            let bytes = bytes_of(run);
            // A row for the result, and one more should it come out larger than it was thought.
            let operations = open.operations(self.sizes) + run.len() * REMOVAL + 2;
            if !open.moves.is_empty() && (operations > OPERATIONS || open.bytes + bytes > self.sizes.plan) {
                plans.push(std::mem::replace(&mut open, empty()));
            }
            self.push(&mut open, log, parts, run);
        }
        plans.extend(Some(open).filter(|plan| !plan.moves.is_empty()));
        for plan in &mut plans {
            plan.moves.sort_by_key(|one| (one.log, one.sources.first().map(|source| source.base)));
        }
        self.plans.extend(plans);
    }

    /// Whether the row of this extent's object may be replaced. It must be all that is seen of the object, and its state that of
    /// its end, as a log segment's is.
    fn can_go(&self, log: &LogParts, part: &Part) -> bool {
        let object = &self.snapshot.objects[part.object];
        let state_beyond = log.state.is_some_and(|(end, at)| at == part.object && end != part.end);
        !self.snapshot.is_shared(part.object)
            && object.parts == 1
            && !state_beyond
            && !self.taken.contains(&part.object)
    }

    /// How far log compaction has cleaned a log. What is clean is not merged with what is dirty: a log is cleaned again once enough of
    /// its bytes are dirty, and a segment of both counts as dirty.
    fn cleaned_to(&self, log: &LogParts) -> Offset {
        let of_parts = log.parts.iter().map(|part| self.snapshot.objects[part.object].record.cleaned_to());
        of_parts.max().unwrap_or_default()
    }

    fn runs_in<'a>(&self, log: &LogParts, stretch: &'a [Part]) -> Vec<&'a [Part]> {
        // A row's key is its first offset. That of a run has to be the first one's own, or it may be another's, who is hidden.
        let first = stretch.iter().position(|part| self.can_go(log, part) && self.begins_with_its_row(part));
        let Some(first) = first else { return Vec::new() };
        let stretch = &stretch[first..];
        let weight = |part: &Part| Weight { bytes: part.bytes, index: 0 };
        let weights: Vec<_> = stretch.iter().map(weight).collect();
        let limits =
            Limits { bytes: self.sizes.log.min(self.sizes.plan), index: u64::MAX, count: MOST_REMOVED - 1 };
        let runs = worthwhile(&weights, &limits, self.sizes).into_iter().map(|run| &stretch[run]);
        runs.filter(|run| self.begins_with_its_row(&run[0])).collect()
    }

    fn begins_with_its_row(&self, part: &Part) -> bool {
        match &self.snapshot.objects[part.object].record {
            ObjectRecord::Log(record) => record.base_offset == part.base,
            ObjectRecord::Shared(_) => false,
        }
    }

    fn push(&self, plan: &mut Plan, log: LogId, parts: &LogParts, run: &[Part]) {
        let first = plan.inputs.len();
        plan.inputs.extend(run.iter().map(|part| self.snapshot.objects[part.object].record));
        let sources = run.iter().enumerate().map(|(nth, part)| part.source(first + nth));
        let state = parts.state.and_then(|(end, object)| {
            let nth = run.iter().position(|part| part.object == object)?;
            Some((first + nth, end))
        });
        let one =
            Move { log, start: parts.start, sources: sources.collect(), to: Place::Own, newest_state: state };
        plan.bytes += one.bytes();
        plan.moves.push(one);
    }
}

fn empty() -> Plan {
    Plan { work: Work::MergeLogs, inputs: Vec::new(), moves: Vec::new(), removes: true, bytes: 0 }
}
