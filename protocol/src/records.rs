//! The records inside of a batch, uncompressed (message format v2, KIP-98).
//!
//! ```text
//! length | attributes i8 | timestamp delta | offset delta | key length | key | value length | value |
//! header count | (key length | key | value length | value) …
//! ```
//! All lengths, counts and deltas are zig-zag varints; the length counts what follows it; a negative length is null.
//! Deltas are to the batch's base offset and base timestamp.

use bytes::BufMut;

/// Why bytes aren't the records that a batch's header promises. Kafka answers INVALID_RECORD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field or record reaches beyond the end.
    #[error("record {index} is cut off")]
    Truncated {
        /// Position in the batch, from 0.
        index: i32,
    },
    /// A varint of more than 5 (or 10) bytes.
    #[error("record {index} has a number that is too long")]
    BadVarint {
        /// Position in the batch.
        index: i32,
    },
    /// The fields don't fill the record.
    #[error("record {index} is longer than its fields")]
    BadLength {
        /// Position in the batch.
        index: i32,
    },
    /// A negative count of headers or one that can't fit, or a header without a key.
    #[error("record {index} has malformed headers")]
    BadHeaders {
        /// Position in the batch.
        index: i32,
    },
    /// Bytes remain after as many records as the batch's header says.
    #[error("{bytes} bytes remain after the last record")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// One record, borrowed from the batch's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// No bit of it is in use.
    pub attributes: i8,
    /// Timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// Bytes of the whole record as it was read.
    pub size: usize,
}

/// The headers of a record: key and value of each, in their order. Keys may repeat; they are UTF-8 by convention only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        let mut reader = Reader { rest: self.rest, index: 0 };
        let header = reader.header().expect("headers were read through with their record");
        self.rest = reader.rest;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.max(0) as usize;
        (left, Some(left))
    }
}

/// The records of a batch. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
}

impl<'a> Records<'a> {
    /// Records in `bytes`, of which there must be `count`, as the batch's header says.
    pub fn new(bytes: &'a [u8], count: i32) -> Self {
        Self { rest: bytes, index: 0, count }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let mut reader = Reader { rest: self.rest, index: self.index };
        let record = reader.record()?;
        self.rest = reader.rest;
        if self.index + 1 == self.count && !self.rest.is_empty() {
            return Err(RecordError::Trailing { bytes: self.rest.len() });
        }
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let record = self.read();
        self.index = if record.is_ok() { self.index + 1 } else { self.count };
        Some(record)
    }
}

