//! Log compaction, seen by clients: what they produce, and what they fetch once it is cleaned.

use super::{
    bed::{Bed, answer, text},
    catalogue::{World, commit_request, fetch_offsets, fetch_request, produce_request},
    groups::{self, commit},
    transactions::{end, init, is_for_later, restarted, until_stable},
    versions::furnished_with,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};
use thalweg_broker::{topics::OFFSETS_TOPIC, upkeep::cleaning::Cleaner};
use thalweg_protocol::{Compression, ErrorCode, Records, compress, decompress, messages::*};
use thalweg_segment::{
    Attributes, Batch, Offset, split_batches,
    testing::{BatchBuilder, Record},
};
use tokio::time::timeout;

const LATEST: i16 = 13;
/// Every topic is compacted, and a flush of 64 KiB of a log is a segment of its own.
const SETTINGS: [(&str, &str); 7] = [
    ("log.cleanup.policy", "compact"),
    ("log.cleaner.min.cleanable.ratio", "0"),
    ("flush.log.bytes", "65536"),
    ("flush.adopt.block.bytes", "1073741824"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "50"),
];

/// A record as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    key: String,
    value: Option<Vec<u8>>,
}

/// A batch of records of about a kilobyte each; none for a tombstone.
fn batch(records: &[(&str, Option<u8>)]) -> BatchBuilder {
    records.iter().fold(BatchBuilder::new(), |builder, (key, value)| {
        builder.push(Record {
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|value| vec![value; 1000].into()),
            ..Record::default()
        })
    })
}

/// The same batch with its records compressed.
fn compressed(batch: &BatchBuilder, codec: Compression) -> Bytes {
    let batch = batch.build();
    let records = compress(codec, None, batch.records()).expect("compresses");
    let mut head = *batch.head();
    head[21..23].copy_from_slice(&(batch.attributes() | codec.bits()).to_be_bytes());
    let batch = Batch::assemble(head, records);
    [&batch.head()[..], batch.records()].concat().into()
}

async fn produce(bed: &Bed, world: &World, records: Bytes) -> (i16, i64) {
    let transactional = i16::from(records[22]) & Attributes::TRANSACTIONAL != 0;
    let id = transactional.then(|| TransactionalId(text("an-id")));
    loop {
        let request =
            produce_request(LATEST, world, 0, Some(records.clone())).with_transactional_id(id.clone());
        let mut response = answer!(bed.ask(LATEST, request), Produce);
        let answer = response.responses.remove(0).partition_responses.remove(0);
        match answer.error_code {
            // As long as its coordinator loads, a transaction can't be looked up.
            code if is_for_later(code) || code == ErrorCode::NotEnoughReplicas.code() => {
                tokio::task::yield_now().await
            }
            code => return (code, answer.base_offset),
        }
    }
}

/// Writes what is in memory into segments, cleans all that can be, and starts anew, so that nothing comes from memory.
async fn cleaned(bed: Bed) -> Bed {
    clean(&bed).await;
    restarted(bed).await
}

async fn clean(bed: &Bed) {
    bed.broker.wal.flush().await.expect("memory takes it");
    let mut cleaner = Cleaner::default();
    while cleaner.clean_next(&bed.broker).await {}
    let report = bed.fsck().await;
    assert!(report.is_clean(), "{report}");
}

/// Every batch of partition 0 from `from` on, and the aborted transactions that the reader was told of.
async fn fetch(bed: &Bed, world: &World, from: i64) -> (Vec<Batch>, BTreeSet<(i64, i64)>) {
    let (mut at, mut batches, mut aborted) = (from, Vec::new(), BTreeSet::new());
    loop {
        let request = fetch_request(LATEST, world, 0, at).with_isolation_level(1);
        let mut fetched = answer!(bed.ask(LATEST, request), Fetch);
        let partition = fetched.topics.remove(0).partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        let told = partition.aborted_transactions.unwrap_or_default();
        aborted.extend(told.iter().map(|one| (one.producer_id.0, one.first_offset)));
        let bytes: Bytes = partition.records.concat().into();
        let fetched = split_batches(bytes).expect("whole batches");
        let Some(last) = fetched.last() else { return (batches, aborted) };
        at = last.end_offset().0;
        batches.extend(fetched);
    }
}

