//! Batches, right and wrong.

use super::Teller;
use crate::{
    batch::{Batch, Record, TIMESTAMP},
    symbols::now_ms,
    world::{make_topics, produce_body},
};
use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::io::Write;

/// Each batch to a partition of its own; then what is there.
pub fn batches(story: &mut Teller<'_>) -> Result<()> {
    let topic = story.name("topic");
    let cases = all_batches();
    make_topics(story.pair, &[(&topic, cases.len() as i32)])?;
    let version = story.version("Produce")?;
    for (partition, (name, records)) in cases.iter().enumerate() {
        story.step(name);
        let body = produce_body(&topic, partition as i32, &hex::encode(records));
        story.pair.ask("Produce", version, body)?;
        fetch(story, &topic, partition as i32)?;
    }
    Ok(())
}

fn fetch(story: &mut Teller<'_>, topic: &str, partition: i32) -> Result<()> {
    let version = story.version("Fetch")?;
    let partition = json!({ "Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20 });
    let topics = json!([{ "Topic": topic, "TopicId": format!("$id:{topic}"), "Partitions": [partition] }]);
    let body = json!({ "MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 1 << 20, "Topics": topics });
    story.pair.ask("Fetch", version, body)?;
    Ok(())
}

type Case = (&'static str, Vec<u8>);

fn all_batches() -> Vec<Case> {
    let mut all = vec![
        ("a batch of one", Batch::of(1).encode()),
        ("a batch of many", Batch::of(100).encode()),
        ("two batches", [Batch::of(1).encode(), Batch::of(2).encode()].concat()),
        ("half a batch", Batch::of(3).encode()[..70].to_vec()),
        ("half a header", Batch::of(3).encode()[..30].to_vec()),
        ("a batch and half of another", [&Batch::of(1).encode()[..], &Batch::of(2).encode()[..20]].concat()),
        ("no bytes", Vec::new()),
    ];
    all.extend(headers().map(|(name, batch)| (name, batch.encode())));
    all.extend(records());
    all
}

fn headers() -> impl Iterator<Item = (&'static str, Batch)> {
    let good = || Batch::of(3);
    [
        ("a base offset", Batch { base_offset: 100, ..good() }),
        ("a negative base offset", Batch { base_offset: -5, ..good() }),
        ("a leader epoch", Batch { leader_epoch: 7, ..good() }),
        ("magic 0", Batch { magic: 0, ..good() }),
        ("magic 1", Batch { magic: 1, ..good() }),
        ("magic 3", Batch { magic: 3, ..good() }),
        ("magic -1", Batch { magic: -1, ..good() }),
        ("a wrong CRC", Batch { crc_off_by: 1, ..good() }),
        ("a length too long", Batch { length_off_by: 10, ..good() }),
        ("a length too short", Batch { length_off_by: -10, ..good() }),
        ("a negative length", Batch { length_off_by: i32::MIN, ..good() }),
        ("a small length", Batch { length_off_by: -70, ..good() }),
        ("no records", Batch { records: Vec::new(), ..Batch::of(0) }),
        ("a count of none", Batch { count: 0, ..good() }),
        ("a negative count", Batch { count: -1, ..good() }),
        ("a count too high", Batch { count: 4, ..good() }),
        ("a count too low", Batch { count: 2, ..good() }),
        ("a last offset delta too high", Batch { last_offset_delta: 5, ..good() }),
        ("a last offset delta too low", Batch { last_offset_delta: 1, ..good() }),
        ("a negative last offset delta", Batch { last_offset_delta: -1, ..good() }),
        ("a giant last offset delta", Batch { last_offset_delta: i32::MAX, ..good() }),
        ("log append time", Batch { attributes: 8, ..good() }),
        ("a codec that doesn't exist", Batch { attributes: 5, ..good() }),
        ("codec 7", Batch { attributes: 7, ..good() }),
        ("unused attributes", Batch { attributes: 0x80, ..good() }),
        ("a control batch", Batch { attributes: 0x20, ..good() }),
        ("a transactional batch", Batch { attributes: 0x10, ..good() }),
        ("a delete horizon", Batch { attributes: 0x40, ..good() }),
        ("no timestamp", Batch { base_timestamp: -1, max_timestamp: -1, ..good() }),
        ("a negative timestamp", Batch { base_timestamp: -2, ..good() }),
        ("a max timestamp too low", Batch { max_timestamp: TIMESTAMP - 1, ..good() }),
        ("a max timestamp too high", Batch { max_timestamp: TIMESTAMP + 100, ..good() }),
        ("a timestamp of tomorrow", {
            let tomorrow = now_ms() / 60_000 * 60_000 + 86_400_000 * 2;
            Batch { base_timestamp: tomorrow, max_timestamp: tomorrow + 2, ..good() }
        }),
        ("a producer without an epoch", Batch { producer_id: 5, ..good() }),
        ("an epoch without a producer", Batch { producer_epoch: 5, ..good() }),
        ("a sequence without a producer", Batch { base_sequence: 5, ..good() }),
        ("a negative sequence", Batch { producer_id: 5, producer_epoch: 0, base_sequence: -1, ..good() }),
        ("a producer that starts in between", Batch { producer_id: 6, producer_epoch: 0, base_sequence: 5, ..good() }),
        ("a producer that starts", Batch { producer_id: 7, producer_epoch: 0, base_sequence: 0, ..good() }),
        ("a sequence that wraps", {
            Batch { producer_id: 8, producer_epoch: 0, base_sequence: i32::MAX, ..good() }
        }),
        ("producer -2", Batch { producer_id: -2, producer_epoch: 0, base_sequence: 0, ..good() }),
    ]
    .into_iter()
}

fn records() -> Vec<Case> {
    let headers: &[(&str, Option<&[u8]>)] = &[("a", Some(b"1")), ("a", None), ("", Some(b""))];
    let one = |record: Record<'_>| Batch::holding(1, record.encode()).encode();
    let plain = Record::default;
    let two = |first: Record<'_>, second: Record<'_>| {
        Batch::holding(2, [first.encode(), second.encode()].concat()).encode()
    };
    let gzip = |records: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(records).and_then(|()| encoder.finish()).unwrap_or_default()
    };
    let packed = |count, records: Vec<u8>| Batch { attributes: 1, ..Batch::holding(count, records) }.encode();
    vec![
        ("a record without a key", one(Record { key: None, ..plain() })),
        ("a record without a value", one(Record { value: None, ..plain() })),
        ("a record of nothing", one(Record { key: None, value: None, ..plain() })),
        ("record headers", one(Record { headers, ..plain() })),
        ("record attributes", one(Record { attributes: 5, ..plain() })),
        ("a record's length too long", one(Record { length_off_by: 1, ..plain() })),
        ("a record's length too short", one(Record { length_off_by: -1, ..plain() })),
        ("a record's length negative", one(Record { length_off_by: -1000, ..plain() })),
        ("a first offset delta of 1", one(Record { offset_delta: 1, ..plain() })),
        ("a timestamp delta", one(Record { timestamp_delta: 5, ..plain() })),
        ("a negative timestamp delta", one(Record { timestamp_delta: -5, ..plain() })),
        ("offset deltas that repeat", two(plain(), plain())),
        ("offset deltas that leave one out", two(plain(), Record { offset_delta: 2, ..plain() })),
        ("bytes behind the records", Batch::holding(1, [plain().encode(), vec![0; 5]].concat()).encode()),
        ("records that are noise", Batch::holding(1, vec![0x55; 40]).encode()),
        ("gzip", packed(1, gzip(&plain().encode()))),
        ("gzip of two", {
            packed(2, gzip(&[plain().encode(), Record { offset_delta: 1, ..plain() }.encode()].concat()))
        }),
    ]
}
