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
}

impl Payload {
    /// Bytes so far.
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

    fn seal_copies(&mut self) {
        if !self.copies.is_empty() {
            self.pieces.push(self.copies.split().freeze());
        }
    }

    /// All pieces, in order.
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
    fn a_copy_larger_than_any_buffer_is_kept() {
        let mut payload = Payload::default();
        payload.copy(&vec![7; 3 * LARGEST_BUFFER]);
        assert_eq!(payload.finish().concat(), vec![7; 3 * LARGEST_BUFFER]);
    }
}
