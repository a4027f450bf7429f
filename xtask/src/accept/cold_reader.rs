//! A consumer of old data that knows what it must get: it adds up a checksum of all that it reads.

use anyhow::{Result, ensure};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thalweg_end_to_end::kafka::{self, Connection, FetchRequest};

/// `fetch.max.bytes` and `max.partition.fetch.bytes` of a Java consumer.
const MAX_BYTES: i32 = 50 << 20;
const PARTITION_MAX_BYTES: i32 = 1 << 20;

/// What is read, and by whom.
#[derive(Clone)]
pub struct ColdReader {
    address: SocketAddr,
    topic: String,
    ends: BTreeMap<i32, i64>,
    read: Arc<AtomicU64>,
}

/// What was read of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes of record batches.
    pub bytes: u64,
    /// A checksum of each partition's batches in their order.
    checksums: BTreeMap<i32, u32>,
}

impl ColdReader {
    /// A reader of all that `topic` holds now.
    pub async fn new(address: SocketAddr, topic: &str, partitions: i32) -> Result<Self> {
        let mut ends = BTreeMap::new();
        for partition in 0..partitions {
            ends.insert(partition, kafka::end_offset(address, topic, partition).await?);
        }
        Ok(Self { address, topic: topic.to_owned(), ends, read: Arc::default() })
    }

    /// Another one of the same.
    pub fn another(&self) -> Self {
        Self { read: Arc::default(), ..self.clone() }
    }

    /// The same at another address.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.another() }
    }

    /// Bytes read so far, for who watches from outside.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// Reads everything from the start. An error code from the broker is an error.
    pub async fn read(&self) -> Result<Content> {
        let mut connection = Connection::open(self.address).await?;
        let mut places: BTreeMap<i32, i64> = self.ends.keys().map(|partition| (*partition, 0)).collect();
        let mut content = Content { bytes: 0, checksums: BTreeMap::new() };
        loop {
            let mut wanted: Vec<_> = places.iter().map(|(partition, at)| (*partition, *at)).collect();
            wanted.retain(|(partition, at)| *at < self.ends[partition]);
            if wanted.is_empty() {
                return Ok(content);
            }
            wanted.sort_by_key(|(_, at)| *at);
            let request = FetchRequest {
                topic: &self.topic,
                partitions: &wanted,
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: MAX_BYTES,
                partition_max_bytes: PARTITION_MAX_BYTES,
            };
            for fetched in connection.fetch(&request).await? {
                let (partition, topic) = (fetched.partition, &self.topic);
                ensure!(fetched.error == 0, "Fetch {topic}-{partition}: error {}", fetched.error);
                let len = fetched.records.len() as u64;
                let checksum = content.checksums.entry(partition).or_default();
                *checksum = crc32c::crc32c_append(*checksum, &fetched.records);
                if let Some(next) = kafka::next_offset(fetched.records)? {
                    places.insert(partition, next);
                }
                content.bytes += len;
                self.read.fetch_add(len, Ordering::Relaxed);
            }
        }
    }
}
