//! The index block: what an object holds, and where.

use crate::{
    AbortedTransaction, BatchEntry, Footer, FormatError, HEADER_LEN, Kind, LogId, OBJECT_HEADER_LEN, Offset,
};

/// A run of whole batches of one log, read as a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Whose batches.
    pub log: LogId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record. In a manifest the block may hold more batches than those in
    /// `base_offset..end_offset`: what a recovery has left out. A reader skips them.
    pub end_offset: Offset,
    /// Records in it.
    pub record_count: u32,
    /// In manifests: the WAL sequence of the object that holds the block. Elsewhere 0.
    pub object: u64,
    /// Where it begins in the object.
    pub position: u64,
    /// Its size in bytes.
    pub size: u32,
    /// CRC-32C of its bytes.
    pub crc: u32,
    /// Highest timestamp of its records.
    pub max_timestamp: i64,
    /// Its batches, in WAL objects, shared segments and manifests; empty in log segments.
    pub batches: Vec<BatchEntry>,
}

impl BlockEntry {
    /// Where it ends in the object.
    pub fn end_position(&self) -> u64 {
        self.position + u64::from(self.size)
    }

    /// Whether the entry makes sense by itself: its batches follow one another within its offsets, nothing overflows.
    pub(crate) fn is_sound(&self) -> bool {
        let mut end = self.base_offset;
        for batch in &self.batches {
            if batch.base_offset < end || !batch.is_sound() {
                return false;
            }
            end = batch.end_offset();
        }
        Offset(0) <= self.base_offset
            && self.base_offset < self.end_offset
            && end <= self.end_offset
            && self.position.checked_add(u64::from(self.size)).is_some()
    }

    pub(crate) fn may_follow(&self, previous: &Self) -> bool {
        previous.log < self.log || previous.log == self.log && previous.end_offset <= self.base_offset
    }
}

/// Where a log's state block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// Whose state.
    pub log: LogId,
    /// The offset that it is the state at.
    pub end: Offset,
    /// Where it begins in the object.
    pub position: u64,
    /// Its size in bytes.
    pub size: u32,
    /// CRC-32C of its bytes.
    pub crc: u32,
}

impl StateEntry {
    /// Where it ends in the object.
    pub fn end_position(&self) -> u64 {
        self.position + u64::from(self.size)
    }
}

/// A decoded index block: blocks and states sorted by log, then offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Every data block.
    pub blocks: Vec<BlockEntry>,
    /// Every state block; none in WAL objects.
    pub states: Vec<StateEntry>,
    /// Transactions whose abort marker is in this object, by log, in order of the marker.
    pub aborted: Vec<(LogId, AbortedTransaction)>,
}

impl Index {
    /// The blocks of `log`, in offset order.
    pub fn blocks_of(&self, log: LogId) -> &[BlockEntry] {
        let start = self.blocks.partition_point(|block| block.log < log);
        let end = self.blocks.partition_point(|block| block.log <= log);
        &self.blocks[start..end]
    }

    /// Where the state of `log` lies, if the object has one.
    pub fn state_of(&self, log: LogId) -> Option<&StateEntry> {
        self.states.binary_search_by_key(&log, |state| state.log).ok().map(|at| &self.states[at])
    }

    /// The aborted transactions of `log`, in order of the marker.
    pub fn aborted_of(&self, log: LogId) -> &[(LogId, AbortedTransaction)] {
        let start = self.aborted.partition_point(|(of, _)| *of < log);
        let end = self.aborted.partition_point(|(of, _)| *of <= log);
        &self.aborted[start..end]
    }

    /// Checks what depends on the kind of object: that blocks lie behind one another between header, states and index, and
    /// that there are none where there can't be.
    pub(crate) fn check_places(&self, footer: &Footer) -> Result<(), FormatError> {
        let logs = self.blocks.chunk_by(|a, b| a.log == b.log).count();
        let fits = match footer.kind {
            Kind::Manifest => self.states.is_empty() && footer.states_position == footer.index_position,
            Kind::Fence => self.blocks.is_empty() && self.states.is_empty(),
            Kind::Wal => self.states.is_empty(),
            Kind::Log => logs <= 1,
            Kind::Shared | Kind::FlushManifest => true,
        };
        if fits && self.lies_within(footer) {
            Ok(())
        } else {
            Err(FormatError::Malformed { what: "index block" })
        }
    }

    fn lies_within(&self, footer: &Footer) -> bool {
        let blocks = self.blocks.iter().map(|block| (block.position, block.end_position()));
        let states = self.states.iter().map(|state| (state.position, state.end_position()));
        let blocks_lie = match footer.kind.is_manifest() {
            // In other objects.
            true => footer.states_position == OBJECT_HEADER_LEN as u64,
            false => {
                self.blocks.iter().all(|block| block.object == 0)
                    && lie_within(blocks, OBJECT_HEADER_LEN as u64, footer.states_position)
            }
        };
        blocks_lie && lie_within(states, footer.states_position, footer.index_position)
    }
}

/// Whether the ranges lie behind one another between `start` and `end`.
fn lie_within(ranges: impl Iterator<Item = (u64, u64)>, start: u64, end: u64) -> bool {
    let mut at = start;
    for (from, to) in ranges {
        if from < at || to > end {
            return false;
        }
        at = to;
    }
    true
}

impl BatchEntry {
    /// Whether its offsets are a range and its size is that of a batch.
    pub(crate) fn is_sound(&self) -> bool {
        let end = self.base_offset.0.checked_add(i64::from(self.last_offset_delta) + 1);
        self.base_offset.0 >= 0
            && self.last_offset_delta >= 0
            && end.is_some()
            && self.size as usize >= HEADER_LEN
    }
}

impl AbortedTransaction {
    pub(crate) fn is_sound(&self) -> bool {
        Offset(0) <= self.first_offset
            && self.first_offset <= self.last_offset
            && Offset(0) <= self.last_stable_offset
    }
}
