//! Plans carried out on a model of the index: whatever it holds, they end, lose nothing and reach their target.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use thalweg_metadata::{LogSegmentRecord, ObjectRecord, ObjectShape, SharedRecord};
use thalweg_segment::{BrokerEpoch, BrokerId, Incarnation, Kind, SegmentId};

const SIZES: Sizes = Sizes {
    own: 100,
    log: 1600,
    shared: 1000,
    plan: 1000,
    index: 1000,
    growth: 800,
    final_growth: 400,
    manifests: 8,
};
const OWN: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) };
const DEAD: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(1) };

/// A part of a log as the model has it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    base: i64,
    end: i64,
    bytes: u64,
    object: u64,
}

#[derive(Clone, Debug, Default)]
struct ModelLog {
    start: i64,
    pieces: Vec<Piece>,
    state: Option<(i64, u64)>,
}

/// The object index, and what was done to it.
#[derive(Clone, Debug, Default)]
struct World {
    objects: BTreeMap<u64, ObjectRecord>,
    logs: BTreeMap<u64, ModelLog>,
    next: u64,
    moved: u64,
    commits: usize,
}

fn id(number: u64) -> SegmentId {
    SegmentId { incarnation: OWN, number }
}

fn shape(index_size: usize) -> ObjectShape {
    ObjectShape { size: 0, index_position: 0, index_size: u32::try_from(index_size).unwrap() }
}

impl World {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn add_shared(&mut self, adopts: Option<Incarnation>, logs: usize) -> u64 {
        let number = self.number();
        let record = SharedRecord { id: id(number), shape: shape(logs), adopts };
        self.objects.insert(number, ObjectRecord::Shared(record));
        number
    }

    fn add_log(&mut self, log: u64, base: i64, end: i64) -> u64 {
        let number = self.number();
        let (base_offset, end_offset) = (Offset(base), Offset(end));
        let record = LogSegmentRecord {
            log: LogId(log),
            base_offset,
            end_offset,
            max_timestamp: 0,
            id: id(number),
            shape: shape(1),
            cleaned_to: Offset(0),
        };
        self.objects.insert(number, ObjectRecord::Log(record));
        number
    }

    /// Log compaction says with the object `number` that its log is clean up to there.
    fn clean(&mut self, number: u64, to: i64) {
        match self.objects.get_mut(&number) {
            Some(ObjectRecord::Log(record)) => record.cleaned_to = Offset(to),
            other => panic!("{other:?} is no log segment"),
        }
    }

    /// A flush or a take-over of these logs, an offset for each byte. Logs with many bytes get segments of their own.
    fn flush(&mut self, adopts: Option<Incarnation>, logs: &[(u64, u64)]) {
        let is_own = |bytes: u64| adopts.is_none() && bytes >= SIZES.own;
        let rest: Vec<_> = logs.iter().filter(|(_, bytes)| !is_own(*bytes)).copied().collect();
        let shared = (!rest.is_empty()).then(|| self.add_shared(adopts, rest.len()));
        for (log, bytes) in logs {
            let base = self.end(*log);
            let end = base + *bytes as i64;
            let object = if is_own(*bytes) { self.add_log(*log, base, end) } else { shared.unwrap() };
            let model = self.logs.entry(*log).or_default();
            model.pieces.push(Piece { base, end, bytes: *bytes, object });
            if adopts != Some(DEAD) {
                model.state = Some((end, object));
            }
        }
    }

    fn end(&self, log: u64) -> i64 {
        let Some(log) = self.logs.get(&log) else { return 0 };
        let pieces = log.pieces.last().map(|piece| piece.end);
        pieces.max(log.state.map(|(end, _)| end)).unwrap_or(0)
    }

