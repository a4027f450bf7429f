//! Objects in which nothing live is left.

use super::{MOST_REMOVED, Object, Plan, Planner, Work};
use thalweg_metadata::ObjectRecord;

impl Planner<'_> {
    /// Removes them without reading a byte. Not before what a recovery adopted is rewritten: where its aborted transactions began
    /// is only told by the states before it, which may be all that is left of a dead object.
    pub(super) fn remove_dead(&mut self) {
        let snapshot = self.snapshot;
        if snapshot.adopted().next().is_some() {
            return;
        }
        let dead: Vec<usize> =
            (0..snapshot.objects.len()).filter(|at| self.is_dead(&snapshot.objects[*at])).collect();
        for some in dead.chunks(MOST_REMOVED) {
            self.taken.extend(some);
            let inputs = some.iter().map(|at| snapshot.objects[*at].record).collect();
            self.plans.push(Plan { work: Work::Remove, inputs, moves: Vec::new(), removes: true, bytes: 0 });
        }
    }

    /// Log segments of deleted logs, and those wholly below their log's start, are retention's; of the others, one that nobody
    /// sees is hidden by better ones.
    fn is_dead(&self, object: &Object) -> bool {
        let unseen = object.parts == 0 && object.states == 0;
        unseen
            && match &object.record {
                ObjectRecord::Shared(_) => true,
                ObjectRecord::Log(record) => {
                    self.snapshot.logs.get(&record.log).is_some_and(|log| record.end_offset > log.start)
                }
            }
    }
}
