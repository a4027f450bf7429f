//! The layout of all keys, in one place. Numbers are big-endian (signed ones with the sign bit flipped), so that the order
//! of keys is the order of what they name.
//!
//! | key | value | one for each |
//! |---|---|---|
//! | `cluster` | cluster id | cluster |
//! | `counter/epoch` | last broker or leader epoch | cluster |
//! | `counter/log` | next log id | cluster |
//! | `counter/producer` | next producer id | cluster |
//! | `incarnation/` broker i32, epoch u64 | [`IncarnationRecord`](crate::IncarnationRecord) | life of a broker |
//! | `owner` | [`OwnerRecord`](crate::OwnerRecord) | cluster |
//! | `topic/` name | [`TopicRecord`](crate::TopicRecord) | topic |
//! | `shared/` broker i32, epoch u64, number u64 | [`SharedRecord`](crate::SharedRecord) | shared segment or manifest |
//! | `logseg/` log u64, base offset i64 | [`LogSegmentRecord`](crate::LogSegmentRecord) | log segment |
//! | `logstart/` log u64 | log start offset | log whose start is not 0 |
//! | `config/default` | settings | cluster |
//! | `config/broker/` broker i32 | settings | broker that has some |
//! | `config/group/` id | settings | group that has some |
//! | `config/metrics/` name | settings | subscription to clients' metrics |
//! | `quota/` entity | [`QuotaRecord`](crate::QuotaRecord) | user, client or address that has quotas of its own |
//! | `scram/` mechanism u8, user | [`ScramRecord`](crate::ScramRecord) | credential |
//! | `features` | [`FeaturesRecord`](crate::FeaturesRecord) | cluster |
//! | `restoring/mark` | 1 | restoration that has not come to its end |

use crate::{
    KvError, QuotaEntity, ResourceKind,
    codec::{Reader, Writer},
};
use bytes::Bytes;
use thalweg_segment::{BrokerEpoch, BrokerId, Incarnation, LogId, Offset, SegmentId};

pub(crate) const CLUSTER: &[u8] = b"cluster";
pub(crate) const OWNER: &[u8] = b"owner";
pub(crate) const EPOCHS: &[u8] = b"counter/epoch";
pub(crate) const LOGS: &[u8] = b"counter/log";
pub(crate) const PRODUCERS: &[u8] = b"counter/producer";
pub(crate) const DEFAULT_CONFIG: &[u8] = b"config/default";
pub(crate) const FEATURES: &[u8] = b"features";

/// Stands while a restoration is under way.
pub(crate) const RESTORING_MARK: &[u8] = b"restoring/mark";
/// Behind every key.
pub(crate) const END: &[u8] = &[0xff];

pub(crate) const INCARNATION: &str = "incarnation/";
pub(crate) const TOPIC: &str = "topic/";
pub(crate) const SHARED: &str = "shared/";
pub(crate) const LOG_SEGMENT: &str = "logseg/";
pub(crate) const LOG_START: &str = "logstart/";
pub(crate) const RESTORING: &str = "restoring/";
pub(crate) const QUOTA: &str = "quota/";
pub(crate) const SCRAM: &str = "scram/";
const BROKER_CONFIG: &str = "config/broker/";

/// The end of the keys that begin with `prefix`, which ends with a slash: the same with the character after the slash.
pub(crate) fn end_of(prefix: &str) -> Bytes {
    let stem = prefix.strip_suffix('/').expect("a prefix ends with a slash");
    Writer::key(stem).u8(b'/' + 1).finish()
}

fn put_incarnation(writer: Writer, incarnation: Incarnation) -> Writer {
    writer.ordered_i32(incarnation.broker.0).u64(incarnation.epoch.0)
}

fn read_incarnation(reader: &mut Reader<'_>) -> Result<Incarnation, KvError> {
    Ok(Incarnation { broker: BrokerId(reader.ordered_i32()?), epoch: BrokerEpoch(reader.u64()?) })
}

pub(crate) fn incarnation(incarnation: Incarnation) -> Bytes {
    put_incarnation(Writer::key(INCARNATION), incarnation).finish()
}

