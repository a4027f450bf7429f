//! Puts batches together into one object without copying them.
//!
//! ```text
//! header | data blocks | state blocks | index block | footer
//! ```
//! Header and footer: see `footer`; state blocks: `state_codec`; index block: `index_codec`. A data block is nothing but
//! whole batches of one log, byte for byte as they are served; its CRC-32C and all else about it stand in the index.

use crate::payload::Payload;
use crate::{AbortedTransaction, Batch, BatchEntry, BlockEntry, Footer, Incarnation, Index, Kind, LogId};
use crate::{LogState, OBJECT_HEADER_LEN, Offset, StateEntry, footer};
use bytes::Bytes;
use object_store::PutPayload;

/// A data block is cut once it has this many bytes.
pub const BLOCK_TARGET_BYTES: usize = 512 * 1024;

/// Builds one object. Logs are given in rising order of their id, the batches of one log in offset order; there may be
/// holes between them. States and aborted transactions are given in order too, before or after the batches.
#[derive(Debug)]
pub struct SegmentWriter {
    kind: Kind,
    writer: Incarnation,
    number: u64,
    payload: Payload,
    index: Index,
    /// The last of `index.blocks` still takes batches.
    block_open: bool,
    states: Vec<Bytes>,
}

/// A finished object, ready for its PUT.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The object's bytes but for those that were taken as parts: slices of the batches between small blocks of our own. Cheap
    /// to clone, so a PUT can be repeated.
    pub payload: PutPayload,
    /// Its size in bytes, parts included.
    pub size: u64,
    /// What it ends with.
    pub footer: Footer,
    /// What it holds.
    pub index: Index,
}

impl SegmentWriter {
    /// Begins an object of `kind`, the `number`th of `writer`.
    pub fn new(kind: Kind, writer: Incarnation, number: u64) -> Self {
        let mut payload = Payload::default();
        payload.copy(&footer::encode_header(kind));
        let (index, states) = (Index::default(), Vec::new());
        Self { kind, writer, number, payload, index, block_open: false, states }
    }

    /// Begins a manifest of a flush: `blocks` lie in WAL objects.
    pub fn manifest(writer: Incarnation, number: u64, blocks: Vec<BlockEntry>) -> Self {
        let mut manifest = Self::new(Kind::FlushManifest, writer, number);
        manifest.index.blocks = blocks;
        manifest
    }

    /// Adds the next batch of `log`. The batch's header must already hold its base offset and leader epoch.
    ///
    /// Panics where it is out of order, or where the kind of object holds no batches, or only those of another log.
    pub fn batch(&mut self, log: LogId, batch: &Batch) {
        self.index_batch(log, batch);
        self.payload.copy(batch.head());
        self.payload.share(batch.records().clone());
    }

    /// Adds a run of batches read from another object, contiguous in memory, to `log`. Returns an error where they are not
    /// whole batches; nothing is added then. Panics as [`batch`](Self::batch) does.
    pub fn batches(&mut self, log: LogId, batches: Bytes) -> Result<(), crate::BatchError> {
        let mut rest = batches.clone();
        let mut split = Vec::new();
        while !rest.is_empty() {
            split.push(Batch::split_from(&mut rest)?);
        }
        for batch in &split {
            self.index_batch(log, batch);
        }
        self.payload.share(batches);
        Ok(())
    }

    /// Counts `batch` to the open block of `log`, or to a new one.
    fn index_batch(&mut self, log: LogId, batch: &Batch) {
        debug_assert_eq!(batch.verify_crc(), Ok(()), "a batch is verified before it is stored");
        let position = self.index.blocks.last().map_or(OBJECT_HEADER_LEN as u64, BlockEntry::end_position);
        let entry = batch.entry();
        self.check_order(log, &entry);
        if !self.block_open || self.index.blocks.last().is_none_or(|block| block.log != log) {
            self.index.blocks.push(empty_block(log, &entry, position));
        }
        let block = self.index.blocks.last_mut().expect("pushed above, if there was none");
        block.crc = batch.extend_crc(block.crc);
        block.end_offset = entry.end_offset();
        block.size =
            block.size.checked_add(entry.size).expect("a block ends at its target, a batch is below 2 GiB");
        // What a hostile header says is below 0 counts as nothing; 2^31 records do not fit into a block.
        block.record_count = block.record_count.saturating_add(entry.record_count.max(0) as u32);
        block.max_timestamp = block.max_timestamp.max(entry.max_timestamp);
        self.block_open = (block.size as usize) < BLOCK_TARGET_BYTES;
        if self.kind.indexes_batches() {
            block.batches.push(entry);
        }
    }

