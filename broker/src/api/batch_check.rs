//! Checks of a produced batch, as Kafka's ProduceRequest, UnifiedLog and LogValidator make them, with their error codes.

use crate::partition::NO_PRODUCER_EPOCH;
use crate::settings::{TargetCompression, TimestampType, TopicSettings};
use bytes::Bytes;
use thalweg_protocol::{
    BatchFacts, BrokenRule, Compression, CompressionError, ErrorCode, Packing, RecordHead, RecordHeads,
    Records, Rejection, Rules, UnpackError, Unpacking, ValidationError, renumber, repack, validate_batch,
    validate_records,
};
use thalweg_runtime::{Budget, Charge, Runtime};
use thalweg_segment::{Attributes, Batch, BatchError, HEADER_LEN};

/// First version of Produce that may carry zstd.
const ZSTD: i16 = 7;
/// Batches larger than this are checked on the computing threads.
const COMPUTE_ABOVE: usize = 256 * 1024;

/// A batch that may be appended.
pub struct Checked {
    /// The batch, with the broker's timestamps and compression where the topic asks for them.
    pub batch: Batch,
    /// The append time, for topics whose records carry it.
    pub append_time: Option<i64>,
}

/// Why a batch was refused: Kafka's code, a sentence, and the records that are at fault (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: Option<String>,
    /// Index in the batch and message of each record at fault.
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    /// A refusal of the batch as a whole.
    pub fn new(code: ErrorCode, message: &str) -> Self {
        Self { code, message: Some(message.to_owned()), records: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::InvalidRecord, message: Some(message.into()), records: Vec::new() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new() }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::BadCrc { .. } | BatchError::BadLength(_) => ErrorCode::CorruptMessage,
            // What an old client sends, and what is no batch at all.
            BatchError::BadMagic(0 | 1) => ErrorCode::InvalidRecord,
            BatchError::BadMagic(magic) => {
                return Self::new(
                    ErrorCode::CorruptMessage,
                    &format!("Invalid magic found in record: {magic}"),
                );
            }
            // Kafka takes a batch that is cut off for none.
            BatchError::Truncated { .. } | BatchError::BadOffsets { .. } => ErrorCode::InvalidRecord,
        };
        Self::new(code, &error.to_string())
    }
}

/// Checks the records of one partition of a Produce request of version `version`. What it takes to decompress them is charged to
/// `unpacking`.
pub async fn check_batch(
    runtime: &Runtime,
    unpacking: &Budget,
    version: i16,
    records: Bytes,
    settings: &TopicSettings,
) -> Result<Checked, Refusal> {
    let batch = single_batch(version, records)?;
    let now = runtime.now_ms();
    let room = if needs_codec(&batch, settings) {
        Some(room_to_unpack(&batch, settings, unpacking).await?)
    } else if batch.len() <= COMPUTE_ABOVE {
        return check_content(batch, settings, now);
    } else {
        None
    };
    let settings = settings.clone();
    let check = move || {
        let checked = check_content(batch, &settings, now);
        drop(room);
        checked
    };
    runtime.compute(check).await
}

/// What unpacks within this is taken however small the budget is: Zstandard's usual windows.
const UNPACKED_ALWAYS: usize = 9 << 20;

/// Charges what it takes to read the records of a compressed batch, and to compress them anew where the topic wants another
/// codec. (Where a client's offsets have to be renumbered, which only very old ones need, a computing thread takes a
/// codec's memory besides.)
async fn room_to_unpack(
    batch: &Batch,
    settings: &TopicSettings,
    unpacking: &Budget,
) -> Result<Charge, Refusal> {
    let needed = Unpacking::memory(codec_of(batch)?, batch.records());
    if needed > unpacking.capacity().max(UNPACKED_ALWAYS) {
        let message = format!("a batch that takes {needed} bytes of memory to decompress");
        return Err(Refusal::new(ErrorCode::MessageTooLarge, &message));
    }
    let again = recompressed(batch, settings)
        .map_or(0, |(codec, level)| Packing::memory(codec, level) + settings.max_message_bytes);
    Ok(unpacking.charge(needed.saturating_add(again)).await)
}

