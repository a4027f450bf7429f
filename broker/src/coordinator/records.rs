//! Coordinator records into batches, and out of them.

use thalweg_protocol::{
    Compression, Record, Records, TooLong, coordinator_records::GroupRecord, decompress, put_record,
};
use thalweg_segment::{Attributes, Batch, HEADER_LEN};

use super::groups::Position;

/// A batch that we wrote unpacks to no more than this.
const DECOMPRESSED_MAX: usize = 64 * 1024 * 1024;

/// A batch can't be taken apart. Its checksum was right when it was stored, so somebody else has written it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} holds no coordinator records: {reason}")]
pub(super) struct Unreadable {
    pub(super) offset: i64,
    pub(super) reason: String,
}

/// One batch of all `records`, uncompressed, of one time.
pub(super) fn batch_of(records: &[GroupRecord], now_ms: i64) -> Result<Batch, TooLong> {
    let mut bytes = Vec::new();
    for (delta, record) in (0..).zip(records) {
        let (key, value) = record.encode()?;
        put_record(&mut bytes, &Record::new(delta, 0, Some(&key), value.as_deref()));
    }
    let count = i32::try_from(records.len()).expect("records of a request, which is bounded");
    Ok(Batch::assemble(head(count, now_ms), bytes.into()))
}

fn head(count: i32, now_ms: i64) -> [u8; HEADER_LEN] {
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

/// The records of a batch that was read from the log. None of a control batch, and none of types that nobody knows.
pub(super) fn records_of(batch: &Batch) -> Result<Vec<(Position, GroupRecord)>, Unreadable> {
    let base = batch.base_offset().0;
    let unreadable = |reason: String| Unreadable { offset: base, reason };
    if batch.attributes() & Attributes::CONTROL != 0 {
        return Ok(Vec::new());
    }
    let codec = Compression::of_attributes(batch.attributes()).ok_or(unreadable("unknown codec".into()))?;
    let plain = decompress(codec, batch.records(), DECOMPRESSED_MAX)
        .map_err(|error| unreadable(error.to_string()))?;
    let transactional = batch.attributes() & Attributes::TRANSACTIONAL != 0;
    let producer_id = if transactional { batch.producer_id().0 } else { -1 };
    let mut records = Vec::new();
    for record in Records::new(&plain, batch.record_count()) {
        let record = record.map_err(|error| unreadable(error.to_string()))?;
        // Kafka passes records without a key over.
        let Some(key) = record.key else { continue };
        let value = record.value.map(|value| plain.slice_ref(value));
        let decoded = GroupRecord::decode(plain.slice_ref(key), value);
        let offset = base + i64::from(record.offset_delta);
        let at = Position { offset, producer_id, loading: true };
        records.extend(decoded.map_err(|error| unreadable(error.to_string()))?.map(|record| (at, record)));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_protocol::{
        coordinator_records::{OffsetCommitKey, OffsetCommitValue},
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
        let (at, read): (Vec<_>, Vec<_>) = records_of(&batch).expect("our own").into_iter().unzip();
        assert_eq!(read, records);
        assert_eq!(
            at.iter().map(|at| (at.offset, at.producer_id)).collect::<Vec<_>>(),
            [(0, -1), (1, -1), (2, -1)]
        );
    }
}
