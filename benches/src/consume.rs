//! A consumer that does nothing but fetch, with the limits of a Java consumer.
//!
//! Kafka's own perf consumer needs group coordination, which Thalweg does not have yet. This one takes less processor time
//! from the broker on the same machine, too.

use crate::{Run, Subject, perf};
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::{collections::BTreeMap, net::SocketAddr, time::Instant};
use thalweg_end_to_end::{
    kafka::{self, Connection, FetchRequest},
    wait,
};

/// `fetch.max.bytes` of a Java consumer.
const MAX_BYTES: i32 = 50 << 20;
/// `max.partition.fetch.bytes` of a Java consumer.
const PARTITION_MAX_BYTES: i32 = 1 << 20;

/// What the consumer saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Consumed {
    /// Megabytes (10^6) of values a second.
    pub mb_per_s: f64,
}

/// Reads all records (of 1 KiB) of all `partitions` of `topic`, from the start, over one connection.
pub fn consume(subject: &Subject, topic: &str, partitions: i32) -> Result<Run<Consumed>> {
    let address = subject.address();
    let ends = wait::block_on(end_offsets(address, topic, partitions))?;
    let bytes = ends.values().sum::<i64>().unsigned_abs() * perf::RECORD_BYTES;
    perf::measure(subject, bytes, || {
        let started = Instant::now();
        wait::block_on(read_to(address, topic, &ends, |_, _| ()))?;
        Ok(Consumed { mb_per_s: bytes as f64 / 1e6 / started.elapsed().as_secs_f64() })
    })
}

/// Where each of the `partitions` of `topic` ends.
pub async fn end_offsets(address: SocketAddr, topic: &str, partitions: i32) -> Result<BTreeMap<i32, i64>> {
    let mut ends = BTreeMap::new();
    for partition in 0..partitions {
        ends.insert(partition, kafka::end_offset(address, topic, partition).await?);
    }
    Ok(ends)
}

/// Reads all partitions of `topic` from the start to `ends`, over one connection; `each` is shown what comes of a partition, in
/// its order. An error code from the broker is an error.
pub async fn read_to(
    address: SocketAddr,
    topic: &str,
    ends: &BTreeMap<i32, i64>,
    mut each: impl FnMut(i32, &Bytes),
) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let mut positions: BTreeMap<i32, i64> = ends.keys().map(|partition| (*partition, 0)).collect();
    loop {
        let mut wanted: Vec<_> = positions.iter().map(|(partition, at)| (*partition, *at)).collect();
        wanted.retain(|(partition, at)| *at < ends[partition]);
        if wanted.is_empty() {
            return Ok(());
        }
        // The partition that has got least comes first, lest the answer's limit starve it.
        wanted.sort_by_key(|(_, at)| *at);
        let request = FetchRequest {
            topic,
            partitions: &wanted,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            partition_max_bytes: PARTITION_MAX_BYTES,
        };
        for fetched in connection.fetch(&request).await? {
            ensure!(fetched.error == 0, "Fetch {topic}-{}: error {}", fetched.partition, fetched.error);
            each(fetched.partition, &fetched.records);
            if let Some(next) = kafka::next_offset(fetched.records)? {
                positions.insert(fetched.partition, next);
            }
        }
    }
}
