//! Plans carried out on real objects in memory: what readers see stays the same, byte for byte.

use super::*;
use crate::plan::{Snapshot, Work, plan};
use object_store::{ObjectStore, memory::InMemory};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::{BlockRef, ObjectRecord, testing::Flushes};
use thalweg_segment::{
    FormatError, Method, ProducerId, Purpose, check_block, segment_path, split_batches, testing::BatchBuilder,
};

const SIZES: Sizes = Sizes {
    own: 2_000,
    log: 6_000,
    shared: 8_000,
    plan: 8_000,
    index: 4_000,
    growth: 400,
    final_growth: 200,
    manifests: 4,
};

const A: LogId = LogId(1);
const B: LogId = LogId(2);

/// Flushes, the index that a broker has of them, and what was ever written.
struct Bench {
    flushes: Flushes,
    index: ObjectIndex,
    written: BTreeMap<LogId, Vec<Batch>>,
    starts: BTreeMap<LogId, Offset>,
    deleted: BTreeSet<LogId>,
    memory: usize,
    done: BTreeMap<Work, usize>,
}

/// How batches come to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Shared,
    Logs,
    Recovery,
    FlushManifest,
}

impl Bench {
    async fn new() -> Self {
        Self::on(Arc::new(InMemory::new())).await
    }

    async fn on(objects: Arc<dyn ObjectStore>) -> Self {
        let flushes = Flushes::into(objects).await;
        let index = flushes.load().await;
        Self {
            flushes,
            index,
            written: BTreeMap::new(),
            starts: BTreeMap::new(),
            deleted: BTreeSet::new(),
            memory: 4_000,
            done: BTreeMap::new(),
        }
    }

    fn end(&self, log: LogId) -> i64 {
        self.written.get(&log).and_then(|batches| batches.last()).map_or(0, |batch| batch.end_offset().0)
    }

    /// Writes batches, by log, and commits what comes of them.
    async fn write(&mut self, way: Way, content: &[(LogId, Vec<Batch>)]) {
        for (log, batches) in content {
            self.written.entry(*log).or_default().extend(batches.iter().cloned());
        }
        let mut commit = Commit::default();
        let shared = match way {
            Way::Logs => {
                for (log, batches) in content {
                    commit.logs.push(self.flushes.log(*log, batches.clone()).await);
                }
                None
            }
            Way::Shared => Some(self.flushes.shared(content).await),
            Way::FlushManifest => Some(self.flushes.adopted_by_flush(&in_two(content)).await),
            Way::Recovery => Some(self.flushes.adopted(&in_two(content)).await),
        };
        commit.shared = shared.as_ref().map(|(record, _)| *record);
        self.flushes.commit(&commit).await;
        self.index.add(&commit, shared.map(|(_, index)| index));
    }

    fn snapshot(&self) -> Snapshot {
        let start =
            |log| (!self.deleted.contains(&log)).then(|| self.starts.get(&log).copied().unwrap_or_default());
        Snapshot::new(&self.index.snapshot(), start, &BTreeSet::new())
    }

    fn executor(&self) -> Executor {
        let memory = Budget::new("compaction", self.memory);
        Executor::new(self.flushes.store.clone(), self.index.clone(), memory).with_parts(700)
    }

    async fn execute(&mut self, plan: &Plan) -> Result<Rewritten, ExecuteError> {
        let executor = self.executor();
        executor.execute(plan, &SIZES, &mut || self.flushes.next_id()).await
    }

    /// Carries a plan out, commits, and deletes what is replaced.
    async fn carry_out(&mut self, plan: &Plan) {
        let Rewritten { commit, shared, .. } = self.execute(plan).await.expect("memory does not fail");
        assert!(commit.fits());
        assert!(self.index.keeps_ends(&commit, shared.as_deref()), "{plan:?}");
        *self.done.entry(plan.work).or_default() += 1;
        self.flushes.commit(&commit).await;
        self.index.rewrite(&commit, shared);
        let gone = commit.removed.iter().map(|record| segment_path(record.id())).collect();
        self.flushes.store.delete(gone, Purpose::Cleanup).await.expect("deleted");
    }

