//! Produce, and what Fetch and ListOffsets see of it.

use super::{
    bed::{Bed, answer},
    catalogue::{World, batch, fetch_request, produce_request},
    versions::{furnished, furnished_with},
};
use bytes::Bytes;
use std::time::Duration;
use thalweg_broker::producer_expiry;
use thalweg_protocol::{Compression, compress, messages::*};
use thalweg_segment::{Batch, split_batches, testing::BatchBuilder};

const LATEST: i16 = 13;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

async fn produce(bed: &Bed, world: &World, records: Bytes) -> produce_response::PartitionProduceResponse {
    let request = produce_request(LATEST, world, 0, Some(records));
    let mut response = answer!(bed.ask(LATEST, request), Produce);
    response.responses.remove(0).partition_responses.remove(0)
}

#[tokio::test]
async fn a_repeated_batch_gets_the_answer_of_its_first_copy() {
    let (bed, world) = furnished().await;
    let sent = batch().producer(7, 0, 0).timestamp(1_700_000_000_123).bytes();
    let first = produce(&bed, &world, sent.clone()).await;
    produce(&bed, &world, batch().producer(7, 0, 2).bytes()).await;
    let again = produce(&bed, &world, sent).await;
    assert_eq!((again.error_code, again.base_offset), (0, first.base_offset));
    assert_eq!(again.log_append_time_ms, 1_700_000_000_123);
}

#[tokio::test]
async fn a_repeated_batch_is_known_after_a_restart_and_epochs_tell_where_the_life_before_ended() {
    let (bed, world) = furnished().await;
    let sent = batch().producer(7, 0, 0).bytes();
    produce(&bed, &world, sent.clone()).await;
    let epoch = bed.broker.topics.owner().leader_epoch.0;
    let bed = bed.restarted().await;
    let again = produce(&bed, &world, sent).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    produce(&bed, &world, batch().bytes()).await;

    let now = bed.broker.topics.owner().leader_epoch.0;
    for (asked, expected) in
        [(epoch, (epoch, 2)), (now, (now, 4)), (now + 1, (-1, -1)), (-1, (-1, -1)), (-2, (-2, 0))]
    {
        let end = end_of_epoch(&bed, &world, asked).await;
        assert_eq!((end.leader_epoch, end.end_offset), expected, "epoch {asked}");
    }
}

