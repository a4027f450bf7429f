//! What a run of Zstandard frames says of itself (RFC 8878, §3.1), without decompressing it.

use bytes::Buf;

const MAGIC: u32 = 0xFD2F_B528;
/// Frames with these magic numbers, but for the lowest four bits, are passed over.
const SKIPPABLE: u32 = 0x184D_2A50;
/// No block holds more.
const MAX_BLOCK: u64 = 128 << 10;

/// The most that any of the frames needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The largest window.
    pub window: u64,
    /// The most memory: a window, unless the frame can't fill it.
    pub memory: u64,
}

/// What `frames` need, as far as they are well-formed.
pub(crate) fn needs(mut frames: &[u8]) -> Needs {
    let mut needs = Needs::default();
    while let Some(frame) = frame(&mut frames) {
        needs.window = needs.window.max(frame.window);
        needs.memory = needs.memory.max(frame.window.min(frame.content) + 2 * MAX_BLOCK);
    }
    needs
}

struct Frame {
    window: u64,
    /// No more than this is in it.
    content: u64,
}

/// Takes the next frame off. One that is cut off counts, as far as it goes.
fn frame(rest: &mut &[u8]) -> Option<Frame> {
    while rest.len() >= 8 && peek_u32(rest) & !0xF == SKIPPABLE {
        rest.advance(4);
        let size = rest.get_u32_le() as usize;
        rest.advance(size.min(rest.len()));
    }
    if rest.try_get_u32_le().ok()? != MAGIC {
        return None;
    }
    let descriptor = rest.try_get_u8().ok()?;
    let single_segment = descriptor & 0x20 != 0;
    let mut window = if single_segment { 0 } else { window_of(rest.try_get_u8().ok()?) };
    skip(rest, [0, 1, 2, 4][usize::from(descriptor & 3)])?;
    if let Some(size) = content_size(rest, descriptor >> 6, single_segment)?
        && single_segment
    {
        window = size;
    }
    let content = blocks(rest, window.min(MAX_BLOCK));
    // The checksum.
    skip(rest, if descriptor & 4 != 0 { 4 } else { 0 });
    Some(Frame { window, content })
}

fn window_of(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

fn content_size(rest: &mut &[u8], flag: u8, single_segment: bool) -> Option<Option<u64>> {
    Some(match flag {
        0 if single_segment => Some(rest.try_get_u8().ok()?.into()),
        0 => None,
        1 => Some(u64::from(rest.try_get_u16_le().ok()?) + 256),
        2 => Some(rest.try_get_u32_le().ok()?.into()),
        _ => Some(rest.try_get_u64_le().ok()?),
    })
}

/// Passes over the blocks of a frame. Returns how much they can hold.
fn blocks(rest: &mut &[u8], compressed_block: u64) -> u64 {
    let mut content = 0u64;
    while rest.len() >= 3 {
        let header = rest.get_uint_le(3);
        let (last, kind, size) = (header & 1 != 0, header >> 1 & 3, header >> 3);
        let (stored, held) = match kind {
            0 => (size, size),
            1 => (1, size),
            _ => (size, compressed_block),
        };
        content = content.saturating_add(held);
        if skip(rest, usize::try_from(stored).unwrap_or(usize::MAX)).is_none() || last {
            break;
        }
    }
    content
}

fn skip(rest: &mut &[u8], count: usize) -> Option<()> {
    *rest = rest.get(count..).or_else(|| {
        *rest = &[];
        None
    })?;
    Some(())
}

fn peek_u32(rest: &[u8]) -> u32 {
    (&rest[..4]).get_u32_le()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streamed(bytes: &[u8], level: i32) -> Vec<u8> {
        zstd::stream::encode_all(bytes, level).expect("compresses")
    }

    #[test]
    fn a_small_content_needs_no_large_window() {
        let frames = streamed(&[7; 5000], 22);
        let needs = needs(&frames);
        assert_eq!(needs.window, 128 << 20);
        assert!(needs.memory <= 5 * MAX_BLOCK, "{needs:?}");
    }

    #[test]
    fn of_several_frames_the_largest_counts_and_skippable_ones_do_not() {
        let bulk = |length: usize| zstd::bulk::compress(&vec![1; length], 3).expect("compresses");
        let skippable = [&0x184D_2A53_u32.to_le_bytes()[..], &[3, 0, 0, 0, 1, 2, 3]].concat();
        let frames = [skippable, bulk(1000), bulk(900_000), bulk(10)].concat();
        let needs = needs(&frames);
        assert_eq!(needs.window, 900_000);
        assert!(needs.memory >= 900_000, "{needs:?}");
    }

    proptest! {
        #[test]
        fn anything_is_walked_through(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..40usize) {
            needs(&bytes);
            let mut frames = streamed(&[3; 100_000], 5);
            frames.splice(at.min(frames.len()).., bytes);
            needs(&frames);
        }
    }
}
