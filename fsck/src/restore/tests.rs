use super::*;
use crate::{OpenMetadata, Options, check};
use async_trait::async_trait;
use object_store::{ObjectStoreExt, memory::InMemory};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{
    Commit, IncarnationState, LogSegmentRecord, MemoryKv, SharedRecord, Snapshot, TopicRecord,
    testing::{Flushes, runtime},
    write_snapshot,
};
use thalweg_segment::{
    Batch, BrokerEpoch, BrokerId, Incarnation, Kind, LeaderEpoch, LogId, Offset, SegmentWriter, WalSequence,
    manifest_number, segment_path, testing::BatchBuilder, wal_path,
};

const WRITER: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(1) };
const CLUSTER: &str = "a-cluster";

struct Rows(Metadata);

#[async_trait]
impl OpenMetadata for Rows {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        Ok(self.0.clone())
    }
}

/// A cluster of one topic, `orders`, of two partitions.
struct Bed {
    objects: Arc<InMemory>,
    flushes: Flushes,
    topic: TopicRecord,
    snapshots: u64,
}

impl Bed {
    async fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let flushes = Flushes::into(objects.clone()).await;
        let configs = [("retention.ms".to_owned(), "7".to_owned())].into();
        let topic = flushes.metadata.create_topic("orders", 2, configs).await.expect("created");
        Self { objects, flushes, topic, snapshots: 0 }
    }

    fn log(&self, partition: usize) -> LogId {
        self.topic.log_ids().nth(partition).expect("there are two")
    }

    async fn snapshot(&mut self) {
        let snapshot = Snapshot {
            cluster_id: CLUSTER.into(),
            taken_by: WRITER,
            leader_epoch: LeaderEpoch(2),
            number: self.snapshots,
            taken_at_ms: 0,
            rows: self.flushes.metadata.rows_for_snapshot().await.expect("read"),
        };
        self.snapshots += 1;
        write_snapshot(&self.flushes.store, &snapshot, 3).await.expect("written");
    }

    async fn share(&mut self, content: &[(LogId, Vec<Batch>)]) -> SharedRecord {
        let (record, _) = self.flushes.shared(content).await;
        self.flushes.commit(&Commit { shared: Some(record), ..Commit::default() }).await;
        record
    }

    async fn segment(&mut self, log: LogId, batches: Vec<Batch>) -> LogSegmentRecord {
        let record = self.flushes.log(log, batches).await;
        self.flushes.commit(&Commit { logs: vec![record], ..Commit::default() }).await;
        record
    }

    async fn wal(&self, writer: Incarnation, sequence: u64, log: LogId, batch: &Batch) {
        let mut object = SegmentWriter::new(Kind::Wal, writer, sequence);
        object.batch(log, batch);
        let path = wal_path(writer, WalSequence(sequence));
        self.objects.put(&path, object.finish().payload).await.expect("memory takes it");
    }

    async fn restore(&self) -> (Metadata, Restored) {
        let metadata = Metadata::new(MemoryKv::new().open(), runtime());
        let restored =
            restore(&runtime(), &self.flushes.store, &metadata, CLUSTER, 8).await.expect("restored");
        (metadata, restored)
    }

    /// Restores, and checks what is restored.
    async fn restore_clean(&self) -> (Metadata, Restored) {
        let (metadata, restored) = self.restore().await;
        let options = Options { deep: true, orphan_age: Duration::from_secs(3600) };
        let rows = Rows(metadata.clone());
        let report = check(&runtime(), &self.flushes.store, &rows, CLUSTER, options).await.expect("checked");
        assert!(report.is_clean(), "{report}");
        (metadata, restored)
    }
}

fn batch(base: i64, records: usize, epoch: i32) -> Batch {
    BatchBuilder::new().base_offset(base).leader_epoch(epoch).records(records, 10).build()
}

async fn index(metadata: &Metadata) -> (Vec<SharedRecord>, Vec<LogSegmentRecord>) {
    let shared = metadata.shared_records().await.expect("read");
    (shared, metadata.log_segment_records().await.expect("read"))
}

