//! Decompression piece by piece, so that of a batch which unpacks to hundreds of megabytes no more than a piece is held.

use crate::{
    compression::{Compression, CompressionError},
    snappy, zstd_frames,
};
use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use std::io::{self, Read};

/// What is decompressed at a time, but for Snappy, whose blocks are decompressed whole.
const PIECE: usize = 64 << 10;
/// What a gzip decoder holds.
const GZIP: usize = 64 << 10;
/// Windows up to this size are always allowed: decoders should support them (RFC 8878, §3.1.1.1.2).
const USUAL_ZSTD_WINDOW: u64 = 8 << 20;

/// A reader of compressed records. The output has a cap.
pub struct Unpacking<'a> {
    codec: Compression,
    source: Source<'a>,
    cap: usize,
    unpacked: usize,
    /// What is decompressed and not yet consumed: `[at, end)` of it.
    piece: Vec<u8>,
    at: usize,
    end: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Stream(Box<dyn Read + 'a>),
    Snappy(snappy::Blocks<'a>),
}

impl<'a> Unpacking<'a> {
    /// Begins to decompress `input`, to at most `cap` bytes.
    pub fn new(codec: Compression, input: &'a [u8], cap: usize) -> Result<Self, CompressionError> {
        let source = match codec {
            Compression::None if input.len() > cap => return Err(CompressionError::TooLarge { cap }),
            Compression::None => Source::Plain(input),
            Compression::Gzip => Source::Stream(Box::new(MultiGzDecoder::new(input))),
            Compression::Snappy => Source::Snappy(snappy::Blocks::new(input)?),
            Compression::Lz4 => {
                check_lz4_header(input)?;
                Source::Stream(Box::new(FrameDecoder::new(input)))
            }
            Compression::Zstd => Source::Stream(Box::new(zstd_decoder(input).map_err(|e| codec.corrupt(e))?)),
        };
        Ok(Self { codec, source, cap, unpacked: 0, piece: Vec::new(), at: 0, end: 0 })
    }

    /// Bytes of memory that decompressing `input` takes at most, beside it.
    pub fn memory(codec: Compression, input: &[u8]) -> usize {
        match codec {
            Compression::None => 0,
            Compression::Gzip => PIECE + GZIP,
            Compression::Snappy => snappy_memory(input),
            Compression::Lz4 => PIECE + 2 * lz4_block(input),
            Compression::Zstd => {
                PIECE + usize::try_from(zstd_frames::needs(input).memory).unwrap_or(usize::MAX / 2)
            }
        }
    }

    /// What comes next: some bytes, or none at the end.
    pub fn fill(&mut self) -> Result<&[u8], CompressionError> {
        if let Source::Plain(rest) = &self.source {
            return Ok(rest);
        }
        if self.at == self.end {
            self.next_piece()?;
        }
        Ok(&self.piece[self.at..self.end])
    }

    /// Passes over `count` bytes of what [`Self::fill`] has given.
    pub fn consume(&mut self, count: usize) {
        match &mut self.source {
            Source::Plain(rest) => *rest = &rest[count..],
            _ => self.at += count,
        }
        assert!(self.at <= self.end, "no more is consumed than there is");
    }

    fn next_piece(&mut self) -> Result<(), CompressionError> {
        (self.at, self.end) = (0, 0);
        self.end = match &mut self.source {
            Source::Plain(_) => 0,
            Source::Stream(stream) => {
                self.piece.resize(PIECE, 0);
                read(stream, &mut self.piece).map_err(|error| self.codec.corrupt(error))?
            }
            Source::Snappy(blocks) => next_block(blocks, &mut self.piece, self.cap - self.unpacked)?
                .ok_or(CompressionError::TooLarge { cap: self.cap })?,
        };
        self.unpacked += self.end;
        if self.unpacked > self.cap {
            self.end = 0;
            return Err(CompressionError::TooLarge { cap: self.cap });
        }
        Ok(())
    }
}

fn read(stream: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Decompresses the next block that isn't empty. Its length, 0 at the end; none where it is longer than `left`.
fn next_block(
    blocks: &mut snappy::Blocks<'_>,
    piece: &mut Vec<u8>,
    left: usize,
) -> Result<Option<usize>, CompressionError> {
    while let Some(block) = blocks.next()? {
        if block.plain_len > left {
            return Ok(None);
        }
        piece.resize(block.plain_len, 0);
        block.decompress(piece)?;
        if block.plain_len > 0 {
            return Ok(Some(block.plain_len));
        }
    }
    Ok(Some(0))
}

/// As far as its blocks are well-formed.
fn snappy_memory(input: &[u8]) -> usize {
    let Ok(mut blocks) = snappy::Blocks::new(input) else { return 0 };
    let mut largest = 0;
    while let Ok(Some(block)) = blocks.next() {
        largest = largest.max(block.plain_len);
    }
    largest
}

/// No window is taken that [`Unpacking::memory`] doesn't know of.
fn zstd_decoder(input: &[u8]) -> io::Result<zstd::stream::read::Decoder<'_, &[u8]>> {
    let window = zstd_frames::needs(input).window.clamp(USUAL_ZSTD_WINDOW, 1 << 27);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(window.next_power_of_two().ilog2())?;
    Ok(decoder)
}

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Kafka takes version 1 of the frame with independent blocks alone, no legacy frames and no dictionaries.
fn check_lz4_header(input: &[u8]) -> Result<(), CompressionError> {
    let flags = match input {
        [a, b, c, d, flags, ..] if [*a, *b, *c, *d] == LZ4_MAGIC => *flags,
        _ => return Err(Compression::Lz4.corrupt("no LZ4 frame")),
    };
    let (version, independent, reserved) = (flags >> 6, flags & 0x20 != 0, flags & 0x03);
    if version == 1 && independent && reserved == 0 {
        Ok(())
    } else {
        Err(Compression::Lz4.corrupt(format!("unsupported frame flags {flags:#04x}")))
    }
}

/// The size of a block, which the sixth byte of a frame tells; of anything else, the largest that there is.
fn lz4_block(input: &[u8]) -> usize {
    match input.get(5).map(|descriptor| descriptor >> 4 & 7) {
        Some(size @ 4..=7) => 64 << 10 << (2 * (size - 4)),
        _ => 4 << 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress;
    use bytes::Bytes;

    #[test]
    fn no_more_than_a_piece_is_held_of_what_unpacks_to_much() {
        let plain = Bytes::from(vec![7; 40 << 20]);
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
            let packed = compress(codec, None, &plain).expect("compresses");
            let memory = Unpacking::memory(codec, &packed);
            assert!(memory <= 9 << 20, "{codec:?} takes {memory} bytes");
            let mut unpacking = Unpacking::new(codec, &packed, plain.len()).expect("begins");
            let mut unpacked = 0;
            loop {
                let piece = unpacking.fill().expect("decompresses");
                assert!(piece.len() <= memory.min(PIECE), "{codec:?} holds {}", piece.len());
                let count = piece.len();
                if count == 0 {
                    break;
                }
                unpacking.consume(count);
                unpacked += count;
            }
            assert_eq!(unpacked, plain.len(), "{codec:?}");
        }
    }

    #[test]
    fn a_frame_whose_window_the_walk_did_not_see_is_refused() {
        let hidden = zstd::stream::encode_all(&vec![1; 1000][..], 22).expect("compresses");
        let mut decoder = zstd::stream::read::Decoder::with_buffer(&hidden[..]).expect("begins");
        decoder.window_log_max(USUAL_ZSTD_WINDOW.ilog2()).expect("is set");
        assert!(decoder.read_to_end(&mut Vec::new()).is_err());
        assert!(crate::decompress(Compression::Zstd, &hidden.into(), 1000).is_ok());
    }
}
