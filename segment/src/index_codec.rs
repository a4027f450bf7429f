//! The bytes of an index block.
//!
//! ```text
//! index:    version u16 | n, blocks … | n, states … | n, aborted transactions …
//! block:    log Δ | object ±Δ | position ±Δ | base offset ±Δ | n, batches … |
//!           end offset Δ | size ±Δ | record count ±Δ | max timestamp ±Δ | CRC u32
//! batch:    base offset Δ | last offset delta | record count ±Δ | size | leader epoch ±Δ | attributes |
//!           max timestamp ±Δ | producer id ± | producer epoch ± | base sequence ± |
//!           marker: 0 none, 1 abort, 2 commit; if any, coordinator epoch ±
//! state:    log Δ | end offset | position ±Δ | size | CRC u32
//! aborted:  log Δ | producer id ± | marker's offset ±Δ | first offset Δ back | last stable offset ±Δ
//! ```
//! What has no type is a varint, ± a signed one, see `codec`. Δ is the difference to the same field of the entry before;
//! for a position, to where that one ends; for a block's offset, to the end of the log's block before, or 0. End, size,
//! record count and max timestamp of a block are differences to what its batches add up to: all 0, as a rule.
//!
//! So a batch of an idempotent producer takes 14 to 20 bytes, a block about 15 more.

use crate::codec::{self, Decoder, put_signed, put_varint};
use crate::{
    AbortedTransaction, BatchEntry, BlockEntry, FormatError, Index, LeaderEpoch, LogId, Marker, Offset,
    ProducerId, StateEntry,
};
use bytes::{BufMut, Bytes};

/// The fewest bytes that an entry can have, for the check of a count before anything is allocated.
const MIN_BLOCK_LEN: usize = 13;
const MIN_BATCH_LEN: usize = 11;
const MIN_STATE_LEN: usize = 8;
const MIN_ABORTED_LEN: usize = 5;

impl Index {
    /// The index block's bytes. Panics where entries are out of order or offsets overlap: such an index could not be read.
    pub fn encode(&self) -> Bytes {
        let mut encoder = Encoder::default();
        put_varint(&mut encoder.out, self.blocks.len() as u64);
        let mut previous = None;
        for block in &self.blocks {
            encoder.block(previous, block);
            previous = Some(block);
        }
        put_varint(&mut encoder.out, self.states.len() as u64);
        let mut previous = None;
        for state in &self.states {
            encoder.state(previous, state);
            previous = Some(state);
        }
        put_varint(&mut encoder.out, self.aborted.len() as u64);
        let mut previous = None;
        for aborted in &self.aborted {
            encoder.aborted(previous, aborted);
            previous = Some(aborted);
        }
        encoder.out.into()
    }

    /// Reads an index block. Lengths are checked before anything is allocated. The block's CRC is in the footer, see
    /// [`crate::Footer::read_index`].
    pub fn decode(bytes: Bytes) -> Result<Self, FormatError> {
        Self::decode_slice(&bytes)
    }

    pub(crate) fn decode_slice(bytes: &[u8]) -> Result<Self, FormatError> {
        let decoder = Decoder::versioned(bytes, "index block")?;
        let mut reader = IndexDecoder { decoder, last: Last::default() };
        let mut index = Self::default();
        let blocks = reader.decoder.count(MIN_BLOCK_LEN)?;
        index.blocks.reserve_exact(blocks);
        for _ in 0..blocks {
            let block = reader.block(index.blocks.last())?;
            index.blocks.push(block);
        }
        let states = reader.decoder.count(MIN_STATE_LEN)?;
        index.states.reserve_exact(states);
        for _ in 0..states {
            let state = reader.state(index.states.last())?;
            index.states.push(state);
        }
        let aborted = reader.decoder.count(MIN_ABORTED_LEN)?;
        index.aborted.reserve_exact(aborted);
        for _ in 0..aborted {
            let transaction = reader.aborted(index.aborted.last())?;
            index.aborted.push(transaction);
        }
        reader.decoder.finish()?;
        Ok(index)
    }
}

/// What the batches of a block add up to.
struct Sum {
    end: Offset,
    size: i64,
    records: i64,
    max_timestamp: i64,
}

impl Sum {
    /// Without batches it is an empty block at `base`, as old as the batch before it.
    fn of(batches: &[BatchEntry], base: Offset, last_timestamp: i64) -> Self {
        Self {
            end: batches.last().map_or(base, BatchEntry::end_offset),
            size: batches.iter().map(|batch| i64::from(batch.size)).sum(),
            records: batches.iter().map(|batch| i64::from(batch.record_count)).sum(),
            max_timestamp: batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(last_timestamp),
        }
    }
}

/// What differences are taken to, across blocks.
#[derive(Default)]
struct Last {
    leader_epoch: i32,
    timestamp: i64,
}

/// What a block's base offset is a difference to.
fn expected_base(previous: Option<&BlockEntry>, log: LogId) -> i64 {
    previous.filter(|previous| previous.log == log).map_or(0, |previous| previous.end_offset.0)
}

struct Encoder {
    out: Vec<u8>,
    last: Last,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { out: codec::VERSION.to_be_bytes().into(), last: Last::default() }
    }
}