#[tokio::test]
async fn the_index_and_the_topics_come_back_as_they_were() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    let (first, second) = (bed.log(0), bed.log(1));
    bed.share(&[(first, vec![batch(0, 3, 2)]), (second, vec![batch(0, 1, 2)])]).await;
    bed.segment(first, vec![batch(3, 4, 2), batch(7, 1, 2)]).await;
    let (manifest, _) = bed.flushes.adopted(&[&[(second, vec![batch(1, 2, 2)])]]).await;
    // Recoveries number their manifests by the incarnation that they take over.
    let dead = Incarnation { broker: BrokerId(9), epoch: BrokerEpoch(9) };
    let numbered = thalweg_segment::SegmentId { number: manifest_number(dead, 0), ..manifest.id };
    let bytes =
        bed.objects.get(&segment_path(manifest.id)).await.expect("written").bytes().await.expect("read");
    let (_, contents) = thalweg_segment::read_object(&bytes).expect("a manifest");
    let again = SegmentWriter::index_only(Kind::Manifest, numbered.incarnation, numbered.number, contents);
    bed.objects.put(&segment_path(numbered), again.payload).await.expect("memory takes it");
    bed.objects.delete(&segment_path(manifest.id)).await.expect("it was there");
    let manifest = SharedRecord { id: numbered, ..manifest };
    bed.flushes.commit(&Commit { shared: Some(manifest), ..Commit::default() }).await;
    let (metadata, restored) = bed.restore_clean().await;
    assert_eq!(index(&metadata).await, index(&bed.flushes.metadata).await);
    assert_eq!(metadata.topics().await.expect("read"), [bed.topic.clone()]);
    assert!(restored.is_complete(), "{restored}");
    assert_eq!((restored.log_segments, restored.shared_segments, restored.manifests), (1, 1, 1));
    assert_eq!(restored.wal, None);
}

#[tokio::test]
async fn what_the_wal_holds_is_left_to_the_next_start() {
    let mut bed = Bed::new().await;
    let log = bed.log(0);
    bed.snapshot().await;
    bed.share(&[(log, vec![batch(0, 3, 5)])]).await;
    bed.wal(WRITER, 6, log, &batch(0, 3, 5)).await;
    bed.wal(WRITER, 7, log, &batch(3, 1, 5)).await;
    bed.wal(WRITER, 8, log, &batch(4, 1, 5)).await;
    let (metadata, restored) = bed.restore_clean().await;
    let record = metadata.incarnation(WRITER).await.expect("read").expect("it is recorded");
    assert_eq!((record.state, record.trim), (IncarnationState::Open, WalSequence(7)));
    let owner = metadata.owner().await.expect("read").expect("there is one");
    assert_eq!((owner.incarnation, owner.leader_epoch), (WRITER, LeaderEpoch(5)));
    assert_eq!(restored.wal.as_ref().map(|wal| wal.objects), Some(2));
    assert!(restored.is_complete(), "{restored}");
}

#[tokio::test]
async fn nothing_that_may_have_been_given_away_is_given_away_again() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    let log = bed.log(0);
    bed.flushes.metadata.allocate_producer_ids(1000).await.expect("drawn");
    let produced = BatchBuilder::new().leader_epoch(40).producer(900, 0, 0).records(1, 1).build();
    bed.share(&[(log, vec![produced])]).await;
    let (metadata, _) = bed.restore_clean().await;
    assert!(metadata.allocate_producer_ids(1).await.expect("drawn").0 > 1000);
    let next = metadata.register(BrokerId(1), 8).await.expect("registered");
    assert!(next.incarnation.epoch.0 > 1040, "{}", next.incarnation);
    let created = metadata.create_topic("later", 1, BTreeMap::new()).await.expect("created");
    assert!(created.log_ids().all(|log| log.0 > 1000));
}

#[tokio::test]
async fn a_topic_newer_than_the_snapshot_keeps_its_records_under_another_name() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    let newer = bed.flushes.metadata.create_topic("newer", 1, BTreeMap::new()).await.expect("created");
    let log = newer.log_ids().next().expect("there is one");
    bed.share(&[(log, vec![batch(0, 3, 2)])]).await;
    let (metadata, restored) = bed.restore_clean().await;
    let topics = metadata.topics().await.expect("read");
    let name = format!("restored-log-{log}");
    let found = topics.iter().find(|topic| topic.name == name).expect("it has a topic");
    assert_eq!(found.log_ids().collect::<Vec<_>>(), [log]);
    assert_eq!(restored.nameless, [NamelessLog { log: log.0, topic: name, end: 3 }]);
    assert!(!restored.is_complete());
}