pub(crate) fn parse_incarnation(key: &[u8]) -> Result<Incarnation, KvError> {
    let mut reader = Reader::key("incarnation key", key, INCARNATION)?;
    let incarnation = read_incarnation(&mut reader)?;
    reader.finish().map(|()| incarnation)
}

pub(crate) fn topic(name: &str) -> Bytes {
    Writer::key(TOPIC).raw(name.as_bytes()).finish()
}

pub(crate) fn parse_topic(key: &[u8]) -> Result<String, KvError> {
    Reader::key("topic key", key, TOPIC)?.rest_string()
}

pub(crate) fn shared(id: SegmentId) -> Bytes {
    put_incarnation(Writer::key(SHARED), id.incarnation).u64(id.number).finish()
}

pub(crate) fn parse_shared(key: &[u8]) -> Result<SegmentId, KvError> {
    let mut reader = Reader::key("shared segment key", key, SHARED)?;
    let id = SegmentId { incarnation: read_incarnation(&mut reader)?, number: reader.u64()? };
    reader.finish().map(|()| id)
}

pub(crate) fn log_segment(log: LogId, base: Offset) -> Bytes {
    Writer::key(LOG_SEGMENT).u64(log.0).ordered_i64(base.0).finish()
}

pub(crate) fn parse_log_segment(key: &[u8]) -> Result<(LogId, Offset), KvError> {
    let mut reader = Reader::key("log segment key", key, LOG_SEGMENT)?;
    let at = (LogId(reader.u64()?), Offset(reader.ordered_i64()?));
    reader.finish().map(|()| at)
}

pub(crate) fn log_start(log: LogId) -> Bytes {
    Writer::key(LOG_START).u64(log.0).finish()
}

pub(crate) fn parse_log_start(key: &[u8]) -> Result<LogId, KvError> {
    let mut reader = Reader::key("log start key", key, LOG_START)?;
    let log = LogId(reader.u64()?);
    reader.finish().map(|()| log)
}

pub(crate) fn config(broker: Option<BrokerId>) -> Bytes {
    match broker {
        Some(broker) => Writer::key(BROKER_CONFIG).ordered_i32(broker.0).finish(),
        None => Bytes::from_static(DEFAULT_CONFIG),
    }
}

/// The beginning of the keys of the settings of one kind of resource.
pub(crate) fn resources(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Group => "config/group/",
        ResourceKind::ClientMetrics => "config/metrics/",
    }
}

pub(crate) fn resource(kind: ResourceKind, name: &str) -> Bytes {
    Writer::key(resources(kind)).raw(name.as_bytes()).finish()
}

pub(crate) fn parse_resource(kind: ResourceKind, key: &[u8]) -> Result<String, KvError> {
    Reader::key("settings key", key, resources(kind))?.rest_string()
}

/// For user, client id and address in turn: 0 where the entity has none, 1 for the default, 2 and the name.
pub(crate) fn quota(entity: &QuotaEntity) -> Bytes {
    let parts = [&entity.user, &entity.client_id, &entity.ip];
    let put = |key: Writer, part: &Option<Option<String>>| match part {
        None => key.u8(0),
        Some(None) => key.u8(1),
        Some(Some(name)) => key.u8(2).string(name),
    };
    parts.into_iter().fold(Writer::key(QUOTA), put).finish()
}

pub(crate) fn parse_quota(key: &[u8]) -> Result<QuotaEntity, KvError> {
    let mut reader = Reader::key("quota key", key, QUOTA)?;
    let mut part = || match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(None)),
        2 => Ok(Some(Some(reader.string()?))),
        other => Err(reader.corrupt(format!("part {other}"))),
    };
    let entity = QuotaEntity { user: part()?, client_id: part()?, ip: part()? };
    reader.finish().map(|()| entity)
}

pub(crate) fn scram(mechanism: u8, user: &str) -> Bytes {
    Writer::key(SCRAM).u8(mechanism).raw(user.as_bytes()).finish()
}

pub(crate) fn parse_scram(key: &[u8]) -> Result<(u8, String), KvError> {
    let mut reader = Reader::key("credential key", key, SCRAM)?;
    Ok((reader.u8()?, reader.rest_string()?))
}