    /// Plans and carries out until nothing is left to do.
    async fn settle(&mut self, sizes: &Sizes) {
        for _ in 0..100 {
            let plans = plan(&self.snapshot(), sizes);
            if plans.is_empty() {
                return;
            }
            for plan in &plans {
                self.carry_out(plan).await;
            }
        }
        panic!("plans never end");
    }

    /// What a reader of `log` gets through `index` from its start on.
    async fn read(&self, index: &ObjectIndex, log: LogId) -> Vec<Vec<u8>> {
        let start = self.starts.get(&log).copied().unwrap_or_default();
        let mut read = Vec::new();
        for extent in index.extents(log) {
            for block in index.blocks_of(log, &extent).await.expect("readable") {
                read.extend(self.batches(&block).await);
            }
        }
        read.retain(|batch| batch.end_offset() > start);
        read.iter().map(bytes_of).collect()
    }

    async fn batches(&self, block: &BlockRef) -> Vec<Batch> {
        let range = block.entry.position..block.entry.end_position();
        let bytes = self.flushes.store.get_range(&block.path, range, Purpose::Fetch).await.expect("there");
        check_block(&bytes, &block.entry).expect("as it was written");
        let mut batches = split_batches(bytes).expect("whole batches");
        let (base, end) = (block.entry.base_offset, block.entry.end_offset);
        batches.retain(|batch| base <= batch.base_offset() && batch.end_offset() <= end);
        batches
    }

    /// Everything that can be asked of the index is as it was written, by the index at hand and by one that is loaded.
    async fn check(&self) {
        let loaded = self.flushes.load().await;
        loaded.retain(|log| !self.deleted.contains(&log));
        for (log, batches) in self.written.iter().filter(|(log, _)| !self.deleted.contains(log)) {
            let start = self.starts.get(log).copied().unwrap_or_default();
            let live = batches.iter().filter(|batch| batch.end_offset() > start);
            let expected: Vec<_> = live.map(bytes_of).collect();
            for index in [&self.index, &loaded] {
                assert_eq!(self.read(index, *log).await, expected, "log {log}");
                assert_eq!(index.committed_end(*log).0, self.end(*log), "log {log}");
                let states = index.states(&[*log]).await.expect("readable");
                assert_eq!(states[0].1, self.flushes.state(*log), "log {log}");
                self.check_aborted(index, *log, start).await;
            }
        }
    }

    async fn check_aborted(&self, index: &ObjectIndex, log: LogId, start: Offset) {
        let mut state = LogState::default();
        let batches = &self.written[&log];
        let all: Vec<_> = batches.iter().filter_map(|batch| state.apply(&batch.entry())).collect();
        let (from, to) = (start, state.end);
        let mut found = index.aborted(log, from, to).await.expect("readable");
        found.sort_by_key(|one| one.last_offset);
        let wanted: Vec<_> = all.into_iter().filter(|one| one.last_offset >= from).collect();
        assert_eq!(found, wanted, "log {log} from {from} to {to}");
    }

    fn kinds(&self) -> Vec<Kind> {
        self.index.objects().iter().map(ObjectRecord::kind).collect()
    }
}

/// The same batches as two WAL objects: the first half of each log's, then the rest.
fn in_two(content: &[(LogId, Vec<Batch>)]) -> [&thalweg_metadata::testing::Content; 2] {
    let half = |first: bool| -> Vec<(LogId, Vec<Batch>)> {
        let part = |(log, batches): &(LogId, Vec<Batch>)| {
            let (front, back) = batches.split_at(batches.len() / 2);
            (*log, if first { front } else { back }.to_vec())
        };
        content.iter().map(part).filter(|(_, batches)| !batches.is_empty()).collect()
    };
    // A test's content lives as long as the test.
    [Box::leak(half(true).into_boxed_slice()), Box::leak(half(false).into_boxed_slice())]
}

