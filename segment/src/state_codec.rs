//! The bytes of a state block.
//!
//! ```text
//! state:    version u16 | end offset | n, epochs … | n, producers … | evicted
//! epoch:    leader epoch Δ | first offset Δ
//! producer: id Δ | epoch ± | last timestamp ± | coordinator epoch ± |
//!           first offset of the open transaction + 1, or 0 | last offset, Δ back from the end | n, batches …
//! evicted:  highest id + 1, or 0 where none was | its last offset, Δ back from the end, or 0
//! batch:    base sequence ± | last sequence ± | last offset, Δ back from the end | last offset delta |
//!           timestamp ±, Δ to the producer's
//! ```
//! What has no type is a varint, ± a signed one, see `codec`; Δ is a difference, where nothing else is said to the entry
//! before. Producers stand in order of their ids. Version 1 has no last offset of a producer, and no `evicted`.

use crate::codec::{Decoder, put_signed, put_varint};
use crate::{
    Evicted, FormatError, LeaderEpoch, LogState, Offset, ProducedBatch, ProducerId, ProducerState, Producers,
    REMEMBERED_BATCHES,
};
use bytes::Bytes;
use std::collections::VecDeque;

/// The version that is written.
const VERSION: u16 = 2;
/// The first with a producer's last offset, and with who was evicted.
const EVICTIONS: u16 = 2;

/// The fewest bytes that an entry can have, for the check of a count before anything is allocated.
const MIN_EPOCH_LEN: usize = 2;
const MIN_PRODUCER_LEN: usize = 6;
const MIN_BATCH_LEN: usize = 5;

impl LogState {
    /// The state block's bytes. Panics where the state is not one that [`apply`](Self::apply) can lead to.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::from(VERSION.to_be_bytes());
        put_difference(&mut out, self.end.0, 0);
        put_varint(&mut out, self.leader_epochs.len() as u64);
        let (mut last_epoch, mut last_start) = (0, 0);
        for (epoch, start) in &self.leader_epochs {
            put_difference(&mut out, epoch.0.into(), last_epoch);
            put_difference(&mut out, start.0, last_start);
            (last_epoch, last_start) = (epoch.0.into(), start.0);
        }
        put_varint(&mut out, self.producers.len() as u64);
        let mut last_id = 0;
        for (id, producer) in self.producers.iter() {
            put_difference(&mut out, id.0, last_id);
            put_producer(&mut out, producer, self.end);
            last_id = id.0;
        }
        put_evicted(&mut out, self.producers.evicted(), self.end);
        out.into()
    }

    /// Reads a state block. Lengths are checked before anything is allocated. The block's CRC is in the index.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut decoder, version) = Decoder::of_versions(bytes, "state block", VERSION)?;
        let end = Offset(decoder.narrow()?);
        let leader_epochs = read_epochs(&mut decoder, end)?;
        let producers = read_producers(&mut decoder, end, version)?;
        let evicted = if version >= EVICTIONS { read_evicted(&mut decoder, end)? } else { None };
        let producers = Producers::restore(producers, evicted);
        decoder.finish()?;
        Ok(Self { end, leader_epochs, producers })
    }
}

/// Writes `value - base`, which must not be negative.
fn put_difference(out: &mut Vec<u8>, value: i64, base: i64) {
    let difference = value.checked_sub(base).and_then(|difference| u64::try_from(difference).ok());
    put_varint(out, difference.expect("offsets, epochs and ids of a state rise from 0"));
}

fn put_producer(out: &mut Vec<u8>, producer: &ProducerState, end: Offset) {
    assert!(producer.batches.len() <= REMEMBERED_BATCHES, "no more batches are remembered");
    put_signed(out, producer.epoch.into());
    put_signed(out, producer.last_timestamp);
    put_signed(out, producer.coordinator_epoch.into());
    put_difference(out, producer.transaction_start.map_or(0, |start| start.0 + 1), 0);
    put_difference(out, end.0, producer.last_offset.0);
    put_varint(out, producer.batches.len() as u64);
    for batch in &producer.batches {
        put_signed(out, batch.base_sequence.into());
        put_signed(out, batch.last_sequence.into());
        put_difference(out, end.0, batch.last_offset.0);
        put_difference(out, batch.offset_delta.into(), 0);
        put_signed(out, batch.timestamp.wrapping_sub(producer.last_timestamp));
    }
}

fn put_evicted(out: &mut Vec<u8>, evicted: Option<Evicted>, end: Offset) {
    put_difference(out, evicted.map_or(0, |evicted| evicted.highest_id.0 + 1), 0);
    put_difference(out, evicted.map_or(0, |evicted| end.0 - evicted.last_offset.0), 0);
}

