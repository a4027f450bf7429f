//! What a take-over keeps: of each log, the batches that continue its committed end without a gap. Pure.
//!
//! Acknowledgement is per log: an object behind a fence may be durable and acknowledged for a log that the fenced object held
//! nothing of. So continuity is judged by each log's own offsets, and what is behind a hole in them cannot have been acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};
use thalweg_segment::{BatchEntry, BlockEntry, Index, LeaderEpoch, LogId, Offset, WalSequence};

/// Indexes of the data objects of a write-ahead log, by sequence.
pub(crate) type Objects = BTreeMap<WalSequence, Index>;

/// What the object index and the cluster state say of a log that the dead incarnation still owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedLog {
    /// The end of what the object index holds of it.
    pub committed_end: Offset,
    /// Its current leader epoch: batches of another are from an earlier ownership, and were settled at its end.
    pub leader_epoch: LeaderEpoch,
}

/// A run of kept batches of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    /// The object that holds the block.
    pub sequence: WalSequence,
    /// The block.
    pub block: &'a BlockEntry,
    /// Which of its batches are kept; never empty.
    pub batches: Range<usize>,
}

/// What a take-over keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept<'a> {
    /// In order of sequence, log and offset.
    pub runs: Vec<Run<'a>>,
    /// Each owned log that the objects hold something of, and its end.
    pub ends: BTreeMap<LogId, Offset>,
}

/// A batch that begins before the end of its log, yet is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch {base}..{end} of log {log} in WAL object {sequence} overlaps what ends at {log_end}")]
pub struct Overlap {
    /// The log.
    pub log: LogId,
    /// The object.
    pub sequence: WalSequence,
    /// The batch's first offset.
    pub base: Offset,
    /// The offset after it.
    pub end: Offset,
    /// Where the log ends before it.
    pub log_end: Offset,
}

/// The logs that `objects` hold something of.
pub(crate) fn logs_of(objects: &Objects) -> BTreeSet<LogId> {
    objects.values().flat_map(|index| index.blocks.iter().map(|block| block.log)).collect()
}

/// Keeps what continues.
pub(crate) fn keep<'a>(objects: &'a Objects, owned: &BTreeMap<LogId, OwnedLog>) -> Result<Kept<'a>, Overlap> {
    let mut kept = Kept::default();
    for (sequence, index) in objects {
        for block in &index.blocks {
            if let Some(log) = owned.get(&block.log) {
                kept.take_in(*sequence, block, *log)?;
            }
        }
    }
    Ok(kept)
}

impl<'a> Kept<'a> {
    fn take_in(
        &mut self,
        sequence: WalSequence,
        block: &'a BlockEntry,
        log: OwnedLog,
    ) -> Result<(), Overlap> {
        let log_end = self.ends.entry(block.log).or_insert(log.committed_end);
        for (at, batch) in block.batches.iter().enumerate() {
            let (base, end) = (batch.base_offset, batch.end_offset());
            let settled = batch.leader_epoch != log.leader_epoch || end <= log.committed_end;
            if settled || base > *log_end {
                continue;
            }
            if base < *log_end {
                return Err(Overlap { log: block.log, sequence, base, end, log_end: *log_end });
            }
            *log_end = end;
            extend(&mut self.runs, Run { sequence, block, batches: at..at + 1 });
        }
        Ok(())
    }
}

/// Appends `run`, joined to the last where it follows that in the same block.
fn extend<'a>(runs: &mut Vec<Run<'a>>, run: Run<'a>) {
    match runs.last_mut() {
        Some(last) if std::ptr::eq(last.block, run.block) && last.batches.end == run.batches.start => {
            last.batches.end = run.batches.end;
        }
        _ => runs.push(run),
    }
}

