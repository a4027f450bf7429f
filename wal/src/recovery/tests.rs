use super::*;
use object_store::memory::InMemory;
use thalweg_metadata::MemoryKv;
use thalweg_runtime::{Inline, Random, SystemClock, TokioSpawner};
use thalweg_segment::{Batch, BrokerId, LeaderEpoch, Patience, testing::BatchBuilder};

const LOG: LogId = LogId(4);
const OTHER: LogId = LogId(5);
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// Two brokers on one bucket: a dead one with a window of 2, and its recoverer.
struct Brokers {
    runtime: Runtime,
    store: Store,
    metadata: Metadata,
    dead: Incarnation,
    recoverer: IncarnationRecord,
}

impl Brokers {
    async fn new() -> Self {
        let runtime = Runtime::new(
            Arc::new(SystemClock),
            Random::from_seed(1),
            Arc::new(TokioSpawner),
            Arc::new(Inline),
        );
        let patience = Patience {
            attempt: Duration::from_secs(1),
            total: Duration::from_secs(1),
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(10),
        };
        let store = Store::new(Arc::new(InMemory::new()), runtime.clone(), patience);
        let metadata = Metadata::new(MemoryKv::new().open(), runtime.clone());
        let dead = metadata.register(BrokerId(1), 2).await.expect("a new life").incarnation;
        let recoverer = metadata.register(BrokerId(2), 2).await.expect("a new life");
        Self { runtime, store, metadata, dead, recoverer }
    }

    /// The dead broker's object `sequence`.
    async fn write(&self, sequence: u64, batches: &[(LogId, Batch)]) {
        let mut writer = SegmentWriter::new(Kind::Wal, self.dead, sequence);
        batches.iter().for_each(|(log, batch)| writer.batch(*log, batch));
        let path = wal_path(self.dead, WalSequence(sequence));
        let payload = writer.finish().payload;
        self.store.create_once(&path, payload, Purpose::Wal).await.expect("nothing is there");
    }

    async fn take_over(&self, committed_end: i64) -> Result<Recovered, RecoveryError> {
        let Self { runtime, store, metadata, dead, recoverer } = self;
        take_over(runtime, store, metadata, *dead, recoverer, &Owned(Offset(committed_end))).await
    }
}

/// The dead broker still owns [`LOG`], up to an offset of which the index holds it.
struct Owned(Offset);

#[async_trait]
impl Logs for Owned {
    async fn may_have_written(&self) -> Result<bool, IndexError> {
        Ok(true)
    }

    async fn owned(&self, logs: &BTreeSet<LogId>) -> Result<BTreeMap<LogId, OwnedLog>, IndexError> {
        let owned = OwnedLog { committed_end: self.0, leader_epoch: EPOCH };
        Ok(logs.iter().filter(|log| **log == LOG).map(|log| (*log, owned)).collect())
    }
}

fn batch(base: i64, records: usize) -> Batch {
    let mut batch = BatchBuilder::new().records(records, 10).build();
    batch.place(Offset(base), EPOCH);
    batch
}