/// Whether the records of a partition are one batch that the version may carry.
pub fn check_shape(version: i16, records: Bytes) -> Result<(), Refusal> {
    single_batch(version, records).map(|_| ())
}

/// A request carries exactly one batch a partition.
fn single_batch(version: i16, mut records: Bytes) -> Result<Batch, Refusal> {
    if records.is_empty() {
        return Err(Refusal::invalid("a Produce request must have one record batch per partition"));
    }
    let batch = Batch::split_from(&mut records)?;
    if codec_of(&batch)? == Compression::Zstd && version < ZSTD {
        let message =
            format!("Produce requests with version {version} are not allowed to use ZStandard compression");
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, &message));
    }
    match Batch::split_from(&mut records) {
        // Nothing, or less than a batch, which Kafka passes over.
        Err(BatchError::Truncated { .. }) => Ok(batch),
        Ok(_) => Err(Refusal::invalid("a Produce request must have exactly one record batch per partition")),
        Err(error) => Err(error.into()),
    }
}

fn codec_of(batch: &Batch) -> Result<Compression, Refusal> {
    let id = batch.attributes() & Attributes::COMPRESSION;
    Compression::of_attributes(id).ok_or_else(|| Refusal::invalid(format!("unknown compression codec {id}")))
}

fn check_content(mut batch: Batch, settings: &TopicSettings, now: i64) -> Result<Checked, Refusal> {
    check_size(batch.len(), settings)?;
    batch.verify_crc()?;
    if settings.timestamp_type == TimestampType::CreateTime {
        batch = with_create_time(batch);
    }
    check_header(&batch)?;
    batch = check_records(batch, settings, now)?;
    check_size(batch.len(), settings)?;
    let append_time = (settings.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    if let Some(now) = append_time {
        batch.stamp_append_time(now);
    }
    Ok(Checked { batch, append_time })
}

/// Takes the mark of append times off, which is the broker's to set. Kafka does so too where the topic has create times.
fn with_create_time(batch: Batch) -> Batch {
    if batch.attributes() & Attributes::APPEND_TIME == 0 {
        return batch;
    }
    let attributes = batch.attributes() & !Attributes::APPEND_TIME;
    Batch::assemble(head_with(&batch, attributes), batch.records().clone())
}

fn head_with(batch: &Batch, attributes: i16) -> [u8; HEADER_LEN] {
    let mut head = *batch.head();
    head[21..23].copy_from_slice(&attributes.to_be_bytes());
    head
}

fn check_size(size: usize, settings: &TopicSettings) -> Result<(), Refusal> {
    if size <= settings.max_message_bytes {
        return Ok(());
    }
    let max = settings.max_message_bytes;
    Err(Refusal::new(
        ErrorCode::MessageTooLarge,
        &format!("a batch of {size} bytes exceeds the maximum of {max}"),
    ))
}

fn check_header(batch: &Batch) -> Result<(), Refusal> {
    if batch.base_offset().0 != 0 {
        return Err(Refusal::invalid(format!("the base offset should be 0, but is {}", batch.base_offset())));
    }
    validate_batch(&facts(batch)).map_err(|error| Refusal::from(&error))?;
    // Without an epoch, Kafka looks at no sequence; below that, an epoch is older than any.
    if batch.producer_id().is_some() && batch.producer_epoch() < NO_PRODUCER_EPOCH {
        return Err(ErrorCode::InvalidProducerEpoch.into());
    }
    Ok(())
}

fn facts(batch: &Batch) -> BatchFacts {
    BatchFacts {
        last_offset_delta: batch.last_offset_delta(),
        record_count: batch.record_count(),
        base_timestamp: batch.base_timestamp(),
        append_time: batch.attributes() & Attributes::APPEND_TIME != 0,
        control: batch.attributes() & Attributes::CONTROL != 0,
        producer_id: batch.producer_id().0,
        base_sequence: batch.base_sequence(),
    }
}

/// Whether records are to be decompressed, compressed, or both.
fn needs_codec(batch: &Batch, settings: &TopicSettings) -> bool {
    batch.attributes() & Attributes::COMPRESSION != 0 || recompressed(batch, settings).is_some()
}

/// The codec and level that the topic wants, where they are not the batch's.
fn recompressed(batch: &Batch, settings: &TopicSettings) -> Option<(Compression, Option<i32>)> {
    match settings.compression {
        TargetCompression::Codec { id, level } if id != batch.attributes() & Attributes::COMPRESSION => {
            Some((Compression::of_attributes(id)?, level))
        }
        _ => None,
    }
}

/// Looks at the head of every record, as Kafka does: what a header promises and the records are not, no reader could read.
fn check_records(mut batch: Batch, settings: &TopicSettings, now: i64) -> Result<Batch, Refusal> {
    let codec = codec_of(&batch)?;
    let rules = Rules {
        now_ms: now,
        create_time: settings.timestamp_type == TimestampType::CreateTime,
        before_max_ms: settings.timestamp_before_max_ms,
        after_max_ms: settings.timestamp_after_max_ms,
        keys_required: settings.compact,
    };
    let count = batch.record_count();
    let found = match codec {
        Compression::None => {
            let records = Records::new(batch.records(), count);
            let heads = records.map(|record| record.map(|record| RecordHead::from(&record)));
            validate_records(&facts(&batch), heads, &rules)
        }
        codec => validate_records(&facts(&batch), RecordHeads::new(unpacking(&batch, codec)?, count), &rules),
    };
    let found = found.map_err(|error| Refusal::from(&error))?;
    let target = recompressed(&batch, settings);
    if target.is_some() || !found.consecutive {
        let (target, level) = target.unwrap_or((codec, None));
        let packing = Packing::new(target, level, None, settings.max_message_bytes);
        let packing = packing.map_err(|error| Refusal::from(&error))?;
        let records = packed_anew(&batch, codec, packing, found.consecutive)?;
        let attributes = batch.attributes() & !Attributes::COMPRESSION | target.bits();
        batch = Batch::assemble(head_with(&batch, attributes), records);
    }
    if rules.create_time && found.max_timestamp != batch.max_timestamp() {
        batch.set_max_timestamp(found.max_timestamp);
    }
    Ok(batch)
}

/// A batch may not unpack to more than this: a few kilobytes can claim gigabytes.
pub(crate) const DECOMPRESSED_MAX: usize = 256 * 1024 * 1024;

fn unpacking(batch: &Batch, codec: Compression) -> Result<Unpacking<'_>, Refusal> {
    Unpacking::new(codec, batch.records(), DECOMPRESSED_MAX).map_err(|error| Refusal::from(&error))
}

