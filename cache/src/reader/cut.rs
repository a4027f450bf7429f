//! Which batches of a block a reader gets.

use super::Run;
use bytes::Bytes;
use std::ops::Range;
use thalweg_metadata::{BlockRef, IndexError};
use thalweg_segment::{Batch, FormatError, HEADER_LEN, Offset, ReadError};

/// What a reader still wants.
pub(super) struct Wanted {
    next: Offset,
    limit: Offset,
    bytes_left: usize,
    /// The next batch is returned whatever its size.
    any_size: bool,
    done: bool,
}

impl Wanted {
    pub(super) fn new(from: Offset, limit: Offset, max_bytes: usize, at_least_one: bool) -> Self {
        let done = from >= limit || (max_bytes == 0 && !at_least_one);
        Self { next: from, limit, bytes_left: max_bytes, any_size: at_least_one, done }
    }

    pub(super) fn next(&self) -> Offset {
        self.next
    }

    pub(super) fn limit(&self) -> Offset {
        self.limit
    }

    pub(super) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn finish(&mut self) {
        self.done = true;
    }

    /// Takes what is wanted out of a block whose checksum was verified: a run of whole batches, or nothing.
    pub(super) fn cut(&mut self, block: &BlockRef, bytes: &Bytes) -> Result<Option<Run>, IndexError> {
        let taken =
            self.walk(block, bytes).map_err(|source| ReadError::Format { path: block.path.clone(), source });
        // Also where the block had nothing for us: the next ask is for what is behind it.
        self.next = self.next.max(block.entry.end_offset);
        Ok(taken?)
    }

    fn walk(&mut self, block: &BlockRef, bytes: &Bytes) -> Result<Option<Run>, FormatError> {
        let mut rest = bytes.clone();
        let mut taken = 0..0;
        while !rest.is_empty() && !self.done {
            let position = bytes.len() - rest.len();
            let batch =
                Batch::split_from(&mut rest).map_err(|_| FormatError::Malformed { what: "record batch" })?;
            if batch.end_offset() <= self.next || !is_part(&batch, block)? {
                continue;
            }
            if self.take(&batch) {
                let start = if taken.is_empty() { position } else { taken.start };
                taken = start..position + batch.len();
            } else {
                self.done = true;
            }
        }
        let some = !taken.is_empty();
        Ok(some.then(|| Run { bytes: part(bytes, taken), end: self.next }))
    }

    /// Counts the next batch in, unless it is beyond the limit or too large.
    fn take(&mut self, batch: &Batch) -> bool {
        let fits = batch.len() <= self.bytes_left || self.any_size;
        if batch.end_offset() > self.limit || !fits {
            return false;
        }
        self.next = batch.end_offset();
        self.bytes_left = self.bytes_left.saturating_sub(batch.len());
        self.any_size = false;
        self.done = self.bytes_left < HEADER_LEN;
        true
    }
}

/// A slice of a block that may keep the block's memory only where that is at most this many times its own: what a slow client
/// has not taken yet is charged by its own size.
const SHARED_PART: usize = 4;

fn part(block: &Bytes, range: Range<usize>) -> Bytes {
    if range.len().saturating_mul(SHARED_PART) < block.len() {
        Bytes::copy_from_slice(&block[range])
    } else {
        block.slice(range)
    }
}

/// Whether a batch lies in the offsets that the index gives the block; others a recovery has left out, or another extent
/// holds. An error where it lies half in: extents end between batches.
fn is_part(batch: &Batch, block: &BlockRef) -> Result<bool, FormatError> {
    let (base, end) = (block.entry.base_offset, block.entry.end_offset);
    if batch.end_offset() <= base || batch.base_offset() >= end {
        return Ok(false);
    }
    if batch.base_offset() < base || batch.end_offset() > end {
        return Err(FormatError::Malformed { what: "block: a batch lies across its end" });
    }
    Ok(true)
}
