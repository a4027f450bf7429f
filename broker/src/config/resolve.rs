//! What is in force for the broker and for each topic: the start's settings with those laid over that were stored since.

use super::{Config, ConfigError, Key, Keys, value::check};
use crate::coordinator::{
    groups::{ConsumerGroupSettings, GroupSettings, MigrationPolicy, consumer::Assignor},
    transactions::TransactionSettings,
};
use crate::settings::{
    BrokerSettings, CleanerSettings, DynamicSettings, MemorySettings, TargetCompression, TimestampType,
    TopicSettings,
};
use crate::{topics::ResolveSettings, upkeep::compaction::CompactionSettings};
use parking_lot::RwLock;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};
use thalweg_cache::DiskSettings;
use thalweg_object_compactor::{clean::CleanSettings, collect::ListingOrder, plan::Sizes, retention::Limits};
use thalweg_segment::{BrokerId, ObjectStoreConfig};
use thalweg_wal::WalConfig;

/// Compaction takes no more than this part of the memory, whatever it is given. It is of what `MemorySettings` leaves over.
const COMPACTION_PART: usize = 16;

/// Names and values.
pub type Values = BTreeMap<String, String>;

/// The start's settings, and what AlterConfigs has stored: for this broker, and for all.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// For this broker.
    pub broker: Values,
    /// For all brokers.
    pub cluster: Values,
}

impl Resolved {
    /// The value in force of a broker's key.
    pub fn text<'a>(&'a self, config: &'a Config, name: &str) -> &'a str {
        let stored = self.broker.get(name).or_else(|| self.cluster.get(name));
        stored.map_or_else(|| config.text(name), String::as_str)
    }

    /// A number in force of a broker's key whose values are checked to be numbers.
    pub fn number(&self, config: &Config, name: &str) -> i64 {
        self.text(config, name).trim().parse().unwrap_or_else(|_| config.number(name))
    }

    fn size(&self, config: &Config, name: &str) -> usize {
        usize::try_from(self.number(config, name)).unwrap_or(0)
    }

    /// The settings that can change while the broker runs.
    pub fn dynamic(&self, config: &Config) -> DynamicSettings {
        let number = |name| self.number(config, name);
        DynamicSettings {
            auto_create_topics: self.text(config, "auto.create.topics.enable").eq_ignore_ascii_case("true"),
            num_partitions: u32::try_from(number("num.partitions")).unwrap_or(1).max(1),
            fetch_max_bytes: self.size(config, "fetch.max.bytes"),
            fetch_sessions: self.size(config, "max.incremental.fetch.session.cache.slots"),
            producer_id_expiration: millis(number("producer.id.expiration.ms")),
            max_request_partitions: self.size(config, "max.request.partition.size.limit"),
            delete_topics: self.text(config, "delete.topic.enable").eq_ignore_ascii_case("true"),
            consumer_assignment_interval_ms: i32::try_from(number("group.consumer.assignment.interval.ms"))
                .unwrap_or(i32::MAX),
            cleaner: self.cleaner(config),
            topic: self.topic(config, &Values::new()),
        }
    }

    fn fraction(&self, config: &Config, name: &str) -> f64 {
        self.text(config, name).trim().parse().unwrap_or_else(|_| config.fraction(name))
    }

    fn cleaner(&self, config: &Config) -> CleanerSettings {
        CleanerSettings {
            enabled: self.text(config, "log.cleaner.enable").eq_ignore_ascii_case("true"),
            table_bytes: self.size(config, "log.cleaner.dedupe.buffer.size"),
            load_factor: self.fraction(config, "log.cleaner.io.buffer.load.factor"),
            backoff: millis(self.number(config, "log.cleaner.backoff.ms")),
            io_bytes_per_second: self.fraction(config, "log.cleaner.io.max.bytes.per.second"),
        }
    }

    /// The value in force of a key of a group or a subscription, given its own settings.
    pub fn resource_text<'a>(&'a self, config: &'a Config, own: &'a Values, key: &'a Key) -> Cow<'a, str> {
        match (own.get(key.name), key.broker_default) {
            (Some(value), _) => value.into(),
            (None, Some(name)) => self.text(config, name).into(),
            (None, None) => key.default.into(),
        }
    }