/// The records of a batch that has passed its checks, as `packing` writes them.
fn packed_anew(
    batch: &Batch,
    codec: Compression,
    mut packing: Packing,
    consecutive: bool,
) -> Result<Bytes, Refusal> {
    let records = unpacking(batch, codec)?;
    let packed = match consecutive {
        true => repack(records, &mut packing),
        false => renumber(records, batch.record_count(), &mut packing),
    };
    let packed = packed.and_then(|()| Ok(packing.finish()?));
    packed.map_err(|error| match &error {
        // They were read through before, so it is the output.
        UnpackError::Compression(CompressionError::TooLarge { cap }) => {
            let message = format!("a batch that, with the topic's compression, exceeds the maximum of {cap}");
            Refusal::new(ErrorCode::MessageTooLarge, &message)
        }
        UnpackError::Compression(error) => Refusal::from(error),
        UnpackError::Record(error) => Refusal::invalid(error.to_string()),
    })
}

impl From<&ValidationError> for Refusal {
    fn from(error: &ValidationError) -> Self {
        let records = error.rejections().iter().map(|rejection| (rejection.index, told(rejection)));
        Self { code: error.code(), message: Some(error.to_string()), records: records.collect() }
    }
}

/// The message for one record, as Kafka words it.
fn told(rejection: &Rejection) -> String {
    match rejection.rule {
        BrokenRule::Timestamp { timestamp, first, last } => format!(
            "Timestamp {timestamp} of message with offset {} is out of range. The timestamp should be within [{first}, {last}]",
            rejection.index
        ),
        rule => rule.to_string(),
    }
}

impl From<&CompressionError> for Refusal {
    fn from(error: &CompressionError) -> Self {
        Self::new(error.code(), &error.to_string())
    }
}
