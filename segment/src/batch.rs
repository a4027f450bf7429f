//! A Kafka record batch (message format v2, KIP-98) as it is stored and served: header and opaque records.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 CRC-32C u32 | 21 attributes i16 |
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16 |
//! 53 base sequence i32 | 57 record count i32 | 61 records …
//! ```
//! The length counts what follows it. The CRC covers everything from the attributes on, so base offset and leader epoch
//! can be filled in without touching it.

use crate::{LeaderEpoch, Offset, ProducerId, crc};
use bytes::Bytes;
use thalweg_runtime::Charge;

/// Bytes of a batch's header.
pub const HEADER_LEN: usize = 61;
/// Bytes that precede what the length field counts.
const LENGTH_OVERHEAD: usize = 12;
/// What the length of a batch says at the least: that of one record in the oldest format.
const SMALLEST_LENGTH: i32 = 14;
const CRC_START: usize = 21;
/// The base sequence of a batch without sequence numbers.
const NO_SEQUENCE: i32 = -1;

/// What is wrong with bytes that should be a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the header's length field says.
    #[error("the batch is cut off: {have} of {need} bytes")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The length field is smaller than a header.
    #[error("batch length {0} is smaller than a header")]
    BadLength(i32),
    /// Not message format v2.
    #[error("message format v{0} is not supported")]
    BadMagic(i8),
    /// The checksum does not match the content.
    #[error("CRC-32C is {actual:#010x} where the header says {expected:#010x}")]
    BadCrc {
        /// In the header.
        expected: u32,
        /// Of the content.
        actual: u32,
    },
    /// Offsets of the batch would be negative or overflow.
    #[error("base offset {base} with last offset delta {delta} is not a range of offsets")]
    BadOffsets {
        /// Base offset.
        base: i64,
        /// Last offset delta.
        delta: i32,
    },
}

/// One record batch. The header is held apart from the records, so that offset, epoch and (where the broker sets
/// them) timestamps can be filled in while the records stay the slice of the read buffer that they arrived in.
#[derive(Clone, Debug)]
pub struct Batch {
    head: [u8; HEADER_LEN],
    records: Bytes,
    charge: Option<Charge>,
}

