//! Compaction behind the back of producers and consumers.

use super::{
    bed::{Bed, answer},
    catalogue::{World, fetch_request, produce_request},
    versions::furnished_with,
};
use bytes::Bytes;
use thalweg_broker::upkeep::compaction;
use thalweg_metadata::ObjectRecord;
use thalweg_segment::{Kind, split_batches, testing::BatchBuilder};

const LATEST: i16 = 13;
const PARTITIONS: i32 = 30;
const ROUNDS: u8 = 12;

/// One batch, each of them another one. The first partition has much more in it than the others.
fn sent(partition: i32, round: u8) -> Bytes {
    let bytes = if partition == 0 { 10_000 } else { 100 };
    let value = vec![round; bytes];
    BatchBuilder::new().record(format!("{partition}"), value).bytes()
}

async fn produce_all(bed: &Bed, world: &World, round: u8) {
    for partition in 0..PARTITIONS {
        let request = produce_request(LATEST, world, partition, Some(sent(partition, round)));
        let response = answer!(bed.ask(LATEST, request), Produce);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

/// The records of every batch of a partition, fetched from its start on.
async fn read_all(bed: &Bed, world: &World, partition: i32) -> Vec<Bytes> {
    let (mut offset, mut read) = (0, Vec::new());
    loop {
        let response = answer!(bed.ask(LATEST, fetch_request(LATEST, world, partition, offset)), Fetch);
        let data = &response.topics[0].partitions[0];
        assert_eq!(data.error_code, 0, "partition {partition} at {offset}");
        let batches = split_batches(data.records.concat().into()).expect("whole batches");
        let Some(last) = batches.last() else { return read };
        offset = last.end_offset().0;
        read.extend(batches.iter().map(|batch| batch.records().clone()));
    }
}

async fn check(bed: &Bed, world: &World, rounds: u8) {
    // What is in memory would hide what is stored.
    bed.broker.cache.shrink(usize::MAX);
    for partition in 0..PARTITIONS {
        let records = |round| {
            let sent = split_batches(sent(partition, round)).expect("one batch");
            sent[0].records().clone()
        };
        let expected: Vec<_> = (0..rounds).map(records).collect();
        assert_eq!(read_all(bed, world, partition).await, expected, "partition {partition}");
    }
}

fn kinds(bed: &Bed) -> Vec<Kind> {
    bed.broker.topics.index().objects().iter().map(ObjectRecord::kind).collect()
}

#[tokio::test]
async fn what_was_produced_is_read_back_from_fewer_objects_also_after_a_restart() {
    let (mut bed, world) = furnished_with(&[("compaction.log.bytes", "65536")]).await;
    let id = bed.create("compacted", PARTITIONS, &[]).await;
    let world = World { there: "compacted", id, ..world };
    for round in 0..ROUNDS {
        produce_all(&bed, &world, round).await;
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    let before = kinds(&bed).len();
    compaction::settle(&bed.broker).await.expect("the broker lives");
    let after = kinds(&bed);
    assert!(before >= usize::from(ROUNDS) && after.len() <= 3, "{before} objects became {after:?}");
    assert!(after.contains(&Kind::Log), "the first partition has a segment of its own: {after:?}");
    check(&bed, &world, ROUNDS).await;

    // A life that ends without a flush: what it leaves is adopted by the next, and sorted in with the rest.
    produce_all(&bed, &world, ROUNDS).await;
    bed = bed.restarted().await;
    check(&bed, &world, ROUNDS + 1).await;
    compaction::settle(&bed.broker).await.expect("the broker lives");
    assert!(!kinds(&bed).iter().any(|kind| kind.is_manifest()), "{:?}", kinds(&bed));
    check(&bed, &world, ROUNDS + 1).await;
    bed = bed.restarted().await;
    check(&bed, &world, ROUNDS + 1).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_topic_in_what_is_rewritten() {
    let (bed, world) = furnished_with(&[]).await;
    let id = bed.create("deleted", PARTITIONS, &[]).await;
    let deleted = World { there: "deleted", id, ..world };
    for round in 0..4 {
        produce_all(&bed, &deleted, round).await;
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    let topic = bed.broker.topics.by_name("deleted").expect("there");
    bed.broker.topics.delete(&topic).await.expect("deleted");
    compaction::settle(&bed.broker).await.expect("the broker lives");
    assert_eq!(kinds(&bed), []);
}
