use super::*;
use crate::{Compression, Records, compress, decompress, put_record};
use bytes::Bytes;
use proptest::prelude::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const CAP: usize = 10 << 20;

/// Records of key lengths (none for null), value lengths, timestamp and offset deltas.
fn records(of: &[(Option<usize>, usize, i64, i32)]) -> Bytes {
    let mut out = Vec::new();
    for (key, value, timestamp_delta, offset_delta) in of {
        let (key, value) = (key.map(|length| vec![b'k'; length]), vec![b'v'; *value]);
        put_record(&mut out, &Record::new(*offset_delta, *timestamp_delta, key.as_deref(), Some(&value)));
    }
    out.into()
}

fn any_records() -> impl Strategy<Value = Vec<(Option<usize>, usize, i64, i32)>> {
    let record = (prop::option::of(0..100usize), 0..200_000usize, any::<i64>(), any::<i32>());
    prop::collection::vec(record, 1..6)
}

/// The heads as the records themselves, held whole, tell them.
fn heads_of(plain: &[u8], count: i32) -> Result<Vec<RecordHead>, RecordError> {
    Records::new(plain, count).map(|record| record.map(|record| RecordHead::from(&record))).collect()
}

fn heads(codec: Compression, packed: &[u8], count: i32) -> Result<Vec<RecordHead>, UnpackError> {
    RecordHeads::new(Unpacking::new(codec, packed, CAP)?, count).collect()
}

fn record_at_fault(error: RecordError) -> Option<i32> {
    match error {
        RecordError::Truncated { index }
        | RecordError::BadVarint { index }
        | RecordError::BadLength { index }
        | RecordError::BadHeaders { index } => Some(index),
        RecordError::Trailing { .. } => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn heads_are_those_of_the_records(of in any_records()) {
        let (plain, count) = (records(&of), of.len() as i32);
        for codec in CODECS {
            let packed = compress(codec, None, &plain).expect("compresses");
            let expected = heads_of(&plain, count).map_err(UnpackError::from);
            prop_assert_eq!(heads(codec, &packed, count), expected, "{:?}", codec);
        }
    }

    #[test]
    fn faults_are_told_as_of_records_that_are_held_whole(
        of in any_records(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        count in -1..8,
    ) {
        let mut plain = Vec::from(records(&of));
        let at = at.index(plain.len());
        plain[at] = byte;
        plain.truncate(cut.index(plain.len() + 1).max(at));
        let packed = compress(Compression::Zstd, None, &plain.clone().into()).expect("compresses");
        match (heads(Compression::Zstd, &packed, count), heads_of(&plain, count)) {
            // A record that is cut off may have another fault, which comes before the cut.
            (Err(UnpackError::Record(told)), Err(RecordError::Truncated { index })) => {
                prop_assert_eq!(record_at_fault(told), Some(index), "{}", told);
            }
            (told, expected) => prop_assert_eq!(told, expected.map_err(UnpackError::from)),
        }
    }

    #[test]
    fn renumbered_records_are_those_with_deltas_from_zero(of in any_records()) {
        let count = of.len() as i32;
        let expected: Vec<_> = of.iter().zip(0..).map(|((key, value, at, _), n)| (*key, *value, *at, n)).collect();
        for (codec, target) in CODECS.into_iter().zip(CODECS.into_iter().rev()) {
            let packed = compress(codec, None, &records(&of)).expect("compresses");
            let mut packing = Packing::new(target, None, None, CAP).expect("begins");
            renumber(Unpacking::new(codec, &packed, CAP).expect("begins"), count, &mut packing).expect("reads");
            let renumbered = packing.finish().expect("compresses");
            prop_assert_eq!(decompress(target, &renumbered, CAP), Ok(records(&expected)));
        }
    }
}

#[test]
fn repacked_records_are_the_same() {
    let plain = records(&[(None, 300_000, 5, 0), (Some(3), 10, 7, 1)]);
    for (codec, target) in CODECS.into_iter().zip(CODECS.into_iter().rev()) {
        let packed = compress(codec, None, &plain).expect("compresses");
        let mut packing = Packing::new(target, None, Some(plain.len() as u64), CAP).expect("begins");
        repack(Unpacking::new(codec, &packed, CAP).expect("begins"), &mut packing).expect("reads");
        assert_eq!(decompress(target, &packing.finish().expect("compresses"), CAP), Ok(plain.clone()));
    }
}
