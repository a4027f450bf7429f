//! Reads objects: the footer and index by one suffix GET, blocks by range GETs. Everything read is checked.

use crate::{Batch, BlockEntry, Footer, Index, LogState, StateEntry, Store, StoreError};
use bytes::Bytes;
use object_store::path::Path;

/// Bytes that are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not an object of ours.
    #[error("not a Thalweg object: magic {0:#010x}")]
    BadMagic(u32),
    /// Written by a newer version.
    #[error("format version {found} is newer than {supported}, which this program reads")]
    NewerVersion {
        /// In the object.
        found: u16,
        /// Highest that we read.
        supported: u16,
    },
    /// A checksum does not match.
    #[error("CRC-32C of the {what} does not match")]
    BadCrc {
        /// Which part.
        what: &'static str,
    },
    /// Too few bytes, a length out of bounds, an order violated.
    #[error("malformed {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
}

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store gave something else.
    #[error("{path}: {source}")]
    Format {
        /// Which object.
        path: Path,
        /// What is wrong with it.
        source: FormatError,
    },
}

/// Reads footer and index of the object at `path`: one suffix GET of a guessed size, a second where that was too small.
pub async fn read_index(_store: &Store, _path: &Path) -> Result<(Footer, Index), ReadError> {
    todo!()
}

/// Reads only the footer.
pub async fn read_footer(_store: &Store, _path: &Path) -> Result<Footer, ReadError> {
    todo!()
}

/// Reads the state blocks at `entries` of one object with as few range GETs as their places allow.
pub async fn read_states(
    _store: &Store,
    _path: &Path,
    _entries: &[StateEntry],
) -> Result<Vec<LogState>, ReadError> {
    todo!()
}

/// Checks a block's bytes against its entry.
pub fn check_block(_bytes: &Bytes, _entry: &BlockEntry) -> Result<(), FormatError> {
    todo!()
}

/// Splits a checked block (or any run of whole batches) into its batches.
pub fn split_batches(_bytes: Bytes) -> Result<Vec<Batch>, FormatError> {
    todo!()
}
