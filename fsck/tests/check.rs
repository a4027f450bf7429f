//! Checks of real objects and rows, sound and damaged.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use async_trait::async_trait;
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thalweg_fsck::*;
use thalweg_metadata::{
    Commit, KvError, LogSegmentRecord, MemoryKv, Metadata, MetadataError, NewRows, SharedRecord,
    testing::{Flushes, runtime},
};
use thalweg_segment::{
    Batch, BrokerEpoch, BrokerId, Incarnation, Kind, LogId, Offset, SegmentId, SegmentWriter, WalSequence,
    segment_path, testing::BatchBuilder, wal_path,
};

const HOUR: Duration = Duration::from_secs(3600);
const SHALLOW: Options = Options { deep: false, orphan_age: HOUR };
const DEEP: Options = Options { deep: true, orphan_age: HOUR };
/// Of the first life of the broker that `Flushes` plays.
const WRITER: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(1) };
/// Whose WAL objects `Flushes` has adopted.
const ADOPTED: Incarnation = Incarnation { broker: BrokerId(9), epoch: BrokerEpoch(9) };

/// Always the same store of metadata.
struct Rows(Metadata);

#[async_trait]
impl OpenMetadata for Rows {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        Ok(self.0.clone())
    }
}

/// What each opening shows in turn; the last one stays.
struct Changing(Mutex<Vec<Metadata>>);

#[async_trait]
impl OpenMetadata for Changing {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        let mut views = self.0.lock();
        let view = views[0].clone();
        if views.len() > 1 {
            views.remove(0);
        }
        Ok(view)
    }
}

/// A topic of three partitions in a bucket.
struct Bed {
    objects: Arc<InMemory>,
    flushes: Flushes,
    logs: Vec<LogId>,
}

impl Bed {
    async fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let flushes = Flushes::into(objects.clone()).await;
        let topic = flushes.metadata.create_topic("orders", 3, BTreeMap::new()).await.unwrap();
        Self { objects, flushes, logs: topic.log_ids().collect() }
    }

    /// With a shared segment, a log segment and an adopted WAL object, one behind the other in the first log.
    async fn filled() -> Self {
        let mut bed = Self::new().await;
        let (first, second) = (bed.logs[0], bed.logs[1]);
        bed.share(&[(first, vec![batch(0, 3), batch(3, 2)]), (second, vec![batch(0, 1)])]).await;
        bed.log(first, vec![batch(5, 5)]).await;
        let (manifest, _) = bed.flushes.adopted(&[&[(first, vec![batch(10, 2)])]]).await;
        bed.commit_shared(manifest).await;
        bed
    }

    async fn share(&mut self, content: &[(LogId, Vec<Batch>)]) -> SharedRecord {
        let (record, _) = self.flushes.shared(content).await;
        self.commit_shared(record).await;
        record
    }

    async fn commit_shared(&mut self, record: SharedRecord) {
        self.flushes.commit(&Commit { shared: Some(record), ..Commit::default() }).await;
    }

    async fn log(&mut self, log: LogId, batches: Vec<Batch>) -> LogSegmentRecord {
        let record = self.flushes.log(log, batches).await;
        self.flushes.commit(&Commit { logs: vec![record], ..Commit::default() }).await;
        record
    }

    async fn check(&self, options: Options) -> Report {
        self.check_by(&Rows(self.flushes.metadata.clone()), options).await
    }

    async fn check_by(&self, metadata: &dyn OpenMetadata, options: Options) -> Report {
        check(&runtime(), &self.flushes.store, metadata, "a-cluster", options).await.unwrap()
    }

    async fn bytes(&self, path: &Path) -> Vec<u8> {
        self.objects.get(path).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.objects.put(path, PutPayload::from(bytes)).await.unwrap();
    }

    /// Flips a bit of the byte that `at` gives for the object's length.
    async fn damage(&self, path: &Path, at: impl Fn(usize) -> usize) {
        let mut bytes = self.bytes(path).await;
        let at = at(bytes.len());
        bytes[at] ^= 1;
        self.put(path, bytes).await;
    }

    async fn delete(&self, path: &Path) {
        self.objects.delete(path).await.unwrap();
    }
}