    /// The value in force of a topic's key, given the topic's own settings.
    pub fn topic_text<'a>(&'a self, config: &'a Config, own: &'a Values, key: &'a Key) -> Cow<'a, str> {
        match (own.get(key.name), key.broker_default) {
            (Some(value), _) => value.into(),
            (None, Some("log.retention.ms")) => self.retention_ms(config).into(),
            (None, Some(name)) if !self.text(config, name).is_empty() => self.text(config, name).into(),
            (None, _) => key.default.into(),
        }
    }

    /// Kafka's retention time may be given in minutes or hours as well: the finest that is given counts, and hours have a
    /// default. A negative time is none.
    fn retention_ms(&self, config: &Config) -> String {
        let units =
            [("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)];
        let given = |name| self.text(config, name).trim().parse::<i64>().ok();
        let finest = units.iter().find_map(|(name, unit)| given(name).map(|time| time.saturating_mul(*unit)));
        finest.unwrap_or(-1).max(-1).to_string()
    }

    /// A topic's settings that the broker acts on.
    pub fn topic(&self, config: &Config, own: &Values) -> TopicSettings {
        let text = |name: &str| {
            let key = config.topic_keys().get(name).expect("the caller names keys of the table");
            self.topic_text(config, own, key)
        };
        let number = |name: &str| text(name).trim().parse::<i64>().unwrap_or_default();
        let timestamp_type = match text("message.timestamp.type").as_ref() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        };
        let has_policy =
            |wanted: &str| text("cleanup.policy").split(',').any(|policy| policy.trim() == wanted);
        let limit = |name: &str| u64::try_from(number(name)).ok();
        let retention = Limits { ms: limit("retention.ms"), bytes: limit("retention.bytes") };
        TopicSettings {
            timestamp_type,
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            compression: compression(&text("compression.type"), |codec| {
                i32::try_from(number(&format!("compression.{codec}.level"))).ok()
            }),
            compact: has_policy("compact"),
            cleaning: CleanSettings {
                min_dirty_ratio: text("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5),
                min_lag_ms: number("min.compaction.lag.ms"),
                max_lag_ms: number("max.compaction.lag.ms"),
                delete_retention_ms: number("delete.retention.ms"),
            },
            retention: if has_policy("delete") { retention } else { Limits::default() },
            delete_delay: millis(number("file.delete.delay.ms")),
        }
    }
}

fn compression(name: &str, level: impl Fn(&str) -> Option<i32>) -> TargetCompression {
    let codec = |id, level| TargetCompression::Codec { id, level };
    match name {
        "uncompressed" => codec(0, None),
        "gzip" => codec(1, level("gzip")),
        "snappy" => codec(2, None),
        "lz4" => codec(3, level("lz4")),
        "zstd" => codec(4, level("zstd")),
        _ => TargetCompression::Producer,
    }
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

/// What [`crate::topics::Topics`] asks for a topic's settings.
pub fn topic_resolver(config: Arc<Config>, resolved: Arc<RwLock<Resolved>>) -> ResolveSettings {
    Box::new(move |own| resolved.read().topic(&config, own))
}

/// Checks a topic's own settings. Returns the first fault as a sentence.
pub fn check_topic(config: &Config, own: &Values) -> Result<(), String> {
    check_values(config.topic_keys(), "topic", own)?;
    check_compaction_lags(own)?;
    if own.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        let message = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
        return Err(message.to_owned());
    }
    Ok(())
}

/// Whether there are such keys, and each value is one of its key. Returns the first fault as a sentence.
pub(super) fn check_values(keys: &Keys, kind: &str, own: &Values) -> Result<(), String> {
    if let Some(name) = own.keys().find(|name| !keys.contains_key(name.as_str())) {
        return Err(format!("Unknown {kind} config name: {name}"));
    }
    for (key, value) in own.iter().filter_map(|(name, value)| Some((keys.get(name.as_str())?, value))) {
        check(key, value).map_err(|fault| {
            let (shown, why) = (fault.shown(value), fault.in_kafkas_words());
            format!("Invalid value {shown} for configuration {}: {why}", key.name)
        })?;
    }
    Ok(())
}

/// The least lag must not exceed the largest.
fn check_compaction_lags(own: &Values) -> Result<(), String> {
    let lag =
        |name, default: i64| own.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default);
    let (min, max) = (lag("min.compaction.lag.ms", 0), lag("max.compaction.lag.ms", i64::MAX));
    if min > max {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    Ok(())
}

impl Config {
    /// The broker's settings as the start gives them.
    pub fn broker_settings(&self) -> BrokerSettings {
        let id = i32::try_from(self.number("node.id")).unwrap_or(0);
        BrokerSettings {
            broker: BrokerId(id),
            rack: self.optional("broker.rack").map(str::to_owned),
            advertised: Vec::new(),
            wal: self.wal(),
            memory: MemorySettings::divide(self.size("memory.bytes")),
            cache_disk: self.cache_disk(),
            dynamic: Resolved::default().dynamic(self),
            groups: self.groups(),
            transactions: self.transactions(),
            snapshot_interval: Some(millis(self.number("metadata.snapshot.interval.ms")))
                .filter(|interval| !interval.is_zero()),
            retention_check_interval: millis(self.number("log.retention.check.interval.ms")),
            listing: self.listing(),
            compaction: self.compaction(),
        }
    }

    fn compaction(&self) -> CompactionSettings {
        let bytes = |name| self.size(name) as u64;
        let sizes = Sizes::default();
        let plan = bytes("compaction.plan.bytes");
        CompactionSettings {
            enabled: self.flag("compaction.enable"),
            interval: millis(self.number("compaction.interval.ms")),
            memory: self.size("compaction.memory.bytes").min(self.size("memory.bytes") / COMPACTION_PART),
            sizes: Sizes {
                own: bytes("compaction.log.bytes"),
                plan,
                shared: sizes.shared.min(plan),
                ..sizes
            },
        }
    }

    fn cache_disk(&self) -> Option<DiskSettings> {
        let path = self.optional("cache.disk.path")?.into();
        Some(DiskSettings { path, bytes: self.size("cache.disk.bytes") as u64 })
    }

    /// `network.bandwidth.bytes.per.second`, if there is a limit.
    pub fn bandwidth(&self) -> Option<u64> {
        let rate = u64::try_from(self.number("network.bandwidth.bytes.per.second")).unwrap_or(0);
        (rate > 0).then_some(rate)
    }

    fn groups(&self) -> GroupSettings {
        let number = |name| i32::try_from(self.number(name)).unwrap_or(i32::MAX);
        GroupSettings {
            topic_partitions: u32::try_from(self.number("offsets.topic.num.partitions")).unwrap_or(50),
            topic_segment_bytes: self.number("offsets.topic.segment.bytes"),
            offsets_retention: Duration::from_secs(60 * self.size("offsets.retention.minutes") as u64),
            retention_check_interval: millis(self.number("offsets.retention.check.interval.ms")),
            metadata_max_len: self.size("offset.metadata.max.bytes"),
            min_session_timeout_ms: number("group.min.session.timeout.ms"),
            max_session_timeout_ms: number("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: self.size("group.initial.rebalance.delay.ms") as u64,
            max_size: self.size("group.max.size"),
            consumer: self.consumer_groups(),
        }
    }

    fn consumer_groups(&self) -> ConsumerGroupSettings {
        let number = |name| i32::try_from(self.number(name)).unwrap_or(i32::MAX);
        let assignors = self.text("group.consumer.assignors").split(',').map(str::trim);
        let policy = self.text("group.consumer.migration.policy").to_ascii_lowercase();
        ConsumerGroupSettings {
            session_timeout_ms: number("group.consumer.session.timeout.ms"),
            heartbeat_interval_ms: number("group.consumer.heartbeat.interval.ms"),
            max_size: self.size("group.consumer.max.size"),
            assignors: assignors.filter_map(Assignor::named).collect(),
            migration: match policy.as_str() {
                "disabled" => MigrationPolicy::Disabled,
                "upgrade" => MigrationPolicy::Upgrade,
                "downgrade" => MigrationPolicy::Downgrade,
                _ => MigrationPolicy::Bidirectional,
            },
            assignment_interval_ms: number("group.consumer.assignment.interval.ms"),
            regex_refresh_interval_ms: self.number("group.consumer.regex.refresh.interval.ms"),
        }
    }

    fn transactions(&self) -> TransactionSettings {
        let partitions = self.number("transaction.state.log.num.partitions");
        let max_timeout = self.number("transaction.max.timeout.ms");
        let abort_interval = self.number("transaction.abort.timed.out.transaction.cleanup.interval.ms");
        let expiry_interval = self.number("transaction.remove.expired.transaction.cleanup.interval.ms");
        TransactionSettings {
            topic_partitions: u32::try_from(partitions).unwrap_or(50),
            topic_segment_bytes: self.number("transaction.state.log.segment.bytes"),
            max_timeout_ms: i32::try_from(max_timeout).unwrap_or(i32::MAX),
            abort_interval: millis(abort_interval),
            id_expiration: millis(self.number("transactional.id.expiration.ms")),
            expiry_interval: millis(expiry_interval),
            join_backoff: millis(self.number("add.partitions.to.txn.retry.backoff.ms")),
            join_patience: millis(self.number("add.partitions.to.txn.retry.backoff.max.ms")),
        }
    }

    fn wal(&self) -> WalConfig {
        let size = |name| self.size(name);
        let memory = MemorySettings::divide(size("memory.bytes"));
        WalConfig {
            put_rate: self.put_rate(),
            put_burst: u32::try_from(size("wal.put.burst")).unwrap_or(u32::MAX),
            object_bytes: size("wal.object.bytes"),
            window: u32::try_from(size("wal.window")).unwrap_or(u32::MAX),
            inflight_bytes: size("wal.inflight.bytes"),
            hedge_min: millis(self.number("wal.hedge.min.ms")),
            hedge_max: millis(self.number("wal.hedge.max.ms")),
            // What isn't flushed can't be evicted, so it must leave room for what comes in meanwhile.
            flush_bytes: size("flush.bytes").min((memory.produce - memory.log_cache) / 3 * 2),
            flush_interval: millis(self.number("flush.interval.ms")),
            flush_log_bytes: size("flush.log.bytes"),
            flush_adopt_block_bytes: size("flush.adopt.block.bytes"),
            ..WalConfig::default()
        }
    }

    /// Where records live.
    pub fn object_store(&self) -> ObjectStoreConfig {
        ObjectStoreConfig {
            url: self.text("object.store.url").to_owned(),
            endpoint: self.optional("object.store.s3.endpoint").map(str::to_owned),
            region: self.optional("object.store.s3.region").map(str::to_owned),
            path_style: match self.text("object.store.s3.path.style.access") {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            fsync: self.flag("object.store.file.fsync"),
            idle_connections: self.size("wal.window"),
        }
    }

    /// Whether `object.store.url` is one that can be opened, without opening it.
    pub fn check_store(&self) -> Result<(), ConfigError> {
        let known = ["file:", "memory:", "s3://"];
        let url = self.text("object.store.url");
        if known.iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(());
        }
        Err(ConfigError::BadValue {
            name: "object.store.url".into(),
            fault: format!("must be file:DIR, memory: or s3://bucket/prefix, not {url:?}"),
            source_name: self
                .given("object.store.url")
                .map_or("default".into(), |given| given.source.to_string()),
        })
    }

    /// Directories list in no order, nor do the buckets of S3 Express, whose names end so.
    fn listing(&self) -> ListingOrder {
        let url = self.text("object.store.url");
        let bucket = url.strip_prefix("s3://").and_then(|rest| rest.split('/').next());
        match url.starts_with("file:") || bucket.is_some_and(|bucket| bucket.ends_with("--x-s3")) {
            true => ListingOrder::None,
            false => ListingOrder::Keys,
        }
    }

    /// `wal.put.rate`, whose default depends on what a PUT costs.
    fn put_rate(&self) -> Option<f64> {
        let rate = self.fraction("wal.put.rate");
        match rate {
            rate if rate > 0.0 => Some(rate),
            rate if rate < 0.0 && self.text("object.store.url").starts_with("s3:") => Some(20.0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(vec![(Source::Argument, pairs)]).expect("valid settings")
    }

    #[test]
    fn the_defaults_are_those_of_the_structs() {
        assert_eq!(Resolved::default().dynamic(&Config::defaults()), DynamicSettings::default());
    }

    #[test]
    fn the_defaults_of_coordinators_are_kafkas() {
        assert_eq!(Config::defaults().broker_settings().groups, GroupSettings::default());
        assert_eq!(Config::defaults().broker_settings().transactions, TransactionSettings::default());
    }

    #[test]
    fn a_topics_own_value_goes_before_the_brokers_stored_and_given_ones() {
        let config = config(&[("message.max.bytes", "100")]);
        let mut resolved = Resolved::default();
        assert_eq!(resolved.topic(&config, &Values::new()).max_message_bytes, 100);
        resolved.cluster.insert("message.max.bytes".into(), "200".into());
        assert_eq!(resolved.topic(&config, &Values::new()).max_message_bytes, 200);
        let own = Values::from([("max.message.bytes".to_owned(), "300".to_owned())]);
        assert_eq!(resolved.topic(&config, &own).max_message_bytes, 300);
    }

    #[test]
    fn retention_is_given_in_milliseconds_else_minutes_else_hours() {
        let resolved = Resolved::default();
        let retention = |pairs: &[(&str, &str)]| {
            let config = config(pairs);
            resolved.topic_text(&config, &Values::new(), &config.topic_keys()["retention.ms"]).into_owned()
        };
        assert_eq!(retention(&[]), "604800000");
        assert_eq!(retention(&[("log.retention.hours", "1")]), "3600000");
        assert_eq!(retention(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")]), "120000");
        assert_eq!(retention(&[("log.retention.minutes", "2"), ("log.retention.ms", "3")]), "3");
        assert_eq!(retention(&[("log.retention.hours", "-1")]), "-1");
    }

    #[test]
    fn only_topics_whose_policy_is_to_delete_have_limits() {
        let limits = |pairs: &[(&str, &str)]| {
            let own = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Resolved::default().topic(&config(&[]), &own.collect()).retention
        };
        let week = Limits { ms: Some(604_800_000), bytes: None };
        assert_eq!(limits(&[]), week);
        assert_eq!(limits(&[("cleanup.policy", "compact,delete")]), week);
        assert_eq!(limits(&[("cleanup.policy", "compact")]), Limits::default());
        assert_eq!(limits(&[("cleanup.policy", "")]), Limits::default());
        let own = limits(&[("retention.ms", "-1"), ("retention.bytes", "5")]);
        assert_eq!(own, Limits { ms: None, bytes: Some(5) });
        assert_eq!(limits(&[("retention.ms", "0")]).ms, Some(0));
    }

    #[test]
    fn a_directory_and_s3_express_list_in_no_order() {
        let listing = |url| config(&[("object.store.url", url)]).listing();
        for url in ["file:/data", "s3://fast--use1-az4--x-s3/p"] {
            assert_eq!(listing(url), ListingOrder::None, "{url}");
        }
        for url in ["memory:", "s3://bucket/p--x-s3"] {
            assert_eq!(listing(url), ListingOrder::Keys, "{url}");
        }
    }

    #[test]
    fn the_put_budget_is_on_by_default_only_where_puts_cost() {
        assert_eq!(config(&[]).put_rate(), None);
        assert_eq!(config(&[("object.store.url", "s3://b/p")]).put_rate(), Some(20.0));
        assert_eq!(config(&[("object.store.url", "s3://b/p"), ("wal.put.rate", "0")]).put_rate(), None);
        assert_eq!(config(&[("wal.put.rate", "400")]).put_rate(), Some(400.0));
    }

    #[test]
    fn unknown_and_invalid_topic_settings_are_told() {
        let config = Config::defaults();
        let one = |name: &str, value: &str| Values::from([(name.to_owned(), value.to_owned())]);
        assert!(check_topic(&config, &one("retention.ms", "1000")).is_ok());
        assert!(check_topic(&config, &one("retention.msx", "1")).is_err());
        assert!(check_topic(&config, &one("cleanup.policy", "burn")).is_err());
    }
}
