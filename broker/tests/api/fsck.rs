//! What a broker leaves in its stores, checked, and what comes back of it when its metadata are lost.

use super::{
    bed::{Bed, answer},
    catalogue::{World, fetch_request, produce_request},
};
use bytes::Bytes;
use thalweg_segment::testing::BatchBuilder;

const LATEST: i16 = 13;

/// A topic of two partitions with a setting of its own.
async fn with_topic(settings: &[(&str, &str)]) -> (Bed, World) {
    let bed = Bed::with(settings).await;
    let id = bed.create("there", 2, &[("retention.ms", "123456789")]).await;
    (bed, World { there: "there", id, round: 0 })
}

async fn produce(bed: &Bed, world: &World, partition: i32, records: usize) {
    let records = BatchBuilder::new().records(records, 100).timestamp(bed.broker.runtime.now_ms()).bytes();
    let request = produce_request(LATEST, world, partition, Some(records));
    let mut response = answer!(bed.ask(LATEST, request), Produce);
    let written = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!(written.error_code, 0, "{written:?}");
}

async fn read(bed: &Bed, world: &World, partition: i32, offset: i64) -> (i64, Bytes) {
    let mut response = answer!(bed.ask(LATEST, fetch_request(LATEST, world, partition, offset)), Fetch);
    let read = response.topics.remove(0).partitions.remove(0);
    assert_eq!(read.error_code, 0, "{read:?}");
    (read.high_watermark, read.records.concat().into())
}

/// Every byte of both partitions.
async fn read_all(bed: &Bed, world: &World) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    for partition in 0..2 {
        let (end, mut bytes) = read(bed, world, partition, 0).await;
        let mut next = bytes.clone();
        let mut content = Vec::new();
        while !next.is_empty() {
            let batches = thalweg_segment::split_batches(next).expect("whole batches");
            content.extend_from_slice(&bytes);
            let behind = batches.last().expect("there is one").end_offset().0;
            if behind >= end {
                break;
            }
            bytes = read(bed, world, partition, behind).await.1;
            next = bytes.clone();
        }
        all.push((end, content));
    }
    all
}

#[tokio::test]
async fn what_a_broker_writes_is_clean_at_any_time_and_it_goes_on_meanwhile() {
    let (bed, world) = with_topic(&[]).await;
    for round in 0..5 {
        produce(&bed, &world, 0, 3).await;
        produce(&bed, &world, round % 2, 2).await;
        let report = bed.fsck().await;
        assert!(report.is_clean(), "unflushed, round {round}: {report}");
        assert!(report.incarnations.iter().any(|one| one.owner && one.unflushed.objects > 0), "{report}");
        bed.broker.wal.flush().await.expect("memory takes it");
        let report = bed.fsck().await;
        assert!(report.is_clean(), "flushed, round {round}: {report}");
    }
    let bed = bed.restarted().await;
    produce(&bed, &world, 0, 1).await;
    let report = bed.fsck().await;
    assert!(report.is_clean(), "restarted: {report}");
    assert!(report.totals.blocks_read > 0 && report.totals.states_read > 0);
}

#[tokio::test]
async fn an_adopted_wal_is_clean_too() {
    let (bed, world) = with_topic(&[]).await;
    produce(&bed, &world, 0, 3).await;
    let bed = bed.restarted().await;
    let report = bed.fsck().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.totals.manifests, 1);
    assert!(report.totals.fences > 0);
    let adopted = report.incarnations.iter().find(|one| one.adopted.objects > 0).expect("the life before");
    assert_eq!(adopted.state, "recovered");
}

#[tokio::test]
async fn a_snapshot_is_written_when_something_has_changed_and_at_an_orderly_end() {
    let (bed, world) = with_topic(&[]).await;
    assert!(bed.broker.snapshots.take().await.expect("memory takes it"));
    assert!(!bed.broker.snapshots.take().await.expect("memory takes it"), "nothing has changed");
    bed.create("more", 1, &[]).await;
    assert!(bed.broker.snapshots.take().await.expect("memory takes it"));
    produce(&bed, &world, 0, 1).await;
    let before = bed.snapshots().await;
    bed.broker.close().await.expect("it closes");
    let after = bed.snapshots().await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(after[0] > before[0]);
}

#[tokio::test]
async fn lost_metadata_come_back_with_every_acknowledged_record() {
    let (bed, world) = with_topic(&[]).await;
    for round in 0..3 {
        produce(&bed, &world, 0, 3).await;
        produce(&bed, &world, 1, 1 + round).await;
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    // A life that was taken over, and one that has flushed and then not.
    let bed = bed.restarted().await;
    produce(&bed, &world, 0, 1).await;
    bed.broker.snapshots.take().await.expect("memory takes it");
    bed.broker.wal.flush().await.expect("memory takes it");
    let bed = bed.restarted().await;
    produce(&bed, &world, 0, 2).await;
    produce(&bed, &world, 1, 2).await;
    let before = read_all(&bed, &world).await;
    let (bed, restored) = bed.restored().await;
    assert!(restored.is_complete(), "{restored}");
    assert!(restored.wal.as_ref().is_some_and(|wal| wal.objects > 0), "{restored}");
    assert_eq!(read_all(&bed, &world).await, before);
    let topic = bed.broker.topics.list().by_id(world.id).expect("it has its id");
    assert_eq!(topic.name(), "there");
    assert_eq!(topic.record.configs["retention.ms"], "123456789");
    produce(&bed, &world, 0, 2).await;
    let report = bed.fsck().await;
    assert!(report.is_clean(), "{report}");
    // And once more, from what the restored one has written.
    bed.broker.snapshots.take().await.expect("memory takes it");
    let before = read_all(&bed, &world).await;
    let (bed, restored) = bed.restored().await;
    assert!(restored.is_complete(), "{restored}");
    assert_eq!(read_all(&bed, &world).await, before);
}
