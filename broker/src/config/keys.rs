//! Every key there is: Kafka's, from tables of facts, and our own.

use super::value::{Kind, Valid};
use std::collections::BTreeMap;

/// One setting.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Its default; empty for none.
    pub default: &'static str,
    /// Which values are valid.
    pub valid: Valid,
    /// What it does, in a sentence; empty for keys of Kafka's that have no meaning here.
    pub doc: &'static str,
    /// Whether it can change while the broker runs.
    pub update: Update,
    /// For a topic's key: the broker's key that gives its default.
    pub broker_default: Option<&'static str>,
}

impl Key {
    /// Whether the key does anything in Thalweg.
    pub fn acts(&self) -> bool {
        !self.doc.is_empty()
    }
}

/// When a broker's key can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// At start only.
    ReadOnly,
    /// Per broker, while it runs.
    PerBroker,
    /// For all brokers or one, while they run.
    ClusterWide,
}

/// Keys by name.
pub type Keys = BTreeMap<&'static str, Key>;

const BROKER_TABLE: &str = include_str!("kafka_broker_keys.tsv");
const TOPIC_TABLE: &str = include_str!("kafka_topic_keys.tsv");
const GROUP_TABLE: &str = include_str!("kafka_group_keys.tsv");

/// Every key of a broker: ours and Kafka's.
pub fn broker_keys() -> Keys {
    let mut keys: Keys = rows(BROKER_TABLE).map(|row| (row[0], kafka_broker_key(&row))).collect();
    keys.extend(OWN.iter().map(|own| (own.0, own_key(own))));
    keys
}

/// Every key of a topic.
pub fn topic_keys() -> Keys {
    let acting = |name: &str| TOPIC_ACTING.iter().find(|(key, _)| *key == name).map_or("", |(_, doc)| doc);
    rows(TOPIC_TABLE).map(|row| (row[0], kafka_resource_key(&row, acting(row[0])))).collect()
}

/// Every key of a group.
pub fn group_keys() -> Keys {
    rows(GROUP_TABLE).map(|row| (row[0], kafka_resource_key(&row, ""))).collect()
}

/// Every key of a subscription to clients' metrics (KIP-714).
pub fn client_metrics_keys() -> Keys {
    let rows = [
        ["interval.ms", "int", "300000", "", ""],
        ["match", "list", "", "", ""],
        ["metrics", "list", "", "", ""],
    ];
    rows.iter().map(|row| (row[0], kafka_resource_key(row, ""))).collect()
}

fn rows(table: &'static str) -> impl Iterator<Item = [&'static str; 5]> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split('\t');
        std::array::from_fn(|_| fields.next().unwrap_or_default())
    })
}

