//! The index block: what an object holds, and where.

use crate::{AbortedTransaction, BatchEntry, Incarnation, LogId, Offset};
use bytes::Bytes;

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WAL object: batches of many logs, not (yet) in the object index.
    Wal,
    /// A flushed segment with batches of many logs.
    Shared,
    /// A flushed segment with batches of one log.
    Log,
    /// Stands at a WAL sequence so that its writer can't.
    Fence,
    /// What a recovery kept of a WAL: an index whose blocks lie in WAL objects; no data of its own.
    Manifest,
}

/// A run of whole batches of one log, read as a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Whose batches.
    pub log: LogId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record.
    pub end_offset: Offset,
    /// Records in it.
    pub record_count: u32,
    /// In a manifest: the WAL sequence of the object that holds the block. Elsewhere 0.
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

    /// The index block's bytes.
    pub fn encode(&self) -> Bytes {
        todo!()
    }

    /// Reads an index block. Lengths are checked before anything is allocated.
    pub fn decode(_bytes: Bytes) -> Result<Self, crate::FormatError> {
        todo!()
    }
}

/// The end of an object: who wrote it, where its index lies, checksums. Of fixed size, so that one suffix GET finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// What the object is for.
    pub kind: Kind,
    /// Who wrote it.
    pub writer: Incarnation,
    /// WAL sequence or segment number; for a fence, the sequence that it stands at.
    pub number: u64,
    /// Where the state blocks begin; they end where the index block begins.
    pub states_position: u64,
    /// Where the index block begins.
    pub index_position: u64,
    /// Its size in bytes.
    pub index_size: u32,
    /// CRC-32C of the index block. It holds the CRC of every other block, so it stands for the whole content.
    pub index_crc: u32,
}

impl Footer {
    /// Bytes of an encoded footer.
    pub const LEN: usize = 64;

    /// The footer's bytes, its own CRC and magic included.
    pub fn encode(&self) -> [u8; Self::LEN] {
        todo!()
    }

    /// Reads the last [`Footer::LEN`] bytes of an object.
    pub fn decode(_bytes: &[u8]) -> Result<Self, crate::FormatError> {
        todo!()
    }
}
