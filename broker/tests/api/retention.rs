//! Retention, the deletion of topics, and what becomes of the objects.

use super::{
    bed::{Bed, answer, text, topic},
    catalogue::{World, batch, fetch_request, produce_request},
};
use bytes::Bytes;
use object_store::path::Path;
use std::{collections::BTreeSet, time::Duration};
use thalweg_broker::{broker::Broker, upkeep, upkeep::retention::Keeper};
use thalweg_protocol::messages::*;
use thalweg_segment::{
    Incarnation, Index, Kind, Offset, Purpose, SegmentId, SegmentWriter, WalSequence, segment_path,
    testing::BatchBuilder, wal_path, wal_prefix,
};
use tokio::time::sleep;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const HOUR: i64 = 3_600_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn topic_with(bed: &Bed, name: &'static str, configs: &[(&str, &str)]) -> World {
    World { there: name, id: bed.create(name, 1, configs).await, round: 0 }
}

async fn produce(bed: &Bed, world: &World, records: Bytes) -> i64 {
    let request = produce_request(13, world, 0, Some(records));
    let mut response = answer!(bed.ask(13, request), Produce);
    let partition = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!(partition.error_code, 0, "{partition:?}");
    partition.base_offset
}

/// Produces a batch and flushes it, so that it is in an object of its own.
async fn store(bed: &Bed, world: &World, batch: BatchBuilder) {
    produce(bed, world, batch.bytes()).await;
    bed.broker.wal.flush().await.expect("memory takes it");
}

fn aged(bed: &Bed, hours: i64) -> BatchBuilder {
    batch().timestamp(bed.broker.runtime.now_ms() - hours * HOUR)
}

async fn offset_of(bed: &Bed, world: &World, timestamp: i64) -> i64 {
    let wanted = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let wanted = list_offsets_request::ListOffsetsTopic::default()
        .with_name(topic(world.there))
        .with_partitions(vec![wanted.with_current_leader_epoch(-1)]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted]);
    let response = answer!(bed.ask(7, request), ListOffsets);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    response.topics[0].partitions[0].offset
}

async fn ends(bed: &Bed, world: &World) -> (i64, i64) {
    (offset_of(bed, world, EARLIEST).await, offset_of(bed, world, LATEST).await)
}

async fn fetch(bed: &Bed, world: &World, from: i64) -> FetchedPartition {
    let mut request = fetch_request(18, world, 0, from);
    request.max_wait_ms = 0;
    let mut response = answer!(bed.ask(18, request), Fetch);
    response.topics.remove(0).partitions.remove(0)
}

async fn keys(broker: &Broker, prefix: &str) -> BTreeSet<Path> {
    let listed = broker.store.list(&Path::from(prefix), None, Purpose::Check).await;
    listed.expect("memory can be read").into_iter().map(|object| object.location).collect()
}

async fn segments(bed: &Bed) -> BTreeSet<Path> {
    keys(&bed.broker, "seg").await
}

async fn check(bed: &Bed) {
    let mut keeper = Keeper::default();
    keeper.move_starts(&bed.broker).await;
    keeper.remove(&bed.broker).await.expect("memory does not fail");
}

async fn delete_topic(bed: &Bed, name: &str) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(name)]).with_timeout_ms(10_000);
    let deleted = answer!(bed.ask(5, request), DeleteTopics);
    assert_eq!(deleted.responses[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn records_older_than_retention_ms_go_and_offsets_say_so() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "aged", &[("retention.ms", "5400000")]).await;
    store(&bed, &world, aged(&bed, 3)).await;
    store(&bed, &world, aged(&bed, 2)).await;
    store(&bed, &world, aged(&bed, 1)).await;
    store(&bed, &world, aged(&bed, 9)).await;
    produce(&bed, &world, aged(&bed, 0).bytes()).await;
    let before = segments(&bed).await;
    assert_eq!((before.len(), ends(&bed, &world).await), (4, (0, 10)));
    check(&bed).await;
    assert_eq!(ends(&bed, &world).await, (4, 10), "what is behind a newer record stays");
    for (from, error) in
        [(0, OFFSET_OUT_OF_RANGE), (3, OFFSET_OUT_OF_RANGE), (4, 0), (10, 0), (11, OFFSET_OUT_OF_RANGE)]
    {
        let fetched = fetch(&bed, &world, from).await;
        assert_eq!(fetched.error_code, error, "from {from}");
        assert_eq!(fetched.log_start_offset, if error == 0 { 4 } else { fetched.log_start_offset });
    }
    assert_eq!(segments(&bed).await, before, "for readers that have begun");
    sleep(59 * SECOND).await;
    assert!(segments(&bed).await.is_superset(&before));
    sleep(2 * SECOND).await;
    assert_eq!(before.difference(&segments(&bed).await).count(), 2);

    let bed = bed.restarted().await;
    assert_eq!(ends(&bed, &world).await, (4, 10));
    assert!(!fetch(&bed, &world, 4).await.records.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_partition_keeps_retention_bytes_and_hardly_more() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "sized", &[("retention.bytes", "25000")]).await;
    for _ in 0..6 {
        store(&bed, &world, BatchBuilder::new().timestamp(bed.broker.runtime.now_ms()).records(1, 10_000))
            .await;
    }
    check(&bed).await;
    assert_eq!(ends(&bed, &world).await, (3, 6));
    check(&bed).await;
    assert_eq!(ends(&bed, &world).await, (3, 6));
    // What isn't flushed yet counts.
    produce(
        &bed,
        &world,
        BatchBuilder::new().timestamp(bed.broker.runtime.now_ms()).records(2, 6000).bytes(),
    )
    .await;
    check(&bed).await;
    assert_eq!(ends(&bed, &world).await, (4, 8));
}

