//! The second pass: what is to stay of each batch.

use super::{CleanError, Mapped, RecordCodec, RecordKey, transactions::Transactions};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_segment::{
    AbortedTransaction, Attributes, Batch, BatchEntry, HEADER_LEN, Offset, ProducerId, Producers,
};

/// What "no timestamp" is, in the header of a batch without records.
const NO_TIMESTAMP: i64 = -1;

/// By what rules a log is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterSettings {
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// Milliseconds since 1970 when the round began.
    pub now_ms: i64,
}

/// The last batch of each producer that a log knows.
#[derive(Clone, Debug, Default)]
pub struct LastBatches(BTreeMap<ProducerId, (Option<Offset>, i16)>);

impl LastBatches {
    /// Of `producers`.
    pub fn of(producers: &Producers) -> Self {
        let last = |producer: &thalweg_segment::ProducerState| {
            (producer.batches.back().map(|batch| batch.last_offset), producer.epoch)
        };
        Self(producers.iter().map(|(id, producer)| (id, last(producer))).collect())
    }

    /// Whether `batch` is the last of its producer, or, where the producer has only ended a transaction since its epoch was
    /// raised, the marker that says so.
    fn has(&self, batch: &BatchEntry) -> bool {
        match self.0.get(&batch.producer_id) {
            None => false,
            Some((Some(last_offset), _)) => batch.end_offset() == last_offset.plus(1),
            Some((None, epoch)) => batch.is_control() && batch.producer_epoch == *epoch,
        }
    }
}

/// What a round has met and what it has kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records met.
    pub records_read: u64,
    /// Records kept.
    pub records_kept: u64,
    /// Bytes of batches met.
    pub bytes_read: u64,
    /// Bytes of batches kept.
    pub bytes_kept: u64,
    /// Records without a key, which were dropped.
    pub without_key: u64,
}

/// Goes through a log from its start, and says what stays of each batch.
pub struct Filter {
    mapped: Mapped,
    transactions: Transactions,
    last: LastBatches,
    settings: FilterSettings,
    codec: Arc<dyn RecordCodec>,
    tally: Tally,
}

/// Where in a segment a batch lies that must not vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is the first one.
    First,
    /// It is the last one, and maybe the only one.
    Last,
}

/// What is to become of a batch whose records are all gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Empty {
    /// Its header stays.
    Stays,
    /// A header stays that is nobody's: it must not keep a marker.
    Placeholder,
    /// It goes too.
    Goes,
}

/// Which records of a batch stay.
#[derive(Debug, Default)]
struct Kept {
    /// By their place in the batch.
    keep: Vec<bool>,
    count: i32,
    tombstones: bool,
    first_timestamp: Option<i64>,
    max_timestamp: i64,
}

impl Filter {
    /// Begins at the log's start. `aborted` are all aborted transactions that have a record in what will be read, `last` the
    /// last batches of its producers.
    pub fn new(
        mapped: Mapped,
        aborted: &[AbortedTransaction],
        last: LastBatches,
        settings: FilterSettings,
        codec: Arc<dyn RecordCodec>,
    ) -> Self {
        let (transactions, tally) = (Transactions::new(aborted), Tally::default());
        Self { mapped, transactions, last, settings, codec, tally }
    }

    /// What stays of the next batch, which may be the same batch. At an `edge` of a segment at least a header does.
    pub fn batch(&mut self, batch: &Batch, edge: Option<Edge>) -> Result<Option<Batch>, CleanError> {
        let entry = batch.entry();
        self.tally.bytes_read += batch.len() as u64;
        self.tally.records_read += u64::try_from(entry.record_count).unwrap_or_default();
        let is_last_of_producer = entry.producer_id.is_some() && self.last.has(&entry);
        let empty = match edge {
            _ if is_last_of_producer => Empty::Stays,
            Some(Edge::Last) => Empty::Stays,
            Some(Edge::First) => Empty::Placeholder,
            None => Empty::Goes,
        };
        let cleaned = match entry.is_control() {
            true => self.control(batch, empty)?,
            false => self.data(batch, &entry, empty)?,
        };
        if let Some(cleaned) = &cleaned {
            self.tally.bytes_kept += cleaned.len() as u64;
            self.tally.records_kept += u64::try_from(cleaned.record_count()).unwrap_or_default();
        }
        Ok(cleaned)
    }

    fn control(&mut self, batch: &Batch, empty: Empty) -> Result<Option<Batch>, CleanError> {
        let unneeded = self.transactions.control(batch);
        if unneeded && delete_horizon(batch).is_some_and(|horizon| horizon <= self.settings.now_ms) {
            return Ok(without_records(batch, empty));
        }
        if batch.record_count() == 0 {
            return Ok(without_records(batch, empty));
        }
        if !unneeded || delete_horizon(batch).is_some() {
            return Ok(Some(batch.clone()));
        }
        let kept = self.look(batch, |_, _| true)?;
        self.rebuilt(batch, &kept, Some(self.horizon())).map(Some)
    }

