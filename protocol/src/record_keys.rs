//! What log compaction needs of a batch: the keys of its records, and the batch without some of them. No value is held.

use crate::{
    packing::Packing,
    record_heads::{Reader, UnpackError},
    records::put_varint,
    unpacking::Unpacking,
};

/// A record without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// Timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// Whether it has a value; else it is a tombstone.
    pub has_value: bool,
}

/// Shows `each` of `count` records in turn, as many as the batch's header says.
pub fn read_keys(
    unpacking: Unpacking<'_>,
    count: i32,
    mut each: impl FnMut(KeyedRecord<'_>),
) -> Result<(), UnpackError> {
    let mut reader = Reader::new(unpacking);
    let mut key = Vec::new();
    for index in 0..count {
        reader.begin(index)?;
        reader.byte()?;
        let (timestamp_delta, offset_delta) = (reader.signed(10)?, reader.narrow()?);
        let has_key = reader.read_field(&mut key)?;
        let has_value = reader.skip_field()?;
        each(KeyedRecord { timestamp_delta, offset_delta, key: has_key.then_some(&key), has_value });
        // Headers, which were checked when the batch came in.
        reader.skip_rest()?;
    }
    reader.expect_end()
}

/// Compresses the records anew of which `keep` says so, by their place in the batch. What is left of each stays, but for its
/// timestamp delta, to which `shift_ms` is added: the base timestamp is to be another one.
pub fn keep_records(
    unpacking: Unpacking<'_>,
    keep: &[bool],
    shift_ms: i64,
    packing: &mut Packing,
) -> Result<(), UnpackError> {
    let mut reader = Reader::new(unpacking);
    let (mut front, mut whole) = (Vec::new(), Vec::new());
    for (index, kept) in (0..).zip(keep) {
        reader.begin(index)?;
        if !kept {
            reader.skip_rest()?;
            continue;
        }
        front.clear();
        front.push(reader.byte()?);
        put_varint(&mut front, reader.signed(10)?.wrapping_add(shift_ms));
        whole.clear();
        put_varint(&mut whole, (front.len() + reader.left()) as i64);
        whole.extend_from_slice(&front);
        packing.write(&whole)?;
        reader.copy_rest(packing)?;
    }
    reader.expect_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, Record, Records, compress, decompress, put_record};
    use bytes::Bytes;
    use proptest::prelude::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    const CAP: usize = 10 << 20;

    type Blob = Option<Vec<u8>>;

    fn any_records() -> impl Strategy<Value = Vec<(i64, i32, Blob, Blob)>> {
        let blob = |longest| prop::option::of(prop::collection::vec(any::<u8>(), 0..longest));
        prop::collection::vec((any::<i64>(), any::<i32>(), blob(100), blob(90_000)), 0..6)
    }

    fn plain(records: &[(i64, i32, Blob, Blob)]) -> Bytes {
        let mut out = Vec::new();
        for (timestamp, offset, key, value) in records {
            put_record(&mut out, &Record::new(*offset, *timestamp, key.as_deref(), value.as_deref()));
        }
        out.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn keys_are_those_of_the_records(records in any_records()) {
            for codec in CODECS {
                let packed = compress(codec, None, &plain(&records)).expect("compresses");
                let mut seen = Vec::new();
                let unpacking = Unpacking::new(codec, &packed, CAP).expect("unpacks");
                read_keys(unpacking, records.len() as i32, |record| {
                    seen.push((record.timestamp_delta, record.offset_delta, record.key.map(<[u8]>::to_vec), record.has_value));
                }).expect("well-formed");
                let expected: Vec<_> = records.iter()
                    .map(|(timestamp, offset, key, value)| (*timestamp, *offset, key.clone(), value.is_some()))
                    .collect();
                prop_assert_eq!(seen, expected);
            }
        }

        #[test]
        fn kept_records_stay_as_they_are_but_for_their_timestamps(
            records in any_records(),
            shift in any::<i64>(),
            dropped in any::<u8>(),
        ) {
            let keep: Vec<bool> = (0..records.len()).map(|at| dropped >> at & 1 == 0).collect();
            let expected: Vec<_> = records.iter().zip(&keep).filter(|(_, keep)| **keep)
                .map(|((timestamp, offset, key, value), _)| (timestamp.wrapping_add(shift), *offset, key.clone(), value.clone()))
                .collect();
            for codec in CODECS {
                let packed = compress(codec, None, &plain(&records)).expect("compresses");
                let mut packing = Packing::new(codec, None, None, usize::MAX).expect("packs");
                let unpacking = Unpacking::new(codec, &packed, CAP).expect("unpacks");
                keep_records(unpacking, &keep, shift, &mut packing).expect("well-formed");
                let kept = packing.finish().expect("packs");
                prop_assert_eq!(decompress(codec, &kept, CAP).expect("unpacks"), plain(&expected));
            }
        }
    }

    #[test]
    fn headers_stay_with_their_record() {
        // A record of key `k` and value `v` with one header `h`: null.
        let body = [0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 1];
        let bytes = Bytes::from([&[body.len() as u8 * 2], &body[..]].concat());
        let mut packing = Packing::new(Compression::None, None, None, usize::MAX).expect("packs");
        let unpacking = Unpacking::new(Compression::None, &bytes, CAP).expect("unpacks");
        keep_records(unpacking, &[true], 1, &mut packing).expect("well-formed");
        let kept = packing.finish().expect("packs");
        let record = Records::new(&kept, 1).next().expect("one").expect("well-formed");
        assert_eq!((record.timestamp_delta, record.key, record.headers.count()), (1, Some(&b"k"[..]), 1));
    }

    #[test]
    fn records_that_are_cut_off_are_an_error() {
        let bytes = plain(&[(0, 0, Some(b"key".to_vec()), None)]);
        let unpack = |upto: usize| Unpacking::new(Compression::None, &bytes[..upto], CAP).expect("unpacks");
        for upto in 0..bytes.len() {
            assert!(read_keys(unpack(upto), 1, |_| {}).is_err(), "{upto}");
        }
        assert!(read_keys(unpack(bytes.len()), 0, |_| {}).is_err(), "more than the header promises");
    }
}