fn read_evicted(decoder: &mut Decoder<'_>, end: Offset) -> Result<Option<Evicted>, FormatError> {
    let id = decoder.narrow::<i64>()?.checked_sub(1).filter(|id| *id >= 0).map(ProducerId);
    let last_offset = read_back_from(decoder, end)?;
    Ok(id.map(|highest_id| Evicted { highest_id, last_offset }))
}

/// An offset that is told by its distance back from the end.
fn read_back_from(decoder: &mut Decoder<'_>, end: Offset) -> Result<Offset, FormatError> {
    let offset = Offset(end.0 - decoder.narrow::<i64>()?);
    decoder.ensure(offset.0 >= 0)?;
    Ok(offset)
}

fn read_epochs(decoder: &mut Decoder<'_>, end: Offset) -> Result<Vec<(LeaderEpoch, Offset)>, FormatError> {
    let count = decoder.count(MIN_EPOCH_LEN)?;
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::with_capacity(count);
    for _ in 0..count {
        let last = epochs.last().copied();
        let (last_epoch, last_start) = last.map_or((0, 0), |(epoch, start)| (epoch.0, start.0));
        let epoch = LeaderEpoch(narrow_add(decoder, last_epoch.into())?);
        let start = Offset(narrow_add(decoder, last_start)?);
        let rises = last.is_none_or(|(last_epoch, last_start)| last_epoch < epoch && last_start < start);
        decoder.ensure(rises && start <= end)?;
        epochs.push((epoch, start));
    }
    Ok(epochs)
}

fn read_producers(
    decoder: &mut Decoder<'_>,
    end: Offset,
    version: u16,
) -> Result<Vec<(ProducerId, ProducerState)>, FormatError> {
    let count = decoder.count(MIN_PRODUCER_LEN)?;
    let mut producers = Vec::with_capacity(count);
    let mut last_id = None;
    for _ in 0..count {
        let id = ProducerId(narrow_add(decoder, last_id.map_or(0, |id: ProducerId| id.0))?);
        decoder.ensure(last_id < Some(id))?;
        producers.push((id, read_producer(decoder, end, version)?));
        last_id = Some(id);
    }
    Ok(producers)
}

fn read_producer(decoder: &mut Decoder<'_>, end: Offset, version: u16) -> Result<ProducerState, FormatError> {
    let mut producer = ProducerState {
        epoch: decoder.signed_narrow()?,
        last_timestamp: decoder.signed()?,
        last_offset: Offset(0),
        coordinator_epoch: decoder.signed_narrow()?,
        transaction_start: decoder.narrow::<i64>()?.checked_sub(1).filter(|start| *start >= 0).map(Offset),
        batches: VecDeque::new(),
    };
    decoder.ensure(producer.transaction_start.is_none_or(|start| start < end))?;
    if version >= EVICTIONS {
        producer.last_offset = read_back_from(decoder, end)?;
    }
    let count = decoder.count(MIN_BATCH_LEN)?;
    decoder.ensure(count <= REMEMBERED_BATCHES)?;
    producer.batches.reserve_exact(count);
    for _ in 0..count {
        let batch = read_batch(decoder, end, producer.last_timestamp)?;
        producer.batches.push_back(batch);
        producer.last_offset = producer.last_offset.max(batch.last_offset);
    }
    Ok(producer)
}

fn read_batch(
    decoder: &mut Decoder<'_>,
    end: Offset,
    last_timestamp: i64,
) -> Result<ProducedBatch, FormatError> {
    let base_sequence = decoder.signed_narrow()?;
    let last_sequence = decoder.signed_narrow()?;
    let back: i64 = decoder.narrow()?;
    let batch = ProducedBatch {
        base_sequence,
        last_sequence,
        last_offset: Offset(end.0 - back),
        offset_delta: decoder.narrow()?,
        timestamp: last_timestamp.wrapping_add(decoder.signed()?),
    };
    decoder.ensure(batch.last_offset < end && batch.last_offset.0 >= i64::from(batch.offset_delta))?;
    Ok(batch)
}

/// The next varint added to `base`, which is not negative, where the sum fits.
fn narrow_add<T: TryFrom<i64>>(decoder: &mut Decoder<'_>, base: i64) -> Result<T, FormatError> {
    let sum = base.checked_add(decoder.narrow()?);
    sum.and_then(|sum| T::try_from(sum).ok()).ok_or_else(|| decoder.malformed())
}
