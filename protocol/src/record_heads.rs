//! Reads through the records of a batch without holding them: what checks and searches need of them, and no more.

use crate::{
    compression::CompressionError,
    packing::Packing,
    records::{Record, RecordError, put_varint},
    unpacking::Unpacking,
};

/// What a record says in front of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// Whether it has a key.
    pub has_key: bool,
}

impl From<&Record<'_>> for RecordHead {
    fn from(record: &Record<'_>) -> Self {
        Self {
            timestamp_delta: record.timestamp_delta,
            offset_delta: record.offset_delta,
            has_key: record.key.is_some(),
        }
    }
}

/// Why records can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// They can't be decompressed, or not compressed again.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// They are not what the batch's header promises.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The heads of a batch's records. Every record is checked to its end, as [`crate::Records`] does; of one that is cut off, the
/// first fault before the cut is told. After an error there are no more.
pub struct RecordHeads<'a> {
    reader: Reader<'a>,
    count: i32,
}

impl<'a> RecordHeads<'a> {
    /// Records of which there must be `count`, as the batch's header says.
    pub fn new(unpacking: Unpacking<'a>, count: i32) -> Self {
        Self { reader: Reader::new(unpacking), count }
    }

    fn read(&mut self) -> Result<RecordHead, UnpackError> {
        let head = self.reader.record()?;
        if self.reader.index + 1 == self.count {
            self.reader.expect_end()?;
        }
        Ok(head)
    }
}

impl Iterator for RecordHeads<'_> {
    type Item = Result<RecordHead, UnpackError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.index >= self.count {
            return None;
        }
        let head = self.read();
        self.reader.index = if head.is_ok() { self.reader.index + 1 } else { self.count };
        Some(head)
    }
}

/// Compresses records anew.
pub fn repack(mut unpacking: Unpacking<'_>, packing: &mut Packing) -> Result<(), UnpackError> {
    loop {
        let piece = unpacking.fill()?;
        if piece.is_empty() {
            return Ok(());
        }
        packing.write(piece)?;
        let count = piece.len();
        unpacking.consume(count);
    }
}

/// Compresses `count` records anew, with offset deltas 0, 1, 2 …
pub fn renumber(unpacking: Unpacking<'_>, count: i32, packing: &mut Packing) -> Result<(), UnpackError> {
    let mut reader = Reader::new(unpacking);
    let mut front = Vec::new();
    for index in 0..count {
        reader.begin(index)?;
        front.clear();
        front.push(reader.byte()?);
        put_varint(&mut front, reader.signed(10)?);
        reader.signed(5)?;
        put_varint(&mut front, index.into());
        let mut whole = Vec::with_capacity(front.len() + 5);
        put_varint(&mut whole, (front.len() + reader.left) as i64);
        whole.extend_from_slice(&front);
        packing.write(&whole)?;
        reader.copy_rest(packing)?;
    }
    reader.expect_end()
}

/// Reads fields, of the record at `index`, of which `left` bytes are left.
pub(crate) struct Reader<'a> {
    from: Unpacking<'a>,
    index: i32,
    left: usize,
}

impl<'a> Reader<'a> {
    /// At the first record of a batch.
    pub(crate) fn new(from: Unpacking<'a>) -> Self {
        Self { from, index: 0, left: usize::MAX }
    }

    fn record(&mut self) -> Result<RecordHead, UnpackError> {
        let bad_headers = RecordError::BadHeaders { index: self.index };
        self.begin(self.index)?;
        self.byte()?;
        let (timestamp_delta, offset_delta) = (self.signed(10)?, self.narrow()?);
        let has_key = self.skip_field()?;
        self.skip_field()?;
        let headers = self.narrow()?;
        if usize::try_from(headers).map_err(|_| bad_headers)? > self.left {
            return Err(bad_headers.into());
        }
        for _ in 0..headers {
            if !self.skip_field()? {
                return Err(bad_headers.into());
            }
            self.skip_field()?;
        }
        if self.left > 0 {
            return Err(RecordError::BadLength { index: self.index }.into());
        }
        Ok(RecordHead { timestamp_delta, offset_delta, has_key })
    }

    /// Begins the record at `index`: reads its length, of which all is left.
    pub(crate) fn begin(&mut self, index: i32) -> Result<(), UnpackError> {
        (self.index, self.left) = (index, usize::MAX);
        let length = usize::try_from(self.narrow()?);
        self.left = length.map_err(|_| RecordError::BadLength { index })?;
        Ok(())
    }

    /// Bytes of the record that are left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Passes over a field with its length. False where that says null.
    pub(crate) fn skip_field(&mut self) -> Result<bool, UnpackError> {
        self.field(|_| {})
    }

    /// Reads a field with its length into `field`. False where that says null.
    pub(crate) fn read_field(&mut self, field: &mut Vec<u8>) -> Result<bool, UnpackError> {
        field.clear();
        self.field(|piece| field.extend_from_slice(piece))
    }

    /// Shows `each` the pieces of a field with its length. False where that says null.
    fn field(&mut self, mut each: impl FnMut(&[u8])) -> Result<bool, UnpackError> {
        let Ok(length) = usize::try_from(self.narrow()?) else { return Ok(false) };
        self.left = self.left.checked_sub(length).ok_or_else(|| self.truncated())?;
        self.pass(length, |piece| {
            each(piece);
            Ok(())
        })?;
        Ok(true)
    }

    /// Passes over what is left of the record.
    pub(crate) fn skip_rest(&mut self) -> Result<(), UnpackError> {
        self.pass(self.left, |_| Ok(()))
    }

    pub(crate) fn copy_rest(&mut self, packing: &mut Packing) -> Result<(), UnpackError> {
        self.pass(self.left, |piece| packing.write(piece))
    }

    /// Passes over `count` bytes, which `each` is shown.
    fn pass(
        &mut self,
        mut count: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), CompressionError>,
    ) -> Result<(), UnpackError> {
        while count > 0 {
            let piece = self.from.fill()?;
            let passed = piece.len().min(count);
            if passed == 0 {
                return Err(self.truncated());
            }
            each(&piece[..passed])?;
            self.from.consume(passed);
            count -= passed;
        }
        Ok(())
    }

    /// Fails unless nothing is left.
    pub(crate) fn expect_end(&mut self) -> Result<(), UnpackError> {
        let mut bytes = 0;
        loop {
            let count = self.from.fill()?.len();
            if count == 0 {
                break;
            }
            bytes += count;
            self.from.consume(count);
        }
        if bytes == 0 { Ok(()) } else { Err(RecordError::Trailing { bytes }.into()) }
    }

    pub(crate) fn narrow(&mut self) -> Result<i32, UnpackError> {
        let raw = self.unsigned(5)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    pub(crate) fn signed(&mut self, longest: usize) -> Result<i64, UnpackError> {
        let raw = self.unsigned(longest)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn unsigned(&mut self, longest: usize) -> Result<u64, UnpackError> {
        let mut value = 0;
        for place in 0..longest {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::BadVarint { index: self.index }.into())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, UnpackError> {
        let byte = self.from.fill()?.first().copied();
        let left = self.left.checked_sub(1);
        let (Some(byte), Some(left)) = (byte, left) else { return Err(self.truncated()) };
        self.from.consume(1);
        self.left = left;
        Ok(byte)
    }

    fn truncated(&self) -> UnpackError {
        RecordError::Truncated { index: self.index }.into()
    }
}

#[cfg(test)]
mod tests;
