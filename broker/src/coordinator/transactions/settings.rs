//! What an operator can set, under Kafka's names.

use std::time::Duration;

/// Settings of all transactions. They hold for the life of the process, as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSettings {
    /// `transaction.state.log.num.partitions`: of the topic when it is created.
    pub topic_partitions: u32,
    /// `transaction.state.log.segment.bytes`: a setting of the topic when it is created.
    pub topic_segment_bytes: i64,
    /// `transaction.max.timeout.ms`: the longest that a producer may ask for.
    pub max_timeout_ms: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_interval: Duration,
    /// `transactional.id.expiration.ms`.
    pub id_expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiry_interval: Duration,
    /// `add.partitions.to.txn.retry.backoff.ms`: between looks whether the transaction before is complete, while a partition is to join.
    pub join_backoff: Duration,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long to go on with that.
    pub join_patience: Duration,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            topic_partitions: 50,
            topic_segment_bytes: 104_857_600,
            max_timeout_ms: 900_000,
            abort_interval: Duration::from_secs(10),
            id_expiration: Duration::from_secs(7 * 86_400),
            expiry_interval: Duration::from_secs(3_600),
            join_backoff: Duration::from_millis(20),
            join_patience: Duration::from_millis(100),
        }
    }
}
