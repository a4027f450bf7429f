//! Reads objects: the footer and index by one suffix GET, blocks by range GETs. Everything read is checked.

use crate::{Batch, BlockEntry, Footer, Index, LogState, Purpose, StateEntry, Store, StoreError, footer};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use std::ops::Range;

/// What the first GET of an index reads: the index of a WAL object of 8 MiB fits unless its batches are tiny.
const INDEX_GUESS_BYTES: u64 = 64 * 1024;
/// State blocks with fewer unwanted bytes between them are read together: a request costs more than these do.
const STATE_GAP_BYTES: u64 = 64 * 1024;
/// A range of state blocks ends once it is this long, whatever comes next.
const STATE_RANGE_BYTES: u64 = 4 * 1024 * 1024;
/// Ranges of state blocks read at once: bounds memory to about 16 MiB, a single larger state aside.
const STATE_RANGES_IN_FLIGHT: usize = 4;
/// The label of these requests: most are for consumers, and a recovery's are few.
const PURPOSE: Purpose = Purpose::Fetch;

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
pub async fn read_index(store: &Store, path: &Path) -> Result<(Footer, Index), ReadError> {
    let (tail, size) = store.get_suffix(path, INDEX_GUESS_BYTES, PURPOSE).await?;
    let footer = footer_of(&tail, size).map_err(at(path))?;
    let tail_position = size - tail.len() as u64;
    let index = match footer.index_position.checked_sub(tail_position) {
        Some(start) => footer.read_index(&tail[start as usize..tail.len() - Footer::LEN]),
        None => {
            let range = footer.index_position..footer.index_position + u64::from(footer.index_size);
            footer.read_index(&store.get_range(path, range, PURPOSE).await?)
        }
    };
    // An object that came whole is checked whole.
    let header = if tail_position == 0 { footer::check_header(&tail, footer.kind) } else { Ok(()) };
    Ok((footer, header.and(index).map_err(at(path))?))
}

/// Reads footer and index where it is known that the index begins at `index_position` and the object ends at `size`: one
/// range GET of exactly that.
pub async fn read_index_at(
    store: &Store,
    path: &Path,
    index_position: u64,
    size: u64,
    purpose: Purpose,
) -> Result<(Footer, Index), ReadError> {
    let bytes = store.get_range(path, index_position..size, purpose).await?;
    let read = || {
        let footer = footer_of(&bytes, size)?;
        ensure(footer.index_position == index_position, "footer")?;
        let index = footer.read_index(&bytes[..bytes.len() - Footer::LEN])?;
        Ok((footer, index))
    };
    read().map_err(at(path))
}

/// Reads only the footer.
pub async fn read_footer(store: &Store, path: &Path) -> Result<Footer, ReadError> {
    let (tail, size) = store.get_suffix(path, Footer::LEN as u64, PURPOSE).await?;
    footer_of(&tail, size).map_err(at(path))
}

/// Reads a whole object that is in memory and checks every byte of it.
pub fn read_object(bytes: &Bytes) -> Result<(Footer, Index), FormatError> {
    let footer = footer_of(bytes, bytes.len() as u64)?;
    footer::check_header(bytes, footer.kind)?;
    let index_position = footer.index_position as usize;
    let index = footer.read_index(&bytes[index_position..bytes.len() - Footer::LEN])?;
    let own_blocks = if footer.kind.is_manifest() { &[][..] } else { &index.blocks };
    for block in own_blocks {
        check_block(&slice(bytes, block.position, block.size), block)?;
    }
    for state in &index.states {
        decode_state(&slice(bytes, state.position, state.size), state)?;
    }
    Ok((footer, index))
}

/// Reads the state blocks at `entries` of one object with as few range GETs as their places allow. The states come in the
/// order of the entries.
pub async fn read_states(
    store: &Store,
    path: &Path,
    entries: &[StateEntry],
) -> Result<Vec<LogState>, ReadError> {
    let mut by_position: Vec<usize> = (0..entries.len()).collect();
    by_position.sort_by_key(|&at| entries[at].position);
    let ranges = coalesce(by_position.iter().map(|&at| &entries[at]));
    let read: Vec<Vec<LogState>> = stream::iter(ranges)
        .map(|(bytes, members)| {
            let members = by_position[members].iter().map(|&at| &entries[at]).collect();
            read_state_range(store, path, bytes, members)
        })
        .buffered(STATE_RANGES_IN_FLIGHT)
        .try_collect()
        .await?;
    let mut states: Vec<_> = by_position.into_iter().zip(read.into_iter().flatten()).collect();
    states.sort_by_key(|(at, _)| *at);
    Ok(states.into_iter().map(|(_, state)| state).collect())
}