#[tokio::test]
async fn a_producer_of_old_records_is_known_for_as_long_as_any_other() {
    let (mut bed, world) = furnished().await;
    // Its records are years old.
    let old = batch().producer(7, 0, 0).timestamp(1_000_000_000_000).bytes();
    produce(&bed, &world, old.clone()).await;
    for sequence in 0..3 {
        bed.broker.wal.flush().await.expect("memory takes it");
        producer_expiry::expire_now(&bed.broker);
        produce(&bed, &world, batch().producer(8, 0, 2 * sequence).bytes()).await;
    }
    for restarted in [false, true] {
        if restarted {
            bed = bed.restarted().await;
        }
        let again = produce(&bed, &world, old.clone()).await;
        assert_eq!((again.error_code, again.base_offset), (0, 0), "restarted: {restarted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_silent_for_long_enough_is_forgotten_and_may_begin_anywhere() {
    let (mut bed, world) = furnished_with(&[("producer.id.expiration.ms", "60000")]).await;
    produce(&bed, &world, batch().producer(7, 0, 0).bytes()).await;
    producer_expiry::expire_now(&bed.broker);
    tokio::time::advance(Duration::from_secs(61)).await;
    produce(&bed, &world, batch().producer(8, 0, 0).bytes()).await;
    bed.broker.wal.flush().await.expect("memory takes it");
    producer_expiry::expire_now(&bed.broker);
    // State blocks leave it out from the next flush on.
    produce(&bed, &world, batch().producer(8, 0, 2).bytes()).await;
    bed.broker.wal.flush().await.expect("memory takes it");
    for restarted in [false, true] {
        if restarted {
            bed = bed.restarted().await;
        }
        let later =
            produce(&bed, &world, batch().producer(7, 0, 41 + 2 * i32::from(restarted)).bytes()).await;
        assert_eq!(later.error_code, 0, "restarted: {restarted}");
        let known = produce(&bed, &world, batch().producer(8, 0, 99).bytes()).await;
        assert_eq!(known.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER, "restarted: {restarted}");
    }
}

/// Each of the producers writes one batch.
async fn write_of_each(bed: &Bed, world: &World, producers: std::ops::Range<i64>) {
    for producer in producers {
        let written = batch().producer(producer, 0, 0).timestamp(bed.broker.runtime.now_ms());
        let written = produce(bed, world, written.bytes()).await;
        assert_eq!(written.error_code, 0, "producer {producer}");
    }
}

#[tokio::test]
async fn producers_that_memory_has_no_room_for_are_refused_rather_than_appended_twice() {
    let (bed, world) = furnished_with(&[("memory.bytes", "67108864")]).await;
    let memory = bed.broker.logs.producer_memory().clone();
    let mut producers = 1..1;
    while memory.excess() == 0 {
        write_of_each(&bed, &world, producers.end..producers.end + 100).await;
        producers.end += 100;
    }
    assert!(producers.end > 5000, "{producers:?} take {} bytes", memory.used());
    bed.broker.wal.flush().await.expect("memory takes it");
    assert!(producer_expiry::relieve(&bed.broker));
    assert_eq!(memory.excess(), 0);
    write_of_each(&bed, &world, producers.end..producers.end + 1).await;
    bed.broker.wal.flush().await.expect("memory takes it");

    let mut bed = bed;
    for restarted in [false, true] {
        if restarted {
            bed = bed.restarted().await;
        }
        let first = produce(&bed, &world, batch().producer(1, 0, 0).bytes()).await;
        assert_eq!(first.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER, "restarted: {restarted}");
        let last = producers.end - 1;
        let again = produce(&bed, &world, batch().producer(last, 0, 0).bytes()).await;
        assert_eq!((again.error_code, again.base_offset), (0, 2 * (last - 1)), "restarted: {restarted}");
    }
    write_of_each(&bed, &world, producers.end + 1..producers.end + 2).await;
}

async fn end_of_epoch(
    bed: &Bed,
    world: &World,
    epoch: i32,
) -> offset_for_leader_epoch_response::EpochEndOffset {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let wanted = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(-1);
    let wanted = OffsetForLeaderTopic::default()
        .with_topic(super::bed::topic(world.there))
        .with_partitions(vec![wanted]);
    let request =
        OffsetForLeaderEpochRequest::default().with_topics(vec![wanted]).with_replica_id((-1).into());
    let mut response = answer!(bed.ask(4, request), OffsetForLeaderEpoch);
    response.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn a_reader_that_has_read_more_of_an_epoch_than_there_is_learns_where_it_diverges() {
    let (bed, world) = furnished().await;
    produce(&bed, &world, batch().bytes()).await;
    let epoch = bed.broker.topics.owner().leader_epoch.0;
    let bed = bed.restarted().await;
    produce(&bed, &world, batch().bytes()).await;
    let mut request = fetch_request(18, &world, 0, 3);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    let response = answer!(bed.ask(18, request.clone()), Fetch);
    let fetched = &response.topics[0].partitions[0];
    let diverging = fetched.diverging_epoch.as_ref().map(|at| (at.epoch, at.end_offset));
    assert_eq!((fetched.error_code, diverging), (0, Some((epoch, 2))));

    request.topics[0].partitions[0].last_fetched_epoch = 99;
    let response = answer!(bed.ask(18, request), Fetch);
    assert_eq!(response.topics[0].partitions[0].error_code, 1);
}

#[tokio::test]
async fn bytes_behind_a_batch_that_are_no_batch_are_passed_over_and_a_second_batch_is_refused() {
    let (bed, world) = furnished().await;
    let good = batch().bytes();
    let with = |tail: &[u8]| Bytes::from([&good[..], tail].concat());
    assert_eq!(produce(&bed, &world, with(b"garbage")).await.error_code, 0);
    assert_eq!(produce(&bed, &world, with(&good[..70])).await.error_code, 0);
    assert_eq!(produce(&bed, &world, with(&good)).await.error_code, 87);
    let fetched = answer!(bed.ask(18, fetch_request(18, &world, 0, 0)), Fetch);
    let partition = &fetched.topics[0].partitions[0];
    assert_eq!(partition.high_watermark, 4);
    assert_eq!(partition.records.concat().len(), 2 * good.len());
}

#[tokio::test]
async fn records_that_are_refused_are_named_with_their_reasons() {
    let (bed, world) = furnished().await;
    let refused = produce(&bed, &world, batch().timestamp(i64::MAX / 2).bytes()).await;
    assert_eq!((refused.error_code, refused.record_errors.len()), (32, 2));
    let message = refused.record_errors[1].batch_index_error_message.as_ref().expect("a reason");
    assert!(message.contains("of message with offset 1 is out of range"), "{message}");

    let id = bed.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let compacted = World { there: "compacted", id, ..world };
    let refused = produce(&bed, &compacted, BatchBuilder::new().records(2, 1).bytes()).await;
    assert_eq!((refused.error_code, refused.record_errors.len()), (87, 2));
}

/// The batch with its records compressed.
fn compressed(plain: BatchBuilder, codec: Compression) -> Bytes {
    let plain = plain.attributes(codec.bits()).build();
    let records = compress(codec, None, plain.records()).expect("compresses");
    let batch = Batch::assemble(*plain.head(), records);
    [&batch.head()[..], batch.records()].concat().into()
}

#[tokio::test]
async fn decompression_waits_for_memory_and_what_takes_too_much_of_it_is_refused() {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let (bed, world) = furnished_with(&[("memory.bytes", "67108864")]).await;
    let id = bed.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let compacted = World { there: "compacted", id, ..world };
    let unpacking = &bed.broker.budgets.unpacking;
    let all = unpacking.charge(usize::MAX).await;
    let mut produced = Box::pin(produce(&bed, &compacted, compressed(batch(), Compression::Zstd)));
    assert!(futures::poll!(&mut produced).is_pending());
    assert_eq!(unpacking.waiting(), 1);
    drop(all);
    assert_eq!(produced.await.error_code, 0);
    assert_eq!(unpacking.used(), 0);

    // Blocks that each unpack to 128 KiB, in a window of 128 MiB.
    let bomb = zstd::stream::encode_all(&vec![0; 100 << 20][..], 22).expect("compresses");
    let bomb = Batch::assemble(*batch().attributes(Compression::Zstd.bits()).build().head(), bomb.into());
    let bomb = [&bomb.head()[..], bomb.records()].concat().into();
    assert_eq!(produce(&bed, &compacted, bomb).await.error_code, MESSAGE_TOO_LARGE);
}

#[tokio::test]
async fn a_topic_with_a_codec_of_its_own_stores_what_it_takes_in_any_other() {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let (bed, world) = furnished().await;
    let settings = [("compression.type", "uncompressed"), ("max.message.bytes", "100000")];
    let id = bed.create("plain", 1, &settings).await;
    let plain = World { there: "plain", id, ..world };
    let records = || BatchBuilder::new().records(3, 1000);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        assert_eq!(produce(&bed, &plain, compressed(records(), codec)).await.error_code, 0, "{codec:?}");
        let large = compressed(BatchBuilder::new().records(3, 50_000), codec);
        assert_eq!(produce(&bed, &plain, large).await.error_code, MESSAGE_TOO_LARGE, "{codec:?}");
    }
    let fetched = answer!(bed.ask(18, fetch_request(18, &plain, 0, 0)), Fetch);
    let stored = fetched.topics[0].partitions[0].records.concat();
    let expected = records().build();
    let batches = split_batches(stored.into()).expect("batches");
    assert_eq!(batches.len(), 4);
    assert!(batches.iter().all(|batch| batch.attributes() & 7 == 0 && batch.records() == expected.records()));
}

#[tokio::test]
async fn a_mark_of_append_times_is_taken_off_where_the_topic_keeps_create_times() {
    let (bed, world) = furnished().await;
    assert_eq!(produce(&bed, &world, batch().attributes(8).bytes()).await.error_code, 0);
    let fetched = answer!(bed.ask(18, fetch_request(18, &world, 0, 0)), Fetch);
    let epoch = bed.broker.topics.owner().leader_epoch.0;
    assert_eq!(fetched.topics[0].partitions[0].records.concat(), batch().leader_epoch(epoch).bytes());
}

#[tokio::test]
async fn the_first_batch_of_a_response_comes_however_large_and_the_next_partitions_stay_empty() {
    let (bed, world) = furnished().await;
    for partition in [0, 1] {
        let request = produce_request(LATEST, &world, partition, Some(batch().bytes()));
        assert_eq!(
            answer!(bed.ask(LATEST, request), Produce).responses[0].partition_responses[0].error_code,
            0
        );
    }
    let mut request = fetch_request(18, &world, 0, 0).with_max_bytes(1);
    let second = request.topics[0].partitions[0].clone().with_partition(1);
    request.topics[0].partitions.push(second);
    let response = answer!(bed.ask(18, request), Fetch);
    let sizes: Vec<_> = response.topics[0].partitions.iter().map(|p| p.records.concat().len()).collect();
    assert_eq!(sizes, [batch().bytes().len(), 0]);
}
