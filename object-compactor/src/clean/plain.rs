//! Uncompressed records for tests: read and written by the definition of the format, field by field.

use super::{CleanError, RecordCodec, RecordKey};
use bytes::Bytes;
use thalweg_segment::Batch;

/// The codec of batches that [`thalweg_segment::testing::BatchBuilder`] builds.
pub struct Plain;

/// A record with all that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// What stands in a record, and where its timestamp delta ends.
struct Parsed {
    body: Vec<u8>,
    timestamp_delta: i64,
    behind_timestamp: usize,
    offset_delta: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// Every record of a batch.
pub fn records(batch: &Batch) -> Vec<Whole> {
    let whole = |parsed: Parsed| Whole {
        offset: batch.base_offset().0 + parsed.offset_delta,
        timestamp: batch.base_timestamp() + parsed.timestamp_delta,
        key: parsed.key,
        value: parsed.value,
    };
    parse(batch).into_iter().map(whole).collect()
}

fn parse(batch: &Batch) -> Vec<Parsed> {
    let mut rest = &batch.records()[..];
    let records = (0..batch.record_count()).map(|_| {
        let body = field(&mut rest).expect("a record has a length");
        let mut at = &body[1..];
        let timestamp_delta = varint(&mut at);
        let behind_timestamp = body.len() - at.len();
        let offset_delta = varint(&mut at);
        let (key, value) = (field(&mut at), field(&mut at));
        Parsed { timestamp_delta, behind_timestamp, offset_delta, key, value, body: body.clone() }
    });
    let records = records.collect();
    assert!(rest.is_empty(), "as many records as the header says");
    records
}

impl RecordCodec for Plain {
    fn read(&self, batch: &Batch, each: &mut dyn FnMut(RecordKey<'_>)) -> Result<(), CleanError> {
        for parsed in parse(batch) {
            each(RecordKey {
                offset_delta: parsed.offset_delta as i32,
                timestamp_delta: parsed.timestamp_delta,
                key: parsed.key.as_deref(),
                has_value: parsed.value.is_some(),
            });
        }
        Ok(())
    }

    fn keep(&self, batch: &Batch, keep: &[bool], shift_ms: i64) -> Result<Bytes, CleanError> {
        let mut out = Vec::new();
        for (parsed, _) in parse(batch).iter().zip(keep).filter(|(_, keep)| **keep) {
            let mut body = vec![parsed.body[0]];
            put_varint(&mut body, parsed.timestamp_delta + shift_ms);
            body.extend(&parsed.body[parsed.behind_timestamp..]);
            put_varint(&mut out, body.len() as i64);
            out.extend(body);
        }
        Ok(out.into())
    }
}

fn field(at: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(varint(at)).ok()?;
    let (field, rest) = at.split_at(length);
    *at = rest;
    Some(field.to_vec())
}

fn varint(at: &mut &[u8]) -> i64 {
    let mut raw = 0u64;
    for shift in (0..).step_by(7) {
        let (byte, rest) = at.split_first().expect("a test's batch is whole");
        *at = rest;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}
