//! Line 3: what a produce and what idleness cost, counted at the store.

use super::{Report, runtime};
use anyhow::{Result, ensure};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, ProduceRequest},
    proxy::{Kind, Latency, Operation, Proxy},
    servers::{MinIo, Options},
};

/// Produce requests of each measurement, one after another.
const REQUESTS: u64 = 50;
/// Partitions in a request.
const WIDTHS: [i32; 4] = [1, 10, 100, 1000];
/// What opening the metadata store leaves to do in the background (the first looks for compaction work and garbage) is done by
/// then.
const OPENING: Duration = Duration::from_secs(10);
/// How long an idle broker is watched.
const IDLE: Duration = Duration::from_secs(20 * 60);
/// After this long without requests, everything that produces leave to do (a flush a minute) is done.
const SETTLING: Duration = Duration::from_secs(150);

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    minio.bucket("put-count")?;
    let proxy = Proxy::start(minio.address(), Latency::NONE, 1)?;
    // The budget would only make the requests wait; what they cost is the same.
    let broker = Options::on_s3(proxy.address(), "put-count")?.set("wal.put.rate", 1000).start()?;
    let runtime = runtime()?;
    std::thread::sleep(OPENING);
    for width in WIDTHS {
        let topic = format!("width-{width}");
        runtime.block_on(kafka::create_topic(broker.address(), &topic, width))?;
        let before = proxy.counts();
        runtime.block_on(produce_to_all(broker.address(), &topic, width))?;
        let cost = &proxy.counts() - &before;
        let what = |name: &str| format!("{name} for {REQUESTS} produces to {width} partitions");
        let puts = cost.of(Operation::Put, Kind::Wal).requests;
        report.equals(&what("WAL PUTs"), puts, REQUESTS);
        report.equals(&what("GETs"), cost.of_operation(Operation::Get).requests, 0);
        report.note(&what("all requests"), &cost);
    }
    std::thread::sleep(SETTLING);
    let before = proxy.counts();
    std::thread::sleep(IDLE);
    let cost = &proxy.counts() - &before;
    let an_hour = cost.total().requests as f64 * 3600.0 / IDLE.as_secs_f64();
    report.below("requests an hour of an idle broker with 1,111 partitions", an_hour, 100.0);
    report.note(&format!("in {} minutes", IDLE.as_secs() / 60), &cost);
    Ok(())
}

async fn produce_to_all(address: SocketAddr, topic: &str, width: i32) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let batch = Batch::plain(vec![vec![b'x'; 100].into()]).encode();
    let partitions: Vec<_> = (0..width).map(|partition| (partition, batch.clone())).collect();
    for _ in 0..REQUESTS {
        let answers =
            connection.produce(&ProduceRequest { topic, acks: -1, partitions: &partitions }).await?;
        ensure!(answers.iter().all(|answer| answer.error == 0), "{answers:?}");
    }
    Ok(())
}
