//! The codecs of record batches, as Kafka's clients frame them.
//!
//! Decompression has a cap on its output and works in a stream: a bomb stops at the cap.

use crate::errors::ErrorCode;
use crate::{packing::Packing, unpacking::Unpacking};
use bytes::Bytes;
use std::ops::RangeInclusive;

/// A batch's codec; the numbers are those of the attributes' lowest three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// The records as they are.
    None = 0,
    /// One gzip member, or several.
    Gzip = 1,
    /// Snappy blocks in snappy-java's (Xerial's) framing, or one bare block, as librdkafka writes it.
    Snappy = 2,
    /// An LZ4 frame of independent blocks.
    Lz4 = 3,
    /// Zstandard frames (KIP-110).
    Zstd = 4,
}

/// Why bytes can't be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// There is more in it than allowed.
    #[error("the records decompress to more than {cap} bytes")]
    TooLarge {
        /// The most bytes allowed.
        cap: usize,
    },
    /// The bytes aren't what the codec writes.
    #[error("the records are not valid {codec:?}: {reason}")]
    Corrupt {
        /// The codec that the batch names.
        codec: Compression,
        /// What the decompressor says.
        reason: String,
    },
    /// The codec has no such level.
    #[error("{codec:?} has no level {level}")]
    BadLevel {
        /// The codec.
        codec: Compression,
        /// The level asked for.
        level: i32,
    },
}

impl CompressionError {
    /// The code for the response. What a client can't have compressed it need not send again, so not CORRUPT_MESSAGE.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Corrupt { .. } | Self::BadLevel { .. } => ErrorCode::UnknownServerError,
        }
    }
}

