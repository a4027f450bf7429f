//! The records of batches, for log compaction.

use crate::api::batch_check::DECOMPRESSED_MAX;
use bytes::Bytes;
use thalweg_object_compactor::clean::{CleanError, RecordCodec, RecordKey};
use thalweg_protocol::{Compression, Packing, Unpacking, keep_records, read_keys};
use thalweg_segment::Batch;

/// Reads records as the broker has checked them when they came in, and compresses anew by the batch's own codec, at its default level, as
/// Kafka's cleaner does.
#[derive(Clone, Copy, Debug)]
pub struct BatchRecords;

impl RecordCodec for BatchRecords {
    fn read(&self, batch: &Batch, each: &mut dyn FnMut(RecordKey<'_>)) -> Result<(), CleanError> {
        let (_, unpacking) = open(batch)?;
        let read = read_keys(unpacking, batch.record_count(), |record| {
            each(RecordKey {
                offset_delta: record.offset_delta,
                timestamp_delta: record.timestamp_delta,
                key: record.key,
                has_value: record.has_value,
            });
        });
        read.map_err(|error| CleanError::records(batch, error))
    }

    fn keep(&self, batch: &Batch, keep: &[bool], shift_ms: i64) -> Result<Bytes, CleanError> {
        let (codec, unpacking) = open(batch)?;
        let failed = |error| CleanError::records(batch, error);
        let mut packing = Packing::new(codec, None, None, usize::MAX).map_err(failed)?;
        keep_records(unpacking, keep, shift_ms, &mut packing)
            .map_err(|error| CleanError::records(batch, error))?;
        packing.finish().map_err(failed)
    }
}

fn open(batch: &Batch) -> Result<(Compression, Unpacking<'_>), CleanError> {
    let codec = Compression::of_attributes(batch.attributes());
    let codec = codec.ok_or_else(|| CleanError::records(batch, "an unknown codec"))?;
    let unpacking = Unpacking::new(codec, batch.records(), DECOMPRESSED_MAX);
    Ok((codec, unpacking.map_err(|error| CleanError::records(batch, error))?))
}