    fn check_order(&self, log: LogId, entry: &BatchEntry) {
        let holds_batches = self.kind != Kind::Fence && !self.kind.is_manifest();
        assert!(holds_batches, "{:?} holds no batches", self.kind);
        assert!(entry.base_offset.0 >= 0, "batch at {} of log {log}", entry.base_offset);
        if let Some(last) = self.index.blocks.last() {
            let in_order = last.log < log || last.log == log && last.end_offset <= entry.base_offset;
            assert!(in_order, "batch at {} of log {log} is out of order", entry.base_offset);
            assert!(self.kind != Kind::Log || last.log == log, "a log segment holds one log");
        }
    }

    /// Offset after the last batch that was added, if that is one of `log`.
    pub fn end_of(&self, log: LogId) -> Option<Offset> {
        self.index.blocks.last().filter(|block| block.log == log).map(|block| block.end_offset)
    }

    /// Ends the open block: what comes next of the same log begins another. Where other objects hold what lies between.
    pub fn cut_block(&mut self) {
        self.block_open = false;
    }

    /// Takes exactly `bytes` bytes off the front of what has been added, where there are as many: a part of a multipart
    /// upload. [`SegmentWriter::finish`] returns what was not taken. So an object may be larger than memory.
    pub fn take_part(&mut self, bytes: u64) -> Option<PutPayload> {
        self.payload.take(bytes).map(PutPayload::from_iter)
    }

    /// Adds the state of `log` at the end of what this object holds of it. Panics for a WAL object, which has none.
    pub fn state(&mut self, log: LogId, state: &LogState) {
        let holds_states = matches!(self.kind, Kind::Shared | Kind::Log | Kind::FlushManifest);
        assert!(holds_states, "{:?} holds no states", self.kind);
        let bytes = state.encode();
        self.index.states.push(StateEntry {
            log,
            end: state.end,
            position: self.index.states.last().map_or(0, StateEntry::end_position),
            size: u32::try_from(bytes.len()).expect("producers expire: a state is far below 4 GiB"),
            crc: crc32c::crc32c(&bytes),
        });
        self.states.push(bytes);
    }

    /// Notes a transaction whose abort marker is in this object.
    pub fn aborted(&mut self, log: LogId, transaction: AbortedTransaction) {
        self.index.aborted.push((log, transaction));
    }

    /// Bytes of data so far.
    pub fn data_size(&self) -> u64 {
        self.payload.size() - OBJECT_HEADER_LEN as u64
    }

    /// Cuts the last block, adds index and footer. Panics where states or aborted transactions are out of order, or where a
    /// state is of an offset before the log's end in this object.
    pub fn finish(mut self) -> Encoded {
        let states_position = self.payload.size();
        for (entry, bytes) in self.index.states.iter_mut().zip(self.states) {
            entry.position += states_position;
            self.payload.share(bytes);
        }
        for state in &self.index.states {
            let end = self.index.blocks_of(state.log).last().map(|block| block.end_offset);
            assert!(end.is_none_or(|end| end <= state.end), "state of log {} is not at its end", state.log);
        }
        close(self.kind, self.writer, self.number, self.payload, states_position, self.index)
    }

    /// An object of `kind` with a prepared index and no data of its own: a manifest, whose blocks lie elsewhere. Panics
    /// where the index is out of order or does not suit the kind.
    pub fn index_only(kind: Kind, writer: Incarnation, number: u64, index: Index) -> Encoded {
        let payload = Self::new(kind, writer, number).payload;
        let states_position = payload.size();
        close(kind, writer, number, payload, states_position, index)
    }
}

fn empty_block(log: LogId, first: &BatchEntry, position: u64) -> BlockEntry {
    BlockEntry {
        log,
        base_offset: first.base_offset,
        end_offset: first.base_offset,
        record_count: 0,
        object: 0,
        position,
        size: 0,
        crc: 0,
        max_timestamp: i64::MIN,
        batches: Vec::new(),
    }
}

/// Adds index and footer to what is in `payload`.
fn close(
    kind: Kind,
    writer: Incarnation,
    number: u64,
    mut payload: Payload,
    states_position: u64,
    index: Index,
) -> Encoded {
    let block = index.encode();
    let footer = Footer {
        kind,
        writer,
        number,
        states_position,
        index_position: payload.size(),
        index_size: u32::try_from(block.len())
            .expect("an index is a small part of an object of at most 5 GiB"),
        index_crc: crc32c::crc32c(&block),
    };
    assert_eq!(index.check_places(&footer), Ok(()), "an index of a {kind:?} object");
    payload.share(block);
    payload.copy(&footer.encode());
    Encoded { size: payload.size(), payload: PutPayload::from_iter(payload.finish()), footer, index }
}
