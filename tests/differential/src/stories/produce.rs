//! Batches, right and wrong.

use super::{Teller, fetch::fetch_body};
use crate::{
    batch::{Batch, Record, TIMESTAMP},
    symbols::now_ms,
    world::{make_topics, make_topics_with, produce_body},
};
use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Each batch to a partition of its own; then what is there.
pub fn batches(story: &mut Teller<'_>) -> Result<()> {
    let topic = story.name("topic");
    let cases = all_batches();
    make_topics(story.pair, &[(&topic, cases.len() as i32)])?;
    for (partition, (name, records)) in cases.iter().enumerate() {
        story.step(name).ask("Produce", produce_body(&topic, partition as i32, &hex::encode(records)))?;
        fetch_all(story, &topic, partition as i32)?;
    }
    Ok(())
}

/// Batches that a topic's settings judge or change.
pub fn settings(story: &mut Teller<'_>) -> Result<()> {
    let settings: [(&str, &[(&str, &str)]); 6] = [
        ("compacted", &[("cleanup.policy", "compact")]),
        ("stamped", &[("message.timestamp.type", "LogAppendTime")]),
        ("small", &[("max.message.bytes", "100")]),
        ("past", &[("message.timestamp.before.max.ms", "1000")]),
        ("future", &[("message.timestamp.after.max.ms", "1000")]),
        ("unpacked", &[("compression.type", "uncompressed")]),
    ];
    let tomorrow = now_ms() / 60_000 * 60_000 + 86_400_000;
    let without_key = Record { key: None, ..Record::default() }.encode();
    let batches = [
        ("a batch", Batch::of(3)),
        ("a batch without keys", Batch::holding(1, without_key)),
        ("a small batch", Batch::of(1)),
        ("a batch of tomorrow", {
            Batch { base_timestamp: tomorrow, max_timestamp: tomorrow + 2, ..Batch::of(3) }
        }),
        ("a batch that says log append time", Batch { attributes: 8, ..Batch::of(1) }),
        ("a packed batch", packed(1, &Record::default().encode())),
    ];
    for (kind, configs) in settings {
        let topic = story.name(kind);
        make_topics_with(story.pair, &[(&topic, batches.len() as i32)], configs)?;
        for (partition, (name, batch)) in batches.iter().enumerate() {
            let body = produce_body(&topic, partition as i32, &batch.hex());
            story.step(&format!("{name} to a topic {kind}")).ask("Produce", body)?;
            fetch_all(story, &topic, partition as i32)?;
        }
    }
    Ok(())
}

fn fetch_all(story: &mut Teller<'_>, topic: &str, partition: i32) -> Result<()> {
    story.ask("Fetch", fetch_body(topic, partition, 0))?;
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
        (
            "a producer that starts in between",
            Batch { producer_id: 6, producer_epoch: 0, base_sequence: 5, ..good() },
        ),
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
        ("gzip", packed(1, &plain().encode()).encode()),
        ("gzip of two", {
            let second = Record { offset_delta: 1, ..plain() }.encode();
            packed(2, &[plain().encode(), second].concat()).encode()
        }),
    ]
}

/// A batch in gzip.
fn packed(count: i32, records: &[u8]) -> Batch {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let packed = encoder.write_all(records).and_then(|()| encoder.finish()).unwrap_or_default();
    Batch { attributes: 1, ..Batch::holding(count, packed) }
}
