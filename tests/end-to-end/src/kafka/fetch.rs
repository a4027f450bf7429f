//! Fetch, version 4, and ListOffsets, version 1.

use super::{
    connection::{Api, Connection},
    wire::Writer,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;

const FETCH: Api = Api { key: 1, version: 4 };
const LIST_OFFSETS: Api = Api { key: 2, version: 1 };

/// What is asked of one topic.
#[derive(Clone, Debug)]
pub struct FetchRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// (Partition, offset).
    pub partitions: &'a [(i32, i64)],
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Answer when there are so many bytes.
    pub min_bytes: i32,
    /// Bytes at most, in all.
    pub max_bytes: i32,
    /// Bytes at most of each partition.
    pub partition_max_bytes: i32,
}

/// What came of one partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// Error code.
    pub error: i16,
    /// High watermark.
    pub high_watermark: i64,
    /// Record batches.
    pub records: Bytes,
}

impl Connection {
    /// Fetches.
    pub async fn fetch(&mut self, request: &FetchRequest<'_>) -> Result<Vec<FetchedPartition>> {
        let mut answer = self.call(FETCH, &request.encode()).await?;
        answer.i32()?;
        let topics = answer.array(|from| {
            from.string()?;
            from.array(|from| {
                let (partition, error, high_watermark) = (from.i32()?, from.i16()?, from.i64()?);
                let _last_stable_offset = from.i64()?;
                from.array(|from| Ok((from.i64()?, from.i64()?)))?;
                Ok(FetchedPartition { partition, error, high_watermark, records: from.bytes()? })
            })
        })?;
        Ok(topics.into_iter().flatten().collect())
    }

    /// The offset that ListOffsets gives for `timestamp` (-1: the end, -2: the start).
    pub async fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let body =
            Writer::default().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp).finish();
        let mut answer = self.call(LIST_OFFSETS, &body).await?;
        let topics = answer.array(|from| {
            from.string()?;
            from.array(|from| Ok((from.i32()?, from.i16()?, from.i64()?, from.i64()?)))
        })?;
        let (_, error, _, offset) =
            *topics.first().and_then(|parts| parts.first()).context("an empty answer")?;
        ensure!(error == 0, "ListOffsets {topic}-{partition}: error {error}");
        Ok(offset)
    }
}

impl FetchRequest<'_> {
    fn encode(&self) -> Vec<u8> {
        let (consumer, uncommitted) = (-1, 0);
        let head =
            Writer::default().i32(consumer).i32(self.max_wait_ms).i32(self.min_bytes).i32(self.max_bytes);
        head.i8(uncommitted)
            .i32(1)
            .string(self.topic)
            .array(self.partitions.iter(), |to, (partition, offset)| {
                to.i32(*partition).i64(*offset).i32(self.partition_max_bytes)
            })
            .finish()
    }
}
