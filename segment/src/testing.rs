//! Valid record batches for tests: uncompressed, as a producer or a transaction coordinator writes them.
//!
//! ```
//! use thalweg_segment::testing::BatchBuilder;
//!
//! let batch = BatchBuilder::new().base_offset(7).producer(1, 0, 0).record("key", "value").build();
//! assert_eq!(batch.end_offset().0, 8);
//! assert_eq!(batch.verify_crc(), Ok(()));
//! ```

use crate::{Attributes, Batch, HEADER_LEN};
use bytes::{BufMut, Bytes, BytesMut};

/// One record of a [`BatchBuilder`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none makes it a tombstone.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970; none means the batch's base timestamp.
    pub timestamp: Option<i64>,
    /// Its headers; a key may occur more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Builds one record batch. Without a call of `record`, `records`, `push` or `marker` it holds no records, which Kafka
/// allows for batches that compaction has emptied.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    base_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    records: Vec<Record>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: 0,
            attributes: 0,
            base_timestamp: 1_700_000_000_000,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records: Vec::new(),
        }
    }
}

impl BatchBuilder {
    /// An empty batch at offset 0 in leader epoch 0, of no producer, with a fixed base timestamp.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the offset of the first record.
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.base_offset = offset;
        self
    }

    /// Sets the leader epoch.
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Makes an idempotent producer the sender: its id, its epoch, and the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Makes it part of the producer's transaction.
    pub fn transactional(self) -> Self {
        self.attributes(Attributes::TRANSACTIONAL)
    }

    /// Sets further bits of the attributes, see [`Attributes`].
    pub fn attributes(mut self, bits: i16) -> Self {
        self.attributes |= bits;
        self
    }

    /// Sets the base timestamp, which is also that of the records that have none of their own, in milliseconds.
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.base_timestamp = ms;
        self
    }

    /// Adds a record with a key and a value.
    pub fn record(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.push(Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() })
    }

    /// Adds `count` records without a key, each with a value of `size` bytes.
    pub fn records(mut self, count: usize, size: usize) -> Self {
        let value = Bytes::from(vec![b'v'; size]);
        let record = Record { value: Some(value), ..Record::default() };
        self.records.extend(std::iter::repeat_n(record, count));
        self
    }

    /// Adds any record.
    pub fn push(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// Makes it the control batch that ends a transaction, as the coordinator of `coordinator_epoch` writes it. Call
    /// [`producer`](Self::producer) with sequence -1 for whose transaction it is.
    pub fn marker(self, committed: bool, coordinator_epoch: i32) -> Self {
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i32(coordinator_epoch);
        let key = Bytes::copy_from_slice(&[0, 0, 0, u8::from(committed)]);
        self.attributes(Attributes::TRANSACTIONAL | Attributes::CONTROL).record(key, value.freeze())
    }

    /// The batch.
    pub fn build(&self) -> Batch {
        let mut records = BytesMut::new();
        for (delta, record) in self.records.iter().enumerate() {
            put_record(&mut records, record, delta as i64, self.base_timestamp);
        }
        Batch::assemble(self.head(), records.freeze())
    }

    /// The batch's bytes, header and records in one piece, as a producer sends them.
    pub fn bytes(&self) -> Bytes {
        let batch = self.build();
        [&batch.head()[..], batch.records()].concat().into()
    }

    /// The header without length and CRC.
    fn head(&self) -> [u8; HEADER_LEN] {
        let count = i32::try_from(self.records.len()).expect("a test's batch is small");
        let max_timestamp = self.records.iter().filter_map(|record| record.timestamp).max();
        let mut head = BytesMut::with_capacity(HEADER_LEN);
        head.put_i64(self.base_offset);
        head.put_i32(0);
        head.put_i32(self.leader_epoch);
        head.put_i8(2);
        head.put_u32(0);
        head.put_i16(self.attributes);
        head.put_i32((count - 1).max(0));
        head.put_i64(self.base_timestamp);
        head.put_i64(max_timestamp.unwrap_or(self.base_timestamp));
        head.put_i64(self.producer_id);
        head.put_i16(self.producer_epoch);
        head.put_i32(self.base_sequence);
        head.put_i32(count);
        head[..].try_into().expect("the fields of a header")
    }
}

fn put_record(out: &mut BytesMut, record: &Record, offset_delta: i64, base_timestamp: i64) {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varint(&mut body, record.timestamp.map_or(0, |ms| ms - base_timestamp));
    put_varint(&mut body, offset_delta);
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (key, value) in &record.headers {
        put_bytes(&mut body, Some(key.as_bytes()));
        put_bytes(&mut body, value.as_deref());
    }
    put_varint(out, body.len() as i64);
    out.put_slice(&body);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

/// Zig-zag, seven bits a byte, as Kafka's records have it.
fn put_varint(out: &mut BytesMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}