    fn data(&mut self, batch: &Batch, entry: &BatchEntry, empty: Empty) -> Result<Option<Batch>, CleanError> {
        if self.transactions.data(entry) {
            return Ok(without_records(batch, empty));
        }
        let old_horizon = delete_horizon(batch);
        let tombstones_stay = old_horizon.is_none_or(|horizon| self.settings.now_ms < horizon);
        let mapped = &self.mapped;
        let mut without_key = 0;
        let kept = self.look(batch, |offset, record| {
            if offset >= mapped.end() {
                return true;
            }
            let Some(key) = record.key else {
                without_key += 1;
                return false;
            };
            mapped.is_last(key, offset) && (record.has_value || tombstones_stay)
        })?;
        self.tally.without_key += without_key;
        if kept.count == 0 {
            return Ok(without_records(batch, empty));
        }
        // Where the table ends before the batch does, what its tombstones delete is still there after this round. (Kafka's time
        // begins all the same.)
        let covered = batch.end_offset() <= self.mapped.end();
        let new_horizon = (kept.tombstones && covered && old_horizon.is_none()).then(|| self.horizon());
        if kept.count == batch.record_count() && new_horizon.is_none() {
            return Ok(Some(batch.clone()));
        }
        self.rebuilt(batch, &kept, new_horizon.or(old_horizon)).map(Some)
    }

    /// When what is met for the first time may go.
    fn horizon(&self) -> i64 {
        self.settings.now_ms.saturating_add(self.settings.delete_retention_ms)
    }

    /// Looks at each record of a batch, with its offset.
    fn look(
        &self,
        batch: &Batch,
        mut stays: impl FnMut(Offset, &RecordKey<'_>) -> bool,
    ) -> Result<Kept, CleanError> {
        let mut kept = Kept { max_timestamp: NO_TIMESTAMP, ..Kept::default() };
        self.codec.read(batch, &mut |record| {
            let keep = stays(batch.base_offset().plus(record.offset_delta.into()), &record);
            kept.keep.push(keep);
            if keep {
                let timestamp = batch.base_timestamp().wrapping_add(record.timestamp_delta);
                kept.count += 1;
                kept.tombstones |= !record.has_value;
                kept.first_timestamp.get_or_insert(timestamp);
                kept.max_timestamp = kept.max_timestamp.max(timestamp);
            }
        })?;
        Ok(kept)
    }

    /// The batch with what stays of its records. The offsets that it covers, and so its last sequence, are as before.
    fn rebuilt(&self, batch: &Batch, kept: &Kept, horizon: Option<i64>) -> Result<Batch, CleanError> {
        let base = horizon.or(kept.first_timestamp).expect("some record stays");
        let shift_ms = batch.base_timestamp().wrapping_sub(base);
        let records = self.codec.keep(batch, &kept.keep, shift_ms)?;
        let append_time = batch.attributes() & Attributes::APPEND_TIME != 0;
        let head = Head(*batch.head())
            .attributes(batch.attributes() | if horizon.is_some() { Attributes::DELETE_HORIZON } else { 0 })
            .base_timestamp(base)
            .max_timestamp(if append_time { batch.max_timestamp() } else { kept.max_timestamp })
            .record_count(kept.count);
        Ok(Batch::assemble(head.0, records))
    }

    /// Aborted transactions that readers of what was written since the last call must know of, in order of their markers.
    pub fn take_aborted(&mut self) -> Vec<AbortedTransaction> {
        self.transactions.take_still_known()
    }

    /// What was met and kept so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Offset up to which the log is clean after this.
    pub fn end(&self) -> Offset {
        self.mapped.end()
    }
}

/// When the tombstones of a batch, or the marker that it is, may go.
fn delete_horizon(batch: &Batch) -> Option<i64> {
    (batch.attributes() & Attributes::DELETE_HORIZON != 0).then(|| batch.base_timestamp())
}

/// The header alone, as Kafka writes it: no compression, no horizon, no base timestamp.
fn without_records(batch: &Batch, empty: Empty) -> Option<Batch> {
    let attributes =
        batch.attributes() & (Attributes::APPEND_TIME | Attributes::TRANSACTIONAL | Attributes::CONTROL);
    let head = Head(*batch.head()).base_timestamp(NO_TIMESTAMP).record_count(0);
    let head = match empty {
        Empty::Stays => head.attributes(attributes),
        Empty::Placeholder => head.attributes(attributes & Attributes::APPEND_TIME).no_producer(),
        Empty::Goes => return None,
    };
    Some(Batch::assemble(head.0, Bytes::new()))
}

/// The header of a batch whose fields are being set.
struct Head([u8; HEADER_LEN]);

impl Head {
    fn attributes(mut self, attributes: i16) -> Self {
        self.0[21..23].copy_from_slice(&attributes.to_be_bytes());
        self
    }

    fn base_timestamp(mut self, ms: i64) -> Self {
        self.0[27..35].copy_from_slice(&ms.to_be_bytes());
        self
    }

    fn max_timestamp(mut self, ms: i64) -> Self {
        self.0[35..43].copy_from_slice(&ms.to_be_bytes());
        self
    }

    /// Id, epoch and sequence of a batch without a producer are all -1.
    fn no_producer(mut self) -> Self {
        self.0[43..57].fill(0xff);
        self
    }

    fn record_count(mut self, count: i32) -> Self {
        self.0[57..61].copy_from_slice(&count.to_be_bytes());
        self
    }
}
