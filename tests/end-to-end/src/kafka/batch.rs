//! Record batches of magic 2, uncompressed: <https://kafka.apache.org/documentation/#recordbatch>.

use super::wire::{Reader, Writer};
use anyhow::{Result, ensure};
use bytes::Bytes;

/// Bytes of a batch before the part that its CRC covers.
const CRC_END: usize = 21;
/// Bytes that the length field doesn't count: base offset and the length itself.
const LENGTH_END: usize = 12;
/// Bytes of the header.
const HEADER: usize = 61;

/// The producer that a batch claims to be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Producer id; -1 for none.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

impl Producer {
    /// No idempotence.
    pub const NONE: Self = Self { id: -1, epoch: -1 };
}

/// A batch to be produced.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Who sends it.
    pub producer: Producer,
    /// Sequence number of its first record; -1 without a producer.
    pub base_sequence: i32,
    /// Timestamp of all its records, in milliseconds.
    pub timestamp_ms: i64,
    /// Values of its records; they have no keys.
    pub values: Vec<Bytes>,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Its value; null is empty.
    pub value: Bytes,
}

impl Batch {
    /// A batch without a producer id.
    pub fn plain(values: Vec<Bytes>) -> Self {
        Self { producer: Producer::NONE, base_sequence: -1, timestamp_ms: now_ms(), values }
    }

    /// The batch's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let last = i32::try_from(self.values.len()).expect("batches in tests are small") - 1;
        let body = Writer::default()
            .i16(0) // attributes: no compression, create time
            .i32(last)
            .i64(self.timestamp_ms)
            .i64(self.timestamp_ms)
            .i64(self.producer.id)
            .i16(self.producer.epoch)
            .i32(self.base_sequence)
            .array(self.values.iter().enumerate(), |to, (delta, value)| write_record(to, delta, value))
            .finish();
        let length = i32::try_from(CRC_END - LENGTH_END + body.len()).expect("batches in tests are small");
        let (base_offset, leader_epoch, magic) = (0, -1, 2);
        let head = Writer::default().i64(base_offset).i32(length).i32(leader_epoch).i8(magic);
        head.u32(crc32c::crc32c(&body)).raw(&body).finish()
    }
}

fn write_record(to: Writer, offset_delta: usize, value: &[u8]) -> Writer {
    let (attributes, timestamp_delta, no_key, no_headers) = (0, 0, -1, 0);
    let record = Writer::default()
        .i8(attributes)
        .varint(timestamp_delta)
        .varint(offset_delta as i64)
        .varint(no_key)
        .varint(value.len() as i64)
        .raw(value)
        .varint(no_headers)
        .finish();
    to.varint(record.len() as i64).raw(&record)
}

/// The records in what a Fetch returned. Fails on a wrong CRC, on compression, and on offsets that don't count up; a last
/// batch that is cut off is left out, as clients do.
pub fn records(mut data: Bytes) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    while data.len() >= HEADER {
        let length = Reader::new(data.slice(8..LENGTH_END)).i32()?;
        let end = LENGTH_END + usize::try_from(length)?;
        if end > data.len() {
            break;
        }
        read_batch(data.split_to(end), &mut found)?;
    }
    Ok(found)
}

/// The offset behind the last whole batch in what a Fetch returned, without a look at the records. `None` if there is no
/// whole batch.
pub fn next_offset(mut data: Bytes) -> Result<Option<i64>> {
    let mut next = None;
    while data.len() >= HEADER {
        let mut head = Reader::new(data.slice(..HEADER));
        let base_offset = head.i64()?;
        let end = LENGTH_END + usize::try_from(head.i32()?)?;
        if end > data.len() {
            break;
        }
        head.take(CRC_END - LENGTH_END + 2)?;
        next = Some(base_offset + i64::from(head.i32()?) + 1);
        data = data.slice(end..);
    }
    Ok(next)
}

fn read_batch(batch: Bytes, found: &mut Vec<Record>) -> Result<()> {
    let covered = batch.slice(CRC_END..);
    let mut head = Reader::new(batch);
    let base_offset = head.i64()?;
    let (_length, _leader_epoch, magic) = (head.i32()?, head.i32()?, head.i8()?);
    ensure!(magic == 2, "magic {magic} at offset {base_offset}");
    ensure!(head.u32()? == crc32c::crc32c(&covered), "wrong CRC at offset {base_offset}");
    let (attributes, last_offset_delta) = (head.i16()?, head.i32()?);
    ensure!(attributes & 0x27 == 0, "attributes {attributes:#x} at offset {base_offset}");
    head.take(8 + 8 + 8 + 2 + 4)?;
    let count = head.i32()?;
    ensure!(
        count == last_offset_delta + 1,
        "{count} records, last delta {last_offset_delta}, at offset {base_offset}"
    );
    for expected in 0..i64::from(count) {
        let mut record = Reader::new(head.varint_bytes()?);
        let (_attributes, _timestamp_delta, delta) = (record.i8()?, record.varint()?, record.varint()?);
        ensure!(delta == expected, "offset delta {delta} in place of {expected} at offset {base_offset}");
        record.varint_bytes()?;
        found.push(Record { offset: base_offset + delta, value: record.varint_bytes()? });
    }
    Ok(())
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let values = vec![Bytes::from_static(b"one"), Bytes::from_static(b""), Bytes::from(vec![7; 1000])];
        let encoded = Batch::plain(values.clone()).encode();
        let read: Vec<_> = records(encoded.into()).unwrap().into_iter().map(|record| record.value).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn the_next_offset_is_behind_the_last_record_of_whole_batches() {
        let mut two = Batch::plain(vec![Bytes::from_static(b"x"); 3]).encode();
        two.extend_from_within(..);
        assert_eq!(next_offset(two.clone().into()).unwrap(), Some(3));
        assert_eq!(next_offset(Bytes::copy_from_slice(&two[..20])).unwrap(), None);
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut encoded = Batch::plain(vec![Bytes::from_static(b"one")]).encode();
        *encoded.last_mut().unwrap() ^= 1;
        assert!(records(encoded.into()).is_err());
    }

    #[test]
    fn a_batch_that_is_cut_off_is_left_out() {
        let encoded = Batch::plain(vec![Bytes::from_static(b"one")]).encode();
        let mut two = encoded.clone();
        two.extend(&encoded[..encoded.len() - 1]);
        assert_eq!(records(two.into()).unwrap().len(), 1);
    }
}