impl Encoder {
    fn block(&mut self, previous: Option<&BlockEntry>, block: &BlockEntry) {
        assert!(block.is_sound(), "block at {} of log {} is not sound", block.base_offset, block.log);
        assert!(
            previous.is_none_or(|previous| block.may_follow(previous)),
            "block at {} of log {} is out of order",
            block.base_offset,
            block.log
        );
        let (log, object, position) =
            previous.map_or((0, 0, 0), |last| (last.log.0, last.object, last.end_position()));
        put_varint(&mut self.out, block.log.0 - log);
        put_signed(&mut self.out, block.object.wrapping_sub(object) as i64);
        put_signed(&mut self.out, block.position.wrapping_sub(position) as i64);
        put_signed(&mut self.out, block.base_offset.0 - expected_base(previous, block.log));
        put_varint(&mut self.out, block.batches.len() as u64);
        let sum = Sum::of(&block.batches, block.base_offset, self.last.timestamp);
        let mut end = block.base_offset;
        for batch in &block.batches {
            self.batch(end, batch);
            end = batch.end_offset();
        }
        put_varint(&mut self.out, (block.end_offset.0 - sum.end.0) as u64);
        put_signed(&mut self.out, i64::from(block.size) - sum.size);
        put_signed(&mut self.out, i64::from(block.record_count) - sum.records);
        put_signed(&mut self.out, block.max_timestamp.wrapping_sub(sum.max_timestamp));
        self.out.put_u32(block.crc);
        self.last.timestamp = block.max_timestamp;
    }

    fn batch(&mut self, expected_base: Offset, batch: &BatchEntry) {
        let out = &mut self.out;
        let records = i64::from(batch.last_offset_delta) + 1;
        put_varint(out, (batch.base_offset.0 - expected_base.0) as u64);
        put_varint(out, batch.last_offset_delta as u64);
        put_signed(out, i64::from(batch.record_count) - records);
        put_varint(out, u64::from(batch.size));
        put_signed(out, i64::from(batch.leader_epoch.0) - i64::from(self.last.leader_epoch));
        put_varint(out, u64::from(batch.attributes as u16));
        put_signed(out, batch.max_timestamp.wrapping_sub(self.last.timestamp));
        put_signed(out, batch.producer_id.0);
        put_signed(out, i64::from(batch.producer_epoch));
        put_signed(out, i64::from(batch.base_sequence));
        match batch.marker {
            None => put_varint(out, 0),
            Some(Marker { committed, coordinator_epoch }) => {
                put_varint(out, 1 + u64::from(committed));
                put_signed(out, i64::from(coordinator_epoch));
            }
        }
        self.last = Last { leader_epoch: batch.leader_epoch.0, timestamp: batch.max_timestamp };
    }

    fn state(&mut self, previous: Option<&StateEntry>, state: &StateEntry) {
        assert!(
            previous.is_none_or(|previous| previous.log < state.log),
            "state of log {} is out of order",
            state.log
        );
        let (log, position) = previous.map_or((0, 0), |last| (last.log.0, last.end_position()));
        put_varint(&mut self.out, state.log.0 - log);
        put_varint(&mut self.out, state.end.0 as u64);
        put_signed(&mut self.out, state.position.wrapping_sub(position) as i64);
        put_varint(&mut self.out, u64::from(state.size));
        self.out.put_u32(state.crc);
    }

    fn aborted(
        &mut self,
        previous: Option<&(LogId, AbortedTransaction)>,
        (log, aborted): &(LogId, AbortedTransaction),
    ) {
        assert!(
            previous.is_none_or(|(last, of)| (*last, of.last_offset) < (*log, aborted.last_offset)),
            "transaction aborted at {} of log {log} is out of order",
            aborted.last_offset
        );
        assert!(aborted.is_sound(), "transaction aborted at {} is not sound", aborted.last_offset);
        let (last_log, last_offset) = previous.map_or((0, 0), |(log, last)| (log.0, last.last_offset.0));
        put_varint(&mut self.out, log.0 - last_log);
        put_signed(&mut self.out, aborted.producer_id.0);
        put_signed(&mut self.out, aborted.last_offset.0 - last_offset);
        put_varint(&mut self.out, (aborted.last_offset.0 - aborted.first_offset.0) as u64);
        put_signed(&mut self.out, aborted.last_stable_offset.0 - aborted.last_offset.0);
    }
}

struct IndexDecoder<'a> {
    decoder: Decoder<'a>,
    last: Last,
}

