//! What an operator can set, under Kafka's names.

use super::consumer::Assignor;
use std::time::Duration;

/// Settings of all groups. They hold for the life of the process, as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `offsets.topic.num.partitions`: of the topic when it is created.
    pub topic_partitions: u32,
    /// `offsets.topic.segment.bytes`: a setting of the topic when it is created.
    pub topic_segment_bytes: i64,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `offset.metadata.max.bytes`: the longest metadata of a committed offset, in UTF-16 units as Java counts them.
    pub metadata_max_len: usize,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// `group.max.size`: most members of a classic group.
    pub max_size: usize,
    /// Consumer groups.
    pub consumer: ConsumerGroupSettings,
}

/// Settings of all consumer groups (KIP-848), where a group has none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: what members are told.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: most members.
    pub max_size: usize,
    /// `group.consumer.assignors`; the first is that of groups whose members ask for none. Never empty.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
    /// `group.consumer.assignment.interval.ms`: shortest time between target assignments of a group (KIP-1263).
    pub assignment_interval_ms: i32,
    /// `group.consumer.regex.refresh.interval.ms`: regular expressions are resolved anew after this, whatever happens.
    pub regex_refresh_interval_ms: i64,
}

/// Which groups in use may change their type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// None.
    Disabled,
    /// Classic groups may become consumer groups.
    Upgrade,
    /// Consumer groups may become classic groups.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl Default for ConsumerGroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: i32::MAX as usize,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::Bidirectional,
            assignment_interval_ms: 1_000,
            regex_refresh_interval_ms: 600_000,
        }
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            topic_partitions: 50,
            topic_segment_bytes: 104_857_600,
            offsets_retention: Duration::from_secs(10_080 * 60),
            retention_check_interval: Duration::from_secs(600),
            metadata_max_len: 4096,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            consumer: ConsumerGroupSettings::default(),
        }
    }
}
