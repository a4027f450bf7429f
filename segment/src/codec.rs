//! Integers of our own blocks. Fixed-width ones are big-endian. A *varint* is unsigned LEB128: seven bits a byte, lowest
//! first, at most ten bytes. A *signed varint* is a zig-zag varint: 0, -1, 1, -2, …
//!
//! Offsets, timestamps and the like are written as differences, in wrapping arithmetic: any value survives, and the usual
//! ones take a byte.

use crate::FormatError;
use bytes::BufMut;

/// Version of the format: of objects and index blocks. State blocks have their own, see `state_codec`.
pub(crate) const VERSION: u16 = 1;

/// Reads one block. Every read is checked against the bytes that are left.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// Begins to read `bytes`, which errors will call `what`, after a format version.
    pub(crate) fn versioned(bytes: &'a [u8], what: &'static str) -> Result<Self, FormatError> {
        Ok(Self::of_versions(bytes, what, VERSION)?.0)
    }

    /// The same where versions up to `newest` are read. Gives the version too.
    pub(crate) fn of_versions(
        bytes: &'a [u8],
        what: &'static str,
        newest: u16,
    ) -> Result<(Self, u16), FormatError> {
        let mut decoder = Self { rest: bytes, what };
        let version = u16::from_be_bytes(decoder.fixed()?);
        check_version_up_to(version, what, newest)?;
        Ok((decoder, version))
    }

    /// The error for content that can't be.
    pub(crate) fn malformed(&self) -> FormatError {
        FormatError::Malformed { what: self.what }
    }

    /// Fails unless `holds`.
    pub(crate) fn ensure(&self, holds: bool) -> Result<(), FormatError> {
        if holds { Ok(()) } else { Err(self.malformed()) }
    }

    /// The next `N` bytes.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A number of elements of at least `min_bytes` each: never more than the rest can hold, so it is safe to allocate.
    pub(crate) fn count(&mut self, min_bytes: usize) -> Result<usize, FormatError> {
        let count = self.narrow()?;
        self.ensure(count <= self.rest.len() / min_bytes)?;
        Ok(count)
    }

    /// A varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for the 64th bit only.
            self.ensure(at < 9 || bits <= 1)?;
            value |= bits << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// A signed varint.
    #[inline]
    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A varint that must fit a smaller type.
    #[inline]
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, FormatError> {
        let value = self.varint()?;
        T::try_from(value).map_err(|_| self.malformed())
    }

    /// A signed varint that must fit a smaller type.
    #[inline]
    pub(crate) fn signed_narrow<T: TryFrom<i64>>(&mut self) -> Result<T, FormatError> {
        let value = self.signed()?;
        T::try_from(value).map_err(|_| self.malformed())
    }

    /// Fails unless everything has been read.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        self.ensure(self.rest.is_empty())
    }
}

/// Tells apart what is too new for us from what can't be a version.
pub(crate) fn check_version(found: u16, what: &'static str) -> Result<(), FormatError> {
    check_version_up_to(found, what, VERSION)
}

fn check_version_up_to(found: u16, what: &'static str, supported: u16) -> Result<(), FormatError> {
    match found {
        0 => Err(FormatError::Malformed { what }),
        _ if found <= supported => Ok(()),
        _ => Err(FormatError::NewerVersion { found, supported }),
    }
}

/// Writes a varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a signed varint.
pub(crate) fn put_signed(out: &mut impl BufMut, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHAT: &str = "test";

    fn decoder(rest: &[u8]) -> Decoder<'_> {
        Decoder { rest, what: WHAT }
    }

    proptest! {
        #[test]
        fn any_number_reads_back_as_it_was_written(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, signed);
            let mut decoder = decoder(&bytes);
            prop_assert_eq!(decoder.varint(), Ok(value));
            prop_assert_eq!(decoder.signed(), Ok(signed));
            prop_assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn a_varint_that_is_cut_off_or_too_long_is_refused() {
        let malformed = Err(FormatError::Malformed { what: WHAT });
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11]] {
            assert_eq!(decoder(bytes).varint(), malformed);
        }
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert_eq!(decoder(&too_large).varint(), malformed);
    }

    #[test]
    fn a_count_is_refused_where_the_rest_cannot_hold_as_many() {
        assert_eq!(decoder(&[2, 0, 0, 0, 0]).count(2), Ok(2));
        assert!(decoder(&[3, 0, 0, 0, 0]).count(2).is_err());
    }

    #[test]
    fn a_version_that_is_not_ours_is_told_from_garbage() {
        assert_eq!(check_version(0, WHAT), Err(FormatError::Malformed { what: WHAT }));
        assert_eq!(check_version(1, WHAT), Ok(()));
        assert_eq!(check_version(2, WHAT), Err(FormatError::NewerVersion { found: 2, supported: 1 }));
    }
}