    fn snapshot(&self) -> Snapshot {
        let objects = self.objects.values().map(|record| Object::new(*record)).collect();
        let position = |number: u64| self.objects.range(..number).count();
        let mut snapshot = Snapshot { objects, ..Snapshot::default() };
        for (log, model) in &self.logs {
            let known_to = model.state.map_or(0, |(end, _)| end);
            let live = model.pieces.iter().filter(|piece| piece.end > model.start.min(known_to));
            let part = |piece: &Piece| Part {
                base: Offset(piece.base),
                end: Offset(piece.end),
                bytes: if piece.end > model.start { piece.bytes } else { 0 },
                object: position(piece.object),
            };
            let state = model.state.map(|(end, number)| (Offset(end), position(number)));
            let parts = LogParts { start: Offset(model.start), parts: live.map(part).collect(), state };
            snapshot.add(LogId(*log), parts);
        }
        snapshot
    }

    /// Carries a plan out; whatever it may not do fails.
    fn apply(&mut self, plan: &Plan) {
        assert!(plan.operations(&SIZES) <= OPERATIONS, "{} operations", plan.operations(&SIZES));
        assert_eq!(plan.bytes, plan.moves.iter().map(Move::bytes).sum::<u64>());
        let largest = plan.moves.iter().map(Move::bytes).max().unwrap_or(0);
        assert!(plan.bytes <= SIZES.plan.max(largest), "{} bytes", plan.bytes);
        (self.moved, self.commits) = (self.moved + plan.bytes, self.commits + 1);
        let numbers: Vec<u64> = plan.inputs.iter().map(|input| input.id().number).collect();
        assert!(
            plan.inputs.iter().zip(&numbers).all(|(input, number)| self.objects.get(number) == Some(input))
        );
        let to_shared = plan.moves.iter().filter(|one| one.to == Place::Shared).count();
        let shared = (to_shared > 0).then(|| self.add_shared(None, to_shared));
        for one in &plan.moves {
            self.apply_move(plan, one, shared);
        }
        if plan.removes {
            numbers.iter().for_each(|number| _ = self.objects.remove(number));
            for (log, model) in &mut self.logs {
                let known_to = model.start.min(model.state.map_or(0, |(end, _)| end));
                model.pieces.retain(|piece| piece.end > known_to || !numbers.contains(&piece.object));
                assert!(
                    !model.pieces.iter().any(|piece| numbers.contains(&piece.object)),
                    "log {log} loses data"
                );
                assert!(
                    !model.state.is_some_and(|(_, at)| numbers.contains(&at)),
                    "log {log} loses its state"
                );
            }
        }
    }

    fn apply_move(&mut self, plan: &Plan, one: &Move, shared: Option<u64>) {
        let source = |source: &Source| (source.base.0, source.end.0, plan.inputs[source.input].id().number);
        let wanted: Vec<_> = one.sources.iter().map(source).collect();
        let object = match one.to {
            Place::Shared => shared.unwrap(),
            Place::Own => self.add_log(one.log.0, wanted[0].0, wanted[wanted.len() - 1].1),
        };
        let model = self.logs.get_mut(&one.log.0).expect("a log that exists");
        if let Some(first) = wanted.first() {
            let at = model.pieces.iter().position(|piece| piece.base == first.0).expect("what readers see");
            let replaced = model.pieces[at..at + wanted.len()].to_vec();
            let seen: Vec<_> = replaced.iter().map(|piece| (piece.base, piece.end, piece.object)).collect();
            assert_eq!(seen, wanted, "runs are of what readers see, without a gap");
            let end = replaced[replaced.len() - 1].end;
            let piece = Piece { base: first.0, end, bytes: one.bytes(), object };
            model.pieces.splice(at..at + wanted.len(), [piece]);
            // A segment has the state at its end; a better object's counts.
            if model.state.is_none_or(|(newest, _)| newest <= end) {
                model.state = Some((end, object));
            }
        }
        if let Some((input, end)) = one.newest_state {
            let number = plan.inputs[input].id().number;
            assert!(model.state.is_some_and(|(newest, at)| newest > end.0
                || (newest, at) == (end.0, number)
                || at == object));
            model.state = model.state.max(Some((end.0, object)));
        }
    }