impl Batch {
    /// Takes the batch at the front of `bytes` off. Lengths and magic are checked, the CRC is not.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let have = bytes.len();
        let header_is_cut = BatchError::Truncated { have, need: HEADER_LEN };
        // What little there is may be wrong already; Kafka looks at it in this order.
        let Some(length) = bytes.get(8..LENGTH_OVERHEAD) else { return Err(header_is_cut) };
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        if length < SMALLEST_LENGTH {
            return Err(BatchError::BadLength(length));
        }
        // Where the magic stands in all formats, the same byte; older formats are told from garbage by it.
        let Some(magic) = bytes.get(16).map(|magic| *magic as i8) else { return Err(header_is_cut) };
        if magic != 2 {
            return Err(BatchError::BadMagic(magic));
        }
        let need = usize::try_from(length).map_err(|_| BatchError::BadLength(length))? + LENGTH_OVERHEAD;
        if have < need {
            return Err(BatchError::Truncated { have, need });
        }
        if need < HEADER_LEN {
            return Err(BatchError::BadLength(length));
        }
        let whole = bytes.split_to(need);
        let head = whole[..HEADER_LEN].try_into().expect("at least a header");
        let batch = Self { head, records: whole.slice(HEADER_LEN..), charge: None };
        let (base, delta) = (batch.base_offset().0, batch.last_offset_delta());
        if delta < 0 || base < 0 || base.checked_add(i64::from(delta) + 1).is_none() {
            return Err(BatchError::BadOffsets { base, delta });
        }
        Ok(batch)
    }

    /// A batch of a prepared header and its records (recompressed, or with new timestamps). Fills in length and CRC.
    pub fn assemble(mut head: [u8; HEADER_LEN], records: Bytes) -> Self {
        let length = i32::try_from(HEADER_LEN - LENGTH_OVERHEAD + records.len())
            .expect("a batch is far below 2 GiB: requests are bounded");
        head[8..12].copy_from_slice(&length.to_be_bytes());
        let mut batch = Self { head, records, charge: None };
        batch.seal();
        batch
    }

    /// Compares the CRC with the content.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let (expected, actual) = (self.u32_at(17), self.content_crc());
        if expected == actual { Ok(()) } else { Err(BatchError::BadCrc { expected, actual }) }
    }

    /// Continues `crc` over the whole batch. The content of a large one is not read again: its own CRC, which was verified
    /// when it came in, says enough.
    pub(crate) fn extend_crc(&self, crc: u32) -> u32 {
        if self.records.len() < crc::WORTH_COMBINING {
            return crc32c::crc32c_append(crc32c::crc32c_append(crc, &self.head), &self.records);
        }
        let content = u32::try_from(self.len() - CRC_START).expect("a batch is far below 4 GiB");
        crc::concatenated(crc32c::crc32c_append(crc, &self.head[..CRC_START]), self.u32_at(17), content)
    }

    fn content_crc(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.head[CRC_START..]), &self.records)
    }

    fn seal(&mut self) {
        let crc = self.content_crc();
        self.head[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    /// Keeps `charge` for as long as this batch lives: the charge of the allocation that the records are a slice of.
    pub fn with_charge(mut self, charge: Option<Charge>) -> Self {
        self.charge = charge;
        self
    }

    /// The charge that it keeps.
    pub fn charge(&self) -> Option<&Charge> {
        self.charge.as_ref()
    }

    /// The 61 bytes of the header.
    pub fn head(&self) -> &[u8; HEADER_LEN] {
        &self.head
    }

    /// The records as the producer sent them, compressed or not.
    pub fn records(&self) -> &Bytes {
        &self.records
    }

    /// Size in bytes, header included.
    #[expect(clippy::len_without_is_empty, reason = "a batch has at least its header")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Fills in where the batch stands in its log. Leaves the CRC alone, which does not cover these fields.
    pub fn place(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.head[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        self.head[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    }

    /// Sets timestamp type LogAppendTime and the max timestamp, as Kafka does for `message.timestamp.type=LogAppendTime`.
    /// They stand inside the CRC, which is computed anew.
    pub fn stamp_append_time(&mut self, timestamp_ms: i64) {
        let attributes = self.attributes() | Attributes::APPEND_TIME;
        self.head[21..23].copy_from_slice(&attributes.to_be_bytes());
        self.head[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        self.seal();
    }

    /// Sets the max timestamp, where the producer's differs from that of its records, and the CRC with it.
    pub fn set_max_timestamp(&mut self, timestamp_ms: i64) {
        self.head[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        self.seal();
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.i64_at(0))
    }

    /// Offset after the last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset().plus(i64::from(self.last_offset_delta()) + 1)
    }

    /// Leader epoch under which the batch was appended.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.i32_at(12))
    }

    /// Attribute bits, see [`Attributes`].
    pub fn attributes(&self) -> i16 {
        self.i16_at(21)
    }

    /// Last record's offset less the first one's; compaction may leave fewer records than this says.
    pub fn last_offset_delta(&self) -> i32 {
        self.i32_at(23)
    }

    /// Timestamp of the first record; the records hold deltas to it.
    pub fn base_timestamp(&self) -> i64 {
        self.i64_at(27)
    }

    /// The highest timestamp of the records (or the append time).
    pub fn max_timestamp(&self) -> i64 {
        self.i64_at(35)
    }

    /// The idempotent producer, or none.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(self.i64_at(43))
    }

    /// Its epoch, or -1.
    pub fn producer_epoch(&self) -> i16 {
        self.i16_at(51)
    }

    /// Sequence number of the first record, or -1.
    pub fn base_sequence(&self) -> i32 {
        self.i32_at(53)
    }

    /// Number of records as the header says.
    pub fn record_count(&self) -> i32 {
        self.i32_at(57)
    }

    /// The batch's line in an index.
    pub fn entry(&self) -> BatchEntry {
        BatchEntry {
            base_offset: self.base_offset(),
            last_offset_delta: self.last_offset_delta(),
            record_count: self.record_count(),
            size: u32::try_from(self.len()).expect("a batch is far below 4 GiB"),
            leader_epoch: self.leader_epoch(),
            attributes: self.attributes(),
            max_timestamp: self.max_timestamp(),
            producer_id: self.producer_id(),
            producer_epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
            marker: self.marker(),
        }
    }

    /// What a control batch says; none for data, and for control records of a type that we don't know.
    fn marker(&self) -> Option<Marker> {
        // A control batch is never compressed.
        if self.attributes() & (Attributes::CONTROL | Attributes::COMPRESSION) != Attributes::CONTROL {
            return None;
        }
        Marker::parse(&self.records)
    }

    fn i16_at(&self, at: usize) -> i16 {
        i16::from_be_bytes(self.head[at..at + 2].try_into().expect("two bytes"))
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.head[at..at + 4].try_into().expect("four bytes"))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.head[at..at + 4].try_into().expect("four bytes"))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(self.head[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// Bits of a batch's attributes.
pub struct Attributes;

impl Attributes {
    /// Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub const COMPRESSION: i16 = 0x07;
    /// The max timestamp is the time of the append, and every record's.
    pub const APPEND_TIME: i16 = 0x08;
    /// Part of a transaction.
    pub const TRANSACTIONAL: i16 = 0x10;
    /// Holds control records, which clients don't see.
    pub const CONTROL: i16 = 0x20;
    /// The base timestamp is a delete horizon (KIP-534).
    pub const DELETE_HORIZON: i16 = 0x40;
}

/// The end of a transaction, as its control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Committed, or else aborted.
    pub committed: bool,
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// Reads the single record of a control batch: key `version i16, type i16`, value `version i16, coordinator epoch i32`.
    fn parse(records: &[u8]) -> Option<Self> {
        let mut at = records;
        varint(&mut at)?; // length
        at = at.get(1..)?; // attributes
        varint(&mut at)?; // timestamp delta
        varint(&mut at)?; // offset delta
        let key = bounded(&mut at)?;
        let value = bounded(&mut at)?;
        let kind = i16::from_be_bytes(key.get(2..4)?.try_into().ok()?);
        let coordinator_epoch = i32::from_be_bytes(value.get(2..6)?.try_into().ok()?);
        matches!(kind, 0 | 1).then_some(Self { committed: kind == 1, coordinator_epoch })
    }
}

/// A zig-zag varint (or varlong) of at most ten bytes.
fn varint(at: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        raw |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

fn bounded<'a>(at: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(at)?).ok()?;
    let (field, rest) = at.split_at_checked(length)?;
    *at = rest;
    Some(field)
}

/// What an index says of one batch: enough to rebuild producer and transaction state without the batch itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Last record's offset less the first one's.
    pub last_offset_delta: i32,
    /// Number of records.
    pub record_count: i32,
    /// Size in bytes, header included.
    pub size: u32,
    /// Leader epoch of the append.
    pub leader_epoch: LeaderEpoch,
    /// See [`Attributes`].
    pub attributes: i16,
    /// Highest timestamp.
    pub max_timestamp: i64,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// For the control batch that ends a transaction.
    pub marker: Option<Marker>,
}

impl BatchEntry {
    /// Offset after the last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// Sequence number of the last record, or -1 where the batch has none (offsets committed in a transaction have a
    /// producer but no sequence); sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records.
    pub fn is_control(&self) -> bool {
        self.attributes & Attributes::CONTROL != 0
    }
}

/// The sequence number `by` after `from`, wrapping from `i32::MAX` to 0 as Kafka's does.
pub fn advance_sequence(from: i32, by: i32) -> i32 {
    match from.checked_add(by) {
        Some(sum) => sum,
        None => by - (i32::MAX - from) - 1,
    }
}
