//! A consumer of old data that knows what it must get: it adds up a checksum of all that it reads.

use anyhow::Result;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thalweg_benches::{Load, Subject, end_offsets, produce, read_to};
use thalweg_end_to_end::{kafka, proxy::Latency, servers::MinIo, wait};

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
        let ends = end_offsets(address, topic, partitions).await?;
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
        let mut content = Content { bytes: 0, checksums: BTreeMap::new() };
        let add = |partition: i32, records: &Bytes| {
            let checksum = content.checksums.entry(partition).or_default();
            *checksum = crc32c::crc32c_append(*checksum, records);
            content.bytes += records.len() as u64;
            self.read.fetch_add(records.len() as u64, Ordering::Relaxed);
        };
        read_to(self.address, &self.topic, &self.ends, add).await?;
        Ok(content)
    }
}

/// Thalweg on `minio` with a disk cache of `bytes` bytes in `disk`, and a topic of its own with `records` records of 1 KiB, of which
/// nothing is in memory.
pub fn cold_subject(
    minio: &MinIo,
    (disk, bytes): (&Path, u64),
    topic: &str,
    partitions: i32,
    records: u64,
) -> Result<Subject> {
    let (path, bytes) = (disk.to_string_lossy(), bytes.to_string());
    let settings = [("cache.disk.path", &*path), ("cache.disk.bytes", bytes.as_str())];
    let mut subject = Subject::on_minio(minio, topic, Latency::NONE, &settings)?;
    wait::block_on(kafka::create_topic(subject.address(), topic, partitions))?;
    produce(&subject, topic, Load::tuned(records))?;
    subject.restart()?;
    Ok(subject)
}
