//! What an operator can set, under Kafka's names.

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
        }
    }
}
