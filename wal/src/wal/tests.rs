//! The whole write path, on a store and a metadata store in memory, on a paused clock.

use super::*;
use crate::scripted_store::{Fate, ScriptedStore, test_runtime};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use thalweg_metadata::{KeyValueStore, KvError, MemoryKv, ObjectRecord, SharedRecord, Transaction};
use thalweg_segment::{
    BrokerEpoch, BrokerId, Kind, SegmentWriter, read_index, read_states, segment_path, testing::BatchBuilder,
    wal_path, wal_prefix,
};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// What an observer was told, in order.
#[derive(Clone, Debug)]
enum Told {
    Durable(Vec<(LogId, Offset)>),
    Flushed(Commit, Vec<(LogId, Offset)>),
    Rewritten(Commit),
    Fenced(String),
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Told>>);

impl Observer for Recorder {
    fn durable(&self, advanced: &[(LogId, Offset)]) {
        self.0.lock().push(Told::Durable(advanced.to_vec()));
    }

    fn flushed(&self, commit: &Commit, shared: Option<Arc<Index>>, flushed: &[(LogId, Offset)]) {
        assert_eq!(shared.is_some(), commit.shared.is_some());
        self.0.lock().push(Told::Flushed(commit.clone(), flushed.to_vec()));
    }

    fn rewritten(&self, commit: &Commit, shared: Option<Arc<Index>>) {
        assert_eq!(shared.is_some(), commit.shared.is_some());
        self.0.lock().push(Told::Rewritten(commit.clone()));
    }

    fn fenced(&self, why: &str) {
        self.0.lock().push(Told::Fenced(why.into()));
    }
}

/// A metadata store that can be made to fail.
struct Flaky {
    inner: Arc<dyn KeyValueStore>,
    down: AtomicBool,
    closed: AtomicBool,
}

impl Flaky {
    fn check(&self) -> Result<(), KvError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(KvError::Closed { reason: "by a test".into() });
        }
        let down = self.down.load(Ordering::Relaxed);
        if down { Err(KvError::Unavailable { reason: "down".into() }) } else { Ok(()) }
    }
}

#[async_trait]
impl KeyValueStore for Flaky {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.check()?;
        self.inner.range(from, to, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError> {
        self.check()?;
        self.inner.transact(transaction).await
    }

    async fn close(&self) -> Result<(), KvError> {
        self.inner.close().await
    }
}

/// A write-ahead log with logs 1 to 8 open, and everything around it.
struct Bench {
    wal: Wal,
    store: Arc<ScriptedStore>,
    kv: Arc<Flaky>,
    metadata: Metadata,
    record: IncarnationRecord,
    told: Arc<Recorder>,
    runtime: Runtime,
}

impl Bench {
    async fn start(config: WalConfig, script: impl IntoIterator<Item = Fate>) -> Self {
        let (runtime, store) = (test_runtime(), ScriptedStore::new(script));
        let kv = Arc::new(Flaky { inner: MemoryKv::new().open(), down: false.into(), closed: false.into() });
        let metadata = Metadata::new(kv.clone(), runtime.clone());
        let record = metadata.register(BrokerId(1), 16).await.unwrap();
        let told = Arc::new(Recorder::default());
        let wal = Wal::start(
            runtime.clone(),
            store.store(&runtime),
            metadata.clone(),
            record.clone(),
            config,
            told.clone(),
            &mut Default::default(),
        );
        (1..=8).for_each(|log| wal.open_log(LogId(log), LogState::default()));
        Self { wal, store, kv, metadata, record, told, runtime }
    }

    fn append(&self, log: u64, offset: i64) {
        self.wal.append(LogId(log), BatchBuilder::new().base_offset(offset).records(1, 100).build());
    }

    fn told(&self) -> Vec<Told> {
        self.told.0.lock().clone()
    }

    /// The acknowledged end of each log, after a check that none ever went back and nothing followed a fencing.
    fn ends(&self) -> BTreeMap<u64, i64> {
        let mut ends = BTreeMap::new();
        let told = self.told();
        for (at, told) in told.iter().enumerate() {
            assert!(at == 0 || !matches!(self.told()[at - 1], Told::Fenced(_)), "{told:?} follows a fencing");
            let Told::Durable(advanced) = told else { continue };
            for (log, end) in advanced {
                let before = ends.insert(log.0, end.0);
                assert!(before.is_none_or(|before| before < end.0), "log {log} went back to {end}");
            }
        }
        ends
    }

