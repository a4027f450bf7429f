//! What is stored: one type per kind of key, each with its layout.

use crate::{
    KvError,
    codec::{Reader, Writer},
    keys,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use thalweg_segment::{
    BrokerEpoch, BrokerId, Incarnation, Kind, LeaderEpoch, LogId, Offset, SegmentId, WalSequence,
};
use uuid::Uuid;

/// One life of a broker. Its commits are a sequence: each compares the whole record and writes the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationRecord {
    /// Which.
    pub incarnation: Incarnation,
    /// W: it issues WAL sequence `s` only while `s < low + window`.
    pub window: u32,
    /// Number of commits so far.
    pub commit: u64,
    /// Lowest WAL sequence still needed.
    pub trim: WalSequence,
    /// Where it stands.
    pub state: IncarnationState,
}

/// The life cycle of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncarnationState {
    /// May write and commit.
    Open,
    /// Being taken over by the recoverer with this ballot (its own broker epoch); a higher one may take over from it.
    Fencing {
        /// The recoverer's broker epoch.
        ballot: BrokerEpoch,
    },
    /// Its WAL was adopted, or it flushed everything and closed.
    Recovered,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its name, the key.
    pub name: String,
    /// Kafka's topic id.
    pub id: Uuid,
    /// The logs of its partitions: consecutive runs of log ids, in partition order.
    pub logs: Vec<LogRun>,
    /// Settings that differ from the broker's.
    pub configs: BTreeMap<String, String>,
}

/// Consecutive log ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRun {
    /// First id.
    pub first: LogId,
    /// How many.
    pub count: u32,
}

impl TopicRecord {
    /// Number of partitions.
    pub fn partitions(&self) -> u32 {
        self.logs.iter().map(|run| run.count).sum()
    }

    /// The log of each partition, from 0.
    pub fn log_ids(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().flat_map(|run| (0..u64::from(run.count)).map(|at| LogId(run.first.0 + at)))
    }
}

/// Where footer and index of a stored object lie; saves the reader the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectShape {
    /// Size of the object in bytes.
    pub size: u64,
    /// Where the index block begins.
    pub index_position: u64,
    /// Size of the index block in bytes.
    pub index_size: u32,
}

/// A shared segment, or a manifest of a recovery or a flush: its logs are found through its index block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRecord {
    /// Its name.
    pub id: SegmentId,
    /// Where its index lies.
    pub shape: ObjectShape,
    /// For a manifest: the incarnation whose WAL objects it adopts. Its own, where a flush wrote it.
    pub adopts: Option<Incarnation>,
}

/// A segment of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSegmentRecord {
    /// Whose batches.
    pub log: LogId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record.
    pub end_offset: Offset,
    /// Highest timestamp of its records.
    pub max_timestamp: i64,
    /// Its name.
    pub id: SegmentId,
    /// Where its index lies.
    pub shape: ObjectShape,
    /// Where log compaction wrote it: how far the log is clean, that is the offset below which no record is superseded by
    /// another below it. The highest of a log's segments counts. 0 where nothing is known. Who merges segments keeps the highest.
    pub cleaned_to: Offset,
}

/// A row of the object index: what one object holds is found through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectRecord {
    /// A shared segment or manifest.
    Shared(SharedRecord),
    /// A log segment.
    Log(LogSegmentRecord),
}

impl SharedRecord {
    /// What kind of object it is. A flush adopts objects of its own incarnation, a recovery those of another.
    pub fn kind(&self) -> Kind {
        match self.adopts {
            None => Kind::Shared,
            Some(of) if of == self.id.incarnation => Kind::FlushManifest,
            Some(_) => Kind::Manifest,
        }
    }
}

impl ObjectRecord {
    /// The object's name.
    pub fn id(&self) -> SegmentId {
        match self {
            Self::Shared(record) => record.id,
            Self::Log(record) => record.id,
        }
    }

    /// What kind of object it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Shared(record) => record.kind(),
            Self::Log(_) => Kind::Log,
        }
    }

    /// Where its index lies.
    pub fn shape(&self) -> ObjectShape {
        match self {
            Self::Shared(record) => record.shape,
            Self::Log(record) => record.shape,
        }
    }

    /// How far log compaction has cleaned the log, as far as this says it.
    pub fn cleaned_to(&self) -> Offset {
        match self {
            Self::Shared(_) => Offset(0),
            Self::Log(record) => record.cleaned_to,
        }
    }

    /// What a row of the key-value store says, if it is one of the object index. For those who watch that store from outside.
    pub fn of_row(key: &[u8], value: &[u8]) -> Option<Self> {
        if let Ok(id) = keys::parse_shared(key) {
            return SharedRecord::decode(id, value).ok().map(Self::Shared);
        }
        let at = keys::parse_log_segment(key).ok()?;
        LogSegmentRecord::decode(at, value).ok().map(Self::Log)
    }

    /// Key and value.
    pub(crate) fn row(&self) -> (Bytes, Bytes) {
        match self {
            Self::Shared(record) => (keys::shared(record.id), record.encode()),
            Self::Log(record) => (keys::log_segment(record.log, record.base_offset), record.encode()),
        }
    }
}

