//! Coordinator records into batches, and out of them.

use thalweg_protocol::{
    Compression, Record, Records, TooLong, coordinator_records::CoordinatorRecord, decompress, put_record,
};
use thalweg_segment::{Attributes, Batch, HEADER_LEN, Marker};

use super::rules::Position;

/// A batch that we wrote unpacks to no more than this.
const DECOMPRESSED_MAX: usize = 64 * 1024 * 1024;

/// A batch can't be taken apart. Its checksum was right when it was stored, so somebody else has written it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} holds no coordinator records: {reason}")]
pub(super) struct Unreadable {
    pub(super) offset: i64,
    pub(super) reason: String,
}

/// The producer of a batch that is part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionalBatch {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What stands in a coordinator's log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry<T> {
    /// A record.
    Record(Position, T),
    /// The end of a producer's transaction.
    End {
        /// Whose.
        producer_id: i64,
        /// Committed, or else aborted.
        committed: bool,
    },
}

/// One batch of all `records`, uncompressed, of one time.
pub(super) fn batch_of(records: &[impl CoordinatorRecord], now_ms: i64) -> Result<Batch, TooLong> {
    let (count, bytes) = packed(records)?;
    Ok(Batch::assemble(head(count, now_ms), bytes.into()))
}

/// The same as a part of a transaction. It has no sequence numbers, as in Kafka.
pub(super) fn transactional_batch_of(
    records: &[impl CoordinatorRecord],
    producer: TransactionalBatch,
    now_ms: i64,
) -> Result<Batch, TooLong> {
    let (count, bytes) = packed(records)?;
    let head = with_producer(head(count, now_ms), producer, Attributes::TRANSACTIONAL);
    Ok(Batch::assemble(head, bytes.into()))
}

fn packed(records: &[impl CoordinatorRecord]) -> Result<(i32, Vec<u8>), TooLong> {
    let mut bytes = Vec::new();
    for (delta, record) in (0..).zip(records) {
        let (key, value) = record.encode()?;
        put_record(&mut bytes, &Record::new(delta, 0, Some(&key), value.as_deref()));
    }
    let count = i32::try_from(records.len()).expect("records of a request, which is bounded");
    Ok((count, bytes))
}

pub(super) fn head(count: i32, now_ms: i64) -> [u8; HEADER_LEN] {
    let mut head = [0; HEADER_LEN];
    head[16] = 2;
    head[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    head[27..35].copy_from_slice(&now_ms.to_be_bytes());
    head[35..43].copy_from_slice(&now_ms.to_be_bytes());
    // No producer, no epoch, no sequence.
    head[43..57].fill(0xff);
    head[57..61].copy_from_slice(&count.to_be_bytes());
    head
}

pub(super) fn with_producer(
    mut head: [u8; HEADER_LEN],
    producer: TransactionalBatch,
    attributes: i16,
) -> [u8; HEADER_LEN] {
    head[21..23].copy_from_slice(&attributes.to_be_bytes());
    head[43..51].copy_from_slice(&producer.producer_id.to_be_bytes());
    head[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    head
}

/// What a batch that was read from the log holds. Nothing of types that nobody knows.
pub(super) fn entries_of<T: CoordinatorRecord>(batch: &Batch) -> Result<Vec<Entry<T>>, Unreadable> {
    let base = batch.base_offset().0;
    let unreadable = |reason: String| Unreadable { offset: base, reason };
    if batch.attributes() & Attributes::CONTROL != 0 {
        let producer_id = batch.producer_id().0;
        let end = |marker: Marker| Entry::End { producer_id, committed: marker.committed };
        return Ok(batch.entry().marker.map(end).into_iter().collect());
    }
    let codec = Compression::of_attributes(batch.attributes()).ok_or(unreadable("unknown codec".into()))?;
    let plain = decompress(codec, batch.records(), DECOMPRESSED_MAX)
        .map_err(|error| unreadable(error.to_string()))?;
    let transactional = batch.attributes() & Attributes::TRANSACTIONAL != 0;
    let producer_id = if transactional { batch.producer_id().0 } else { -1 };
    let mut entries = Vec::new();
    for record in Records::new(&plain, batch.record_count()) {
        let record = record.map_err(|error| unreadable(error.to_string()))?;
        // Kafka passes records without a key over.
        let Some(key) = record.key else { continue };
        let value = record.value.map(|value| plain.slice_ref(value));
        let decoded = T::decode(plain.slice_ref(key), value);
        let at = Position { offset: base + i64::from(record.offset_delta), producer_id, loading: true };
        let decoded = decoded.map_err(|error| unreadable(error.to_string()))?;
        entries.extend(decoded.map(|record| Entry::Record(at, record)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_protocol::{
        coordinator_records::{GroupRecord, OffsetCommitKey, OffsetCommitValue},
        messages::StrBytes,
    };

    #[test]
    fn a_batch_holds_its_records_in_order_and_passes_the_checks_of_batches() {
        let record = |partition: i32| {
            let text = StrBytes::from_static_str;
            let key = OffsetCommitKey { group: text("g"), topic: text("t"), partition };
            GroupRecord::OffsetCommit(key, (partition > 0).then(OffsetCommitValue::default))
        };
        let records: Vec<_> = (0..3).map(record).collect();
        let batch = batch_of(&records, 1000).expect("short strings");
        assert_eq!(batch.verify_crc(), Ok(()));
        assert_eq!((batch.max_timestamp(), batch.record_count(), batch.last_offset_delta()), (1000, 3, 2));
        let expected = (0..).zip(records.clone()).map(|(offset, record)| {
            Entry::Record(Position { offset, producer_id: -1, loading: true }, record)
        });
        assert_eq!(entries_of(&batch), Ok(expected.collect()));
        let producer = TransactionalBatch { producer_id: 7, epoch: 3 };
        let batch = transactional_batch_of(&records[..1], producer, 1000).expect("short strings");
        let entry = batch.entry();
        assert!(entry.is_transactional() && entry.producer_epoch == 3 && entry.last_sequence() == -1);
        let at = Position { offset: 0, producer_id: 7, loading: true };
        assert_eq!(entries_of(&batch), Ok(vec![Entry::Record(at, records[0].clone())]));
    }
}