fn bytes_of(batch: &Batch) -> Vec<u8> {
    [&batch.head()[..], batch.records()].concat()
}

fn batch(base: i64, bytes: usize) -> Batch {
    BatchBuilder::new().base_offset(base).timestamp(base).records(2, bytes / 2).build()
}

fn batches(base: i64, count: i64, bytes: usize) -> Vec<Batch> {
    (0..count).map(|nth| batch(base + 2 * nth, bytes)).collect()
}

fn transactional(base: i64, producer: i64) -> Batch {
    BatchBuilder::new()
        .base_offset(base)
        .producer(producer, 0, base as i32)
        .transactional()
        .records(1, 50)
        .build()
}

fn abort(base: i64, producer: i64) -> Batch {
    BatchBuilder::new().base_offset(base).producer(producer, 0, -1).marker(false, 0).build()
}

#[tokio::test]
async fn a_log_with_enough_bytes_gets_a_segment_of_its_own_and_the_rest_one_that_is_shared() {
    let mut bench = Bench::new().await;
    for nth in 0..6 {
        let content = [(A, batches(nth * 6, 3, 200)), (B, batches(nth * 2, 1, 60))];
        bench.write(Way::Shared, &content).await;
    }
    bench.settle(&SIZES).await;
    bench.check().await;
    assert_eq!(bench.kinds(), [Kind::Log, Kind::Shared]);
    assert_eq!(bench.index.extents(A).len(), 1);
}

#[tokio::test]
async fn many_logs_are_split_with_few_gets_and_little_memory() {
    let mut bench = Bench::new().await;
    let content =
        |nth: i64| -> Vec<_> { (0..300).map(|log| (LogId(log), batches(nth * 2, 1, 200))).collect() };
    for nth in 0..4 {
        bench.write(Way::Shared, &content(nth)).await;
    }
    let sizes = Sizes { own: 800, plan: 1 << 20, shared: 1 << 20, index: 1 << 20, ..SIZES };
    let plans = plan(&bench.snapshot(), &sizes);
    assert!(plans.iter().all(|plan| plan.work == Work::Extract));
    bench.memory = 64 << 10;
    let before = bench.flushes.store.requests().of(Purpose::Compaction, Method::Get);
    bench.carry_out(&plans[0]).await;
    let gets = bench.flushes.store.requests().of(Purpose::Compaction, Method::Get) - before;
    assert!(plans[0].moves.len() > 100, "{} logs", plans[0].moves.len());
    assert!(gets <= 100, "{gets} GETs for {} runs in four objects", plans[0].moves.len());
    bench.settle(&sizes).await;
    bench.check().await;
    assert_eq!(bench.kinds().len(), 300);
}

#[tokio::test]
async fn what_a_recovery_and_a_flush_adopted_is_sorted_with_states_and_aborted_transactions() {
    for way in [Way::Recovery, Way::FlushManifest] {
        let mut bench = Bench::new().await;
        bench.write(Way::Shared, &[(A, vec![transactional(0, 7)]), (B, batches(0, 1, 50))]).await;
        let tail = vec![transactional(1, 8), abort(2, 7), batch(3, 100), abort(5, 8), transactional(6, 9)];
        bench.write(way, &[(A, tail), (B, batches(2, 2, 100))]).await;
        bench.write(Way::Shared, &[(A, vec![abort(7, 9)])]).await;
        bench.settle(&SIZES.settled()).await;
        bench.check().await;
        assert_eq!(bench.kinds(), [Kind::Shared], "{way:?}");
    }
}

