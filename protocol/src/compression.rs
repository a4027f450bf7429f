//! The codecs of record batches, as Kafka's clients frame them.
//!
//! Decompression has a cap on its output and works in a stream: a bomb stops at the cap.

use bytes::Bytes;
use flate2::read::{GzEncoder, MultiGzDecoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::io::{self, Read, Write};
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

    fn check_level(self, level: Option<i32>) -> Result<(), CompressionError> {
        match (level, self.levels()) {
            (Some(level), Some(levels)) if !levels.contains(&level) && (self, level) != (Self::Gzip, -1) => {
                Err(CompressionError::BadLevel { codec: self, level })
            }
            _ => Ok(()),
        }
    }

    fn corrupt(self, reason: impl ToString) -> CompressionError {
        CompressionError::Corrupt { codec: self, reason: reason.to_string() }
    }
}

/// Decompresses the records of a batch to at most `cap` bytes. Uncompressed ones are given back as they are.
pub fn decompress(codec: Compression, bytes: &Bytes, cap: usize) -> Result<Bytes, CompressionError> {
    let input = &bytes[..];
    let corrupt = |error: io::Error| codec.corrupt(error);
    match codec {
        Compression::None if bytes.len() > cap => Err(CompressionError::TooLarge { cap }),
        Compression::None => Ok(bytes.clone()),
        Compression::Gzip => read_capped(codec, MultiGzDecoder::new(input), cap),
        Compression::Snappy => snappy::decompress(input, cap),
        Compression::Lz4 => {
            check_lz4_header(input)?;
            read_capped(codec, FrameDecoder::new(input), cap)
        }
        // The window is limited to 128 MiB by the library, as in Kafka's clients; of it only what is written is resident.
        Compression::Zstd => {
            read_capped(codec, zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?, cap)
        }
    }
}

fn read_capped(codec: Compression, reader: impl Read, cap: usize) -> Result<Bytes, CompressionError> {
    let mut out = Vec::new();
    let limit = u64::try_from(cap).expect("usize fits into 64 bits").saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|error| codec.corrupt(error))?;
    if out.len() > cap { Err(CompressionError::TooLarge { cap }) } else { Ok(out.into()) }
}

/// Kafka takes version 1 of the frame with independent blocks alone, no legacy frames and no dictionaries.
fn check_lz4_header(input: &[u8]) -> Result<(), CompressionError> {
    const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
    let flags = match input {
        [a, b, c, d, flags, ..] if [*a, *b, *c, *d] == MAGIC => *flags,
        _ => return Err(Compression::Lz4.corrupt("no LZ4 frame")),
    };
    let (version, independent, reserved) = (flags >> 6, flags & 0x20 != 0, flags & 0x03);
    if version == 1 && independent && reserved == 0 {
        Ok(())
    } else {
        Err(Compression::Lz4.corrupt(format!("unsupported frame flags {flags:#04x}")))
    }
}

/// Compresses records at `level`, or the codec's default (gzip 6, zstd 3). LZ4 is compressed fast whatever the level:
/// the output is valid for any, but larger than what Kafka's slow levels give.
pub fn compress(codec: Compression, level: Option<i32>, bytes: &Bytes) -> Result<Bytes, CompressionError> {
    codec.check_level(level)?;
    let failed = |error: io::Error| codec.corrupt(error);
    match codec {
        Compression::None => Ok(bytes.clone()),
        Compression::Gzip => gzip(level, bytes).map_err(failed),
        Compression::Snappy => snappy::compress(bytes),
        Compression::Lz4 => lz4(bytes).map_err(failed),
        Compression::Zstd => zstd::bulk::compress(bytes, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
            .map(Bytes::from)
            .map_err(failed),
    }
}

fn gzip(level: Option<i32>, bytes: &[u8]) -> io::Result<Bytes> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .map_or_else(Default::default, flate2::Compression::new);
    let mut out = Vec::new();
    GzEncoder::new(bytes, level).read_to_end(&mut out)?;
    Ok(out.into())
}

fn lz4(bytes: &[u8]) -> io::Result<Bytes> {
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

mod snappy {
    //! snappy-java's stream: a header of 16 bytes, then blocks, each with its length (`i32`) in front.

    use super::{Compression, CompressionError};
    use bytes::{Buf, BufMut, Bytes, BytesMut};

    const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    const HEADER: usize = 16;
    /// The version written, and the lowest that a reader must know.
    const VERSION: i32 = 1;
    /// Bytes of a block before compression, as snappy-java cuts them.
    const BLOCK: usize = 32 << 10;
    /// No block grows by more: its longest element gives 64 bytes for 3.
    const MAX_GROWTH: usize = 22;

    pub(super) fn compress(bytes: &[u8]) -> Result<Bytes, CompressionError> {
        let mut out = BytesMut::new();
        out.put_slice(&MAGIC);
        out.put_i32(VERSION);
        out.put_i32(VERSION);
        let mut encoder = snap::raw::Encoder::new();
        for block in bytes.chunks(BLOCK) {
            let block = encoder.compress_vec(block).map_err(|error| Compression::Snappy.corrupt(error))?;
            out.put_i32(i32::try_from(block.len()).expect("a block of 32 KiB doesn't grow to 2 GiB"));
            out.put_slice(&block);
        }
        Ok(out.freeze())
    }

    pub(super) fn decompress(mut input: &[u8], cap: usize) -> Result<Bytes, CompressionError> {
        let mut out = Vec::new();
        if !skip_header(&mut input)? {
            append_block(input, &mut out, cap)?;
            return Ok(out.into());
        }
        while !input.is_empty() {
            // Streams may follow one another.
            if skip_header(&mut input)? {
                continue;
            }
            let length = input.try_get_i32().map_err(|_| cut_off())?;
            let length =
                usize::try_from(length).map_err(|_| Compression::Snappy.corrupt("a negative length"))?;
            let (block, rest) = input.split_at_checked(length).ok_or_else(cut_off)?;
            append_block(block, &mut out, cap)?;
            input = rest;
        }
        Ok(out.into())
    }

    fn skip_header(input: &mut &[u8]) -> Result<bool, CompressionError> {
        let Some(mut header) = input.get(..HEADER).filter(|header| header.starts_with(&MAGIC)) else {
            return Ok(false);
        };
        header.advance(MAGIC.len());
        let version = header.get_i32();
        if version < VERSION {
            return Err(Compression::Snappy.corrupt(format!("version {version} of the framing")));
        }
        input.advance(HEADER);
        Ok(true)
    }

    fn append_block(block: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), CompressionError> {
        let corrupt = |error| Compression::Snappy.corrupt(error);
        let length = snap::raw::decompress_len(block).map_err(corrupt)?;
        if length > block.len().saturating_mul(MAX_GROWTH) {
            return Err(Compression::Snappy.corrupt("a block that claims more than it can hold"));
        }
        let start = out.len();
        if length > cap.saturating_sub(start) {
            return Err(CompressionError::TooLarge { cap });
        }
        out.resize(start + length, 0);
        snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(corrupt)?;
        Ok(())
    }

    fn cut_off() -> CompressionError {
        Compression::Snappy.corrupt("cut off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