/// Reads fields off the front.
struct Reader<'a> {
    rest: &'a [u8],
    index: i32,
}

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let before = self.rest.len();
        let length =
            usize::try_from(self.varint()?).map_err(|_| RecordError::BadLength { index: self.index })?;
        let mut body = Reader { rest: self.take(length)?, index: self.index };
        let record = Record {
            attributes: body.take(1)?[0] as i8,
            timestamp_delta: body.varlong()?,
            offset_delta: body.varint()?,
            key: body.bytes()?,
            value: body.bytes()?,
            headers: body.headers()?,
            size: before - self.rest.len(),
        };
        if body.rest.is_empty() { Ok(record) } else { Err(RecordError::BadLength { index: self.index }) }
    }

    /// Reads through the headers, so that reading them later can't fail.
    fn headers(&mut self) -> Result<Headers<'a>, RecordError> {
        let bad = RecordError::BadHeaders { index: self.index };
        let left = self.varint()?;
        if usize::try_from(left).map_err(|_| bad)? > self.rest.len() {
            return Err(bad);
        }
        let headers = Headers { rest: self.rest, left };
        (0..left).try_for_each(|_| self.header().map(drop))?;
        Ok(headers)
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        let key = self.bytes()?.ok_or(RecordError::BadHeaders { index: self.index })?;
        Ok((key, self.bytes()?))
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let length = self.varint()?;
        usize::try_from(length).ok().map(|length| self.take(length)).transpose()
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = self.unsigned(5)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Seven bits a byte, lowest first, in at most `longest` bytes. Bits beyond the type are dropped, as in Kafka.
    fn unsigned(&mut self, longest: usize) -> Result<u64, RecordError> {
        let mut value = 0;
        for place in 0..longest {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::BadVarint { index: self.index })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(RecordError::Truncated { index: self.index })?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends a record to the bytes of a batch. Lengths must be below 2 GiB, as those of what was read are.
pub fn put_record(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut body = Vec::with_capacity(record.size);
    body.put_i8(record.attributes);
    put_varint(&mut body, record.timestamp_delta);
    put_varint(&mut body, record.offset_delta.into());
    put_bytes(&mut body, record.key);
    put_bytes(&mut body, record.value);
    put_varint(&mut body, record.headers.left.into());
    for (key, value) in record.headers {
        put_bytes(&mut body, Some(key));
        put_bytes(&mut body, value);
    }
    put_bytes(out, Some(&body));
}

/// A record of key and value alone, for producers in tests and benchmarks.
impl<'a> Record<'a> {
    /// The `offset_delta`th record of a batch.
    pub fn new(
        offset_delta: i32,
        timestamp_delta: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Self {
        Self {
            attributes: 0,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: Headers::default(),
            size: 0,
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Blob = Option<Vec<u8>>;

    /// What a record holds, owned.
    #[derive(Clone, Debug, PartialEq)]
    struct Owned {
        numbers: (i8, i64, i32),
        key: Blob,
        value: Blob,
        headers: Vec<(Vec<u8>, Blob)>,
    }

    impl From<Record<'_>> for Owned {
        fn from(record: Record<'_>) -> Self {
            let headers = record.headers.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
            Self {
                numbers: (record.attributes, record.timestamp_delta, record.offset_delta),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
            }
        }
    }

    impl Owned {
        fn put(&self, out: &mut Vec<u8>) {
            let mut headers = Vec::new();
            for (key, value) in &self.headers {
                put_bytes(&mut headers, Some(key));
                put_bytes(&mut headers, value.as_deref());
            }
            let headers = Headers { rest: &headers, left: self.headers.len() as i32 };
            let record =
                Record::new(self.numbers.2, self.numbers.1, self.key.as_deref(), self.value.as_deref());
            put_record(out, &Record { attributes: self.numbers.0, headers, ..record });
        }
    }

    fn any_records() -> impl Strategy<Value = Vec<Owned>> {
        let blob = || prop::option::of(prop::collection::vec(any::<u8>(), 0..100));
        // Few keys, so that they repeat.
        let header = (prop::sample::select(vec![vec![], b"k".to_vec()]), blob());
        let record = (any::<(i8, i64, i32)>(), blob(), blob(), prop::collection::vec(header, 0..4))
            .prop_map(|(numbers, key, value, headers)| Owned { numbers, key, value, headers });
        prop::collection::vec(record, 1..5)
    }

    fn encode(records: &[Owned]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|record| record.put(&mut out));
        out
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(records in any_records()) {
            let bytes = encode(&records);
            let read: Result<Vec<_>, _> = Records::new(&bytes, records.len() as i32).collect();
            let read = read.expect("well-formed");
            prop_assert_eq!(read.iter().map(|record| record.size).sum::<usize>(), bytes.len());
            prop_assert_eq!(read.into_iter().map(Owned::from).collect::<Vec<_>>(), records);
        }

        #[test]
        fn records_cut_off_anywhere_are_an_error(records in any_records(), at in any::<prop::sample::Index>()) {
            let bytes = encode(&records);
            let cut = &bytes[..at.index(bytes.len())];
            let read: Result<Vec<_>, _> = Records::new(cut, records.len() as i32).collect();
            prop_assert!(read.is_err());
        }

        #[test]
        fn damaged_records_never_panic(
            records in any_records(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            count in any::<i32>(),
        ) {
            let mut bytes = encode(&records);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for record in Records::new(&bytes, count).map_while(Result::ok) {
                prop_assert!(record.headers.count() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_record_has_the_bytes_that_kafka_writes() {
        let mut out = Vec::new();
        put_record(&mut out, &Record::new(1, 2, None, Some(b"v")));
        assert_eq!(out, [14, 0, 4, 2, 1, 2, b'v', 0]);
    }

    #[test]
    fn more_bytes_than_the_promised_records_are_an_error() {
        let mut out = Vec::new();
        put_record(&mut out, &Record::new(0, 0, None, None));
        put_record(&mut out, &Record::new(1, 0, None, None));
        let read: Result<Vec<_>, _> = Records::new(&out, 1).collect();
        assert_eq!(read, Err(RecordError::Trailing { bytes: 7 }));
        let read: Result<Vec<_>, _> = Records::new(&out, 3).collect();
        assert_eq!(read, Err(RecordError::Truncated { index: 2 }));
    }

    #[test]
    fn a_count_of_headers_that_cannot_fit_is_an_error_at_once() {
        // One record: no key, no value, 2^31 - 1 headers.
        let body = [0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
        let bytes = [&[body.len() as u8 * 2], &body[..]].concat();
        let read: Result<Vec<_>, _> = Records::new(&bytes, 1).collect();
        assert_eq!(read, Err(RecordError::BadHeaders { index: 0 }));
    }
}
