//! The bytes of an object under construction: slices of others' buffers between small pieces of our own.

use bytes::{Bytes, BytesMut};

/// Shorter slices are copied: a slice of its own costs more in the client and the kernel than these bytes do.
const COPY_BELOW: usize = 512;
/// Size of the first buffer for copies; each further one is twice as large, up to the largest.
const FIRST_BUFFER: usize = 1024;
const LARGEST_BUFFER: usize = 64 * 1024;

/// Collects pieces. Heads and short records are carved from a few shared buffers, not allocated one by one.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pieces: Vec<Bytes>,
    /// Copied bytes that are not yet a piece. What is left of its capacity takes the next ones.
    copies: BytesMut,
    buffer_bytes: usize,
    size: u64,
    taken: u64,
}

impl Payload {
    /// Bytes so far, those that were taken included.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if self.copies.capacity() - self.copies.len() < bytes.len() {
            self.seal_copies();
            self.buffer_bytes = (self.buffer_bytes * 2).clamp(FIRST_BUFFER, LARGEST_BUFFER);
            self.copies = BytesMut::with_capacity(self.buffer_bytes.max(bytes.len()));
        }
        self.copies.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
    }

    /// Appends `bytes`, by reference unless they are few.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            return self.copy(&bytes);
        }
        self.seal_copies();
        self.size += bytes.len() as u64;
        self.pieces.push(bytes);
    }

    /// Takes exactly `bytes` bytes off the front, where there are as many.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Vec<Bytes>> {
        if self.size - self.taken < bytes {
            return None;
        }
        self.seal_copies();
        self.taken += bytes;
        let mut missing = usize::try_from(bytes).expect("what is taken is in memory");
        let whole = self.pieces.iter().take_while(|piece| {
            let fits = piece.len() <= missing;
            missing -= if fits { piece.len() } else { 0 };
            fits
        });
        let whole = whole.count();
        let rest = self.pieces.split_off(whole);
        let mut front = std::mem::replace(&mut self.pieces, rest);
        if missing > 0 {
            front.push(self.pieces[0].split_to(missing));
        }
        Some(front)
    }

    fn seal_copies(&mut self) {
        if !self.copies.is_empty() {
            self.pieces.push(self.copies.split().freeze());
        }
    }

    /// All pieces that weren't taken, in order.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.seal_copies();
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_slices_are_shared_and_short_ones_join_what_is_copied() {
        let (long, short) = (Bytes::from(vec![1; COPY_BELOW]), Bytes::from(vec![2; COPY_BELOW - 1]));
        let mut payload = Payload::default();
        payload.copy(b"head");
        payload.share(short.clone());
        payload.copy(b"head");
        payload.share(long.clone());
        payload.copy(b"end");
        assert_eq!(payload.size(), (4 + 511 + 4 + 512 + 3) as u64);
        let pieces = payload.finish();
        assert_eq!(
            pieces,
            [[&b"head"[..], &short, b"head"].concat().into(), long.clone(), Bytes::from("end")]
        );
        assert_eq!(pieces[1].as_ptr(), long.as_ptr());
    }

    #[test]
    fn copies_beyond_a_buffer_stay_in_order() {
        let mut payload = Payload::default();
        let copied: Vec<[u8; 61]> = (0..=255).map(|byte| [byte; 61]).collect();
        for head in &copied {
            payload.copy(head);
        }
        let pieces = payload.finish();
        assert_eq!(pieces.concat(), copied.concat());
        assert!(pieces.len() < 8, "{} pieces", pieces.len());
    }

    #[test]
    fn what_is_taken_off_the_front_is_exactly_as_long_as_asked_and_the_rest_follows() {
        let mut payload = Payload::default();
        let content: Vec<Bytes> =
            (0..20u8).map(|byte| Bytes::from(vec![byte; 300 + 40 * usize::from(byte)])).collect();
        let mut got = Vec::new();
        for piece in &content {
            payload.share(piece.clone());
            while let Some(part) = payload.take(1000) {
                assert_eq!(part.iter().map(Bytes::len).sum::<usize>(), 1000);
                got.extend(part);
            }
        }
        assert_eq!(payload.size(), content.concat().len() as u64);
        got.extend(payload.finish());
        assert_eq!(got.concat(), content.concat());
    }

    #[test]
    fn a_copy_larger_than_any_buffer_is_kept() {
        let mut payload = Payload::default();
        payload.copy(&vec![7; 3 * LARGEST_BUFFER]);
        assert_eq!(payload.finish().concat(), vec![7; 3 * LARGEST_BUFFER]);
    }
}
