//! Produce, version 7.

use super::{
    connection::{Answers, Api, Connection, Requests},
    wire::{Reader, Writer},
};
use anyhow::Result;

const PRODUCE: Api = Api { key: 0, version: 7 };

/// Encoded batches for some partitions of one topic.
#[derive(Clone, Debug)]
pub struct ProduceRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// 0, 1, or -1 for all.
    pub acks: i16,
    /// (Partition, encoded batch).
    pub partitions: &'a [(i32, Vec<u8>)],
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedPartition {
    /// The partition.
    pub partition: i32,
    /// Error code.
    pub error: i16,
    /// Offset of the batch's first record.
    pub base_offset: i64,
}

impl Connection {
    /// Produces and waits for the answer.
    pub async fn produce(&mut self, request: &ProduceRequest<'_>) -> Result<Vec<ProducedPartition>> {
        read(self.call(PRODUCE, &request.encode()).await?)
    }
}

impl Requests {
    /// Sends a Produce request.
    pub async fn produce(&mut self, request: &ProduceRequest<'_>) -> Result<()> {
        self.send(PRODUCE, &request.encode()).await
    }
}

impl Answers {
    /// Receives the answer to the next Produce request.
    pub async fn produced(&mut self) -> Result<Vec<ProducedPartition>> {
        read(self.receive().await?)
    }
}

impl ProduceRequest<'_> {
    fn encode(&self) -> Vec<u8> {
        let timeout_ms = 30_000;
        let head = Writer::default().null_string().i16(self.acks).i32(timeout_ms).i32(1).string(self.topic);
        head.array(self.partitions.iter(), |to, (partition, batch)| to.i32(*partition).bytes(batch)).finish()
    }
}

fn read(mut answer: Reader) -> Result<Vec<ProducedPartition>> {
    let topics = answer.array(|from| {
        from.string()?;
        from.array(|from| {
            let produced =
                ProducedPartition { partition: from.i32()?, error: from.i16()?, base_offset: from.i64()? };
            let (_log_append_time, _log_start_offset) = (from.i64()?, from.i64()?);
            Ok(produced)
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}
