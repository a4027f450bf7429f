//! The settings that the broker works by, parsed. Where they come from and what they are called stands in `config`.

use crate::{
    coordinator::{groups::GroupSettings, transactions::TransactionSettings},
    upkeep::compaction::CompactionSettings,
};
use std::time::Duration;
use thalweg_cache::DiskSettings;
use thalweg_object_compactor::{clean::CleanSettings, collect::ListingOrder, retention::Limits};
use thalweg_segment::BrokerId;
use thalweg_wal::WalConfig;

/// Where a broker can be reached under one listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, e.g. `PLAINTEXT`.
    pub listener: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Settings that hold for the life of the process.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// `node.id`.
    pub broker: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `advertised.listeners`: what clients are told, per listener. Filled in once the listeners are bound.
    pub advertised: Vec<Endpoint>,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// How the memory budget is divided.
    pub memory: MemorySettings,
    /// The block cache's part on a local disk, if any.
    pub cache_disk: Option<DiskSettings>,
    /// Settings that can change while the broker runs, as they are at start.
    pub dynamic: DynamicSettings,
    /// Groups.
    pub groups: GroupSettings,
    /// Transactions.
    pub transactions: TransactionSettings,
    /// `metadata.snapshot.interval.ms`; none for 0.
    pub snapshot_interval: Option<Duration>,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// How the object store lists.
    pub listing: ListingOrder,
    /// Rewrites of stored data.
    pub compaction: CompactionSettings,
}

/// Bytes of each class of memory; together nine tenths of `memory.bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Produced batches from the socket until they are evicted from the log cache: requests, the WAL, the tail.
    pub produce: usize,
    /// Flushed batches that the log cache keeps, a part of `produce`. The rest of that is for what isn't flushed yet.
    pub log_cache: usize,
    /// The block cache for reads of older data.
    pub block_cache: usize,
    /// Blocks on their way from the object store.
    pub block_reads: usize,
    /// Blocks that are held for consumers that have not asked for them yet.
    pub read_ahead: usize,
    /// Requests other than Produce, while they are decoded and handled.
    pub requests: usize,
    /// Those of them that are on their way in.
    pub receiving: usize,
    /// Responses that clients have not taken yet.
    pub responses: usize,
    /// The state of coordinators: groups' members, committed offsets, transactional ids.
    pub groups: usize,
    /// What is known of idempotent producers.
    pub producer_states: usize,
    /// The decompression of batches.
    pub unpacking: usize,
    /// The table of keys of log compaction. Of the tenth that isn't charged.
    pub cleaner: usize,
}

impl MemorySettings {
    /// Divides a budget: most of it to the tail, which serves both the WAL and its readers. A tenth is left to what isn't charged:
    /// the program itself, its connections, the index, and what the allocator can't give back.
    pub fn divide(total: usize) -> Self {
        let percent = |share: usize| total / 100 * share;
        Self {
            produce: percent(50),
            log_cache: percent(25),
            block_cache: percent(5),
            block_reads: percent(3),
            read_ahead: percent(4),
            requests: percent(5),
            receiving: percent(1),
            responses: percent(7),
            producer_states: percent(4),
            unpacking: percent(2),
            cleaner: percent(3),
            groups: percent(9),
        }
    }
}

/// Broker settings that AlterConfigs can change at run time, under Kafka's names.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicSettings {
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`.
    pub num_partitions: u32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `max.request.partition.size.limit`.
    pub max_request_partitions: usize,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `group.consumer.assignment.interval.ms`.
    pub consumer_assignment_interval_ms: i32,
    /// Log compaction.
    pub cleaner: CleanerSettings,
    /// The defaults of topics that don't set them.
    pub topic: TopicSettings,
}

/// `log.cleaner.…`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerSettings {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.dedupe.buffer.size`: bytes of the table of keys.
    pub table_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: how full the table may become, 0 to 1.
    pub load_factor: f64,
    /// `log.cleaner.backoff.ms`: how long to wait where there is nothing to clean.
    pub backoff: Duration,
    /// `log.cleaner.io.max.bytes.per.second`: bytes that may be read and written.
    pub io_bytes_per_second: f64,
}

/// What the broker sets as timestamp of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The time of the append.
    LogAppendTime,
}

/// `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetCompression {
    /// Keep what the producer chose.
    Producer,
    /// This codec (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd) at this level, where it has levels.
    Codec {
        /// Kafka's number of the codec.
        id: i16,
        /// `compression.gzip.level` and its like.
        level: Option<i32>,
    },
}

/// Settings of a topic that the broker acts on.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `compression.type`.
    pub compression: TargetCompression,
    /// `cleanup.policy` includes `compact`: every record needs a key.
    pub compact: bool,
    /// When and how a compacted log is cleaned.
    pub cleaning: CleanSettings,
    /// `retention.ms` and `retention.bytes`; none where `cleanup.policy` doesn't include `delete`.
    pub retention: Limits,
    /// `file.delete.delay.ms`.
    pub delete_delay: Duration,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            max_message_bytes: 1_048_588,
            compression: TargetCompression::Producer,
            compact: false,
            cleaning: CleanSettings {
                min_dirty_ratio: 0.5,
                min_lag_ms: 0,
                max_lag_ms: i64::MAX,
                delete_retention_ms: 86_400_000,
            },
            retention: Limits { ms: Some(604_800_000), bytes: None },
            delete_delay: Duration::from_secs(60),
        }
    }
}

impl Default for DynamicSettings {
    fn default() -> Self {
        Self {
            auto_create_topics: true,
            num_partitions: 1,
            fetch_max_bytes: 57_671_680,
            fetch_sessions: 1_000,
            producer_id_expiration: Duration::from_secs(86_400),
            max_request_partitions: 2_000,
            delete_topics: true,
            consumer_assignment_interval_ms: 1_000,
            cleaner: CleanerSettings::default(),
            topic: TopicSettings::default(),
        }
    }
}

impl Default for CleanerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            table_bytes: 128 << 20,
            load_factor: 0.9,
            backoff: Duration::from_secs(15),
            io_bytes_per_second: f64::MAX,
        }
    }
}