#[tokio::test]
async fn without_a_snapshot_the_records_come_back_without_names() {
    let mut bed = Bed::new().await;
    let log = bed.log(1);
    bed.segment(log, vec![batch(0, 3, 2)]).await;
    let (metadata, restored) = bed.restore_clean().await;
    assert_eq!(restored.snapshot, None);
    assert_eq!(index(&metadata).await, index(&bed.flushes.metadata).await);
    assert_eq!(metadata.topics().await.expect("read").len(), 1);
}

#[tokio::test]
async fn the_newest_snapshot_that_can_be_read_counts() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    bed.snapshot().await;
    let newest = thalweg_segment::snapshot_path(LeaderEpoch(2), 1);
    bed.objects.put(&newest, "damaged".into()).await.expect("memory takes it");
    let (_, restored) = bed.restore_clean().await;
    let older = thalweg_segment::snapshot_path(LeaderEpoch(2), 0);
    assert_eq!(restored.snapshot.map(|used| used.path), Some(older.to_string()));
    assert_eq!(restored.unreadable_snapshots.len(), 1);
}

#[tokio::test]
async fn another_clusters_snapshot_is_not_used() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    let metadata = Metadata::new(MemoryKv::new().open(), runtime());
    let restored = restore(&runtime(), &bed.flushes.store, &metadata, "another", 8).await.expect("restored");
    assert_eq!(restored.snapshot, None);
    assert!(restored.unreadable_snapshots[0].contains("another cluster's"), "{restored}");
}

#[tokio::test]
async fn what_a_rewrite_replaced_is_left_out_and_deleted_topics_stay_deleted() {
    let mut bed = Bed::new().await;
    let log = bed.log(0);
    bed.share(&[(log, vec![batch(0, 2, 2)])]).await;
    bed.share(&[(log, vec![batch(2, 2, 2)])]).await;
    let gone = bed.flushes.metadata.create_topic("gone", 1, BTreeMap::new()).await.expect("created");
    let gone_log = gone.log_ids().next().expect("there is one");
    bed.share(&[(gone_log, vec![batch(0, 1, 2)])]).await;
    bed.flushes.metadata.delete_topic("gone", gone.id).await.expect("deleted");
    bed.snapshot().await;
    let merged = bed.segment(log, vec![batch(0, 2, 2), batch(2, 2, 2)]).await;
    let (metadata, restored) = bed.restore_clean().await;
    assert_eq!(index(&metadata).await, (vec![], vec![merged]));
    assert_eq!((restored.not_needed, restored.of_deleted_topics), (2, 1));
    assert!(restored.is_complete(), "{restored}");
}

#[tokio::test]
async fn what_is_in_no_object_is_told() {
    let mut bed = Bed::new().await;
    bed.snapshot().await;
    let (first, second) = (bed.log(0), bed.log(1));
    bed.segment(first, vec![batch(0, 2, 2)]).await;
    bed.segment(first, vec![batch(5, 2, 2)]).await;
    bed.segment(second, vec![batch(4, 2, 2)]).await;
    let damaged = bed.segment(second, vec![batch(6, 2, 2)]).await;
    let path = segment_path(damaged.id);
    bed.objects.put(&path, "damaged".into()).await.expect("memory takes it");
    let (metadata, restored) = bed.restore().await;
    assert_eq!(restored.gaps, [Offsets { log: first.0, from: 2, to: 5 }]);
    assert_eq!(restored.later_starts, [Offsets { log: second.0, from: 0, to: 4 }]);
    assert_eq!(restored.unreadable.len(), 1);
    assert_eq!(metadata.log_starts().await.expect("read")[&second], Offset(4));
    assert!(!restored.is_complete());
}

#[tokio::test]
async fn a_store_that_has_metadata_is_left_alone() {
    let bed = Bed::new().await;
    let refused = restore(&runtime(), &bed.flushes.store, &bed.flushes.metadata, CLUSTER, 8).await;
    let conflict =
        |error: &RestoreError| matches!(error, RestoreError::Metadata(MetadataError::Conflict { .. }));
    assert!(refused.as_ref().is_err_and(conflict), "{refused:?}");
}
