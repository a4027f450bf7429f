//! Reads pieces of many objects in a given order, by few range GETs.
//!
//! Pieces that lie close together in their object, in the order in which they are wanted, are read with one GET; how much at most
//! follows from the memory that there is and the number of cursors, each of which may hold one such range. The next few are
//! read ahead.

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::path::Path;
use std::{collections::BTreeMap, ops::Range};
use thalweg_segment::{Purpose, ReadError, Store, StoreError};

/// GETs under way at a time.
const AHEAD: usize = 4;
/// Most bytes of a GET, but for a piece that is larger.
const MOST: u64 = 8 << 20;
/// Unwanted bytes between two pieces that are read with them.
const GAP: u64 = 64 << 10;

/// A piece of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which reader of which object. One cursor's pieces come in rising order, as a rule.
    pub cursor: u32,
    pub position: u64,
    pub size: u32,
}

/// One GET.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    cursor: u32,
    range: Range<u64>,
    /// Pieces of it that are still to come.
    left: usize,
}

/// Pieces on their way.
pub(super) struct Reads {
    pieces: std::vec::IntoIter<(Piece, usize)>,
    chunks: Vec<Chunk>,
    loaded: BTreeMap<usize, Bytes>,
    loads: BoxStream<'static, (usize, Result<Bytes, StoreError>)>,
    bytes: u64,
}

impl Reads {
    /// Reads of `pieces`, with about `memory` bytes at a time.
    pub fn new(store: Store, paths: Vec<Path>, pieces: &[Piece], memory: usize) -> Self {
        let most = (memory / 2 / (paths.len() + AHEAD)).max(1) as u64;
        let (chunk_of, chunks) = chunks(pieces, most.min(MOST));
        let gets: Vec<_> = chunks.iter().enumerate().map(|(at, chunk)| (at, chunk.clone())).collect();
        let get = move |(at, chunk): (usize, Chunk)| {
            let (store, path) = (store.clone(), paths[chunk.cursor as usize].clone());
            async move { (at, store.get_range(&path, chunk.range, Purpose::Compaction).await) }
        };
        let loads = stream::iter(gets).map(get).buffered(AHEAD).boxed();
        let pieces: Vec<_> = pieces.iter().copied().zip(chunk_of).collect();
        Self { pieces: pieces.into_iter(), chunks, loaded: BTreeMap::new(), loads, bytes: 0 }
    }

    /// The next piece. Panics where there is none.
    pub async fn next(&mut self) -> Result<Bytes, ReadError> {
        let (piece, at) = self.pieces.next().expect("no more is asked for than was planned");
        while !self.loaded.contains_key(&at) {
            let (loaded, bytes) =
                self.loads.next().await.expect("chunks come in the order of their first use");
            let bytes = bytes?;
            self.bytes += bytes.len() as u64;
            self.loaded.insert(loaded, bytes);
        }
        let chunk = &mut self.chunks[at];
        chunk.left -= 1;
        let whole = if chunk.left == 0 { self.loaded.remove(&at) } else { self.loaded.get(&at).cloned() };
        let whole = whole.expect("loaded above");
        let from = usize::try_from(piece.position - chunk.range.start).expect("a chunk is in memory");
        let bytes = whole.slice(from..from + piece.size as usize);
        // What waits to be written must not keep much more in memory than its own size.
        Ok(if bytes.len() < whole.len() / 2 { Bytes::copy_from_slice(&bytes) } else { bytes })
    }

    /// Bytes that were read until now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The chunk of each piece, and the chunks in the order of their first use.
fn chunks(pieces: &[Piece], most: u64) -> (Vec<usize>, Vec<Chunk>) {
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut chunk_of = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let range = piece.position..piece.position + u64::from(piece.size);
        let joined = open.get(&piece.cursor).copied().filter(|at| joins(&chunks[*at].range, &range, most));
        let at = joined.unwrap_or(chunks.len());
        match joined {
            Some(at) => {
                let chunk = &mut chunks[at];
                chunk.range.end = chunk.range.end.max(range.end);
                chunk.left += 1;
            }
            None => {
                open.insert(piece.cursor, at);
                chunks.push(Chunk { cursor: piece.cursor, range, left: 1 });
            }
        }
        chunk_of.push(at);
    }
    (chunk_of, chunks)
}

fn joins(chunk: &Range<u64>, piece: &Range<u64>, most: u64) -> bool {
    let near = chunk.start <= piece.start && piece.start <= chunk.end.saturating_add(GAP.min(most / 4));
    near && (piece.end <= chunk.end || piece.end - chunk.start <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(cursor: u32, position: u64, size: u32) -> Piece {
        Piece { cursor, position, size }
    }

    fn ranges(pieces: &[Piece], most: u64) -> (Vec<usize>, Vec<(u32, Range<u64>)>) {
        let (chunk_of, chunks) = chunks(pieces, most);
        (chunk_of, chunks.into_iter().map(|chunk| (chunk.cursor, chunk.range)).collect())
    }

    #[test]
    fn two_objects_that_take_turns_are_read_with_one_get_each() {
        let pieces = [piece(0, 8, 10), piece(1, 8, 20), piece(0, 18, 10), piece(1, 28, 20)];
        assert_eq!(ranges(&pieces, 1000), (vec![0, 1, 0, 1], vec![(0, 8..28), (1, 8..48)]));
    }

    #[test]
    fn a_chunk_ends_at_its_size_and_a_larger_piece_has_one_of_its_own() {
        let pieces = [piece(0, 0, 60), piece(0, 60, 40), piece(0, 100, 1), piece(0, 101, 500)];
        assert_eq!(ranges(&pieces, 100), (vec![0, 0, 1, 2], vec![(0, 0..100), (0, 100..101), (0, 101..601)]));
    }

    #[test]
    fn small_gaps_are_read_and_large_ones_are_not() {
        let pieces = [piece(0, 0, 10), piece(0, 30, 10), piece(0, 300, 10)];
        assert_eq!(ranges(&pieces, 400), (vec![0, 0, 1], vec![(0, 0..40), (0, 300..310)]));
    }

    #[test]
    fn a_piece_that_is_wanted_twice_is_read_once() {
        let pieces = [piece(0, 0, 10), piece(0, 0, 10), piece(0, 10, 5)];
        assert_eq!(ranges(&pieces, 100), (vec![0, 0, 0], vec![(0, 0..15)]));
    }
}