impl Run<'_> {
    /// Whether the whole block is kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.batches == (0..self.block.batches.len())
    }

    /// Where the kept batches lie within the block, in bytes; none where the sizes in the index contradict one another.
    pub(crate) fn bytes(&self) -> Option<Range<usize>> {
        let size = |batches: &[BatchEntry]| batches.iter().map(|batch| batch.size as usize).sum::<usize>();
        let start = size(&self.block.batches[..self.batches.start]);
        let end = start + size(&self.block.batches[self.batches.clone()]);
        (end <= self.block.size as usize).then_some(start..end)
    }

    /// The manifest's entry for a block that is kept whole.
    pub(crate) fn whole_entry(&self) -> BlockEntry {
        BlockEntry { object: self.sequence.0, ..self.block.clone() }
    }

    /// The manifest's entry for a part of a block: its `bytes` within the block, and their checksum.
    pub(crate) fn cut_entry(&self, bytes: Range<usize>, crc: u32) -> BlockEntry {
        let batches = &self.block.batches[self.batches.clone()];
        let (first, last) = (batches.first().expect("never empty"), batches.last().expect("never empty"));
        BlockEntry {
            log: self.block.log,
            base_offset: first.base_offset,
            end_offset: last.end_offset(),
            record_count: batches.iter().map(|batch| batch.record_count.max(0).unsigned_abs()).sum(),
            object: self.sequence.0,
            position: self.block.position + bytes.start as u64,
            size: u32::try_from(bytes.len()).expect("part of a block, whose size has 32 bits"),
            crc,
            max_timestamp: batches.iter().map(|batch| batch.max_timestamp).max().expect("never empty"),
            batches: batches.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fencing_model::{batch, block};

    const LOG: LogId = LogId(3);
    const OLD: LeaderEpoch = LeaderEpoch(1);
    const NOW: LeaderEpoch = LeaderEpoch(2);

    fn objects(blocks: Vec<BlockEntry>) -> Objects {
        let index = |block| Index { blocks: vec![block], ..Index::default() };
        blocks.into_iter().enumerate().map(|(at, block)| (WalSequence(at as u64), index(block))).collect()
    }

    fn owned(committed_end: i64) -> BTreeMap<LogId, OwnedLog> {
        [(LOG, OwnedLog { committed_end: Offset(committed_end), leader_epoch: NOW })].into()
    }

    fn ranges(kept: &Kept<'_>) -> Vec<(u64, Range<usize>)> {
        kept.runs.iter().map(|run| (run.sequence.0, run.batches.clone())).collect()
    }

    #[test]
    fn batches_that_continue_the_committed_end_are_kept_and_a_block_is_cut_there() {
        let objects = objects(vec![block(LOG, &[batch(0, 2, NOW), batch(2, 1, NOW), batch(3, 4, NOW)])]);
        let kept = keep(&objects, &owned(2)).expect("no overlap");
        assert_eq!(ranges(&kept), [(0, 1..3)]);
        assert_eq!(kept.ends[&LOG], Offset(7));
        let run = &kept.runs[0];
        assert!(!run.is_whole());
        let entry = run.cut_entry(run.bytes().expect("sizes fit"), 9);
        assert_eq!((entry.base_offset, entry.end_offset, entry.record_count), (Offset(2), Offset(7), 5));
        assert_eq!((entry.position, entry.size, entry.crc), (1100, 200, 9));
    }

    #[test]
    fn what_is_behind_a_hole_in_the_offsets_is_not_kept() {
        let objects = objects(vec![
            block(LOG, &[batch(0, 2, NOW)]),
            block(LOG, &[batch(3, 1, NOW)]),
            block(LOG, &[batch(4, 1, NOW)]),
        ]);
        let kept = keep(&objects, &owned(0)).expect("no overlap");
        assert_eq!(ranges(&kept), [(0, 0..1)]);
        assert_eq!(kept.ends[&LOG], Offset(2));
    }

    #[test]
    fn batches_of_an_earlier_leader_epoch_are_left_out() {
        let objects = objects(vec![block(LOG, &[batch(0, 2, OLD), batch(0, 2, NOW)])]);
        let kept = keep(&objects, &owned(0)).expect("no overlap");
        assert_eq!(ranges(&kept), [(0, 1..2)]);
    }

    #[test]
    fn a_log_of_another_owner_is_left_alone() {
        let objects = objects(vec![block(LogId(9), &[batch(0, 2, NOW)])]);
        let kept = keep(&objects, &owned(0)).expect("no overlap");
        assert!(kept.runs.is_empty() && kept.ends.is_empty());
    }

    #[test]
    fn a_batch_that_straddles_the_committed_end_is_a_contradiction() {
        let objects = objects(vec![block(LOG, &[batch(0, 4, NOW)])]);
        let overlap = keep(&objects, &owned(2)).expect_err("2 lies within the batch");
        assert_eq!((overlap.base, overlap.end, overlap.log_end), (Offset(0), Offset(4), Offset(2)));
    }

    #[test]
    fn a_log_whose_objects_are_all_committed_ends_at_its_committed_end() {
        let objects = objects(vec![block(LOG, &[batch(0, 4, NOW)])]);
        let kept = keep(&objects, &owned(10)).expect("no overlap");
        assert!(kept.runs.is_empty());
        assert_eq!(kept.ends[&LOG], Offset(10));
    }
}
