//! A response as a list of slices, written without joining them.

use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice};
use thalweg_runtime::Charge;

/// Bytes in pieces, and the charges of the memory behind them.
#[derive(Debug, Default)]
pub struct Rope {
    chunks: VecDeque<Bytes>,
    len: usize,
    held: Vec<Charge>,
}

impl Rope {
    /// A rope of `chunks`; `held` is given back once the rope is written or dropped.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>, held: Vec<Charge>) -> Self {
        let chunks: VecDeque<Bytes> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        let len = chunks.iter().map(Bytes::len).sum();
        Self { chunks, len, held }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether somebody waits for memory of which this keeps some.
    pub fn is_wanted(&self) -> bool {
        self.held.iter().any(Charge::is_wanted)
    }

    /// Keeps one more charge.
    pub fn hold(&mut self, charge: Charge) {
        self.held.push(charge);
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        self.len = self.len.checked_sub(count).expect("no more is advanced than remains");
        while let Some(front) = self.chunks.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rope_is_read_as_its_chunks_joined() {
        let mut rope = Rope::new(["ab", "", "cde", "f"].map(Bytes::from), vec![]);
        assert_eq!(rope.remaining(), 6);
        rope.advance(1);
        assert_eq!(rope.chunk(), b"b");
        assert_eq!(rope.copy_to_bytes(5), "bcdef");
        assert!(rope.is_empty());
    }

    #[test]
    fn vectored_chunks_cover_what_is_left() {
        let mut rope = Rope::new(["ab", "cde"].map(Bytes::from), vec![]);
        rope.advance(1);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(rope.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"b"[..], &b"cde"[..]));
    }
}