    /// Plans until nothing is left to do.
    fn settle(&mut self, sizes: &Sizes) {
        for _ in 0..1000 {
            let plans = plan(&self.snapshot(), sizes);
            if plans.is_empty() {
                return;
            }
            plans.iter().for_each(|plan| self.apply(plan));
        }
        panic!("plans never end");
    }

    /// Of each log: its start, its end, and the live bytes.
    fn content(&self) -> Vec<(u64, i64, i64, u64)> {
        let of = |(log, model): (&u64, &ModelLog)| {
            let live = model.pieces.iter().filter(|piece| piece.end > model.start);
            (*log, model.start, self.end(*log), live.map(|piece| piece.bytes).sum())
        };
        self.logs.iter().map(of).collect()
    }

    fn count(&self, kind: impl Fn(Kind) -> bool) -> usize {
        self.objects.values().filter(|object| kind(object.kind())).count()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Flush(u8, Vec<(u64, u64)>),
    Delete(u64),
    RaiseStart(u64, i64),
    Plan,
}

fn step() -> impl Strategy<Value = Step> {
    let logs = prop::collection::btree_map(0..8u64, prop_oneof![4 => 1..20u64, 1 => 90..300u64], 1..8);
    prop_oneof![
        8 => (0..6u8, logs).prop_map(|(kind, logs)| Step::Flush(kind, logs.into_iter().collect())),
        1 => (0..8u64).prop_map(Step::Delete),
        1 => (0..8u64, 1..200i64).prop_map(|(log, by)| Step::RaiseStart(log, by)),
        2 => Just(Step::Plan),
    ]
}

fn run(world: &mut World, step: &Step) {
    match step {
        Step::Flush(kind, logs) => {
            let adopts = match kind {
                0 => Some(DEAD),
                1 => Some(OWN),
                _ => None,
            };
            // Ids of logs are never used again; that of a deleted one stands for the next one.
            let log = |log: u64| if world.logs.contains_key(&log) { log } else { log + 8 * world.next };
            let logs: Vec<_> = logs.iter().map(|(of, bytes)| (log(*of), *bytes)).collect();
            world.flush(adopts, &logs);
        }
        Step::Delete(log) => _ = world.logs.remove(log),
        Step::RaiseStart(log, by) => {
            let end = world.end(*log);
            if let Some(log) = world.logs.get_mut(log) {
                log.start = (log.start + by).min(end);
            }
        }
        Step::Plan => plan(&world.snapshot(), &SIZES).iter().for_each(|plan| world.apply(plan)),
    }
}

proptest! {
    #[test]
    fn whatever_the_index_holds_plans_end_and_lose_nothing(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::default();
        for log in 0..8 {
            world.logs.insert(log, ModelLog::default());
        }
        for step in &steps {
            run(&mut world, step);
        }
        let before = world.content();
        world.settle(&SIZES);
        world.settle(&SIZES.settled());
        prop_assert_eq!(world.content(), before);
        prop_assert_eq!(world.count(Kind::is_manifest), 0);
        for (log, model) in &world.logs {
            let shared = |piece: &Piece| world.objects[&piece.object].kind() != Kind::Log;
            let live: Vec<_> = model.pieces.iter().filter(|piece| piece.end > model.start).copied().collect();
            for run in live.chunk_by(|a, b| shared(a) && shared(b)).filter(|run| shared(&run[0])) {
                let bytes: u64 = run.iter().map(|piece| piece.bytes).sum();
                prop_assert!(bytes < SIZES.own, "log {log} has {bytes} bytes in shared segments");
            }
            let own = model.pieces.iter().filter(|piece| !shared(piece)).count() as u64;
            let bytes: u64 = model.pieces.iter().map(|piece| piece.bytes).sum();
            let runs = live.chunk_by(|a, b| !shared(a) && !shared(b)).count() as u64;
            prop_assert!(own <= 2 * (bytes / SIZES.log) + 4 * (runs + 1), "log {log}: {own} segments of {bytes} bytes");
        }
        let live: u64 = world.content().iter().map(|(.., bytes)| bytes).sum();
        let shared = world.count(|kind| kind == Kind::Shared) as u64;
        prop_assert!(shared <= 2 * (live / SIZES.shared) + 12, "{shared} shared segments of {live} bytes");
    }
}

/// Flushes of many slow logs, planned after each as a broker does.
fn steady(logs: u64, bytes_each: u64, flushes: u64, adopts: Option<Incarnation>) -> (World, u64) {
    let mut world = World::default();
    for _ in 0..flushes {
        let content: Vec<_> = (0..logs).map(|log| (log, bytes_each)).collect();
        world.flush(adopts, &content);
        world.settle(&SIZES);
    }
    (world, logs * bytes_each * flushes)
}

#[test]
fn a_byte_of_a_slow_log_is_rewritten_about_twice_until_it_lies_in_a_segment_of_its_log() {
    // Eight flushes are as much as a shared segment may have, a log comes to enough after 25.
    let (world, bytes) = steady(30, 4, 400, None);
    // Merged once as shared ones, extracted, and merged with other segments of the log.
    assert!(world.moved <= bytes * 34 / 10, "{} of {bytes} bytes were moved", world.moved);
    assert!(world.count(|kind| kind == Kind::Shared) <= 12);
    // Of 16 of the largest size of a log's segment in all: 1600 bytes in each log.
    assert!(world.count(|kind| kind == Kind::Log) <= 30 * 3);
}

#[test]
fn a_bulk_load_that_was_adopted_is_rewritten_once_and_then_merged() {
    let (world, bytes) = steady(2, 200, 8, Some(OWN));
    assert!(world.moved <= 2 * bytes, "{} of {bytes} bytes were moved", world.moved);
    assert_eq!(world.count(|kind| kind.is_manifest()), 0);
    assert_eq!(world.count(|kind| kind == Kind::Log), 4);
}

#[test]
fn small_manifests_between_shared_segments_keep_nothing_from_being_merged() {
    let mut world = World::default();
    for nth in 0..40 {
        world.flush((nth % 2 == 0).then_some(OWN), &[(0, 2), (1, 2)]);
        world.settle(&SIZES);
    }
    assert!(world.objects.len() <= 8 + 3, "{} objects are left of 40", world.objects.len());
}

#[test]
fn neighbours_of_fifty_thousand_logs_are_extracted_together() {
    let mut world = World::default();
    let content: Vec<_> = (0..2000).map(|log| (log, SIZES.own / 2)).collect();
    world.flush(Some(DEAD), &content);
    world.flush(Some(DEAD), &content);
    let plans = plan(&world.snapshot(), &SIZES);
    assert_eq!(plans.len(), 200, "ten logs of a hundred bytes in each plan");
    for plan in &plans {
        let logs: Vec<_> = plan.moves.iter().map(|one| one.log.0).collect();
        assert_eq!(logs, (logs[0]..logs[0] + 10).collect::<Vec<_>>());
        assert!(plan.work == Work::Extract && !plan.removes);
    }
    world.settle(&SIZES);
    assert_eq!(world.count(|kind| kind != Kind::Log), 0);
}

#[test]
fn a_manifest_larger_than_a_plan_is_carved_up_log_by_log() {
    let mut world = World::default();
    let content: Vec<_> = (0..60).map(|log| (log, 50)).collect();
    world.flush(Some(DEAD), &content);
    world.settle(&SIZES);
    assert_eq!((world.count(|kind| kind == Kind::Shared), world.objects.len()), (3, 3));
    assert_eq!(world.moved, 3000);
}

#[test]
fn the_newest_state_of_a_log_without_data_goes_along_when_its_segment_is_merged() {
    let mut world = World::default();
    for _ in 0..8 {
        world.flush(None, &[(0, 10), (1, 10)]);
    }
    // Retention has moved to the end; the last state is all there is.
    world.logs.get_mut(&0).unwrap().start = 80;
    world.logs.get_mut(&1).unwrap().start = 80;
    world.settle(&SIZES);
    assert_eq!(world.objects.len(), 1, "all but the one with the states are dead");
    assert_eq!((world.end(0), world.end(1)), (80, 80));
    world.flush(None, &[(1, 10)]);
    world.settle(&SIZES.settled());
    assert_eq!((world.end(0), world.end(1)), (80, 90));
}

#[test]
fn what_a_recovery_adopted_of_a_log_without_data_leaves_its_state() {
    let mut world = World::default();
    world.flush(Some(DEAD), &[(0, 10)]);
    world.logs.get_mut(&0).unwrap().start = 10;
    world.settle(&SIZES);
    assert_eq!((world.count(|kind| kind == Kind::Shared), world.objects.len()), (1, 1));
    assert_eq!((world.end(0), world.moved), (10, 0));
}

#[test]
fn a_segment_that_begins_behind_its_row_is_not_the_first_of_a_merge() {
    let mut world = World::default();
    for _ in 0..3 {
        world.flush(None, &[(0, 200)]);
    }
    // As if another object hid the first part of the first.
    world.logs.get_mut(&0).unwrap().pieces[0].base = 50;
    let plans = plan(&world.snapshot(), &SIZES.settled());
    let bases: Vec<_> = plans[0].moves[0].sources.iter().map(|source| source.base.0).collect();
    assert_eq!((plans.len(), bases), (1, vec![200, 400]));
}

#[test]
fn an_object_that_cannot_be_read_is_left_alone_and_the_others_are_not() {
    let mut world = World::default();
    for _ in 0..6 {
        world.flush(None, &[(0, 10), (1, 60)]);
    }
    let mut snapshot = world.snapshot();
    snapshot.damaged.insert(2);
    let plans = plan(&snapshot, &SIZES.settled());
    let inputs: BTreeSet<_> =
        plans.iter().flat_map(|plan| plan.inputs.iter().map(|input| input.id().number)).collect();
    assert_eq!(inputs, BTreeSet::from([0, 1, 3, 4, 5]));
}

#[test]
fn what_is_clean_is_not_merged_with_what_is_dirty() {
    let mut world = World::default();
    for _ in 0..6 {
        world.flush(None, &[(0, 200)]);
    }
    world.clean(2, 600);
    let plans = plan(&world.snapshot(), &SIZES.settled());
    let mut runs: Vec<_> = plans
        .iter()
        .flat_map(|plan| &plan.moves)
        .map(|one| (one.sources[0].base.0, one.sources[one.sources.len() - 1].end.0))
        .collect();
    runs.sort_unstable();
    assert_eq!(runs, [(0, 600), (600, 1200)]);
}

#[test]
fn what_log_compaction_waits_for_is_extracted_however_little_it_is() {
    let mut world = World::default();
    world.flush(None, &[(0, 10), (1, 20)]);
    world.flush(None, &[(0, 500), (1, 20)]);
    world.flush(None, &[(0, 10), (1, 20)]);
    let mut snapshot = world.snapshot();
    // Of log 0 that reaches to the end of its own segment.
    snapshot.compacted.insert(LogId(0), Offset(510));
    let plans = plan(&snapshot, &SIZES);
    assert_eq!((plans.len(), plans[0].work, plans[0].removes), (1, Work::Extract, false));
    let moved: Vec<_> = plans[0].moves.iter().map(|one| (one.log, one.sources[0].base, one.end())).collect();
    assert_eq!(moved, [(LogId(0), Offset(0), Some(Offset(10)))]);
}

#[test]
fn where_nothing_is_worth_it_nothing_is_planned() {
    let mut world = World::default();
    world.flush(None, &[(0, 10), (1, 20)]);
    world.flush(None, &[(0, 500), (1, 20)]);
    assert!(plan(&world.snapshot(), &SIZES).is_empty());
    assert!(plan(&Snapshot::default(), &SIZES).is_empty());
}