#[tokio::test(start_paused = true)]
async fn what_continues_is_adopted_by_reference_and_can_be_read() {
    let brokers = Brokers::new().await;
    brokers.write(0, &[(LOG, batch(0, 2)), (LOG, batch(2, 3)), (OTHER, batch(0, 1))]).await;
    brokers.write(1, &[(LOG, batch(5, 1))]).await;
    let recovered = brokers.take_over(2).await.expect("nobody else recovers");
    assert_eq!((recovered.objects, recovered.fences), (2, 2));
    assert_eq!(recovered.ends, [(LOG, Offset(6))].into());
    let (record, index) = recovered.manifest.expect("two batches are kept");
    assert_eq!(brokers.metadata.shared_records().await.expect("in memory"), [record]);
    assert_eq!(read_index(&brokers.store, &segment_path(record.id)).await.expect("written").1, *index);
    let offsets: Vec<_> =
        index.blocks.iter().map(|block| (block.base_offset.0, block.end_offset.0)).collect();
    assert_eq!(offsets, [(2, 5), (5, 6)]);
    for block in &index.blocks {
        let path = wal_path(brokers.dead, WalSequence(block.object));
        let range = block.position..block.position + u64::from(block.size);
        let bytes =
            brokers.store.get_range(&path, range, Purpose::Fetch).await.expect("adopted objects stay");
        check_block(&bytes, block).expect("a cut block has a checksum of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_behind_a_hole_is_fenced_off() {
    let brokers = Brokers::new().await;
    brokers.write(0, &[(LOG, batch(0, 2))]).await;
    brokers.write(2, &[(LOG, batch(3, 2))]).await;
    let recovered = brokers.take_over(0).await.expect("nobody else recovers");
    assert_eq!((recovered.objects, recovered.fences), (2, 1), "the window ends behind sequence 2");
    assert_eq!(recovered.ends, [(LOG, Offset(2))].into());
}

#[tokio::test(start_paused = true)]
async fn an_empty_log_leaves_fences_and_no_manifest() {
    let brokers = Brokers::new().await;
    let recovered = brokers.take_over(0).await.expect("nobody else recovers");
    assert_eq!((recovered.objects, recovered.fences), (0, 2));
    assert!(recovered.manifest.is_none() && recovered.ends.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_take_over_is_told_that_it_comes_too_late() {
    let brokers = Brokers::new().await;
    brokers.take_over(0).await.expect("nobody else recovers");
    let error = brokers.take_over(0).await.expect_err("it is recovered");
    assert!(matches!(error, RecoveryError::Metadata(MetadataError::Conflict { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_can_not_be_read_halts_the_recovery() {
    let brokers = Brokers::new().await;
    let path = wal_path(brokers.dead, WalSequence(0));
    brokers.store.create_once(&path, vec![7; 500].into(), Purpose::Wal).await.expect("nothing is there");
    let error = brokers.take_over(0).await.expect_err("garbage is not a gap");
    assert!(matches!(error, RecoveryError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains(path.as_ref()), "{error} names the object");
}

#[tokio::test(start_paused = true)]
async fn another_incarnations_object_halts_the_recovery() {
    let brokers = Brokers::new().await;
    let mut writer = SegmentWriter::new(Kind::Wal, brokers.recoverer.incarnation, 0);
    writer.batch(LOG, &batch(0, 1));
    let path = wal_path(brokers.dead, WalSequence(0));
    brokers.store.create_once(&path, writer.finish().payload, Purpose::Wal).await.expect("nothing is there");
    let error = brokers.take_over(0).await.expect_err("somebody else's object is not a gap");
    assert!(matches!(error, RecoveryError::Unreadable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_straddling_batch_halts_the_recovery() {
    let brokers = Brokers::new().await;
    brokers.write(0, &[(LOG, batch(0, 4))]).await;
    let error = brokers.take_over(2).await.expect_err("offset 2 lies within the batch");
    assert!(matches!(error, RecoveryError::Contradictory { .. }), "{error}");
}

/// The dead broker never became the owner of anything.
struct NothingOwned;

#[async_trait]
impl Logs for NothingOwned {
    async fn may_have_written(&self) -> Result<bool, IndexError> {
        Ok(false)
    }

    async fn owned(&self, _: &BTreeSet<LogId>) -> Result<BTreeMap<LogId, OwnedLog>, IndexError> {
        panic!("there is nothing to ask about")
    }
}

#[tokio::test]
async fn an_incarnation_that_never_owned_a_log_is_taken_over_without_a_fence() {
    let brokers = Brokers::new().await;
    let Brokers { runtime, store, metadata, dead, recoverer } = &brokers;
    let recovered =
        take_over(runtime, store, metadata, *dead, recoverer, &NothingOwned).await.expect("it is taken over");
    assert!(recovered.manifest.is_none() && recovered.fences == 0);
    let left = store.list(&wal_prefix(*dead), None, Purpose::Recovery).await.expect("memory can be listed");
    assert!(left.is_empty(), "{left:?}");
    let unrecovered = metadata.unrecovered().await.expect("memory can be read");
    assert!(unrecovered.iter().all(|record| record.incarnation != *dead));
}