fn kafka_broker_key(&[name, kind, default, update, valid]: &[&'static str; 5]) -> Key {
    let changed = OTHER_DEFAULTS.iter().find(|(key, _)| *key == name);
    Key {
        name,
        kind: Kind::named(kind),
        default: changed.map_or(default, |(_, default)| default),
        valid: Valid::parse(valid),
        doc: ACTING.iter().find(|(key, _)| *key == name).map_or("", |(_, doc)| doc),
        update: match update {
            "cluster-wide" => Update::ClusterWide,
            "per-broker" => Update::PerBroker,
            _ => Update::ReadOnly,
        },
        broker_default: None,
    }
}

fn kafka_resource_key(
    &[name, kind, default, broker_default, valid]: &[&'static str; 5],
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::named(kind),
        default,
        valid: Valid::parse(valid),
        doc,
        update: Update::ClusterWide,
        broker_default: Some(broker_default).filter(|name| !name.is_empty()),
    }
}

type OwnKey = (&'static str, Kind, &'static str, &'static str, &'static str);

fn own_key(&(name, kind, default, valid, doc): &OwnKey) -> Key {
    let valid = Valid::parse(valid);
    Key { name, kind, default, valid, doc, update: Update::ReadOnly, broker_default: None }
}

/// Defaults that are not Kafka's, because a first start must work without a file.
const OTHER_DEFAULTS: [(&str, &str); 2] = [("node.id", "1"), ("listeners", "PLAINTEXT://127.0.0.1:9092")];

/// Our own keys: name, kind, default, valid values, what it does.
const OWN: &[OwnKey] = &[
    (
        "object.store.url",
        Kind::Text,
        "file:./thalweg-data",
        "",
        "Where records live: `file:DIR`, `memory:` (lost at exit), or `s3://bucket/prefix`.",
    ),
    (
        "object.store.s3.endpoint",
        Kind::Text,
        "",
        "",
        "URL of an S3-compatible store, e.g. http://127.0.0.1:9000; AWS when empty. Credentials come from the standard AWS chain only.",
    ),
    (
        "object.store.s3.region",
        Kind::Text,
        "",
        "",
        "AWS region; from the AWS environment or profile when empty, else us-east-1.",
    ),
    (
        "object.store.s3.path.style.access",
        Kind::Text,
        "auto",
        "[auto, true, false]",
        "Whether the bucket's name stands in the path; `auto` is true where an endpoint is set.",
    ),
    (
        "object.store.file.fsync",
        Kind::Boolean,
        "false",
        "",
        "For `file:`: whether each write is forced to the disk. Without it records survive kill -9, with it a power failure too.",
    ),
    (
        "metadata.store.url",
        Kind::Text,
        "embedded",
        "[embedded]",
        "Where metadata live: `embedded` in the object store.",
    ),
    (
        "metadata.snapshot.interval.ms",
        Kind::Long,
        "3600000",
        "[0,...]",
        "How often metadata that changed are written as a snapshot, from which `thalweg restore` makes them anew; 0 for never.",
    ),
    (
        "memory.bytes",
        Kind::Long,
        "1073741824",
        "[67108864,...]",
        "Bytes that requests, the tail of the logs, caches and responses may take together.",
    ),
    (
        "cache.disk.path",
        Kind::Text,
        "",
        "",
        "Directory on a local disk where blocks read from the object store are kept, for this broker alone; none when empty. It holds nothing that matters.",
    ),
    (
        "cache.disk.bytes",
        Kind::Long,
        "10737418240",
        "[268435456,...]",
        "Bytes that the files there may take.",
    ),
    (
        "network.bandwidth.bytes.per.second",
        Kind::Long,
        "0",
        "[0,...]",
        "What the way to the object store carries: uploads take what they need, reads of old data get the rest; 0 for no limit.",
    ),
    (
        "wal.put.rate",
        Kind::Double,
        "-1",
        "",
        "PUTs a second that the write-ahead log may spend on average, which bounds the S3 bill; 0 for no limit; -1 for 20 on S3 and no limit elsewhere.",
    ),
    ("wal.put.burst", Kind::Int, "40", "[1,...]", "PUTs that it may spend at once."),
    (
        "wal.object.bytes",
        Kind::Int,
        "8388608",
        "[65536,...,1073741824]",
        "A WAL object is cut at this many bytes at the latest.",
    ),
    (
        "wal.window",
        Kind::Int,
        "128",
        "[1,...,65536]",
        "WAL objects that may be on their way to the store at once.",
    ),
    (
        "wal.inflight.bytes",
        Kind::Long,
        "67108864",
        "[1048576,...]",
        "Bytes of WAL objects that may be on their way at once.",
    ),
    (
        "wal.hedge.min.ms",
        Kind::Long,
        "50",
        "[1,...]",
        "A PUT is never repeated for slowness before this many milliseconds.",
    ),
    (
        "wal.hedge.max.ms",
        Kind::Long,
        "400",
        "[1,...]",
        "A PUT that takes this many milliseconds is repeated in parallel.",
    ),
    (
        "flush.bytes",
        Kind::Long,
        "524288000",
        "[1048576,...]",
        "The tail is written as larger segments when this many bytes of it are not yet.",
    ),
    (
        "flush.interval.ms",
        Kind::Long,
        "60000",
        "[100,...]",
        "… or when the oldest of it is this many milliseconds old.",
    ),
    (
        "flush.log.bytes",
        Kind::Long,
        "8388608",
        "[65536,...]",
        "A log with this many bytes in a flush gets a segment of its own.",
    ),
    (
        "flush.adopt.block.bytes",
        Kind::Long,
        "131072",
        "[1,...]",
        "A flush whose objects hold this many bytes of a log on average commits them as they are in place of writing them again.",
    ),
    (
        "compaction.enable",
        Kind::Boolean,
        "true",
        "",
        "Whether stored data is rewritten into fewer and better sorted objects in the background.",
    ),
    (
        "compaction.interval.ms",
        Kind::Long,
        "30000",
        "[100,...]",
        "How often to look for what is worth it, in milliseconds, about.",
    ),
    (
        "compaction.memory.bytes",
        Kind::Long,
        "67108864",
        "[1048576,...]",
        "Bytes that are read ahead while data is rewritten; a sixteenth of memory.bytes at most.",
    ),
    (
        "compaction.log.bytes",
        Kind::Long,
        "8388608",
        "[65536,...]",
        "A log with this many bytes side by side in segments that it shares with others gets a segment of its own.",
    ),
    (
        "compaction.plan.bytes",
        Kind::Long,
        "1073741824",
        "[16777216,...]",
        "Bytes that are rewritten by one commit, and the largest size of a segment of many logs.",
    ),
    (
        "request.other.max.bytes",
        Kind::Int,
        "4194304",
        "[4096,...]",
        "Largest request other than Produce, in bytes.",
    ),
    (
        "http.listener",
        Kind::Text,
        "",
        "",
        "HOST:PORT of /metrics, /health and /ready; off when empty. A port alone listens on loopback.",
    ),
    (
        "group.consumer.regex.refresh.interval.ms",
        Kind::Int,
        "600000",
        "[10000,...]",
        "Regular expressions of consumer groups are resolved anew after this many milliseconds, whatever happens.",
    ),
    ("log.format", Kind::Text, "text", "[text, json]", "How log lines are written."),
    (
        "log.level",
        Kind::Text,
        "info,slatedb=warn,foyer=off,foyer_storage=off",
        "",
        "Log filter, e.g. `info` or `warn,thalweg_wal=debug`.",
    ),
    (
        "threads",
        Kind::Int,
        "0",
        "[0,...,1024]",
        "Threads that serve requests; 0 for one per core, 1 for a single-threaded runtime.",
    ),
];

/// Kafka's broker keys that act here, and how.
const ACTING: &[(&str, &str)] = &[
    ("node.id", "This broker's number."),
    ("broker.rack", "Its rack or availability zone, as clients are told."),
    (
        "listeners",
        "Where to listen: NAME://HOST:PORT, several separated by commas. Port 0 asks the system for one.",
    ),
    ("advertised.listeners", "What clients are told, in the same form; the listeners themselves when empty."),
    (
        "listener.security.protocol.map",
        "Security protocol of each listener name; PLAINTEXT is the only one so far.",
    ),
    ("max.connections", "Open connections, in all."),
    ("max.connections.per.ip", "Open connections from one address."),
    ("connections.max.idle.ms", "A connection on which nothing moves for this many milliseconds is closed."),
    ("socket.request.max.bytes", "Largest Produce request, in bytes."),
    ("auto.create.topics.enable", "Whether a topic is created when a client first asks for it."),
    ("num.partitions", "Partitions of a topic that is created without a number."),
    ("fetch.max.bytes", "Most bytes of one Fetch response."),
    ("max.incremental.fetch.session.cache.slots", "Incremental fetch sessions."),
    ("producer.id.expiration.ms", "An idempotent producer is forgotten after this many silent milliseconds."),
    ("max.request.partition.size.limit", "Most partitions in one DescribeTopicPartitions response."),
    ("delete.topic.enable", "Whether topics can be deleted."),
    ("offsets.topic.num.partitions", "Partitions of the topic of groups and offsets, when it is created."),
    ("offsets.topic.segment.bytes", "`segment.bytes` of that topic, when it is created."),
    ("offsets.retention.minutes", "Committed offsets of a group without members are kept for this long."),
    ("offsets.retention.check.interval.ms", "How often expired offsets are looked for."),
    ("offset.metadata.max.bytes", "Longest metadata of a committed offset."),
    ("group.min.session.timeout.ms", "Shortest session timeout that a group's member may ask for."),
    ("group.max.session.timeout.ms", "Longest session timeout that a group's member may ask for."),
    (
        "group.initial.rebalance.delay.ms",
        "How long the first member of an empty group is made to wait for others.",
    ),
    ("group.max.size", "Most members of a classic group."),
    ("group.consumer.session.timeout.ms", "How long nothing may be heard of a consumer group's member."),
    ("group.consumer.heartbeat.interval.ms", "How often members of consumer groups are told to be heard of."),
    ("group.consumer.max.size", "Most members of a consumer group."),
    (
        "group.consumer.assignors",
        "Assignors that members of consumer groups may ask for, of `uniform` and `range`; the first is the default.",
    ),
    (
        "group.consumer.migration.policy",
        "Whether classic groups in use may become consumer groups (`upgrade`), consumer groups classic ones (`downgrade`), or both.",
    ),
    ("group.consumer.assignment.interval.ms", "Shortest time between two assignments of a consumer group."),
    ("transaction.state.log.num.partitions", "Partitions of the topic of transactions, when it is created."),
    ("transaction.state.log.segment.bytes", "`segment.bytes` of that topic, when it is created."),
    ("transaction.max.timeout.ms", "Longest transaction timeout that a producer may ask for."),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "How often transactions that take too long are looked for.",
    ),
    (
        "add.partitions.to.txn.retry.backoff.ms",
        "Between looks whether a producer's last transaction is complete, while it begins the next one.",
    ),
    (
        "add.partitions.to.txn.retry.backoff.max.ms",
        "How long to go on with that before the client is told to try again.",
    ),
    ("transactional.id.expiration.ms", "A transactional id is forgotten after this many idle milliseconds."),
    (
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "How often idle transactional ids are looked for.",
    ),
    ("message.max.bytes", "Largest record batch, in bytes; a topic's max.message.bytes goes before."),
    ("compression.type", "Codec that batches are stored with: the producer's, or another."),
    ("compression.gzip.level", "Level of gzip where the broker compresses."),
    ("compression.lz4.level", "Level of lz4 where the broker compresses."),
    ("compression.zstd.level", "Level of zstd where the broker compresses."),
    (
        "log.message.timestamp.type",
        "Whether records keep the producer's timestamp or get the time of the append.",
    ),
    (
        "log.message.timestamp.before.max.ms",
        "How far a record's timestamp may lie before now, in milliseconds.",
    ),
    ("log.message.timestamp.after.max.ms", "How far it may lie after now, in milliseconds."),
    ("log.cleanup.policy", "delete, compact or both. Compacted topics refuse records without a key."),
    ("log.cleaner.enable", "Whether compacted logs are cleaned."),
    ("log.cleaner.backoff.ms", "How long to wait where there is no log to clean."),
    (
        "log.cleaner.dedupe.buffer.size",
        "Bytes of the table of keys while a log is cleaned; no more than 3 % of memory.bytes.",
    ),
    ("log.cleaner.io.buffer.load.factor", "How full that table may become, 0 to 1."),
    ("log.cleaner.io.max.bytes.per.second", "Bytes a second that are read and written to clean logs."),
    ("log.cleaner.delete.retention.ms", "How long a compacted log keeps what says that a key is deleted."),
    (
        "log.cleaner.min.cleanable.ratio",
        "A log is cleaned once a larger part of it than this is dirty, 0 to 1.",
    ),
    ("log.cleaner.min.compaction.lag.ms", "Records are left alone for this long."),
    ("log.cleaner.max.compaction.lag.ms", "A log is cleaned once something in it is dirty for this long."),
    (
        "log.retention.ms",
        "Records whose newest neighbours are older than this many milliseconds are deleted; -1 for never.",
    ),
    ("log.retention.minutes", "The same in minutes, where log.retention.ms is not set."),
    ("log.retention.hours", "The same in hours, where neither is set."),
    (
        "log.retention.bytes",
        "What a partition has beyond this many bytes is deleted, the oldest first; -1 for no limit.",
    ),
    ("log.retention.check.interval.ms", "How often is looked for records that are to be deleted."),
    (
        "log.segment.delete.delay.ms",
        "Objects that nothing refers to any more are deleted after this many milliseconds, so that reads end.",
    ),
];