#[tokio::test]
async fn a_manifest_alone_is_rewritten_with_the_states_before_it() {
    let mut bench = Bench::new().await;
    bench.write(Way::Logs, &[(A, vec![transactional(0, 7)]), (B, batches(0, 1, 50))]).await;
    bench.write(Way::Recovery, &[(A, vec![transactional(1, 8), abort(2, 7)]), (B, batches(2, 2, 100))]).await;
    bench.write(Way::Logs, &[(A, vec![abort(3, 8)]), (B, batches(6, 1, 50))]).await;
    let plans = plan(&bench.snapshot(), &SIZES);
    assert_eq!(plans.len(), 1);
    bench.carry_out(&plans[0]).await;
    bench.check().await;
    let extent = bench.index.extent_at(A, Offset(2)).expect("there");
    assert_eq!(extent.object.kind, Kind::Shared);
    let states = bench.index.states_at(&[(A, Offset(3))]).await.expect("readable");
    assert_eq!((states[0].end, states[0].first_open_offset()), (Offset(3), Some(Offset(1))));
    assert!(states[0].producers.get(ProducerId(7)).is_some());
}

#[tokio::test]
async fn small_log_segments_are_merged_and_a_large_one_is_written_in_parts() {
    let mut bench = Bench::new().await;
    for nth in 0..4 {
        bench.write(Way::Logs, &[(A, batches(nth * 4, 2, 400))]).await;
    }
    let before = bench.flushes.store.requests().of(Purpose::Compaction, Method::Multipart);
    bench.settle(&SIZES).await;
    bench.check().await;
    assert_eq!(bench.kinds(), [Kind::Log]);
    let parts = bench.flushes.store.requests().of(Purpose::Compaction, Method::Multipart) - before;
    assert!(parts > 4, "{parts} requests: begin, parts, complete");
}

#[tokio::test]
async fn a_merge_keeps_what_is_known_of_how_far_the_log_is_clean() {
    let mut bench = Bench::new().await;
    for nth in 0..4 {
        bench.write(Way::Logs, &[(A, batches(nth * 4, 2, 400))]).await;
    }
    let mut snapshot = bench.snapshot();
    for (object, cleaned_to) in snapshot.objects.iter_mut().zip([7, 3, 0, 0]) {
        if let ObjectRecord::Log(record) = &mut object.record {
            record.cleaned_to = Offset(cleaned_to);
        }
    }
    // Clean are the first one and all but the end of the second.
    let plan = plan(&snapshot, &SIZES.settled()).remove(0);
    let rewritten = bench.execute(&plan).await.expect("written");
    let merged: Vec<_> =
        rewritten.commit.logs.iter().map(|merged| (merged.base_offset.0, merged.cleaned_to.0)).collect();
    assert_eq!(merged, [(4, 3)], "{plan:?}");
}

#[tokio::test]
async fn a_run_of_a_log_larger_than_a_segment_becomes_several_each_with_its_state() {
    let mut bench = Bench::new().await;
    let mut content: Vec<_> = batches(0, 40, 500);
    content.push(transactional(80, 3));
    content.extend(batches(81, 10, 500));
    content.push(abort(101, 3));
    bench.write(Way::FlushManifest, &[(A, content)]).await;
    let plans = plan(&bench.snapshot(), &SIZES);
    bench.carry_out(&plans[0]).await;
    bench.check().await;
    let extents = bench.index.extents(A);
    assert!(extents.len() >= 2 && extents.iter().all(|extent| extent.object.kind == Kind::Log));
    for extent in extents {
        let states = bench.index.states_at(&[(A, extent.end)]).await.expect("readable");
        assert_eq!(states[0].end, extent.end);
    }
}

#[tokio::test]
async fn deleted_logs_and_what_lies_below_a_start_are_left_behind() {
    let mut bench = Bench::new().await;
    for nth in 0..4 {
        bench.write(Way::Shared, &[(A, batches(nth * 4, 2, 60)), (B, batches(nth * 4, 2, 60))]).await;
    }
    bench.deleted.insert(B);
    bench.index.remove(B);
    bench.starts.insert(A, Offset(11));
    bench.settle(&SIZES.settled()).await;
    bench.check().await;
    assert_eq!(bench.kinds(), [Kind::Shared]);
    let extents = bench.index.extents(A);
    assert_eq!((extents[0].base, extents[extents.len() - 1].end), (Offset(10), Offset(16)));
}

