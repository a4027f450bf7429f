//! snappy-java's stream: a header of 16 bytes, then blocks, each with its length (`i32`) in front. Or, as librdkafka writes it,
//! one bare block.

use crate::compression::{Compression, CompressionError};
use bytes::{Buf, BufMut};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER: usize = 16;
/// The version written, and the lowest that a reader must know.
const VERSION: i32 = 1;
/// Bytes of a block before compression, as snappy-java cuts them.
pub(crate) const BLOCK: usize = 32 << 10;
/// No block grows by more: its longest element gives 64 bytes for 3.
const MAX_GROWTH: usize = 22;

/// The blocks of a stream.
#[derive(Clone)]
pub(crate) struct Blocks<'a> {
    rest: &'a [u8],
    bare: bool,
}

/// One block, not yet decompressed.
pub(crate) struct Block<'a> {
    bytes: &'a [u8],
    /// What it claims to decompress to; no more than it can hold.
    pub plain_len: usize,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(mut input: &'a [u8]) -> Result<Self, CompressionError> {
        let bare = !skip_header(&mut input)?;
        Ok(Self { rest: input, bare })
    }

    /// The next block; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Block<'a>>, CompressionError> {
        if std::mem::take(&mut self.bare) {
            return Block::new(std::mem::take(&mut self.rest)).map(Some);
        }
        // Streams may follow one another.
        while skip_header(&mut self.rest)? {}
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = self.rest.try_get_i32().map_err(|_| cut_off())?;
        let length = usize::try_from(length).map_err(|_| Compression::Snappy.corrupt("a negative length"))?;
        let (block, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Block::new(block).map(Some)
    }
}

impl<'a> Block<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, CompressionError> {
        let plain_len =
            snap::raw::decompress_len(bytes).map_err(|error| Compression::Snappy.corrupt(error))?;
        if plain_len > bytes.len().saturating_mul(MAX_GROWTH) {
            return Err(Compression::Snappy.corrupt("a block that claims more than it can hold"));
        }
        Ok(Self { bytes, plain_len })
    }

    /// Decompresses it into `out`, which has just its length.
    pub(crate) fn decompress(&self, out: &mut [u8]) -> Result<(), CompressionError> {
        let done = snap::raw::Decoder::new().decompress(self.bytes, out);
        done.map(drop).map_err(|error| Compression::Snappy.corrupt(error))
    }
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

fn cut_off() -> CompressionError {
    Compression::Snappy.corrupt("cut off")
}

/// What precedes the first block.
pub(crate) fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut out = &mut header[..];
    out.put_slice(&MAGIC);
    out.put_i32(VERSION);
    out.put_i32(VERSION);
    header
}

/// A block of at most [`BLOCK`] bytes with its length in front.
pub(crate) fn compressed(block: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let block =
        snap::raw::Encoder::new().compress_vec(block).map_err(|error| Compression::Snappy.corrupt(error))?;
    let length = i32::try_from(block.len()).expect("a block of 32 KiB doesn't grow to 2 GiB");
    Ok([&length.to_be_bytes()[..], &block].concat())
}