/// Ranges of bytes to read for `entries`, which come in the order of their positions, each with the entries that it holds.
fn coalesce<'a>(entries: impl Iterator<Item = &'a StateEntry>) -> Vec<(Range<u64>, Range<usize>)> {
    let mut ranges: Vec<(Range<u64>, Range<usize>)> = Vec::new();
    for (at, entry) in entries.enumerate() {
        let (start, end) = (entry.position, entry.end_position());
        match ranges.last_mut() {
            Some((bytes, members))
                if start <= bytes.end.saturating_add(STATE_GAP_BYTES)
                    && bytes.end - bytes.start < STATE_RANGE_BYTES =>
            {
                bytes.end = bytes.end.max(end);
                members.end = at + 1;
            }
            _ => ranges.push((start..end, at..at + 1)),
        }
    }
    ranges
}

async fn read_state_range(
    store: &Store,
    path: &Path,
    range: Range<u64>,
    entries: Vec<&StateEntry>,
) -> Result<Vec<LogState>, ReadError> {
    let bytes = store.get_range(path, range.clone(), PURPOSE).await?;
    let read = || {
        ensure(bytes.len() as u64 == range.end - range.start, "state block")?;
        let decode = |entry: &&StateEntry| {
            decode_state(&slice(&bytes, entry.position - range.start, entry.size), entry)
        };
        entries.iter().map(decode).collect::<Result<_, _>>()
    };
    read().map_err(at(path))
}

/// Checks a state block's bytes against its entry, and reads it.
pub fn decode_state(bytes: &[u8], entry: &StateEntry) -> Result<LogState, FormatError> {
    check_crc(bytes, entry.crc, "state block")?;
    let state = LogState::decode(bytes)?;
    ensure(state.end == entry.end, "state block")?;
    Ok(state)
}

/// Checks a block's bytes against its entry.
pub fn check_block(bytes: &Bytes, entry: &BlockEntry) -> Result<(), FormatError> {
    ensure(bytes.len() == entry.size as usize, "data block")?;
    check_crc(bytes, entry.crc, "data block")
}

/// Splits a checked block (or any run of whole batches) into its batches.
pub fn split_batches(mut bytes: Bytes) -> Result<Vec<Batch>, FormatError> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let batch = Batch::split_from(&mut bytes);
        batches.push(batch.map_err(|_| FormatError::Malformed { what: "record batch" })?);
    }
    Ok(batches)
}

/// Reads the footer at the end of `tail`, which is the end of an object of `size` bytes.
fn footer_of(tail: &[u8], size: u64) -> Result<Footer, FormatError> {
    let (_, footer) =
        tail.split_last_chunk::<{ Footer::LEN }>().ok_or(FormatError::Malformed { what: "footer" })?;
    let footer = Footer::decode(footer)?;
    ensure(footer.object_size() == size, "footer")?;
    Ok(footer)
}

/// A part of an object whose place the index gives, which was checked to lie within it.
fn slice(bytes: &Bytes, position: u64, size: u32) -> Bytes {
    let start = position as usize;
    bytes.slice(start..start + size as usize)
}

fn check_crc(bytes: &[u8], crc: u32, what: &'static str) -> Result<(), FormatError> {
    if crc32c::crc32c(bytes) == crc { Ok(()) } else { Err(FormatError::BadCrc { what }) }
}

fn ensure(holds: bool, what: &'static str) -> Result<(), FormatError> {
    if holds { Ok(()) } else { Err(FormatError::Malformed { what }) }
}

/// Names the object in an error.
fn at(path: &Path) -> impl Fn(FormatError) -> ReadError + use<'_> {
    |source| ReadError::Format { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogId, Offset};

    fn entry(position: u64, size: u32) -> StateEntry {
        StateEntry { log: LogId(0), end: Offset(0), position, size, crc: 0 }
    }

    fn ranges(places: &[(u64, u32)]) -> Vec<(Range<u64>, Range<usize>)> {
        let entries: Vec<_> = places.iter().map(|(position, size)| entry(*position, *size)).collect();
        coalesce(entries.iter())
    }

    #[test]
    fn states_that_lie_close_together_are_read_at_once() {
        let near = 200 + STATE_GAP_BYTES;
        assert_eq!(ranges(&[(100, 50), (150, 50), (near, 10)]), [(100..near + 10, 0..3)]);
    }

    #[test]
    fn states_that_lie_far_apart_are_read_apart() {
        let far = 201 + STATE_GAP_BYTES;
        assert_eq!(ranges(&[(100, 100), (far, 10)]), [(100..200, 0..1), (far..far + 10, 1..2)]);
    }

    #[test]
    fn a_range_ends_once_it_is_long() {
        let long = STATE_RANGE_BYTES;
        let read = ranges(&[(0, long as u32), (long, 10), (long + 10, 10)]);
        assert_eq!(read, [(0..long, 0..1), (long..long + 20, 1..3)]);
    }

    #[test]
    fn a_state_asked_for_twice_is_read_once() {
        assert_eq!(ranges(&[(5, 10), (5, 10)]), [(5..15, 0..2)]);
    }
}
