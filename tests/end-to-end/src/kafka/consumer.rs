//! Reading partitions from their start to their end.

use super::{Connection, FetchRequest, Record, code, records};
use anyhow::{Result, ensure};
use std::net::SocketAddr;

/// The offset behind a partition's last record.
pub async fn end_offset(address: SocketAddr, topic: &str, partition: i32) -> Result<i64> {
    Connection::open(address).await?.list_offset(topic, partition, -1).await
}

/// All records of a partition up to its end at the time of the call. Fails where offsets don't follow one another.
pub async fn read_all(address: SocketAddr, topic: &str, partition: i32) -> Result<Vec<Record>> {
    let mut connection = Connection::open(address).await?;
    let end = connection.list_offset(topic, partition, -1).await?;
    let mut next = connection.list_offset(topic, partition, -2).await?;
    let mut read = Vec::new();
    while next < end {
        for record in fetch_from(&mut connection, topic, partition, next).await? {
            // Batches come whole: the first one may begin before what was asked for.
            if record.offset < next {
                continue;
            }
            ensure!(
                record.offset == next,
                "{topic}-{partition}: offset {} where {next} must be",
                record.offset
            );
            next += 1;
            read.push(record);
        }
    }
    Ok(read)
}

async fn fetch_from(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Vec<Record>> {
    let request = FetchRequest {
        topic,
        partitions: &[(partition, offset)],
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 4 << 20,
        partition_max_bytes: 4 << 20,
    };
    let fetched = connection.fetch(&request).await?;
    ensure!(fetched.len() == 1, "{} partitions in place of one", fetched.len());
    let error = fetched[0].error;
    ensure!(error == code::NONE, "Fetch {topic}-{partition} at {offset}: error {error}");
    records(fetched[0].records.clone())
}