fn batch(base: i64, records: usize) -> Batch {
    BatchBuilder::new().base_offset(base).records(records, 10).build()
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.problems().map(|finding| finding.kind).collect()
}

#[tokio::test]
async fn a_sound_bucket_is_clean_and_deep_reads_every_byte() {
    let bed = Bed::filled().await;
    let report = bed.check(SHALLOW).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.totals.states_read, 2);
    assert_eq!(
        (report.totals.shared_segments, report.totals.log_segments, report.totals.manifests),
        (1, 1, 1)
    );
    let deep = bed.check(DEEP).await;
    assert!(deep.is_clean(), "{deep}");
    assert_eq!((deep.totals.blocks_read, deep.totals.states_read), (4, 3));
    assert_eq!(deep.totals.bytes_read, deep.totals.block_bytes);
    assert!(deep.findings.is_empty(), "{deep}");
}

#[tokio::test]
async fn an_object_that_rows_refer_to_is_missed() {
    let mut bed = Bed::filled().await;
    let record = bed.log(bed.logs[2], vec![batch(0, 1)]).await;
    bed.delete(&segment_path(record.id)).await;
    let report = bed.check(SHALLOW).await;
    assert_eq!(kinds(&report), [FindingKind::MissingObject]);
    assert_eq!(report.findings[0].object.as_deref(), Some(segment_path(record.id).as_ref()));
}

#[tokio::test]
async fn a_wal_object_that_a_manifest_refers_to_is_missed() {
    let bed = Bed::filled().await;
    let path = wal_path(ADOPTED, WalSequence(0));
    bed.delete(&path).await;
    let report = bed.check(SHALLOW).await;
    assert_eq!(kinds(&report), [FindingKind::MissingObject]);
    assert_eq!(report.findings[0].object.as_deref(), Some(path.as_ref()));
}

#[tokio::test]
async fn a_shared_segment_that_is_missing_leaves_gaps() {
    let mut bed = Bed::new().await;
    let record = bed.share(&[(bed.logs[0], vec![batch(0, 3)])]).await;
    bed.log(bed.logs[0], vec![batch(3, 2)]).await;
    bed.delete(&segment_path(record.id)).await;
    let report = bed.check(SHALLOW).await;
    assert_eq!(kinds(&report), [FindingKind::MissingObject, FindingKind::Gap]);
    assert_eq!((report.findings[1].from, report.findings[1].to), (Some(0), Some(3)));
    let log = report.findings[1].log.clone().unwrap();
    assert_eq!((log.topic.as_deref(), log.partition), (Some("orders"), Some(0)));
}

#[tokio::test]
async fn a_damaged_footer_or_index_is_found() {
    for from_end in [10, 70] {
        let mut bed = Bed::new().await;
        let record = bed.log(bed.logs[0], vec![batch(0, 3)]).await;
        bed.damage(&segment_path(record.id), |length| length - from_end).await;
        let report = bed.check(SHALLOW).await;
        assert_eq!(kinds(&report), [FindingKind::UnreadableObject], "{from_end} bytes before the end");
    }
}

#[tokio::test]
async fn a_damaged_block_is_found_by_a_deep_check_alone() {
    let mut bed = Bed::new().await;
    let record = bed.log(bed.logs[0], vec![batch(0, 3)]).await;
    bed.damage(&segment_path(record.id), |_| 80).await;
    assert!(bed.check(SHALLOW).await.is_clean());
    let report = bed.check(DEEP).await;
    assert_eq!(kinds(&report), [FindingKind::CorruptBlock]);
    assert_eq!((report.findings[0].from, report.findings[0].to), (Some(0), Some(3)));
}

#[tokio::test]
async fn damage_in_an_adopted_wal_object_is_found_through_its_manifest() {
    let bed = Bed::filled().await;
    bed.damage(&wal_path(ADOPTED, WalSequence(0)), |_| 80).await;
    let report = bed.check(DEEP).await;
    assert_eq!(kinds(&report), [FindingKind::CorruptBlock]);
}

