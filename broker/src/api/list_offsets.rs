//! ListOffsets: the offset that a timestamp, or a special one, stands for.

use super::{Handlers, batch_check::DECOMPRESSED_MAX, fetch::check_epoch, named_once::named_once};
use crate::{
    broker::Broker,
    context::{Operation, RequestContext},
    partition::Log,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::IndexError;
use thalweg_protocol::{Compression, ErrorCode, RecordHeads, Unpacking, messages::*};
use thalweg_runtime::Charge;
use thalweg_segment::{Attributes, Batch, Offset, split_batches};

use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version that answers with leader epochs.
const LEADER_EPOCHS: i16 = 4;
/// First version in which each special timestamp is known.
const SINCE: [(i64, i16); 4] =
    [(MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9), (EARLIEST_PENDING_UPLOAD, 11)];

/// Bytes of the log that a search reads at a time.
const SEARCH_BYTES: usize = 1024 * 1024;

/// An offset that was found, with the timestamp of its record where that was looked for, or -1.
struct Found {
    offset: Offset,
    timestamp: i64,
}

impl Found {
    fn at(offset: Offset) -> Option<Self> {
        Some(Self { offset, timestamp: -1 })
    }
}

impl Handlers {
    pub(super) async fn list_offsets(
        &self,
        context: &RequestContext,
        version: i16,
        request: ListOffsetsRequest,
    ) -> ListOffsetsResponse {
        let committed_only = request.isolation_level == 1;
        let mut topics = Vec::with_capacity(request.topics.len());
        // What names no partition is left out.
        let named = request.topics.into_iter().filter(|topic| !topic.partitions.is_empty());
        let join = |first: &mut ListOffsetsTopic, mut later: ListOffsetsTopic| {
            first.partitions.append(&mut later.partitions);
        };
        for topic in named_once(named, |topic| topic.name.clone(), join) {
            let mut times_named = BTreeMap::new();
            topic.partitions.iter().for_each(|p| *times_named.entry(p.partition_index).or_insert(0) += 1);
            let mut answered = BTreeSet::new();
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                // A partition that is named twice is answered once.
                if !answered.insert(wanted.partition_index) {
                    continue;
                }
                let twice = times_named.get(&wanted.partition_index).is_some_and(|times| *times > 1);
                partitions.push(match twice {
                    true => failed(wanted, ErrorCode::InvalidRequest),
                    false => self.list_offset(context, version, &topic.name, wanted, committed_only).await,
                });
            }
            topics
                .push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
        }
        ListOffsetsResponse::default().with_topics(topics)
    }

    async fn list_offset(
        &self,
        context: &RequestContext,
        version: i16,
        topic: &str,
        wanted: &ListOffsetsPartition,
        committed_only: bool,
    ) -> ListOffsetsPartitionResponse {
        let unknown = wanted.timestamp < EARLIEST_PENDING_UPLOAD;
        if unknown
            || SINCE.iter().any(|(timestamp, since)| wanted.timestamp == *timestamp && version < *since)
        {
            return failed(wanted, ErrorCode::UnsupportedVersion);
        }
        let log = self.log_of(context, Operation::Describe, topic, wanted.partition_index);
        let log = match log.and_then(|log| check_epoch(&log, wanted.current_leader_epoch).map(|()| log)) {
            Ok(log) => log,
            Err(code) => return failed(wanted, code),
        };
        match self.broker.offset_for(&log, wanted.timestamp, committed_only).await {
            Ok(found) => {
                let response =
                    ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
                match found {
                    Some(found) => {
                        let epoch = if version >= LEADER_EPOCHS { log.epoch_at(found.offset).0 } else { -1 };
                        let response = response.with_offset(found.offset.0).with_timestamp(found.timestamp);
                        response.with_leader_epoch(epoch)
                    }
                    None => response.with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
                }
            }
            Err(error) => {
                tracing::warn!(log = %log.id(), %error, "could not search by timestamp");
                failed(wanted, ErrorCode::KafkaStorageError)
            }
        }
    }
}

fn failed(wanted: &ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(wanted.partition_index)
        .with_error_code(code.code())
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1)
}

impl Broker {
    async fn offset_for(
        &self,
        log: &Log,
        timestamp: i64,
        committed_only: bool,
    ) -> Result<Option<Found>, IndexError> {
        let view = log.view();
        let end = if committed_only { view.last_stable } else { view.high_watermark };
        Ok(match timestamp {
            LATEST => Found::at(end),
            // Everything is in the object store and on no disk: what is local begins where the log begins.
            EARLIEST | EARLIEST_LOCAL => Found::at(view.start),
            // As Kafka answers where tiered storage is off.
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
            MAX_TIMESTAMP => self.max_timestamp(log, view.start, end).await?,
            timestamp => self.first_at(log, view.start, end, timestamp).await?,
        })
    }

