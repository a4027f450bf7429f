//! Kafka's primitive types, big-endian: <https://kafka.apache.org/protocol#protocol_types>.

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes};

/// Builds a message.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// INT8 (and BOOLEAN).
    pub fn i8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// INT16.
    pub fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// INT32.
    pub fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// UINT32.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// INT64.
    pub fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// STRING.
    pub fn string(self, value: &str) -> Self {
        let length = i16::try_from(value.len()).expect("names in tests are short");
        self.i16(length).raw(value.as_bytes())
    }

    /// NULLABLE_STRING that is null.
    pub fn null_string(self) -> Self {
        self.i16(-1)
    }

    /// BYTES (and RECORDS).
    pub fn bytes(self, value: &[u8]) -> Self {
        self.length(value.len()).raw(value)
    }

    /// ARRAY: its length, then each element.
    pub fn array<T>(
        self,
        elements: impl ExactSizeIterator<Item = T>,
        write: impl Fn(Self, T) -> Self,
    ) -> Self {
        let counted = self.length(elements.len());
        elements.fold(counted, write)
    }

    /// VARINT and VARLONG: zigzag, seven bits a byte, lowest first.
    pub fn varint(mut self, value: i64) -> Self {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn length(self, length: usize) -> Self {
        self.i32(i32::try_from(length).expect("messages in tests are below 2 GiB"))
    }
}

/// Takes a message apart.
#[derive(Debug)]
pub struct Reader(Bytes);

impl Reader {
    /// Reads from the start of `message`.
    pub fn new(message: Bytes) -> Self {
        Self(message)
    }

    /// INT8 (and BOOLEAN).
    pub fn i8(&mut self) -> Result<i8> {
        Ok(self.0.try_get_i8()?)
    }

    /// INT16.
    pub fn i16(&mut self) -> Result<i16> {
        Ok(self.0.try_get_i16()?)
    }

    /// INT32.
    pub fn i32(&mut self) -> Result<i32> {
        Ok(self.0.try_get_i32()?)
    }

    /// UINT32.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(self.0.try_get_u32()?)
    }

    /// INT64.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(self.0.try_get_i64()?)
    }

    /// STRING or NULLABLE_STRING.
    pub fn string(&mut self) -> Result<Option<String>> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        Ok(Some(String::from_utf8(self.take(length)?.to_vec())?))
    }

    /// BYTES, NULLABLE_BYTES or RECORDS; null is empty.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let length = self.i32()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// ARRAY; null is empty.
    pub fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.i32()?;
        (0..count).map(|_| read(self)).collect()
    }

    /// VARINT and VARLONG.
    pub fn varint(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.0.try_get_u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        bail!("a varint of more than ten bytes")
    }

    /// VARINT length and so many bytes; null is empty.
    pub fn varint_bytes(&mut self) -> Result<Bytes> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length)).context("the message ends early")
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_zigzag_with_the_lowest_bits_first() {
        for (value, bytes) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (150, vec![0xac, 2]), (i64::MIN, vec![0xff; 10])]
        {
            let written = Writer::default().varint(value).finish();
            assert_eq!(written[..bytes.len() - 1], bytes[..bytes.len() - 1]);
            assert_eq!(Reader::new(written.into()).varint().unwrap(), value);
        }
    }

    #[test]
    fn a_string_that_is_cut_is_an_error() {
        let whole = Writer::default().string("abc").finish();
        assert!(Reader::new(Bytes::copy_from_slice(&whole[..4])).string().is_err());
    }
}