/// Who owns the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerRecord {
    /// The incarnation that owns every log that no other record gives to another.
    pub incarnation: Incarnation,
    /// The leader epoch of all those logs. Drawn from the same ever-rising counter as broker epochs, so that one record
    /// raises the epoch of any number of logs.
    pub leader_epoch: LeaderEpoch,
}

/// Layout of every value so far, but for [`CLEANED_LAYOUT`]. A value of another layout is refused, not guessed at.
///
/// A record that is compared is written anew from its fields. So a build that introduces a second layout has to keep
/// writing a record in the layout in which it was read, or its compares would fail.
pub(crate) const LAYOUT: u8 = 1;

/// Layout of log segments' records that say how far the log is clean.
const CLEANED_LAYOUT: u8 = 2;

const OPEN: u8 = 0;
const FENCING: u8 = 1;
const RECOVERED: u8 = 2;

impl IncarnationRecord {
    /// `window u32 | commit u64 | trim u64 | state u8 | ballot u64 (fencing only)`; the incarnation is in the key.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = Writer::value(LAYOUT).u32(self.window).u64(self.commit).u64(self.trim.0);
        match self.state {
            IncarnationState::Open => fields.u8(OPEN),
            IncarnationState::Fencing { ballot } => fields.u8(FENCING).u64(ballot.0),
            IncarnationState::Recovered => fields.u8(RECOVERED),
        }
        .finish()
    }

    pub(crate) fn decode(incarnation: Incarnation, value: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::value("incarnation", value, LAYOUT)?;
        let record = Self {
            incarnation,
            window: reader.u32()?,
            commit: reader.u64()?,
            trim: WalSequence(reader.u64()?),
            state: match reader.u8()? {
                OPEN => IncarnationState::Open,
                FENCING => IncarnationState::Fencing { ballot: BrokerEpoch(reader.u64()?) },
                RECOVERED => IncarnationState::Recovered,
                other => return Err(reader.corrupt(format!("state {other}"))),
            },
        };
        reader.finish().map(|()| record)
    }
}

impl TopicRecord {
    /// `id 16 | runs: (first log u64 | count u32)* | settings: (name string | value string)*`; the name is in the key.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = Writer::value(LAYOUT).raw(self.id.as_bytes()).length(self.logs.len());
        let fields = self.logs.iter().fold(fields, |fields, run| fields.u64(run.first.0).u32(run.count));
        put_settings(fields, &self.configs).finish()
    }

    pub(crate) fn decode(name: String, value: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::value("topic", value, LAYOUT)?;
        let id = Uuid::from_bytes(reader.array()?);
        let logs = read_runs(&mut reader)?;
        let configs = read_settings(&mut reader)?;
        reader.finish().map(|()| Self { name, id, logs, configs })
    }
}

fn read_runs(reader: &mut Reader<'_>) -> Result<Vec<LogRun>, KvError> {
    const RUN_BYTES: usize = 12;
    let length = reader.length(RUN_BYTES)?;
    let mut runs = Vec::with_capacity(length);
    let mut partitions = 0_u32;
    for _ in 0..length {
        let run = LogRun { first: LogId(reader.u64()?), count: reader.u32()? };
        let sum = partitions.checked_add(run.count);
        partitions = sum.ok_or_else(|| reader.corrupt("more than 2^32 partitions".into()))?;
        if run.first.0.checked_add(run.count.into()).is_none() {
            return Err(reader.corrupt("log ids beyond 64 bits".into()));
        }
        runs.push(run);
    }
    Ok(runs)
}

fn put_settings(fields: Writer, settings: &BTreeMap<String, String>) -> Writer {
    let fields = fields.length(settings.len());
    settings.iter().fold(fields, |fields, (name, value)| fields.string(name).string(value))
}