#[tokio::test]
async fn of_a_log_that_is_empty_but_for_what_a_recovery_adopted_the_end_and_the_state_stay() {
    let mut bench = Bench::new().await;
    let tail = vec![transactional(1, 8), abort(2, 7), batch(3, 100)];
    bench.write(Way::Shared, &[(A, vec![transactional(0, 7)])]).await;
    bench.write(Way::Recovery, &[(A, tail)]).await;
    bench.starts.insert(A, Offset(5));
    bench.settle(&SIZES).await;
    bench.check().await;
    assert_eq!(bench.kinds(), [Kind::Shared]);
}

#[tokio::test]
async fn objects_with_nothing_live_are_removed_without_a_read_but_the_newest_state_stays() {
    let mut bench = Bench::new().await;
    for nth in 0..4 {
        bench.write(Way::Shared, &[(A, batches(nth * 2, 1, 60)), (B, batches(nth * 2, 1, 60))]).await;
    }
    bench.deleted.insert(B);
    bench.index.remove(B);
    bench.starts.insert(A, Offset(8));
    let plans = plan(&bench.snapshot(), &SIZES);
    assert_eq!((plans.len(), plans[0].work, plans[0].inputs.len()), (1, Work::Remove, 3));
    let before = bench.flushes.store.requests().of_method(Method::Get);
    bench.execute(&plans[0]).await.expect("nothing to do");
    assert_eq!(bench.flushes.store.requests().of_method(Method::Get), before);
    bench.settle(&SIZES.settled()).await;
    bench.check().await;
    assert_eq!(bench.kinds(), [Kind::Shared]);
}

