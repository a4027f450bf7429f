//! The records inside of a batch, as the cleaner sees them. How they are encoded and compressed is others' knowledge.

use bytes::Bytes;
use thalweg_segment::{Batch, FormatError, ReadError, StoreError};

/// A record without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKey<'a> {
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// Whether it has a value; else it is a tombstone.
    pub has_value: bool,
}

/// Reads and writes the records of batches.
pub trait RecordCodec: Send + Sync + 'static {
    /// Shows `each` of the batch's records, in order: as many as its header says.
    fn read(&self, batch: &Batch, each: &mut dyn FnMut(RecordKey<'_>)) -> Result<(), CleanError>;

    /// The bytes of those records for which `keep`, by their place in the batch, says so, compressed as the batch's are.
    /// `shift_ms` is added to the timestamp delta of each.
    fn keep(&self, batch: &Batch, keep: &[bool], shift_ms: i64) -> Result<Bytes, CleanError>;
}

/// Why a log was not cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// An object could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records of a batch can't be read. The log can't be cleaned as long as it holds them.
    #[error("the records of the batch at {offset}: {reason}")]
    Records {
        /// The batch's base offset.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
}

impl CleanError {
    /// The records of `batch` are not what they should be.
    pub fn records(batch: &Batch, reason: impl ToString) -> Self {
        Self::Records { offset: batch.base_offset().0, reason: reason.to_string() }
    }

    /// Whether another attempt will meet the same.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Records { .. } | Self::Read(ReadError::Format { .. }) => true,
            Self::Read(ReadError::Store(_)) | Self::Store(_) => false,
        }
    }

    pub(super) fn malformed(path: &object_store::path::Path, source: FormatError) -> Self {
        Self::Read(ReadError::Format { path: path.clone(), source })
    }
}