impl IndexDecoder<'_> {
    fn block(&mut self, previous: Option<&BlockEntry>) -> Result<BlockEntry, FormatError> {
        let (log, object, position) =
            previous.map_or((0, 0, 0), |last| (last.log.0, last.object, last.end_position()));
        let log = self.log_after(log)?;
        let object = object.wrapping_add_signed(self.decoder.signed()?);
        let position = position.wrapping_add_signed(self.decoder.signed()?);
        let base_offset = Offset(expected_base(previous, log).wrapping_add(self.decoder.signed()?));
        let last_timestamp = self.last.timestamp;
        let batches = self.batches(base_offset)?;
        let sum = Sum::of(&batches, base_offset, last_timestamp);
        let block = BlockEntry {
            log,
            base_offset,
            end_offset: Offset(sum.end.0.wrapping_add_unsigned(self.decoder.varint()?)),
            size: narrow_add(&mut self.decoder, sum.size)?,
            record_count: narrow_add(&mut self.decoder, sum.records)?,
            max_timestamp: sum.max_timestamp.wrapping_add(self.decoder.signed()?),
            crc: u32::from_be_bytes(self.decoder.fixed()?),
            object,
            position,
            batches,
        };
        self.decoder
            .ensure(block.is_sound() && previous.is_none_or(|previous| block.may_follow(previous)))?;
        self.last.timestamp = block.max_timestamp;
        Ok(block)
    }

    fn batches(&mut self, base_offset: Offset) -> Result<Vec<BatchEntry>, FormatError> {
        let count = self.decoder.count(MIN_BATCH_LEN)?;
        let mut batches = Vec::with_capacity(count);
        let mut end = base_offset;
        for _ in 0..count {
            let batch = self.batch(end)?;
            end = batch.end_offset();
            batches.push(batch);
        }
        Ok(batches)
    }

    #[inline]
    fn batch(&mut self, expected_base: Offset) -> Result<BatchEntry, FormatError> {
        let decoder = &mut self.decoder;
        let base_offset = Offset(expected_base.0.wrapping_add_unsigned(decoder.varint()?));
        let last_offset_delta: i32 = decoder.narrow()?;
        let records = i64::from(last_offset_delta) + 1;
        let batch = BatchEntry {
            base_offset,
            last_offset_delta,
            record_count: narrow_add(decoder, records)?,
            size: decoder.narrow()?,
            leader_epoch: LeaderEpoch(narrow_add(decoder, i64::from(self.last.leader_epoch))?),
            attributes: decoder.narrow::<u16>()? as i16,
            max_timestamp: self.last.timestamp.wrapping_add(decoder.signed()?),
            producer_id: ProducerId(decoder.signed()?),
            producer_epoch: decoder.signed_narrow()?,
            base_sequence: decoder.signed_narrow()?,
            marker: marker(decoder)?,
        };
        // Before anything computes an end from it.
        decoder.ensure(batch.is_sound())?;
        self.last = Last { leader_epoch: batch.leader_epoch.0, timestamp: batch.max_timestamp };
        Ok(batch)
    }

    fn state(&mut self, previous: Option<&StateEntry>) -> Result<StateEntry, FormatError> {
        let (log, position) = previous.map_or((0, 0), |last| (last.log.0, last.end_position()));
        let state = StateEntry {
            log: self.log_after(log)?,
            end: Offset(self.decoder.narrow()?),
            position: position.wrapping_add_signed(self.decoder.signed()?),
            size: self.decoder.narrow()?,
            crc: u32::from_be_bytes(self.decoder.fixed()?),
        };
        let in_order = previous.is_none_or(|previous| previous.log < state.log);
        self.decoder.ensure(in_order && state.position.checked_add(u64::from(state.size)).is_some())?;
        Ok(state)
    }

    fn aborted(
        &mut self,
        previous: Option<&(LogId, AbortedTransaction)>,
    ) -> Result<(LogId, AbortedTransaction), FormatError> {
        let (last_log, last_offset) = previous.map_or((0, 0), |(log, last)| (log.0, last.last_offset.0));
        let log = self.log_after(last_log)?;
        let producer_id = ProducerId(self.decoder.signed()?);
        let last = last_offset.wrapping_add(self.decoder.signed()?);
        let aborted = AbortedTransaction {
            producer_id,
            first_offset: Offset(last.wrapping_sub_unsigned(self.decoder.varint()?)),
            last_offset: Offset(last),
            last_stable_offset: Offset(last.wrapping_add(self.decoder.signed()?)),
        };
        let in_order = previous.is_none_or(|(of, last)| (*of, last.last_offset) < (log, aborted.last_offset));
        self.decoder.ensure(in_order && aborted.is_sound())?;
        Ok((log, aborted))
    }

    fn log_after(&mut self, previous: u64) -> Result<LogId, FormatError> {
        let log = previous.checked_add(self.decoder.varint()?);
        log.map(LogId).ok_or_else(|| self.decoder.malformed())
    }
}

/// The next signed varint added to `base`, where the sum fits.
#[inline]
fn narrow_add<T: TryFrom<i64>>(decoder: &mut Decoder<'_>, base: i64) -> Result<T, FormatError> {
    let sum = base.checked_add(decoder.signed()?);
    sum.and_then(|sum| T::try_from(sum).ok()).ok_or_else(|| decoder.malformed())
}

#[inline]
fn marker(decoder: &mut Decoder<'_>) -> Result<Option<Marker>, FormatError> {
    let code = decoder.varint()?;
    decoder.ensure(code <= 2)?;
    if code == 0 {
        return Ok(None);
    }
    Ok(Some(Marker { committed: code == 2, coordinator_epoch: decoder.signed_narrow()? }))
}