fn read_settings(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, KvError> {
    const TWO_LENGTHS: usize = 8;
    let length = reader.length(TWO_LENGTHS)?;
    (0..length).map(|_| Ok((reader.string()?, reader.string()?))).collect()
}

/// `settings: (name string | value string)*`
pub(crate) fn encode_settings(settings: &BTreeMap<String, String>) -> Bytes {
    put_settings(Writer::value(LAYOUT), settings).finish()
}

pub(crate) fn decode_settings(value: &[u8]) -> Result<BTreeMap<String, String>, KvError> {
    let mut reader = Reader::value("settings", value, LAYOUT)?;
    let settings = read_settings(&mut reader)?;
    reader.finish().map(|()| settings)
}

fn put_shape(fields: Writer, shape: ObjectShape) -> Writer {
    fields.u64(shape.size).u64(shape.index_position).u32(shape.index_size)
}

fn read_shape(reader: &mut Reader<'_>) -> Result<ObjectShape, KvError> {
    Ok(ObjectShape { size: reader.u64()?, index_position: reader.u64()?, index_size: reader.u32()? })
}

fn put_incarnation(fields: Writer, incarnation: Incarnation) -> Writer {
    fields.i32(incarnation.broker.0).u64(incarnation.epoch.0)
}

fn read_incarnation(reader: &mut Reader<'_>) -> Result<Incarnation, KvError> {
    Ok(Incarnation { broker: BrokerId(reader.i32()?), epoch: BrokerEpoch(reader.u64()?) })
}

impl SharedRecord {
    /// `shape 20 | kind u8: 0 segment, 1 manifest | adopted incarnation 12 (manifest only)`; the name is in the key.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = put_shape(Writer::value(LAYOUT), self.shape);
        match self.adopts {
            None => fields.u8(0),
            Some(incarnation) => put_incarnation(fields.u8(1), incarnation),
        }
        .finish()
    }

    pub(crate) fn decode(id: SegmentId, value: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::value("shared segment", value, LAYOUT)?;
        let shape = read_shape(&mut reader)?;
        let adopts = match reader.u8()? {
            0 => None,
            1 => Some(read_incarnation(&mut reader)?),
            other => return Err(reader.corrupt(format!("kind {other}"))),
        };
        reader.finish().map(|()| Self { id, shape, adopts })
    }
}

impl LogSegmentRecord {
    /// `end offset i64 | max timestamp i64 | writer 12 | number u64 | shape 20`; log and base offset are in the key.
    /// Layout 2 has `cleaned to i64` behind, and stands only where that isn't 0.
    pub(crate) fn encode(&self) -> Bytes {
        let cleaned = self.cleaned_to > Offset(0);
        let fields = Writer::value(if cleaned { CLEANED_LAYOUT } else { LAYOUT });
        let fields = fields.i64(self.end_offset.0).i64(self.max_timestamp);
        let fields = put_incarnation(fields, self.id.incarnation).u64(self.id.number);
        let fields = put_shape(fields, self.shape);
        if cleaned { fields.i64(self.cleaned_to.0) } else { fields }.finish()
    }

    pub(crate) fn decode((log, base_offset): (LogId, Offset), value: &[u8]) -> Result<Self, KvError> {
        let (mut reader, layout) = Reader::value_up_to("log segment", value, CLEANED_LAYOUT)?;
        let mut record = Self {
            log,
            base_offset,
            end_offset: Offset(reader.i64()?),
            max_timestamp: reader.i64()?,
            id: SegmentId { incarnation: read_incarnation(&mut reader)?, number: reader.u64()? },
            shape: read_shape(&mut reader)?,
            cleaned_to: Offset(0),
        };
        if layout == CLEANED_LAYOUT {
            record.cleaned_to = Offset(reader.i64()?);
            if record.cleaned_to <= Offset(0) {
                return Err(reader.corrupt(format!("cleaned to {}", record.cleaned_to)));
            }
        }
        reader.finish().map(|()| record)
    }
}

impl OwnerRecord {
    /// `incarnation 12 | leader epoch i32`
    pub(crate) fn encode(&self) -> Bytes {
        put_incarnation(Writer::value(LAYOUT), self.incarnation).i32(self.leader_epoch.0).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::value("owner", value, LAYOUT)?;
        let record =
            Self { incarnation: read_incarnation(&mut reader)?, leader_epoch: LeaderEpoch(reader.i32()?) };
        reader.finish().map(|()| record)
    }
}

/// A counter: `number u64`
pub(crate) fn encode_number(number: u64) -> Bytes {
    Writer::value(LAYOUT).u64(number).finish()
}

pub(crate) fn decode_number(value: &[u8]) -> Result<u64, KvError> {
    let mut reader = Reader::value("counter", value, LAYOUT)?;
    let number = reader.u64()?;
    reader.finish().map(|()| number)
}

/// The cluster id: `id 16`
pub(crate) fn encode_uuid(id: Uuid) -> Bytes {
    Writer::value(LAYOUT).raw(id.as_bytes()).finish()
}

pub(crate) fn decode_uuid(value: &[u8]) -> Result<Uuid, KvError> {
    let mut reader = Reader::value("id", value, LAYOUT)?;
    let id = Uuid::from_bytes(reader.array()?);
    reader.finish().map(|()| id)
}

/// A log's start: `offset i64`
pub(crate) fn encode_offset(offset: Offset) -> Bytes {
    Writer::value(LAYOUT).i64(offset.0).finish()
}

pub(crate) fn decode_offset(value: &[u8]) -> Result<Offset, KvError> {
    let mut reader = Reader::value("log start", value, LAYOUT)?;
    let offset = Offset(reader.i64()?);
    reader.finish().map(|()| offset)
}