    fn commits(&self) -> Vec<Commit> {
        let commit = |told| if let Told::Flushed(commit, _) = told { Some(commit) } else { None };
        self.told().into_iter().filter_map(commit).collect()
    }

    fn fencings(&self) -> Vec<String> {
        let why = |told| if let Told::Fenced(why) = told { Some(why) } else { None };
        self.told().into_iter().filter_map(why).collect()
    }

    async fn stored_record(&self) -> IncarnationRecord {
        self.metadata.incarnation(self.record.incarnation).await.unwrap().unwrap()
    }

    /// Keys of the WAL objects that are in the store.
    async fn wal_objects(&self) -> usize {
        let prefix = wal_prefix(self.record.incarnation);
        self.store.inner.list(Some(&prefix)).try_collect::<Vec<_>>().await.unwrap().len()
    }

    /// The committed end of each log as the observer was told.
    fn flushed(&self) -> BTreeMap<u64, i64> {
        let ends = |told| if let Told::Flushed(_, ends) = told { ends } else { Vec::new() };
        self.told().into_iter().flat_map(ends).map(|(log, end)| (log.0, end.0)).collect()
    }

    /// The committed end of each log: every batch from 0 up to there is in a segment of the index, once, and the last
    /// segment has the log's state at its end.
    async fn committed(&self) -> BTreeMap<u64, i64> {
        let store = self.store.store(&test_runtime());
        let mut ids: Vec<_> = Vec::new();
        for commit in self.commits() {
            ids.extend(commit.logs.iter().map(|segment| segment.id));
            ids.extend(commit.shared.map(|shared| shared.id));
        }
        ids.sort();
        let mut ends = BTreeMap::new();
        for id in ids {
            let (_, index) = read_index(&store, &segment_path(id)).await.unwrap();
            for block in &index.blocks {
                let end = ends.entry(block.log.0).or_insert(0);
                assert_eq!(block.base_offset.0, *end, "log {} has a hole or a copy", block.log);
                *end = block.end_offset.0;
            }
            let states = read_states(&store, &segment_path(id), &index.states).await.unwrap();
            for (entry, state) in index.states.iter().zip(states) {
                assert_eq!(state.end.0, ends[&entry.log.0]);
            }
        }
        assert_eq!(self.flushed(), ends);
        ends
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_log_acknowledges_after_one_put_and_without_a_wait() {
    let bench = Bench::start(WalConfig::default(), [Fate::Done(Duration::from_millis(20))]).await;
    let start = Instant::now();
    bench.append(1, 0);
    sleep(Duration::from_millis(21)).await;
    assert_eq!(bench.ends(), BTreeMap::from([(1, 1)]));
    assert_eq!(bench.store.puts_since(start), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_many_partitions_costs_one_put() {
    let bench = Bench::start(WalConfig::default(), []).await;
    let hold = bench.wal.hold();
    for log in 1..=8 {
        bench.append(log, 0);
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.store.put_paths().len(), 0);
    drop(hold);
    sleep(SECOND).await;
    assert_eq!(bench.store.put_paths().len(), 1);
    assert_eq!(bench.ends().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_slow_put_delays_only_the_logs_in_it() {
    let slow = Fate::Done(Duration::from_secs(5));
    let bench = Bench::start(WalConfig::default(), [slow, Fate::Done(Duration::ZERO), slow]).await;
    bench.append(1, 0);
    sleep(Duration::from_millis(1)).await;
    bench.append(2, 0);
    sleep(SECOND).await;
    assert_eq!(bench.ends(), BTreeMap::from([(2, 1)]));
    bench.append(1, 1);
    sleep(SECOND).await;
    assert_eq!(bench.ends(), BTreeMap::from([(2, 1)]), "log 1 is held by its first object");
    sleep(5 * SECOND).await;
    assert_eq!(bench.ends(), BTreeMap::from([(1, 2), (2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_flush_writes_segments_commits_them_and_trims_the_wal() {
    let config = WalConfig { flush_log_bytes: 1000, ..WalConfig::default() };
    let bench = Bench::start(config, []).await;
    (0..10).for_each(|offset| bench.append(1, offset));
    bench.append(2, 0);
    sleep(SECOND).await;
    bench.append(3, 0);
    bench.wal.flush().await.unwrap();

    let [commit] = &bench.commits()[..] else { panic!("one commit") };
    assert_eq!(commit.logs.iter().map(|segment| segment.log.0).collect::<Vec<_>>(), [1]);
    assert!(commit.shared.is_some());
    assert_eq!(bench.committed().await, BTreeMap::from([(1, 10), (2, 1), (3, 1)]));
    assert_eq!(bench.stored_record().await.trim, WalSequence(2));
    assert_eq!(bench.wal.unflushed_bytes(), 0);
    sleep(SECOND).await;
    assert_eq!(bench.wal_objects().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_is_deleted_in_the_end_however_long_the_store_refuses() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.store.keeps_all.store(true, Ordering::Relaxed);
    for offset in 0..3 {
        bench.append(1, offset);
        bench.wal.flush().await.unwrap();
        sleep(100 * SECOND).await;
    }
    assert_eq!(bench.wal_objects().await, 3);
    bench.store.keeps_all.store(false, Ordering::Relaxed);
    sleep(200 * SECOND).await;
    assert_eq!(bench.wal_objects().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_of_its_tasks_and_a_closed_metadata_store_are_told_to_the_process() {
    struct Panics;
    impl Observer for Panics {
        fn durable(&self, _: &[(LogId, Offset)]) {
            panic!("of the observer");
        }
        fn flushed(&self, _: &Commit, _: Option<Arc<Index>>, _: &[(LogId, Offset)]) {}
        fn rewritten(&self, _: &Commit, _: Option<Arc<Index>>) {}
        fn fenced(&self, _: &str) {}
    }
    let bench = Bench::start(WalConfig::default(), []).await;
    let runtime = test_runtime();
    let (store, metadata) = (bench.store.store(&runtime), bench.metadata.clone());
    let record = metadata.register(BrokerId(2), 16).await.unwrap();
    let config = WalConfig::default();
    let wal = Wal::start(
        runtime.clone(),
        store,
        metadata,
        record,
        config,
        Arc::new(Panics),
        &mut Default::default(),
    );
    wal.open_log(LogId(1), LogState::default());
    wal.append(LogId(1), BatchBuilder::new().records(1, 100).build());
    let mut failed = runtime.failed();
    let why = failed.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(why.as_deref(), Some("the driver of the write-ahead log panicked: of the observer"));

    bench.kv.closed.store(true, Ordering::Relaxed);
    bench.append(1, 0);
    let Err(WalError::Failed { why }) = bench.wal.flush().await else { panic!("it can't be flushed") };
    assert_eq!(why, "the metadata store is closed: by a test");
    assert_eq!(*bench.runtime.failed().borrow(), Some(why));
    assert!(bench.fencings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flush_begins_at_its_size_at_its_age_or_when_asked_for() {
    let config = WalConfig { flush_bytes: 10_000, ..WalConfig::default() };
    let bench = Bench::start(config, []).await;
    bench.append(1, 0);
    sleep(59 * SECOND).await;
    assert!(bench.commits().is_empty());
    sleep(2 * SECOND).await;
    assert_eq!(bench.commits().len(), 1, "its age");

    (1..100).for_each(|offset| bench.append(1, offset));
    sleep(SECOND).await;
    assert_eq!(bench.commits().len(), 2, "its size");

    bench.append(1, 100);
    sleep(SECOND).await;
    bench.wal.request_flush();
    sleep(SECOND).await;
    assert_eq!(bench.commits().len(), 3, "asked for");

    bench.wal.request_flush();
    sleep(100 * SECOND).await;
    assert_eq!(bench.commits().len(), 3, "there was nothing to flush");
    assert_eq!(bench.committed().await, BTreeMap::from([(1, 101)]));
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_hold_up_appends() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    sleep(SECOND).await;
    bench.append(1, 1);
    sleep(SECOND).await;
    bench.store.then([Fate::Done(5 * SECOND)]);
    let (flushed, ()) = tokio::join!(bench.wal.flush(), async {
        sleep(SECOND).await;
        bench.append(2, 0);
        sleep(SECOND).await;
        assert!(bench.commits().is_empty(), "the segment is on its way");
        assert_eq!(bench.ends(), BTreeMap::from([(1, 2), (2, 1)]));
    });
    flushed.unwrap();
    assert_eq!(bench.committed().await, BTreeMap::from([(1, 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_close_flushes_everything_and_needs_no_recovery() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    bench.append(2, 0);
    bench.wal.close().await.unwrap();
    bench.append(1, 1);
    bench.wal.close().await.unwrap();
    bench.wal.flush().await.unwrap();

    let record = bench.stored_record().await;
    assert_eq!((record.state, record.trim), (IncarnationState::Recovered, WalSequence(1)));
    assert_eq!(bench.committed().await, BTreeMap::from([(1, 1), (2, 1)]));
    assert!(bench.commits().last().unwrap().close);
    assert_eq!((bench.fencings().len(), bench.wal_objects().await), (0, 0));
    assert_eq!(Arc::strong_count(&bench.told), 1, "the tasks have ended");
}

#[tokio::test(start_paused = true)]
async fn an_idle_log_closes_with_an_empty_commit() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.wal.close().await.unwrap();
    assert_eq!(bench.stored_record().await.state, IncarnationState::Recovered);
    assert!(bench.store.put_paths().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fence_stops_everything_and_is_told_once() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    sleep(SECOND).await;
    let other = thalweg_segment::Incarnation { broker: BrokerId(2), epoch: BrokerEpoch(99) };
    let fence = SegmentWriter::new(Kind::Fence, other, 1).finish();
    let path = wal_path(bench.record.incarnation, WalSequence(1));
    bench.store.inner.put(&path, fence.payload).await.unwrap();

    bench.append(1, 1);
    let WalError::Fenced { why } = bench.wal.flush().await.unwrap_err() else { panic!("it is fenced") };
    assert_eq!(why, "at WAL sequence 1 stands a Fence object of 2@99");
    bench.append(1, 2);
    sleep(100 * SECOND).await;
    assert_eq!((bench.ends(), bench.fencings()), (BTreeMap::from([(1, 1)]), vec![why]));
    assert!(bench.wal.close().await.is_err());
    assert!(bench.commits().is_empty());
    assert_eq!(Arc::strong_count(&bench.told), 1, "the tasks have ended");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_meets_a_take_over_fences() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    bench.metadata.raise(bench.record.incarnation, BrokerEpoch(99)).await.unwrap();
    assert!(bench.wal.flush().await.is_err());
    assert_eq!(bench.fencings().len(), 1);
    assert!(bench.commits().is_empty());
    assert_eq!(bench.wal_objects().await, 1, "recovery needs it");
}

#[tokio::test(start_paused = true)]
async fn appends_go_on_while_the_metadata_store_is_lost() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    bench.kv.down.store(true, Ordering::Relaxed);
    let (flushed, ()) = tokio::join!(bench.wal.flush(), async {
        sleep(300 * SECOND).await;
        bench.append(1, 1);
        sleep(SECOND).await;
        assert_eq!(bench.ends(), BTreeMap::from([(1, 2)]));
        assert!(bench.commits().is_empty());
        bench.kv.down.store(false, Ordering::Relaxed);
    });
    flushed.unwrap();
    bench.wal.flush().await.unwrap();
    assert_eq!((bench.committed().await, bench.fencings().len()), (BTreeMap::from([(1, 2)]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_log_is_left_out_and_holds_nobody_up() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    bench.append(2, 0);
    sleep(SECOND).await;
    bench.wal.close_log(LogId(1));
    bench.append(1, 1);
    bench.wal.flush().await.unwrap();
    assert_eq!(bench.committed().await, BTreeMap::from([(2, 1)]));
    assert_eq!(bench.wal.unflushed_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_tasks_end_with_the_last_handle() {
    let Bench { wal, told, .. } = Bench::start(WalConfig::default(), [Fate::Unanswered]).await;
    wal.append(LogId(1), BatchBuilder::new().records(1, 100).build());
    sleep(Duration::from_millis(1)).await;
    let shared = Arc::downgrade(&wal.shared);
    let clone = wal.clone();
    drop(wal);
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&told), 2, "a handle is left");
    drop(clone);
    sleep(SECOND).await;
    assert_eq!((Arc::strong_count(&told), shared.strong_count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_store_does_everything_is_acknowledged_in_order_and_flushed_once() {
    for seed in 0..30 {
        let random = thalweg_runtime::Random::from_seed(seed);
        let fate = |_| match random.range(0..10) {
            0 => Fate::AnswerLost,
            1 => Fate::Failed,
            2 => Fate::Conflict,
            3 => Fate::Unanswered,
            4 => Fate::Lost,
            _ => Fate::Done(Duration::from_millis(random.range(0..800))),
        };
        let script: Vec<_> = (0..300).map(fate).collect();
        let config = WalConfig {
            object_bytes: 2000,
            flush_bytes: 10_000,
            flush_log_bytes: 3000,
            window: 4,
            ..WalConfig::default()
        };
        let bench = Bench::start(config, script).await;
        let mut ends: BTreeMap<u64, i64> = BTreeMap::new();
        for _ in 0..400 {
            let log = 1 + random.range(0..8);
            let end = ends.entry(log).or_default();
            bench.append(log, *end);
            *end += 1;
            sleep(Duration::from_millis(random.range(0..40))).await;
        }
        bench.wal.close().await.unwrap();
        assert_eq!(bench.ends(), ends, "seed {seed}");
        assert_eq!(bench.committed().await, ends, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulk_load_is_committed_by_reference_and_its_objects_stay() {
    let config = WalConfig { flush_adopt_block_bytes: 1, ..WalConfig::default() };
    let bench = Bench::start(config, []).await;
    (0..3).for_each(|offset| bench.append(1, offset));
    bench.wal.flush().await.unwrap();
    let commits = bench.commits();
    let [commit] = &commits[..] else { panic!("{commits:?}") };
    let manifest = commit.shared.unwrap();
    let own = bench.record.incarnation;
    assert_eq!((manifest.adopts, manifest.id.incarnation, commit.trim), (Some(own), own, WalSequence(1)));
    sleep(100 * SECOND).await;
    assert_eq!(bench.wal_objects().await, 1);
    let store = bench.store.store(&bench.runtime);
    let (footer, index) = read_index(&store, &segment_path(manifest.id)).await.unwrap();
    assert_eq!(footer.kind, Kind::FlushManifest);
    assert_eq!(index.states[0].end, Offset(3));
    let states = read_states(&store, &segment_path(manifest.id), &index.states).await.unwrap();
    assert_eq!(states[0].end, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_is_committed_beside_the_flushes_or_refused_as_a_whole() {
    let bench = Bench::start(WalConfig::default(), []).await;
    bench.append(1, 0);
    bench.wal.flush().await.unwrap();
    let flushed = bench.commits()[0].shared.unwrap();
    let replaced = |name: &Reservation| Commit {
        shared: Some(SharedRecord { id: name.id(), ..flushed }),
        removed: vec![ObjectRecord::Shared(flushed)],
        ..Commit::default()
    };
    let name = bench.wal.reserve();
    let (id, commit) = (name.id(), replaced(&name));
    assert!(id.number > flushed.id.number && bench.wal.is_reserved(id));
    let rewrite = |commit, name| Rewrite { commit, shared: Some(Arc::default()), reservations: vec![name] };
    bench.wal.rewrite(rewrite(commit, name)).await.unwrap();
    assert!(!bench.wal.is_reserved(id));
    let rewritten = |told: &Told| matches!(told, Told::Rewritten(commit) if commit.shared.unwrap().id == id);
    assert_eq!(bench.told().iter().filter(|told| rewritten(told)).count(), 1);
    assert_eq!(bench.metadata.shared_records().await.unwrap()[0].id, id);

    let name = bench.wal.reserve();
    let again = replaced(&name);
    let refused = bench.wal.rewrite(rewrite(again, name)).await;
    assert!(matches!(refused, Err(RewriteError::Stale)), "{refused:?}");
    assert_eq!(bench.metadata.shared_records().await.unwrap().len(), 1);

    bench.append(1, 1);
    bench.wal.flush().await.unwrap();
    assert_eq!(bench.wal.trim_point(), WalSequence(2));
    bench.wal.close().await.unwrap();
    let name = bench.wal.reserve();
    let late = replaced(&name);
    let refused = bench.wal.rewrite(rewrite(late, name)).await;
    assert!(matches!(refused, Err(RewriteError::Ended(_))), "{refused:?}");
}