#[tokio::test]
async fn a_damaged_state_is_found_where_a_log_would_be_opened_from_it() {
    let mut bed = Bed::new().await;
    let produced = BatchBuilder::new().producer(7, 0, 0).records(3, 10).build();
    let record = bed.log(bed.logs[0], vec![produced]).await;
    let state_at = record.shape.index_position as usize - 3;
    bed.damage(&segment_path(record.id), |_| state_at).await;
    assert_eq!(kinds(&bed.check(SHALLOW).await), [FindingKind::CorruptState]);
    assert_eq!(kinds(&bed.check(DEEP).await), [FindingKind::CorruptState]);
}

#[tokio::test]
async fn an_object_of_another_size_than_its_record_says_is_found() {
    let mut bed = Bed::new().await;
    let record = bed.log(bed.logs[0], vec![batch(0, 3)]).await;
    let path = segment_path(record.id);
    let mut bytes = bed.bytes(&path).await;
    bytes.truncate(50);
    bed.put(&path, bytes).await;
    assert_eq!(kinds(&bed.check(SHALLOW).await), [FindingKind::WrongRecord]);
}

#[tokio::test]
async fn a_record_that_says_what_its_object_does_not_is_found() {
    let mut bed = Bed::new().await;
    let record = bed.flushes.log(bed.logs[0], vec![batch(0, 3)]).await;
    let wrong = LogSegmentRecord { end_offset: Offset(2), ..record };
    bed.flushes.commit(&Commit { logs: vec![wrong], ..Commit::default() }).await;
    let found = kinds(&bed.check(SHALLOW).await);
    assert!(found.contains(&FindingKind::WrongRecord), "{found:?}");
}

#[tokio::test]
async fn gaps_and_overlaps_are_found_from_the_log_start_on() {
    let mut bed = Bed::new().await;
    let log = bed.logs[0];
    bed.log(log, vec![batch(0, 2)]).await;
    bed.log(log, vec![batch(4, 2), batch(6, 2)]).await;
    bed.log(log, vec![batch(6, 2), batch(8, 2)]).await;
    let report = bed.check(SHALLOW).await;
    assert_eq!(kinds(&report), [FindingKind::Gap, FindingKind::Overlap]);
    assert_eq!((report.findings[0].from, report.findings[0].to), (Some(2), Some(4)));
    assert_eq!((report.findings[1].from, report.findings[1].to), (Some(6), Some(8)));
    bed.flushes.metadata.set_log_start(WRITER, log, Offset(8)).await.unwrap();
    let report = bed.check(SHALLOW).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn what_an_open_incarnation_may_be_about_to_commit_is_in_flight_until_it_is_too_old() {
    let mut bed = Bed::new().await;
    bed.flushes.log(bed.logs[0], vec![batch(0, 3)]).await;
    let report = bed.check(SHALLOW).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.totals.in_flight.objects, 1);
    // Anything newer makes it older than no time at all.
    bed.log(bed.logs[1], vec![batch(0, 3)]).await;
    let report = bed.check(Options { orphan_age: Duration::ZERO, ..SHALLOW }).await;
    assert_eq!(kinds(&report), [FindingKind::Orphan]);
    assert_eq!(report.findings[0].incarnation.as_deref(), Some("1@1"));
}

#[tokio::test]
async fn what_a_recovered_incarnation_has_left_is_garbage_and_its_fences_are_not() {
    let mut bed = Bed::filled().await;
    let fence = SegmentWriter::new(Kind::Fence, WRITER, 5).finish();
    bed.objects.put(&wal_path(ADOPTED, WalSequence(5)), fence.payload).await.unwrap();
    let mut wal = SegmentWriter::new(Kind::Wal, ADOPTED, 4);
    wal.batch(bed.logs[0], &batch(50, 1));
    bed.objects.put(&wal_path(ADOPTED, WalSequence(4)), wal.finish().payload).await.unwrap();
    let report = bed.check(SHALLOW).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.totals.garbage.objects, report.totals.fences), (1, 1));
    let incarnation = report.incarnations.iter().find(|one| one.incarnation == "9@9").unwrap();
    assert_eq!((incarnation.adopted.objects, incarnation.left_over.objects, incarnation.fences), (1, 1, 1));
    bed.log(bed.logs[1], vec![batch(1, 3)]).await;
    let report = bed.check(Options { orphan_age: Duration::ZERO, ..SHALLOW }).await;
    assert_eq!(kinds(&report), [FindingKind::Orphan]);
}

