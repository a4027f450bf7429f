//! The primitive types of Kafka's protocol, as the generated messages read and write them.
//!
//! Lengths are checked against the bytes that are there before memory is reserved by them. In *flexible* versions (KIP-482)
//! lengths are compact, and every structure ends with tagged fields.

pub(crate) use crate::messages::StrBytes;
pub(crate) use crate::schema::MAX;
pub(crate) use bytes::Bytes;
pub(crate) use uuid::Uuid;

use bytes::{Buf, BufMut, BytesMut};

/// The bytes are not what the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not what their schema says")]
pub struct Malformed;

/// A string is longer than the 32,767 bytes that its length can say in versions that aren't flexible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a string is longer than its length can say")]
pub struct TooLong;

/// A message or a part of one.
pub(crate) trait Codec: Sized {
    fn read(reader: &mut Reader) -> Result<Self, Malformed>;
    fn write(&self, writer: &mut Writer);
}

/// A whole message.
pub(crate) trait Message: Codec {
    /// First and last version.
    const VERSIONS: (i16, i16);
    /// First version with compact lengths and tagged fields.
    const FLEXIBLE: i16;
    /// The number of a coordinator's record; none for requests.
    const RECORD_TYPE: i16 = -1;

    /// Reads a message of `version` off the front of `bytes`.
    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, Malformed> {
        if version < Self::VERSIONS.0 || version > Self::VERSIONS.1 {
            return Err(Malformed);
        }
        let mut reader = Reader { rest: std::mem::take(bytes), version, flexible: version >= Self::FLEXIBLE };
        let message = Self::read(&mut reader);
        *bytes = reader.rest;
        message
    }

    /// Appends the message in `version`. Fields that the version lacks are left out.
    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), TooLong> {
        let flexible = version >= Self::FLEXIBLE;
        let mut writer = Writer { out: std::mem::take(out), version, flexible, too_long: false };
        self.write(&mut writer);
        *out = writer.out;
        if writer.too_long { Err(TooLong) } else { Ok(()) }
    }
}

/// Where reading stands. What it gives are slices of the bytes.
pub(crate) struct Reader {
    rest: Bytes,
    version: i16,
    flexible: bool,
}

macro_rules! numbers {
    ($($name:ident: $read:ident, $write:ident;)*) => {
        impl Reader {
            $(pub(crate) fn $name(&mut self) -> Result<$name, Malformed> {
                self.rest.$read().map_err(|_| Malformed)
            })*
        }

        impl Writer {
            $(pub(crate) fn $name(&mut self, value: $name) {
                self.out.$write(value);
            })*
        }
    };
}

numbers! {
    i8: try_get_i8, put_i8;
    i16: try_get_i16, put_i16;
    u16: try_get_u16, put_u16;
    i32: try_get_i32, put_i32;
    i64: try_get_i64, put_i64;
}

impl Reader {
    /// A reader of lengths that aren't compact.
    pub(crate) fn of_fixed_lengths(bytes: Bytes) -> Self {
        Self { rest: bytes, version: 0, flexible: false }
    }

    /// Whether the version is between `first` and `last`.
    pub(crate) fn has(&self, first: i16, last: i16) -> bool {
        first <= self.version && self.version <= last
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        let bytes = self.take(16)?;
        Uuid::from_slice(&bytes).map_err(|_| Malformed)
    }

    pub(crate) fn string(&mut self) -> Result<StrBytes, Malformed> {
        self.nullable_string()?.ok_or(Malformed)
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<StrBytes>, Malformed> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        StrBytes::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        self.nullable_bytes()?.ok_or(Malformed)
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        self.length(false)?.map(|length| self.take(length)).transpose()
    }

    pub(crate) fn array<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(element)?.ok_or(Malformed)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.length(false)? else { return Ok(None) };
        // Every element takes a byte or more.
        if count > self.rest.len() {
            return Err(Malformed);
        }
        // As much as the walk over the request foretold.
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), Malformed> {
        self.tags(|_, _| Ok(false))
    }

    /// Hands each tagged field to `known`, which reads it or says that it doesn't know the tag.
    pub(crate) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let (tag, size) = (self.uvarint()?, self.uvarint()? as usize);
            let rest = self.take(size)?;
            let mut field = Self { rest, version: self.version, flexible: true };
            if known(tag, &mut field)? && !field.rest.is_empty() {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// The length of a string (`short`), of bytes or of an array; none for null.
    fn length(&mut self, short: bool) -> Result<Option<usize>, Malformed> {
        let length = match (self.flexible, short) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Malformed),
        }
    }

    fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Malformed);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.rest.len() {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(count))
    }
}

/// Where writing stands.
pub(crate) struct Writer {
    out: BytesMut,
    version: i16,
    flexible: bool,
    too_long: bool,
}

impl Writer {
    /// Whether the version is between `first` and `last`.
    pub(crate) fn has(&self, first: i16, last: i16) -> bool {
        first <= self.version && self.version <= last
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.i8(value.into());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.out.put_slice(value.as_bytes());
    }

    pub(crate) fn string(&mut self, value: &StrBytes) {
        self.nullable_string(Some(value));
    }

    pub(crate) fn nullable_string(&mut self, value: Option<&StrBytes>) {
        self.length(true, value.map(|value| value.len()));
        self.out.put_slice(value.map_or(&[], |value| value.as_bytes()));
    }

    pub(crate) fn bytes(&mut self, value: &Bytes) {
        self.length(false, Some(value.len()));
        self.out.put_slice(value);
    }

    pub(crate) fn array<T>(&mut self, items: &[T], element: impl Fn(&mut Self, &T)) {
        self.nullable_array(Some(items), element);
    }

    pub(crate) fn nullable_array<T>(&mut self, items: Option<&[T]>, element: impl Fn(&mut Self, &T)) {
        self.length(false, items.map(<[T]>::len));
        items.unwrap_or_default().iter().for_each(|item| element(self, item));
    }

    /// What `write` writes, for a tagged field.
    pub(crate) fn tagged(&self, write: impl FnOnce(&mut Self)) -> BytesMut {
        let mut field = Self { out: BytesMut::new(), version: self.version, flexible: true, too_long: false };
        write(&mut field);
        field.out
    }

    /// The tagged fields at the end of a structure, in the order of their tags.
    pub(crate) fn tags(&mut self, tags: Vec<(u32, BytesMut)>) {
        if !self.flexible {
            return;
        }
        self.uvarint(tags.len() as u32);
        for (tag, bytes) in tags {
            self.uvarint(tag);
            self.uvarint(bytes.len() as u32);
            self.out.put_slice(&bytes);
        }
    }

    fn length(&mut self, short: bool, length: Option<usize>) {
        match (self.flexible, short) {
            (true, _) => self.uvarint(length.map_or(0, |length| length as u32 + 1)),
            (false, true) => {
                let length = length.map_or(Ok(-1), i16::try_from);
                self.too_long |= length.is_err();
                self.i16(length.unwrap_or(0));
            }
            // What comes from frames is far below 2 GiB.
            (false, false) => self.i32(length.map_or(-1, |length| length as i32)),
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}