    /// The first record of `[start, end)` whose timestamp is at or after `timestamp`.
    async fn first_at(
        &self,
        log: &Log,
        start: Offset,
        end: Offset,
        timestamp: i64,
    ) -> Result<Option<Found>, IndexError> {
        let mut from = self.skip_extents(log, start, timestamp).await?;
        while from < end {
            let (batches, mut room) = self.batches(log, from, end).await?;
            let Some(last) = batches.last() else { break };
            from = last.end_offset();
            let unpacked = batches.iter().map(unpacking_memory).max().unwrap_or(0);
            let needed = batches.iter().map(Batch::len).sum::<usize>() + unpacked;
            if needed > room.bytes() {
                // Who waited for more while it holds some could wait for ever.
                drop(room);
                room = self.budgets.unpacking.charge(needed).await;
            }
            // Off the threads that serve sockets: a batch may have to be decompressed.
            let search = move || {
                let mut candidates = batches.iter().filter(|batch| batch.max_timestamp() >= timestamp);
                let found = candidates.find_map(|batch| find(batch, start, |at| at >= timestamp));
                drop(room);
                found
            };
            let found = self.runtime.compute(search).await;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Where to begin: at the first block of the object index that has a timestamp so high, or behind the index.
    async fn skip_extents(&self, log: &Log, start: Offset, timestamp: i64) -> Result<Offset, IndexError> {
        let index = self.topics.index();
        for extent in index.extents(log.id()) {
            if extent.end <= start || extent.max_timestamp < timestamp {
                continue;
            }
            let blocks = index.blocks_of(log.id(), &extent).await?;
            let block = blocks.iter().find(|block| block.entry.max_timestamp >= timestamp);
            if let Some(block) = block {
                return Ok(block.entry.base_offset.max(start));
            }
        }
        Ok(index.committed_end(log.id()).max(start))
    }

    /// The record with the highest timestamp; of several, the first.
    async fn max_timestamp(
        &self,
        log: &Log,
        start: Offset,
        end: Offset,
    ) -> Result<Option<Found>, IndexError> {
        let index = self.topics.index();
        let extents = index.extents(log.id());
        let stored =
            extents.iter().filter(|extent| extent.end > start).map(|extent| extent.max_timestamp).max();
        let mut highest = stored;
        let mut from = index.committed_end(log.id()).max(start);
        while from < end {
            let (batches, _room) = self.batches(log, from, end).await?;
            let Some(last) = batches.last() else { break };
            from = last.end_offset();
            highest = highest.max(batches.iter().map(Batch::max_timestamp).max());
        }
        match highest {
            Some(highest) if highest >= 0 => self.first_at(log, start, end, highest).await,
            _ => Ok(None),
        }
    }

    /// The next batches, and what is charged for them and for their decompression, which suffices for most.
    async fn batches(
        &self,
        log: &Log,
        from: Offset,
        end: Offset,
    ) -> Result<(Vec<Batch>, Charge), IndexError> {
        let room = self.budgets.unpacking.charge(2 * SEARCH_BYTES).await;
        let slices = self.read(log, from, end, SEARCH_BYTES, true).await?;
        let joined = slices.chunks.concat();
        // What the caches and the reader return was checked when it came in.
        Ok((split_batches(joined.into()).unwrap_or_default(), room))
    }
}

/// Bytes of memory that a search through `batch` takes beside it.
fn unpacking_memory(batch: &Batch) -> usize {
    Compression::of_attributes(batch.attributes())
        .map_or(0, |codec| Unpacking::memory(codec, batch.records()))
}

/// The first record of `batch`, at or behind `start`, whose timestamp `fits`.
fn find(batch: &Batch, start: Offset, fits: impl Fn(i64) -> bool) -> Option<Found> {
    let append_time = batch.attributes() & Attributes::APPEND_TIME != 0;
    // Of what log compaction has left, the first record may be gone.
    let whole = i64::from(batch.record_count()) == i64::from(batch.last_offset_delta()) + 1;
    if append_time && whole {
        let found = Found { offset: batch.base_offset().max(start), timestamp: batch.max_timestamp() };
        return fits(batch.max_timestamp()).then_some(found);
    }
    let codec = Compression::of_attributes(batch.attributes() & Attributes::COMPRESSION)?;
    let records = Unpacking::new(codec, batch.records(), DECOMPRESSED_MAX).ok()?;
    RecordHeads::new(records, batch.record_count()).map_while(Result::ok).find_map(|record| {
        let timestamp = match append_time {
            true => batch.max_timestamp(),
            false => batch.base_timestamp().saturating_add(record.timestamp_delta),
        };
        let offset = batch.base_offset().plus(i64::from(record.offset_delta));
        (offset >= start && fits(timestamp)).then_some(Found { offset, timestamp })
    })
}