/// The records of data in batches.
fn records(batches: &[Batch]) -> Vec<Seen> {
    let data = batches.iter().filter(|batch| batch.attributes() & Attributes::CONTROL == 0);
    let of_batch = |batch: &Batch| {
        let codec = Compression::of_attributes(batch.attributes()).expect("a codec of Kafka's");
        let plain = decompress(codec, batch.records(), 1 << 20).expect("decompresses");
        let records = Records::new(&plain, batch.record_count()).map(|record| {
            let record = record.expect("well-formed");
            Seen {
                offset: batch.base_offset().0 + i64::from(record.offset_delta),
                key: String::from_utf8(record.key.expect("a key").to_vec()).expect("a text"),
                value: record.value.map(<[u8]>::to_vec),
            }
        });
        records.collect::<Vec<_>>()
    };
    data.flat_map(of_batch).collect()
}

fn seen(offset: i64, key: &str, value: Option<u8>) -> Seen {
    Seen { offset, key: key.to_owned(), value: value.map(|value| vec![value; 1000]) }
}

fn keys(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|key| format!("key-{key}")).collect()
}

fn with_values(keys: &[String], value: u8) -> Vec<(&str, Option<u8>)> {
    keys.iter().map(|key| (key.as_str(), Some(value))).collect()
}