#[tokio::test]
async fn what_a_log_segment_hides_is_not_copied_and_runs_around_it_stay_apart() {
    let mut bench = Bench::new().await;
    let all = batches(0, 6, 60);
    // A crash in the middle of a commit: the log segment is in the index, and the recovery adopts its batches, too.
    let hiding = bench.flushes.log(A, all[2..4].to_vec()).await;
    let (manifest, adopted) =
        bench.flushes.adopted(&in_two(&[(A, all.clone()), (B, batches(0, 1, 60))])).await;
    bench.written = BTreeMap::from([(A, all), (B, batches(0, 1, 60))]);
    let commit = Commit { logs: vec![hiding], ..Commit::default() };
    bench.flushes.commit(&commit).await;
    bench.index.add(&commit, None);
    let commit = Commit { shared: Some(manifest), ..Commit::default() };
    bench.flushes.commit(&commit).await;
    bench.index.add(&commit, Some(adopted));
    bench.settle(&SIZES.settled()).await;
    let shape = |index: &ObjectIndex| -> Vec<_> {
        index.extents(A).iter().map(|extent| (extent.base.0, extent.end.0, extent.object.kind)).collect()
    };
    let expected = [(0, 4, Kind::Shared), (4, 8, Kind::Log), (8, 12, Kind::Shared)];
    assert_eq!(shape(&bench.index), expected);
    assert_eq!(shape(&bench.flushes.load().await), expected);
    let states = bench.index.states(&[A]).await.expect("readable");
    assert_eq!(states[0].1.end, Offset(12));
    for index in [&bench.index, &bench.flushes.load().await] {
        let read = bench.read(index, A).await;
        assert_eq!(read, bench.written[&A].iter().map(bytes_of).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_damaged_block_and_a_missing_input_are_told_and_nothing_is_left_but_garbage() {
    let objects = Arc::new(InMemory::new());
    let mut bench = Bench::on(objects.clone()).await;
    for nth in 0..4 {
        bench.write(Way::Shared, &[(A, batches(nth * 2, 1, 60))]).await;
    }
    let plans = plan(&bench.snapshot(), &SIZES);
    let path = segment_path(plans[0].inputs[2].id());
    let good = bench.flushes.store.get(&path, Purpose::Fetch).await.expect("there");
    let mut bad = good.to_vec();
    bad[100] ^= 1;
    bench.flushes.store.put(&path, bad.into(), Purpose::Flush).await.expect("written");
    let damaged = bench.execute(&plans[0]).await.expect_err("one bit differs");
    assert_eq!(damaged.kind(), ExecuteErrorKind::Corrupt);
    let told = matches!(
        &damaged,
        ExecuteError::Read(IndexError::Read(ReadError::Format { path: at, source: FormatError::BadCrc { .. } })) if *at == path
    );
    assert!(told, "{damaged}");

    bench.flushes.store.delete(vec![path.clone()], Purpose::Cleanup).await.expect("deleted");
    let gone = bench.execute(&plans[0]).await.expect_err("it is gone");
    assert_eq!(gone.kind(), ExecuteErrorKind::Stale);

    bench.flushes.store.put(&path, good.into(), Purpose::Flush).await.expect("written");
    bench.carry_out(&plans[0]).await;
    bench.check().await;
}

#[derive(Clone, Debug)]
enum Step {
    Write(Way, Vec<(u64, Vec<Item>)>),
    Delete(u64),
    RaiseStart(u64, u8),
    Compact(bool),
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Plain(u8),
    Transactional(i64),
    Abort(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop_oneof![
        4 => Just(Way::Shared),
        2 => Just(Way::Logs),
        1 => Just(Way::Recovery),
        2 => Just(Way::FlushManifest)
    ];
    let item = prop_oneof![
        4 => any::<u8>().prop_map(Item::Plain),
        1 => (1..4i64).prop_map(Item::Transactional),
        1 => (1..4i64).prop_map(Item::Abort)
    ];
    let content = prop::collection::btree_map(0..6u64, prop::collection::vec(item, 1..6), 1..6);
    prop_oneof![
        8 => (way, content).prop_map(|(way, content)| Step::Write(way, content.into_iter().collect())),
        1 => (0..6u64).prop_map(Step::Delete),
        1 => (0..6u64, any::<u8>()).prop_map(|(log, part)| Step::RaiseStart(log, part)),
        3 => any::<bool>().prop_map(Step::Compact),
    ]
}

fn build(base: &mut i64, item: Item) -> Batch {
    let batch = match item {
        Item::Plain(bytes) => batch(*base, 20 + 4 * usize::from(bytes)),
        Item::Transactional(producer) => transactional(*base, producer),
        Item::Abort(producer) => abort(*base, producer),
    };
    *base = batch.end_offset().0;
    batch
}

async fn take(bench: &mut Bench, step: Step) {
    match step {
        Step::Write(way, content) => {
            let mut written = Vec::new();
            for (log, items) in content.into_iter().filter(|(log, _)| !bench.deleted.contains(&LogId(*log))) {
                let mut base = bench.end(LogId(log));
                written.push((LogId(log), items.into_iter().map(|item| build(&mut base, item)).collect()));
            }
            if !written.is_empty() {
                bench.write(way, &written).await;
            }
        }
        Step::Delete(log) => {
            bench.deleted.insert(LogId(log));
            bench.index.remove(LogId(log));
        }
        Step::RaiseStart(log, part) => {
            let log = LogId(log);
            let before = bench.starts.get(&log).copied().unwrap_or_default();
            let start = before.0.max(bench.end(log) * i64::from(part) / 255);
            bench.starts.insert(log, Offset(start));
        }
        Step::Compact(settled) => {
            let sizes = if settled { SIZES.settled() } else { SIZES };
            for plan in plan(&bench.snapshot(), &sizes) {
                bench.carry_out(&plan).await;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_deleted_and_compacted_readers_see_the_same(
        steps in prop::collection::vec(step(), 1..25),
        memory in 1..20_000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new().await;
            bench.memory = memory;
            for step in steps {
                take(&mut bench, step).await;
            }
            bench.check().await;
            bench.settle(&SIZES).await;
            bench.check().await;
            bench.settle(&SIZES.settled()).await;
            bench.check().await;
        });
    }
}
