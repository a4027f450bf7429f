//! A raw Kafka client, written from the protocol pages alone (<https://kafka.apache.org/protocol>).
//!
//! It shares no code with Thalweg, so that a mistake in Thalweg's codec cannot hide itself; and it does exactly what it
//! is told: no batching, no metadata, no retries unless asked. One fixed, old version of each API is enough, none of them
//! with tagged fields.

mod admin;
mod batch;
mod connection;
mod consumer;
mod fetch;
mod idempotent;
mod latency;
mod offsets;
mod produce;
mod wire;

pub use admin::{TopicMetadata, create_topic};
pub use batch::{Batch, Producer, Record, next_offset, records};
pub use connection::{Answers, Connection, Requests};
pub use consumer::{end_offset, read_all};
pub use fetch::{FetchRequest, FetchedPartition};
pub use idempotent::{Acknowledged, IdempotentProducer};
pub use latency::Latencies;
pub use produce::{ProduceRequest, ProducedPartition};
pub use wire::{Reader, Writer};

/// Error codes that are handled by name.
pub mod code {
    /// No error.
    pub const NONE: i16 = 0;
    /// The partition is not known (yet).
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    /// Another broker owns the partition.
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    /// The topic exists.
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    /// A sequence number that doesn't follow.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    /// A batch that is there already, too long ago for its offset to be known.
    pub const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;

    /// Whether Kafka's clients repeat a request after this error.
    pub fn is_retriable(code: i16) -> bool {
        // LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, COORDINATOR_LOAD_IN_PROGRESS,
        // COORDINATOR_NOT_AVAILABLE, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR,
        // FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, THROTTLING_QUOTA_EXCEEDED
        const OTHERS: [i16; 11] = [5, 7, 13, 14, 15, 19, 20, 56, 74, 75, 89];
        matches!(code, UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER) || OTHERS.contains(&code)
    }
}
