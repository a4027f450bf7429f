//! How values are written: a version byte, then fields without padding, all numbers big-endian, strings and lists with a
//! 32-bit length before them. A reader checks every length before it allocates, and that nothing is left over.

use crate::KvError;
use bytes::{BufMut, Bytes};

/// Fields of a key or value, in order.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A value of layout `version`.
    pub fn value(version: u8) -> Self {
        Self(vec![version])
    }

    /// Nothing yet.
    pub fn bare() -> Self {
        Self(Vec::new())
    }

    /// A key below `prefix`.
    pub fn key(prefix: &str) -> Self {
        Self(prefix.as_bytes().to_vec())
    }

    pub fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    pub fn u16(mut self, value: u16) -> Self {
        self.0.put_u16(value);
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub fn i64(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    pub fn i16(mut self, value: i16) -> Self {
        self.0.put_i16(value);
        self
    }

    pub fn i32(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    /// A number in a key: with its sign bit flipped, so that bytes order as numbers do.
    pub fn ordered_i32(self, value: i32) -> Self {
        self.i32(value ^ i32::MIN)
    }

    /// See [`Writer::ordered_i32`].
    pub fn ordered_i64(self, value: i64) -> Self {
        self.i64(value ^ i64::MIN)
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.put_slice(bytes);
        self
    }

    pub fn length(self, length: usize) -> Self {
        self.u32(u32::try_from(length).expect("a value is at most 1 MiB"))
    }

    pub fn string(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub fn bytes(self, value: &[u8]) -> Self {
        self.length(value.len()).raw(value)
    }

    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Reads what a [`Writer`] wrote; everything that is read may be damaged or of another version.
pub(crate) struct Reader<'a> {
    kind: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The fields of the value of a `kind` of record, of layout `version`.
    pub fn value(kind: &'static str, value: &'a [u8], version: u8) -> Result<Self, KvError> {
        let mut reader = Self { kind, rest: value };
        match reader.u8()? {
            found if found == version => Ok(reader),
            found => Err(reader.corrupt(format!("layout {found}, this build knows {version}"))),
        }
    }

    /// The fields of what is neither: it begins with them.
    pub fn bare(kind: &'static str, bytes: &'a [u8]) -> Self {
        Self { kind, rest: bytes }
    }

    /// The same of a kind of record that has layouts 1 to `newest`. Which one it is, too.
    pub fn value_up_to(kind: &'static str, value: &'a [u8], newest: u8) -> Result<(Self, u8), KvError> {
        let mut reader = Self { kind, rest: value };
        match reader.u8()? {
            found if (1..=newest).contains(&found) => Ok((reader, found)),
            found => Err(reader.corrupt(format!("layout {found}, this build knows 1 to {newest}"))),
        }
    }

    /// The fields of a key behind `prefix`.
    pub fn key(kind: &'static str, key: &'a [u8], prefix: &str) -> Result<Self, KvError> {
        let reader = Self { kind, rest: key };
        let rest = key.strip_prefix(prefix.as_bytes());
        let rest = rest.ok_or_else(|| reader.corrupt("a key of another kind".into()))?;
        Ok(Self { kind, rest })
    }

    /// The error that this record is unreadable.
    pub fn corrupt(&self, reason: String) -> KvError {
        KvError::Corrupt { reason: format!("{}: {reason}", self.kind) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], KvError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.corrupt(format!("{count} bytes missing of {}", self.rest.len())))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], KvError> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked for"))
    }

    pub fn u8(&mut self) -> Result<u8, KvError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, KvError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, KvError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, KvError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, KvError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, KvError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, KvError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn ordered_i32(&mut self) -> Result<i32, KvError> {
        Ok(self.i32()? ^ i32::MIN)
    }

    pub fn ordered_i64(&mut self) -> Result<i64, KvError> {
        Ok(self.i64()? ^ i64::MIN)
    }

    /// The length of a list whose elements take at least `element` bytes each: never more than the rest can hold.
    pub fn length(&mut self, element: usize) -> Result<usize, KvError> {
        let length = self.u32()? as usize;
        if length > self.rest.len() / element {
            return Err(self.corrupt(format!("{length} elements in {} bytes", self.rest.len())));
        }
        Ok(length)
    }

    pub fn string(&mut self) -> Result<String, KvError> {
        let length = self.length(1)?;
        let bytes = self.take(length)?;
        self.utf8(bytes)
    }

    pub fn bytes(&mut self) -> Result<Bytes, KvError> {
        let length = self.length(1)?;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    /// Text of so many bytes.
    pub fn text(&mut self, length: usize) -> Result<String, KvError> {
        let bytes = self.take(length)?;
        self.utf8(bytes)
    }

    /// The whole rest, as text.
    pub fn rest_string(&mut self) -> Result<String, KvError> {
        let bytes = self.take(self.rest.len())?;
        self.utf8(bytes)
    }

    fn utf8(&self, bytes: &[u8]) -> Result<String, KvError> {
        String::from_utf8(bytes.to_vec()).map_err(|_| self.corrupt("text that is not UTF-8".into()))
    }

    /// Ends the reading; nothing may be left over.
    pub fn finish(self) -> Result<(), KvError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.corrupt(format!("{left} bytes too many"))),
        }
    }
}