#[tokio::test]
async fn the_last_record_of_each_key_stays_at_its_offset_whatever_the_codec() {
    let (bed, world) = furnished_with(&SETTINGS).await;
    let all = keys(0..80);
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut expected = BTreeMap::new();
    let mut offset = 0;
    for (value, codec) in (0..).zip(codecs) {
        // Every batch has fewer of the keys than the one before.
        let some = &all[usize::from(value) * 10..];
        // What isn't compressed makes the flush large enough.
        let padding = batch(&with_values(&all, 200)).bytes();
        let written = compressed(&batch(&with_values(some, value)), codec);
        for (bytes, keys, value) in [(padding, &all[..], 200), (written, some, value)] {
            assert_eq!(produce(&bed, &world, bytes).await, (0, offset));
            for key in keys {
                expected.insert(key.clone(), seen(offset, key, Some(value)));
                offset += 1;
            }
        }
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    let bed = cleaned(bed).await;
    let (batches, _) = fetch(&bed, &world, 0).await;
    let mut expected: Vec<_> = expected.into_values().collect();
    expected.sort_by_key(|record| record.offset);
    assert_eq!(records(&batches), expected);
    assert!(batches.iter().all(|batch| batch.verify_crc().is_ok()));
    let codec = |batch: &Batch| batch.attributes() & Attributes::COMPRESSION;
    assert_eq!(codec(&batches[batches.len() - 1]), Compression::Zstd.bits(), "the producer's");

    // A reader may begin in a hole, and at any record.
    for record in &expected {
        let (batches, _) = fetch(&bed, &world, record.offset - 1).await;
        assert!(records(&batches).contains(record));
    }
    // A round finds nothing more to do, in this life or the next.
    assert!(!Cleaner::default().clean_next(&bed.broker).await);
    let before: Vec<_> = batches.iter().map(|batch| *batch.head()).collect();
    let bed = cleaned(bed).await;
    let (batches, _) = fetch(&bed, &world, 0).await;
    assert_eq!(batches.iter().map(|batch| *batch.head()).collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn a_tombstone_goes_once_its_time_is_over_and_takes_its_key_along() {
    let settings = [&SETTINGS[..], &[("log.cleaner.delete.retention.ms", "0")]].concat();
    let (bed, world) = furnished_with(&settings).await;
    let all = keys(0..80);
    produce(&bed, &world, batch(&with_values(&all, 1)).bytes()).await;
    produce(&bed, &world, batch(&[("key-3", None), ("key-4", Some(2))]).bytes()).await;
    clean(&bed).await;
    // The first round sets the time, which is over when the second begins.
    produce(&bed, &world, batch(&with_values(&all[5..], 3)).bytes()).await;
    let bed = cleaned(bed).await;
    let (batches, _) = fetch(&bed, &world, 0).await;
    let left = records(&batches);
    assert!(left.iter().all(|record| record.key != "key-3"), "{left:?}");
    assert_eq!(left[3], seen(81, "key-4", Some(2)));
    assert_eq!(left.len(), 79);
}

#[tokio::test]
async fn what_is_dirty_for_too_long_is_cleaned_however_little_it_is() {
    let lag = [("log.cleaner.min.cleanable.ratio", "1"), ("log.cleaner.max.compaction.lag.ms", "60000")];
    let settings = [&SETTINGS[..], &lag].concat();
    let (bed, world) = furnished_with(&settings).await;
    let all = keys(0..80);
    for value in [1, 2] {
        let now_ms = bed.broker.runtime.now_ms();
        produce(&bed, &world, batch(&with_values(&all, value)).timestamp(now_ms).bytes()).await;
    }
    let left = |batches: Vec<Batch>| records(&batches).len();
    bed.clock.advance(30_000);
    clean(&bed).await;
    assert_eq!(left(fetch(&bed, &world, 0).await.0), 160, "not for long enough");
    bed.clock.advance(60_000);
    let bed = cleaned(bed).await;
    assert_eq!(left(fetch(&bed, &world, 0).await.0), 80);
}

#[tokio::test]
async fn what_was_removed_does_not_come_back_when_the_metadata_are_lost() {
    let (bed, world) = furnished_with(&SETTINGS).await;
    let all = keys(0..80);
    for value in 1..4 {
        produce(&bed, &world, batch(&with_values(&all[..70 + value], value as u8)).bytes()).await;
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    bed.broker.snapshots.take().await.expect("memory takes it");
    // What was replaced is still in the bucket.
    let bed = cleaned(bed).await;
    let heads = |batches: &[Batch]| batches.iter().map(|batch| *batch.head()).collect::<Vec<_>>();
    let (before, _) = fetch(&bed, &world, 0).await;
    assert_eq!(records(&before).len(), 73);
    let (bed, restored) = bed.restored().await;
    assert!(restored.is_complete(), "{restored}");
    assert_eq!(heads(&fetch(&bed, &world, 0).await.0), heads(&before));
}

#[tokio::test]
async fn an_idempotent_producer_goes_on_across_cleaning() {
    let (mut bed, world) = furnished_with(&SETTINGS).await;
    let all = keys(0..80);
    let sent = |sequence| batch(&with_values(&all, 1)).producer(7, 0, sequence).bytes();
    assert_eq!(produce(&bed, &world, sent(0)).await, (0, 0));
    // Another overwrites all that the producer has written.
    assert_eq!(produce(&bed, &world, batch(&with_values(&all, 2)).bytes()).await, (0, 80));
    for restarts in [false, true] {
        match restarts {
            false => clean(&bed).await,
            true => bed = cleaned(bed).await,
        }
        assert_eq!(produce(&bed, &world, sent(0)).await, (0, 0), "a repetition is known");
    }
    let (batches, _) = fetch(&bed, &world, 0).await;
    let first = &batches[0];
    assert_eq!((first.producer_id().0, first.record_count(), first.end_offset()), (7, 0, Offset(80)));
    assert_eq!(produce(&bed, &world, sent(80)).await, (0, 160), "it goes on");
    assert_eq!(produce(&bed, &world, sent(320)).await.0, 45, "but not anywhere");
}

#[tokio::test]
async fn readers_of_committed_data_see_no_aborted_record_and_all_that_was_committed() {
    let (bed, world) = furnished_with(&SETTINGS).await;
    find_coordinator(&bed, 1, "an-id").await;
    let all = keys(0..80);
    let mut producer = init(&bed, 60_000).await;
    let mut offset = 0;
    for (value, commit) in [(1, true), (2, false), (3, true), (4, false)] {
        // Each is large enough for a segment of its own.
        let some = &all[usize::from(value) * 2..];
        let records = batch(&with_values(some, value)).producer(producer.0, producer.1, 0).transactional();
        assert_eq!(produce(&bed, &world, records.bytes()).await, (0, offset));
        let ended = end(&bed, 5, producer, commit).await;
        assert_eq!(ended.0, 0);
        producer = ended.1;
        offset += some.len() as i64 + 1;
        until_stable(&bed, &world, offset).await;
        bed.broker.wal.flush().await.expect("memory takes it");
    }
    let bed = cleaned(bed).await;
    let (batches, aborted) = fetch(&bed, &world, 0).await;
    let mut values = BTreeMap::new();
    for record in records(&batches) {
        let value = record.value.expect("no tombstones")[0];
        assert!(values.insert(record.key, value).is_none(), "each key once");
    }
    let expected = all[2..].iter().enumerate().map(|(at, key)| (key.clone(), if at < 4 { 1 } else { 3 }));
    assert_eq!(values, expected.collect());
    let markers = batches.iter().filter(|batch| batch.entry().marker.is_some()).count();
    assert_eq!(markers, 4, "a round removes no marker of what it removes itself");
    assert!(aborted.len() <= 2, "{aborted:?}");
    assert_eq!(batches[batches.len() - 1].end_offset(), Offset(offset));

    // The producer goes on where it was.
    let records = batch(&with_values(&all[..2], 9)).producer(producer.0, producer.1, 0).transactional();
    assert_eq!(produce(&bed, &world, records.bytes()).await, (0, offset));
}

/// Polls `future` this many times, each time but the first once it was woken. None where that isn't enough.
async fn advance<F: Future>(mut future: Pin<&mut F>, polls: usize) -> Option<F::Output> {
    let mut left = polls;
    let polled = poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    polled.await
}

/// Whether the values 3 and 4 were committed and 2 was aborted, as a reader of committed data takes what it fetched.
fn is_as_committed(batches: &[Batch], aborted: &BTreeSet<(i64, i64)>) -> bool {
    let of_aborted = |batch: &&Batch| {
        let entry = batch.entry();
        aborted.contains(&(entry.producer_id.0, entry.base_offset.0))
    };
    let shown: Vec<Batch> = batches.iter().filter(|batch| !of_aborted(batch)).cloned().collect();
    let values: BTreeSet<_> = records(&shown).into_iter().filter_map(|record| record.value).collect();
    (values.contains(&vec![3; 1000]) || values.contains(&vec![4; 1000])) && !values.contains(&vec![2; 1000])
}

/// Two rounds: the first removes what was aborted, the second its marker, and what the index tells of it.
async fn clean_twice(bed: &Bed, world: &World) {
    clean(bed).await;
    let more = batch(&with_values(&keys(0..80), 4)).bytes();
    assert_eq!(produce(bed, world, more).await.0, 0);
    clean(bed).await;
}

#[tokio::test(start_paused = true)]
async fn cleaning_that_comes_in_between_shows_no_aborted_record_to_a_reader_of_committed_data() {
    let settings = [&SETTINGS[..], &[("log.cleaner.delete.retention.ms", "0")]].concat();
    for polls in 1.. {
        let (bed, world) = furnished_with(&settings).await;
        find_coordinator(&bed, 1, "an-id").await;
        let all = keys(0..80);
        let mut producer = init(&bed, 60_000).await;
        for (value, commit) in [(1, true), (2, false), (3, true)] {
            let records = batch(&with_values(&all, value)).producer(producer.0, producer.1, 0);
            let (code, offset) = produce(&bed, &world, records.transactional().bytes()).await;
            assert_eq!(code, 0);
            producer = end(&bed, 5, producer, commit).await.1;
            until_stable(&bed, &world, offset + 81).await;
            bed.broker.wal.flush().await.expect("memory takes it");
        }
        // From the object store, for which the reader waits.
        let bed = restarted(bed).await;
        bed.slow_reads(Duration::from_millis(1));
        let mut fetched = pin!(fetch(&bed, &world, 0));
        let mut early = advance(fetched.as_mut(), polls).await;
        if early.is_some() {
            assert!(polls > 3, "the reader waits several times");
            break;
        }
        let mut cleaning = pin!(clean_twice(&bed, &world));
        while timeout(Duration::from_secs(60), cleaning.as_mut()).await.is_err() {
            // It waits for something that the reader reads.
            early = match early {
                Some(_) => panic!("cleaning does not come to its end"),
                None => advance(fetched.as_mut(), 1).await,
            };
        }
        let (batches, aborted) = match early {
            Some(fetched) => fetched,
            None => fetched.await,
        };
        assert!(is_as_committed(&batches, &aborted), "after {polls} polls: {aborted:?} of {batches:?}");
    }
}

#[tokio::test]
async fn committed_offsets_outlive_the_cleaning_of_their_topic() {
    let (bed, world) = furnished_with(&SETTINGS).await;
    find_coordinator(&bed, 0, "a-group").await;
    for length in (0..40).map(|at| 4000 + at) {
        assert_eq!(commit(&bed, 10, commit_request(10, &world, &[0], length)).await, [0]);
    }
    bed.broker.wal.flush().await.expect("memory takes it");
    let index = bed.broker.topics.index();
    let log = bed.broker.topics.by_name(OFFSETS_TOPIC).expect("it was created").logs[0].id();
    let before = index.bytes(log, Offset(0), Offset(i64::MAX));
    clean(&bed).await;
    let after = index.bytes(log, Offset(0), Offset(i64::MAX));
    assert!(after * 10 < before, "{before} bytes became {after}");

    let bed = bed.restarted().await;
    assert_eq!(groups::committed(&bed, &world).await, Ok(1));
    let all = answer!(bed.ask(9, fetch_offsets(9, &world, None)), OffsetFetch);
    let metadata = all.groups[0].topics[0].partitions[0].metadata.as_deref().map(str::len);
    assert_eq!(metadata, Some(4039), "the last one");
}

async fn find_coordinator(bed: &Bed, kind: i8, key: &str) {
    let request =
        FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
    let found = answer!(bed.ask(6, request), FindCoordinator).coordinators.remove(0);
    assert_eq!(found.error_code, 0);
}
