//! Parts of an object: small blocks that lie close together, whatever their logs, and that one request brings.
//!
//! A WAL object that was adopted, or a shared segment, holds a little of each of many logs. Who reads `n` such logs out of
//! `m` such objects block by block asks `n * m` times, and a request costs more than the bytes beside the wanted ones do.
//! So an object is cut, as its index has it, every [`PART_BYTES`], and the small blocks that begin in one such part are
//! read together. Which ones that are does not depend on who asks, so all who want one of them can share the request.

use super::{BlockRef, ObjectIndex, ObjectRef};
use object_store::path::Path;
use std::sync::Arc;
use thalweg_segment::{BlockEntry, Index, Kind, ReadError};

/// From where on a block begins in the next part of its object. What a part has too much for a reader costs S3 a tenth of the
/// time that it takes to answer.
const PART_BYTES: u64 = 256 * 1024;

/// A block of this size is worth a request of its own.
const LARGE_BLOCK_BYTES: u32 = 64 * 1024;

/// One part of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartKey {
    path: Path,
    number: u64,
}

impl BlockRef {
    /// The part that the block is read with. None for a large block, and where all blocks are one log's.
    pub fn part(&self) -> Option<PartKey> {
        let holds_many_logs = self.object.kind != Kind::Log;
        let in_part = holds_many_logs && is_small(&self.entry);
        in_part.then(|| PartKey { path: self.path.clone(), number: part_of(&self.entry) })
    }
}

impl ObjectIndex {
    /// The blocks that lie in the same part as `block`, which is one of them, in the order of their places: from its first small
    /// block to its last. Of large ones those that lie between. Their batch entries are left out.
    pub async fn blocks_beside(&self, block: &BlockRef) -> Result<Vec<BlockRef>, Arc<ReadError>> {
        let (index, places) = self.0.objects.index_by_place(&block.object).await?;
        let beside = |entry: &BlockEntry| block_ref(&block.object, entry);
        Ok(places.beside(&index, &block.entry).into_iter().map(beside).collect())
    }
}

fn block_ref(object: &Arc<ObjectRef>, entry: &BlockEntry) -> BlockRef {
    let entry = BlockEntry { batches: Vec::new(), ..*entry };
    BlockRef { path: object.path_of(&entry), entry, object: object.clone() }
}

fn is_small(block: &BlockEntry) -> bool {
    block.size < LARGE_BLOCK_BYTES
}

fn part_of(block: &BlockEntry) -> u64 {
    block.position / PART_BYTES
}

/// The blocks of an index in the order of their places, by their numbers in the index.
pub(super) struct Places(Box<[u32]>);

impl Places {
    pub(super) fn of(index: &Index) -> Self {
        let count = u32::try_from(index.blocks.len()).expect("an index block is smaller than 4 GiB");
        let mut numbers: Box<[u32]> = (0..count).collect();
        numbers.sort_unstable_by_key(|number| place(&index.blocks[*number as usize]));
        Self(numbers)
    }

    fn beside<'a>(&self, index: &'a Index, block: &BlockEntry) -> Vec<&'a BlockEntry> {
        let entry = |number: &u32| &index.blocks[*number as usize];
        let part = |block: &BlockEntry| (block.object, part_of(block));
        let from = self.0.partition_point(|number| part(entry(number)) < part(block));
        let mut beside: Vec<_> =
            self.0[from..].iter().map(entry).take_while(|other| part(other) == part(block)).collect();
        let (first, last) =
            (beside.iter().position(|one| is_small(one)), beside.iter().rposition(|one| is_small(one)));
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        beside.truncate(last + 1);
        beside.split_off(first)
    }
}

fn place(block: &BlockEntry) -> (u64, u64) {
    (block.object, block.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_segment::{LogId, Offset};

    const SMALL: u32 = 1000;
    const LARGE: u32 = LARGE_BLOCK_BYTES;

    fn block(log: u64, object: u64, position: u64, size: u32) -> BlockEntry {
        BlockEntry {
            log: LogId(log),
            base_offset: Offset(0),
            end_offset: Offset(1),
            record_count: 1,
            object,
            position,
            size,
            crc: 0,
            max_timestamp: 0,
            batches: Vec::new(),
        }
    }

    /// The logs of the blocks that are read with the one of `log`.
    fn beside(blocks: &[BlockEntry], log: u64) -> Vec<u64> {
        let index = Index { blocks: blocks.to_vec(), ..Index::default() };
        let of_log = &index.blocks_of(LogId(log))[0];
        let beside = Places::of(&index).beside(&index, of_log);
        beside.into_iter().map(|block| block.log.0).collect()
    }

    #[test]
    fn small_blocks_are_read_with_those_of_their_object_that_begin_in_the_same_part() {
        let blocks = [
            block(1, 8, 2000, SMALL),
            block(2, 8, 8, SMALL),
            block(3, 9, 8, SMALL),
            block(4, 8, PART_BYTES - 1, SMALL),
            block(5, 8, PART_BYTES + 999, SMALL),
        ];
        assert_eq!(beside(&blocks, 1), [2, 1, 4]);
        assert_eq!(beside(&blocks, 4), [2, 1, 4]);
        assert_eq!(beside(&blocks, 3), [3]);
        assert_eq!(beside(&blocks, 5), [5]);
    }

    #[test]
    fn large_blocks_are_read_with_small_ones_only_where_they_lie_between() {
        let after = |blocks: u32| u64::from(LARGE) * u64::from(blocks);
        let blocks = [
            block(1, 0, 0, LARGE),
            block(2, 0, after(1), SMALL),
            block(3, 0, after(2) - 1000, LARGE),
            block(4, 0, after(3) - 1000, SMALL),
            block(5, 0, after(3), LARGE),
        ];
        assert_eq!(beside(&blocks, 2), [2, 3, 4]);
    }
}