#[tokio::test(start_paused = true)]
async fn of_a_large_object_the_old_blocks_go() {
    let bed = Bed::with(&[("flush.log.bytes", "65536")]).await;
    let world = topic_with(&bed, "large", &[("retention.ms", "9000000")]).await;
    for hours in [6, 5, 4, 3, 2, 1] {
        // More than a block each.
        let of_hour =
            |_| BatchBuilder::new().timestamp(bed.broker.runtime.now_ms() - hours * HOUR).records(1, 300_000);
        for batch in [(); 2].map(of_hour) {
            produce(&bed, &world, batch.bytes()).await;
        }
    }
    bed.broker.wal.flush().await.expect("memory takes it");
    assert_eq!(segments(&bed).await.len(), 1);
    let reads = || bed.broker.store.requests().of(Purpose::Fetch, thalweg_segment::Method::Get);
    let mut keeper = Keeper::default();
    keeper.move_starts(&bed.broker).await;
    assert_eq!(ends(&bed, &world).await, (8, 12));
    let before = reads();
    keeper.move_starts(&bed.broker).await;
    assert_eq!((ends(&bed, &world).await, reads() - before), ((8, 12), 0));

    let configs = [("retention.ms", "-1"), ("retention.bytes", "1000000")];
    configure(&bed, "large", &configs).await;
    Keeper::default().move_starts(&bed.broker).await;
    assert_eq!(ends(&bed, &world).await, (8, 12), "two blocks of 600 kB are left");
    configure(&bed, "large", &[("retention.bytes", "600000")]).await;
    Keeper::default().move_starts(&bed.broker).await;
    assert_eq!(ends(&bed, &world).await, (10, 12));
    assert_eq!(fetch(&bed, &world, 9).await.error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(fetch(&bed, &world, 10).await.error_code, 0);
}

async fn configure(bed: &Bed, name: &str, configs: &[(&str, &str)]) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let configs = configs
        .iter()
        .map(|(name, value)| AlterableConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(name));
    let resource = resource.with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = answer!(bed.ask(1, request), IncrementalAlterConfigs);
    assert_eq!(response.responses[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_to_delete_or_a_limit_nothing_goes() {
    let bed = Bed::with(&[]).await;
    for (name, configs) in [
        ("compacted", [("cleanup.policy", "compact"), ("retention.ms", "1")]),
        ("for ever", [("retention.ms", "-1"), ("retention.bytes", "-1")]),
    ] {
        let name = name.replace(' ', "-").leak();
        let world = topic_with(&bed, name, &configs).await;
        store(&bed, &world, aged(&bed, 1000)).await;
        check(&bed).await;
        assert_eq!(ends(&bed, &world).await, (0, 2), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_without_a_timestamp_are_as_old_as_they_were_seen_to_be() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "ageless", &[("retention.ms", "3600000")]).await;
    let mut keeper = Keeper::default();
    store(&bed, &world, batch().timestamp(-1)).await;
    store(&bed, &world, batch().timestamp(-1)).await;
    for (minutes, expected) in [(0, 0), (30, 0), (40, 4), (30, 4), (40, 6)] {
        bed.clock.advance(minutes * HOUR / 60);
        keeper.move_starts(&bed.broker).await;
        assert_eq!(offset_of(&bed, &world, EARLIEST).await, expected);
        if minutes == 0 {
            store(&bed, &world, batch().timestamp(-1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_has_lost_all_its_records_goes_on_where_it_was_and_knows_its_producers() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "short", &[("retention.ms", "1000")]).await;
    let other = topic_with(&bed, "other", &[("retention.ms", "3600000")]).await;
    for sequence in [0, 2, 4] {
        store(&bed, &world, aged(&bed, 1).producer(7, 0, sequence)).await;
    }
    store(&bed, &other, aged(&bed, 2).producer(8, 0, 0)).await;
    let data = segments(&bed).await;
    check(&bed).await;
    sleep(2 * MINUTE).await;
    let left = segments(&bed).await;
    assert!(left.is_disjoint(&data), "all records are gone");
    assert_eq!(left.len(), 1, "the states of both logs share an object");
    let mut bed = bed;
    for restarted in [false, true] {
        if restarted {
            bed = bed.restarted().await;
        }
        assert_eq!((ends(&bed, &world).await, ends(&bed, &other).await), ((6, 6), (2, 2)));
        let again = aged(&bed, 1).producer(7, 0, 4).bytes();
        assert_eq!(produce(&bed, &world, again).await, 4, "known to be there already");
        check(&bed).await;
        assert_eq!(segments(&bed).await, left, "nothing is to be gained by moving states about");
    }
    store(&bed, &world, aged(&bed, 1).producer(7, 0, 6)).await;
    store(&bed, &other, aged(&bed, 0).producer(8, 0, 2)).await;
    assert_eq!((ends(&bed, &world).await, ends(&bed, &other).await), ((6, 8), (2, 4)));
    // Both logs have newer states now.
    check(&bed).await;
    sleep(2 * MINUTE).await;
    assert!(segments(&bed).await.is_disjoint(&left));
    let bed = bed.restarted().await;
    assert_eq!((ends(&bed, &world).await, ends(&bed, &other).await), ((8, 8), (2, 4)));
}

#[tokio::test(start_paused = true)]
async fn what_retention_does_goes_on_by_itself() {
    let bed =
        Bed::with(&[("log.retention.check.interval.ms", "10000"), ("log.segment.delete.delay.ms", "20000")])
            .await;
    upkeep::start(&bed.broker);
    let world = topic_with(&bed, "short", &[("retention.ms", "1000")]).await;
    store(&bed, &world, aged(&bed, 1)).await;
    let data = segments(&bed).await;
    sleep(11 * SECOND).await;
    assert_eq!(ends(&bed, &world).await, (2, 2));
    assert!(segments(&bed).await.is_superset(&data));
    sleep(25 * SECOND).await;
    assert!(segments(&bed).await.is_disjoint(&data));
    store(&bed, &world, aged(&bed, 1)).await;
    sleep(11 * SECOND).await;
    assert_eq!(ends(&bed, &world).await, (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topics_objects_go_and_one_of_the_same_name_keeps_its_own() {
    let bed = Bed::with(&[]).await;
    upkeep::start(&bed.broker);
    let first = topic_with(&bed, "again", &[]).await;
    let other = topic_with(&bed, "other", &[]).await;
    store(&bed, &first, aged(&bed, 0)).await;
    let dead = segments(&bed).await;
    produce(&bed, &first, aged(&bed, 0).bytes()).await;
    // Shared with a topic that stays.
    produce(&bed, &other, aged(&bed, 0).bytes()).await;
    bed.broker.wal.flush().await.expect("memory takes it");
    // Deleted before it is flushed.
    produce(&bed, &first, aged(&bed, 0).bytes()).await;
    delete_topic(&bed, "again").await;
    let second = topic_with(&bed, "again", &[]).await;
    assert_ne!(first.id, second.id);
    assert_eq!(ends(&bed, &second).await, (0, 0));
    store(&bed, &second, aged(&bed, 0).producer(9, 0, 0)).await;
    sleep(2 * MINUTE).await;
    assert!(segments(&bed).await.is_disjoint(&dead));
    let mut bed = bed;
    for restarted in [false, true] {
        if restarted {
            bed = bed.restarted().await;
            check(&bed).await;
            sleep(2 * MINUTE).await;
        }
        assert_eq!((ends(&bed, &second).await, ends(&bed, &other).await), ((0, 2), (0, 2)));
        let fetched = fetch(&bed, &second, 0).await;
        let sent = aged(&bed, 0).producer(9, 0, 0).build();
        assert_eq!(fetched.records.concat().len(), sent.len());
        assert_eq!(segments(&bed).await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_logs_that_no_topic_has_are_removed_after_a_restart() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "gone", &[]).await;
    store(&bed, &world, aged(&bed, 0)).await;
    // As a process that died in the middle of the deletion leaves it.
    bed.broker.metadata.delete_topic("gone", world.id).await.expect("it is there");
    let bed = bed.restarted().await;
    assert_eq!(bed.broker.topics.index().objects().len(), 1);
    check(&bed).await;
    assert!(bed.broker.topics.index().objects().is_empty());
    assert!(bed.broker.metadata.shared_records().await.expect("readable").is_empty());
    sleep(2 * MINUTE).await;
    assert!(segments(&bed).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_broker_left_behind_is_collected_but_for_its_fences() {
    // A directory's listing would be another, in no order. Compaction would write anew what was adopted.
    let bed = Bed::with(&[("object.store.url", "memory:"), ("compaction.enable", "false")]).await;
    let world = topic_with(&bed, "there", &[]).await;
    store(&bed, &world, aged(&bed, 0)).await;
    produce(&bed, &world, aged(&bed, 0).bytes()).await;
    let dead = bed.broker.topics.owner().incarnation;
    let bed = bed.restarted().await;
    let broker = bed.broker.clone();
    let kept: BTreeSet<Path> = &keys(&broker, "seg").await | &keys(&broker, "wal").await;
    let fences = keys(&broker, wal_prefix(dead).as_ref()).await;
    assert!(fences.len() > 100, "and an object that was adopted");

    let put = async |path: Path, encoded: thalweg_segment::Encoded| {
        broker.store.put(&path, encoded.payload, Purpose::Flush).await.expect("memory takes it");
        path
    };
    let data = |writer: Incarnation, number| {
        let mut object = SegmentWriter::new(Kind::Wal, writer, number);
        object.batch(thalweg_segment::LogId(0), &batch().build());
        object.finish()
    };
    let own = broker.topics.owner().incarnation;
    let mut garbage = BTreeSet::new();
    // A flush that was not committed, a PUT that came late, and what the orderly end had no time for.
    for (writer, number) in [(dead, 100), (own, 1_000_000)] {
        let id = SegmentId { incarnation: writer, number };
        garbage.insert(put(segment_path(id), data(writer, number)).await);
    }
    garbage.insert(put(wal_path(dead, WalSequence(5000)), data(dead, 5000)).await);
    let another = Incarnation { epoch: thalweg_segment::BrokerEpoch(own.epoch.0 + 1), ..own };
    let unknown = SegmentId { incarnation: another, number: 0 };
    let unknown =
        put(segment_path(unknown), SegmentWriter::index_only(Kind::Fence, own, 0, Index::default())).await;

    upkeep::start(&broker);
    sleep(3 * MINUTE + MINUTE / 2).await;
    assert!(keys(&broker, "wal").await.is_superset(&fences));
    assert!(keys(&broker, "seg").await.contains(&unknown));
    sleep(30 * MINUTE).await;
    let left: BTreeSet<Path> = &keys(&broker, "seg").await | &keys(&broker, "wal").await;
    assert!(left.is_disjoint(&garbage));
    assert!(left.is_superset(&kept) && left.contains(&unknown));
    assert_eq!(ends(&bed, &world).await, (0, 4));
    assert!(!fetch(&bed, &world, 2).await.records.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_broker_asks_its_store_for_little() {
    // A directory's listing would be another, in no order.
    let bed = Bed::with(&[("object.store.url", "memory:")]).await;
    let world = topic_with(&bed, "there", &[]).await;
    store(&bed, &world, aged(&bed, 0)).await;
    let bed = bed.restarted().await;
    upkeep::start(&bed.broker);
    sleep(10 * MINUTE).await;
    let before = bed.broker.store.requests().total();
    sleep(60 * MINUTE).await;
    let requests = bed.broker.store.requests().total() - before;
    assert!((75..100).contains(&requests), "{requests} requests an hour");
}

#[tokio::test]
async fn readers_of_committed_data_are_never_told_an_end_before_the_start() {
    let bed = Bed::with(&[]).await;
    let world = topic_with(&bed, "there", &[]).await;
    let log = bed.broker.topics.by_name("there").expect("there").logs[0].clone();
    // Its transaction stays open.
    let open = batch().producer(7, 0, 0).transactional().build();
    let verification = log.verify(thalweg_segment::ProducerId(7), 0, true).expect("not open yet");
    log.append_verified(open, Some(&verification), &bed.broker.cache, &bed.broker.wal).expect("verified");
    produce(&bed, &world, batch().bytes()).await;
    assert_eq!(log.view().last_stable, Offset(0));
    let partition =
        delete_records_request::DeleteRecordsPartition::default().with_partition_index(0).with_offset(3);
    let wanted = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic("there"))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
    let deleted = answer!(bed.ask(2, request), DeleteRecords);
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 3);
    assert_eq!((log.view().start, log.view().last_stable), (Offset(3), Offset(3)));
}
