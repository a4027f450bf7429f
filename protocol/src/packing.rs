//! Compression piece by piece, with a cap on the output.

use crate::{
    compression::{Compression, CompressionError},
    snappy,
};
use bytes::Bytes;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Write};

/// A larger window takes memory in proportion, and few batches are larger.
const ZSTD_WINDOW_LOG: u32 = 20;

/// A writer of compressed records.
pub struct Packing {
    codec: Compression,
    encoder: Encoder,
}

enum Encoder {
    Plain(Capped),
    Gzip(GzEncoder<Capped>),
    Snappy(Capped, Vec<u8>),
    Lz4(Box<FrameEncoder<Capped>>),
    Zstd(zstd::stream::write::Encoder<'static, Capped>),
}

impl Packing {
    /// Begins to compress at `level`, or the codec's default (gzip 6, zstd 3), to at most `cap` bytes. `size` is what there will
    /// be to compress, if that is known. LZ4 is compressed fast whatever the level: the output is valid for any, but larger than
    /// what Kafka's slow levels give.
    pub fn new(
        codec: Compression,
        level: Option<i32>,
        size: Option<u64>,
        cap: usize,
    ) -> Result<Self, CompressionError> {
        codec.check_level(level)?;
        let out = Capped { bytes: Vec::new(), cap };
        let encoder = match codec {
            Compression::None => Encoder::Plain(out),
            Compression::Gzip => Encoder::Gzip(GzEncoder::new(out, gzip_level(level))),
            Compression::Snappy => Encoder::Snappy(out, Vec::new()),
            Compression::Lz4 => {
                let frame =
                    FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                Encoder::Lz4(Box::new(FrameEncoder::with_frame_info(frame, out)))
            }
            Compression::Zstd => Encoder::Zstd(zstd(level, size, out).map_err(|e| codec.corrupt(e))?),
        };
        let mut packing = Self { codec, encoder };
        if let Encoder::Snappy(out, _) = &mut packing.encoder {
            out.write_all(&snappy::header()).map_err(|error| codec.failed(error))?;
        }
        Ok(packing)
    }

    /// Bytes of memory that it takes at most, beside its output.
    pub fn memory(codec: Compression, level: Option<i32>) -> usize {
        match codec {
            Compression::None => 0,
            Compression::Gzip | Compression::Snappy | Compression::Lz4 => 512 << 10,
            // The window twice, and tables that grow with the level.
            Compression::Zstd => match level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL) {
                ..=3 => 3 << 20,
                4..=9 => 16 << 20,
                10.. => 40 << 20,
            },
        }
    }

    /// Takes in what comes next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CompressionError> {
        let written = match &mut self.encoder {
            Encoder::Plain(out) => out.write_all(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Snappy(out, block) => return write_blocks(out, block, bytes),
            Encoder::Lz4(encoder) => encoder.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        };
        written.map_err(|error| self.codec.failed(error))
    }

    /// All of it.
    pub fn finish(self) -> Result<Bytes, CompressionError> {
        let finished = match self.encoder {
            Encoder::Plain(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(mut out, block) => {
                if !block.is_empty() {
                    write_block(&mut out, &block)?;
                }
                Ok(out)
            }
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
            Encoder::Zstd(encoder) => encoder.finish(),
        };
        finished.map(|out| out.bytes.into()).map_err(|error| self.codec.failed(error))
    }
}

fn gzip_level(level: Option<i32>) -> flate2::Compression {
    let level = level.and_then(|level| u32::try_from(level).ok());
    level.map_or_else(Default::default, flate2::Compression::new)
}

fn zstd(
    level: Option<i32>,
    size: Option<u64>,
    out: Capped,
) -> io::Result<zstd::stream::write::Encoder<'static, Capped>> {
    let mut encoder =
        zstd::stream::write::Encoder::new(out, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?;
    encoder.window_log(ZSTD_WINDOW_LOG)?;
    encoder.set_pledged_src_size(size)?;
    Ok(encoder)
}

fn write_blocks(out: &mut Capped, block: &mut Vec<u8>, mut bytes: &[u8]) -> Result<(), CompressionError> {
    while !bytes.is_empty() {
        let (taken, rest) = bytes.split_at(bytes.len().min(snappy::BLOCK - block.len()));
        block.extend_from_slice(taken);
        bytes = rest;
        if block.len() == snappy::BLOCK {
            write_block(out, block)?;
            block.clear();
        }
    }
    Ok(())
}

fn write_block(out: &mut Capped, block: &[u8]) -> Result<(), CompressionError> {
    out.write_all(&snappy::compressed(block)?).map_err(|error| Compression::Snappy.failed(error))
}

/// Output up to a length.
struct Capped {
    bytes: Vec<u8>,
    cap: usize,
}

/// The error beyond that.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct Full(usize);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.cap - self.bytes.len() {
            return Err(io::Error::other(Full(self.cap)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Compression {
    fn failed(self, error: io::Error) -> CompressionError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()) {
            Some(Full(cap)) => CompressionError::TooLarge { cap: *cap },
            None => self.corrupt(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// Bytes that no codec makes smaller.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_written_in_pieces_is_read_as_a_whole() {
        let plain = noise(200_000);
        for codec in CODECS {
            let mut packing = Packing::new(codec, None, None, usize::MAX).expect("begins");
            plain.chunks(777).for_each(|piece| packing.write(piece).expect("compresses"));
            let packed = packing.finish().expect("compresses");
            assert_eq!(decompress(codec, &packed, plain.len()), Ok(plain.clone().into()), "{codec:?}");
        }
    }

    #[test]
    fn output_beyond_the_cap_ends_it() {
        for codec in CODECS {
            let mut packing = Packing::new(codec, None, None, 10_000).expect("begins");
            let plain = noise(300_000);
            let written = plain.chunks(1000).try_for_each(|piece| packing.write(piece));
            let ended = written.and_then(|()| packing.finish());
            assert_eq!(ended, Err(CompressionError::TooLarge { cap: 10_000 }), "{codec:?}");
        }
    }
}
