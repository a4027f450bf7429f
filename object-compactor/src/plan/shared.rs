//! Shared segments and manifests become fewer and larger shared segments.

use super::{
    LogParts, MOST_REMOVED, Move, Part, Place, Plan, Planner, Work,
    runs::{Limits, Weight, worthwhile},
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_segment::{Kind, LogId};

/// Flushes' manifests are rewritten where they hold this part of a shared segment's largest size, or are many.
const ENOUGH_MANIFESTS: u64 = 16;

impl Planner<'_> {
    /// Manifests first, whatever their size; then what is worth it.
    pub(super) fn merge_shared(&mut self) {
        let free = |at: &usize| !self.taken.contains(at);
        let order = self.shared_in_order();
        let stretches: Vec<Vec<usize>> = order
            .split(|at| !free(at))
            .map(<[usize]>::to_vec)
            .filter(|stretch| !stretch.is_empty())
            .collect();
        let manifests = stretches.iter().flat_map(|stretch| self.manifests(stretch));
        let (oversized, mut groups): (Vec<_>, Vec<_>) = manifests.partition(|group| self.is_oversized(group));
        self.taken.extend(groups.iter().chain(&oversized).flatten());
        let stretches = if self.adopted_will_be_left(&groups) { &[][..] } else { &stretches[..] };
        for stretch in stretches {
            // A manifest that is not due must not keep its neighbours apart for ever.
            groups.extend(stretch.split(|at| self.taken.contains(at)).flat_map(|rest| self.merges(rest)));
        }
        self.taken.extend(groups.iter().flatten());
        let plans = self.plans_for(&groups);
        self.plans.extend(plans);
        for manifest in oversized.into_iter().flatten() {
            let plan = self.carve(manifest);
            self.plans.push(plan);
        }
    }

    /// Whether something that a recovery adopted will still be there once `groups` are rewritten. As with dead objects, what lies
    /// before it has to stay until then: a merge leaves out what is below the start of its log, and its states.
    fn adopted_will_be_left(&self, groups: &[Vec<usize>]) -> bool {
        let rewritten: BTreeSet<usize> = groups.iter().flatten().copied().collect();
        self.snapshot.adopted().any(|at| !rewritten.contains(&at))
    }

    fn limits(&self) -> Limits {
        Limits { bytes: self.sizes.shared.min(self.sizes.plan), index: self.sizes.index, count: MOST_REMOVED }
    }

    /// Consecutive manifests, as many as go into one plan.
    fn manifests(&self, stretch: &[usize]) -> Vec<Vec<usize>> {
        let limits = self.limits();
        let manifest = |at: &usize| self.snapshot.objects[*at].kind().is_manifest();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for run in stretch.split(|at| !manifest(at)).filter(|run| !run.is_empty()) {
            let (mut bytes, mut index) = (0, 0);
            for (nth, at) in run.iter().enumerate() {
                let object = &self.snapshot.objects[*at];
                (bytes, index) = (bytes + object.live, index + object.index_bytes());
                let group = groups.last_mut().filter(|group| nth > 0 && group.len() < limits.count);
                match group {
                    Some(group) if bytes <= limits.bytes && index <= limits.index => group.push(*at),
                    _ => {
                        (bytes, index) = (object.live, object.index_bytes());
                        groups.push(vec![*at]);
                    }
                }
            }
        }
        groups.retain(|group| self.is_due(group));
        groups
    }

    /// What a recovery adopted lies in small pieces. Of flushes, several are better than one: the more there are together, the
    /// more logs come to enough bytes for segments of their own.
    fn is_due(&self, manifests: &[usize]) -> bool {
        let objects = || manifests.iter().map(|at| &self.snapshot.objects[*at]);
        let enough = self.sizes.shared / ENOUGH_MANIFESTS;
        objects().any(|object| object.kind() == Kind::Manifest)
            || manifests.len() >= self.sizes.manifests
            || objects().map(|object| object.live).sum::<u64>() >= enough
    }

    fn is_oversized(&self, group: &[usize]) -> bool {
        let limits = self.limits();
        let one = &self.snapshot.objects[group[0]];
        group.len() == 1 && one.parts > 1 && (one.live > limits.bytes || one.index_bytes() > limits.index)
    }

    fn merges(&self, stretch: &[usize]) -> Vec<Vec<usize>> {
        let weight = |at: &usize| {
            let object = &self.snapshot.objects[*at];
            Weight { bytes: object.weight(), index: object.index_bytes() }
        };
        let weights: Vec<_> = stretch.iter().map(weight).collect();
        let runs = worthwhile(&weights, &self.limits(), self.sizes);
        runs.into_iter().map(|run| stretch[run].to_vec()).collect()
    }

    /// A plan for each group, in one pass over the logs.
    fn plans_for(&self, groups: &[Vec<usize>]) -> Vec<Plan> {
        let places = groups.iter().enumerate().flat_map(|(plan, group)| {
            group.iter().enumerate().map(move |(input, object)| (*object, (plan, input)))
        });
        let places: BTreeMap<usize, (usize, usize)> = places.collect();
        let mut plans: Vec<Plan> = groups.iter().map(|group| self.empty(group, true)).collect();
        for (log, parts) in &self.snapshot.logs {
            let plan_of = |part: &Part| places.get(&part.object).map(|(plan, _)| *plan);
            for run in parts.parts.chunk_by(|a, b| plan_of(a) == plan_of(b)) {
                let Some(plan) = plan_of(&run[0]) else { continue };
                plans[plan].push(shared_move(*log, parts, run, |object| places[&object].1));
            }
            keep_state(&mut plans, *log, parts, &places);
        }
        plans
    }

    fn empty(&self, objects: &[usize], removes: bool) -> Plan {
        let inputs = objects.iter().map(|at| self.snapshot.objects[*at].record).collect();
        Plan { work: Work::MergeShared, inputs, moves: Vec::new(), removes, bytes: 0 }
    }

    /// The first logs of a manifest that holds more than one plan takes. Shared segments go before manifests, so what was carved
    /// out is seen there no more.
    fn carve(&self, manifest: usize) -> Plan {
        let (limits, object) = (self.limits(), &self.snapshot.objects[manifest]);
        let mut plan = self.empty(&[manifest], false);
        let mut index = 0;
        for (log, parts) in &self.snapshot.logs {
            for run in parts.parts.chunk_by(|a, b| a.object == b.object) {
                if run[0].object != manifest {
                    continue;
                }
                let one = shared_move(*log, parts, run, |_| 0);
                let bytes = one.bytes();
                index += share(object.index_bytes(), bytes, object.live);
                let full = plan.bytes + bytes > limits.bytes || index > limits.index;
                if full && !plan.moves.is_empty() {
                    return plan;
                }
                plan.push(one);
            }
        }
        // All of it: an estimate was wrong.
        let mut plans = self.plans_for(&[vec![manifest]]);
        plans.pop().expect("one plan for one group")
    }
}

/// The part of `whole` that `part` of `of` stands for.
fn share(whole: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(part) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

fn shared_move(log: LogId, parts: &LogParts, run: &[Part], input: impl Fn(usize) -> usize) -> Move {
    let sources = run.iter().map(|part| part.source(input(part.object))).collect();
    Move { log, start: parts.start, sources, to: Place::Shared, newest_state: None }
}

/// Where a log's newest state lies in an object that a plan removes, the plan carries it on, with batches or without.
fn keep_state(plans: &mut [Plan], log: LogId, parts: &LogParts, places: &BTreeMap<usize, (usize, usize)>) {
    let Some((end, object)) = parts.state else { return };
    let Some(&(plan, input)) = places.get(&object) else { return };
    let plan = &mut plans[plan];
    if plan.moves.last().is_none_or(|last| last.log != log) {
        plan.push(shared_move(log, parts, &[], |_| 0));
    }
    plan.moves.last_mut().expect("pushed above").newest_state = Some((input, end));
}

impl Plan {
    fn push(&mut self, one: Move) {
        self.bytes += one.bytes();
        self.moves.push(one);
    }
}