impl Compression {
    /// The codec that a batch's attributes name; none for a number that Kafka hasn't given out.
    pub fn of_attributes(attributes: i16) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .get(usize::from(attributes as u16 & 7))
            .copied()
    }

    /// The codec of a configured name (`compression.type` has `uncompressed`, `gzip` … besides `producer`).
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "uncompressed" | "none" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// The bits for a batch's attributes.
    pub fn bits(self) -> i16 {
        self as i16
    }

    /// The levels that Kafka allows (KIP-390), none for a codec without levels. Gzip takes -1 for its default too.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    pub(crate) fn check_level(self, level: Option<i32>) -> Result<(), CompressionError> {
        match (level, self.levels()) {
            (Some(level), Some(levels)) if !levels.contains(&level) && (self, level) != (Self::Gzip, -1) => {
                Err(CompressionError::BadLevel { codec: self, level })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn corrupt(self, reason: impl ToString) -> CompressionError {
        CompressionError::Corrupt { codec: self, reason: reason.to_string() }
    }
}

/// Decompresses the records of a batch to at most `cap` bytes, and holds all of them: see [`Unpacking`] for what doesn't.
/// Uncompressed ones are given back as they are.
pub fn decompress(codec: Compression, bytes: &Bytes, cap: usize) -> Result<Bytes, CompressionError> {
    let mut unpacking = Unpacking::new(codec, bytes, cap)?;
    if codec == Compression::None {
        return Ok(bytes.clone());
    }
    let mut out = Vec::new();
    loop {
        let piece = unpacking.fill()?;
        if piece.is_empty() {
            return Ok(out.into());
        }
        out.extend_from_slice(piece);
        let count = piece.len();
        unpacking.consume(count);
    }
}

/// Compresses records at `level`, or the codec's default, see [`Packing`].
pub fn compress(codec: Compression, level: Option<i32>, bytes: &Bytes) -> Result<Bytes, CompressionError> {
    let mut packing = Packing::new(codec, level, Some(bytes.len() as u64), usize::MAX)?;
    if codec == Compression::None {
        return Ok(bytes.clone());
    }
    packing.write(bytes)?;
    packing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use proptest::prelude::*;
    use std::io::Write;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        let runs = prop::collection::vec((any::<u8>(), 1..30_000usize), 0..8);
        let runs =
            runs.prop_map(|runs| runs.into_iter().flat_map(|(byte, count)| vec![byte; count]).collect());
        prop_oneof![prop::collection::vec(any::<u8>(), 0..2000), runs].prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn what_is_compressed_decompresses_to_the_same(bytes in any_bytes()) {
            for codec in CODECS {
                let compressed = compress(codec, None, &bytes).expect("compresses");
                prop_assert_eq!(&decompress(codec, &compressed, bytes.len()).expect("decompresses"), &bytes);
            }
        }

        #[test]
        fn output_beyond_the_cap_is_refused(bytes in any_bytes(), cap in any::<prop::sample::Index>()) {
            prop_assume!(!bytes.is_empty());
            let cap = cap.index(bytes.len());
            for codec in CODECS {
                let compressed = compress(codec, None, &bytes).expect("compresses");
                prop_assert_eq!(decompress(codec, &compressed, cap), Err(CompressionError::TooLarge { cap }));
            }
        }

        #[test]
        fn damaged_bytes_never_panic_nor_pass_the_cap(
            bytes in any_bytes(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            for codec in CODECS {
                let mut compressed = Vec::from(compress(codec, None, &bytes).expect("compresses"));
                for (at, byte) in damage.iter().filter(|_| !bytes.is_empty()) {
                    let at = at.index(compressed.len());
                    compressed[at] = *byte;
                }
                if let Ok(out) = decompress(codec, &compressed.into(), 10_000) {
                    prop_assert!(out.len() <= 10_000);
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in CODECS {
                let _ = decompress(codec, &bytes.clone().into(), 10_000);
            }
        }
    }

    #[test]
    fn every_level_that_kafka_allows_compresses() {
        let bytes = Bytes::from(vec![3; 5000]);
        for (codec, level) in [
            (Compression::Gzip, -1),
            (Compression::Gzip, 1),
            (Compression::Gzip, 9),
            (Compression::Lz4, 17),
            (Compression::Zstd, -131_072),
            (Compression::Zstd, 22),
        ] {
            let compressed = compress(codec, Some(level), &bytes).expect("compresses");
            assert_eq!(decompress(codec, &compressed, 5000), Ok(bytes.clone()));
        }
        let bad = CompressionError::BadLevel { codec: Compression::Gzip, level: 10 };
        assert_eq!(compress(Compression::Gzip, Some(10), &bytes), Err(bad));
    }

    #[test]
    fn a_bare_snappy_block_is_read_as_from_librdkafka() {
        let bytes = vec![9; 1000];
        let bare = snap::raw::Encoder::new().compress_vec(&bytes).expect("compresses");
        assert_eq!(decompress(Compression::Snappy, &bare.into(), 1000), Ok(Bytes::from(bytes)));
    }

    #[test]
    fn snappy_streams_and_gzip_members_may_follow_one_another() {
        for codec in [Compression::Snappy, Compression::Gzip, Compression::Zstd] {
            let half = compress(codec, None, &Bytes::from_static(b"half")).expect("compresses");
            let both = Bytes::from([&half[..], &half[..]].concat());
            assert_eq!(decompress(codec, &both, 100), Ok(Bytes::from_static(b"halfhalf")), "{codec:?}");
        }
    }

    #[test]
    fn lz4_blocks_that_depend_on_one_another_are_refused_as_by_kafka() {
        let frame = FrameInfo::new().block_mode(BlockMode::Linked);
        let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
        encoder.write_all(b"linked").expect("writes");
        let linked = encoder.finish().expect("finishes");
        assert!(matches!(
            decompress(Compression::Lz4, &linked.into(), 100),
            Err(CompressionError::Corrupt { .. })
        ));
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
            let bomb = compress(codec, None, &Bytes::from(vec![0; 50 << 20])).expect("compresses");
            assert_eq!(decompress(codec, &bomb, 1 << 20), Err(CompressionError::TooLarge { cap: 1 << 20 }));
        }
    }
}