#[tokio::test]
async fn the_wal_of_an_open_incarnation_is_described_and_read() {
    let bed = Bed::new().await;
    for sequence in [0, 1] {
        let mut wal = SegmentWriter::new(Kind::Wal, WRITER, sequence);
        wal.batch(bed.logs[0], &batch(sequence as i64, 1));
        bed.objects.put(&wal_path(WRITER, WalSequence(sequence)), wal.finish().payload).await.unwrap();
    }
    let report = bed.check(DEEP).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.totals.blocks_read, 2);
    let open = &report.incarnations[0];
    assert_eq!(
        (open.state.as_str(), open.trim, open.last, open.unflushed.objects),
        ("open", Some(0), Some(1), 2)
    );
    bed.damage(&wal_path(WRITER, WalSequence(1)), |length| length - 1).await;
    assert_eq!(kinds(&bed.check(SHALLOW).await), [FindingKind::UnreadableObject]);
}

#[tokio::test]
async fn an_object_in_the_place_of_another_is_unreadable() {
    let bed = Bed::new().await;
    let mut wal = SegmentWriter::new(Kind::Wal, WRITER, 7);
    wal.batch(bed.logs[0], &batch(0, 1));
    bed.objects.put(&wal_path(WRITER, WalSequence(0)), wal.finish().payload).await.unwrap();
    assert_eq!(kinds(&bed.check(SHALLOW).await), [FindingKind::UnreadableObject]);
}

#[tokio::test]
async fn what_is_left_of_a_deleted_topic_is_told_and_is_no_problem() {
    let mut bed = Bed::filled().await;
    bed.log(LogId(77), vec![batch(3, 1)]).await;
    let report = bed.check(SHALLOW).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::LogWithoutTopic);
}

#[tokio::test]
async fn what_was_replaced_and_deleted_between_two_requests_is_no_problem() {
    let mut bed = Bed::new().await;
    let log = bed.logs[0];
    let whole = bed.log(log, vec![batch(0, 4)]).await;
    // Before the rewrite, the rows named two objects that are deleted by now.
    let id = |number| SegmentId { incarnation: WRITER, number };
    let half = |number, base, end| LogSegmentRecord {
        base_offset: Offset(base),
        end_offset: Offset(end),
        id: id(number),
        ..whole
    };
    let mut rows = NewRows::of(bed.flushes.metadata.rows_for_snapshot().await.unwrap());
    rows.put_log_segment(&half(100, 0, 2));
    rows.put_log_segment(&half(101, 2, 4));
    let before = Metadata::new(MemoryKv::new().open(), runtime());
    before.write_new(rows).await.unwrap();
    let rewritten = Changing(Mutex::new(vec![before.clone(), bed.flushes.metadata.clone()]));
    let report = bed.check_by(&rewritten, SHALLOW).await;
    assert!(report.is_clean(), "{report}");
    let report = bed.check_by(&Rows(before), SHALLOW).await;
    assert_eq!(kinds(&report), [FindingKind::MissingObject; 2], "the same rows at both looks");
}

#[tokio::test]
async fn metadata_that_cannot_be_read_are_no_finding() {
    struct Lost;
    #[async_trait]
    impl OpenMetadata for Lost {
        async fn open(&self) -> Result<Metadata, MetadataError> {
            Err(KvError::Unavailable { reason: "by a test".into() }.into())
        }
    }
    let bed = Bed::filled().await;
    let checked = check(&runtime(), &bed.flushes.store, &Lost, "a-cluster", SHALLOW).await;
    assert!(matches!(checked, Err(CheckError::Metadata(_))), "{checked:?}");
}