/// Kafka's topic keys that act here, and how.
const TOPIC_ACTING: &[(&str, &str)] = &[
    ("cleanup.policy", "delete, compact or both. Compacted topics refuse records without a key."),
    ("delete.retention.ms", "How long a compacted log keeps what says that a key is deleted."),
    ("min.cleanable.dirty.ratio", "A log is cleaned once a larger part of it than this is dirty, 0 to 1."),
    ("min.compaction.lag.ms", "Records are left alone by log compaction for this long."),
    ("max.compaction.lag.ms", "A log is cleaned once something in it is dirty for this long."),
    ("compression.type", "Codec that batches are stored with: the producer's, or another."),
    ("compression.gzip.level", "Level of gzip where the broker compresses."),
    ("compression.lz4.level", "Level of lz4 where the broker compresses."),
    ("compression.zstd.level", "Level of zstd where the broker compresses."),
    ("max.message.bytes", "Largest record batch, in bytes."),
    (
        "message.timestamp.type",
        "Whether records keep the producer's timestamp or get the time of the append.",
    ),
    ("message.timestamp.before.max.ms", "How far a record's timestamp may lie before now, in milliseconds."),
    ("message.timestamp.after.max.ms", "How far it may lie after now, in milliseconds."),
    (
        "retention.ms",
        "Records whose newest neighbours are older than this many milliseconds are deleted; -1 for never.",
    ),
    (
        "retention.bytes",
        "What a partition has beyond this many bytes is deleted, the oldest first; -1 for no limit.",
    ),
    (
        "file.delete.delay.ms",
        "Objects of the topic alone are deleted this many milliseconds after nothing refers to them any more.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_for_its_own_key() {
        let tables = [broker_keys(), topic_keys(), group_keys(), client_metrics_keys()];
        for key in tables.iter().flat_map(Keys::values) {
            if !key.default.is_empty() {
                let checked = super::super::value::check(key, key.default);
                assert!(checked.is_ok(), "{} = {}: {checked:?}", key.name, key.default);
            }
        }
    }

    #[test]
    fn every_documented_key_is_one_of_kafkas() {
        let (broker, topic) = (broker_keys(), topic_keys());
        assert!(ACTING.iter().all(|(name, _)| broker.contains_key(name)));
        assert!(TOPIC_ACTING.iter().all(|(name, _)| topic.contains_key(name)));
        let group = group_keys();
        let defaults = topic.values().chain(group.values()).filter_map(|key| key.broker_default);
        assert!(defaults.into_iter().all(|name| broker.contains_key(name)));
    }
}
