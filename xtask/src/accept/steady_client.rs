//! A well-behaved client whose latencies are watched while others misbehave.

use anyhow::{Result, ensure};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::kafka::{Batch, Connection, Latencies, ProduceRequest};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Produces one record to partition 0 of `topic` every `period`, for `duration`; the latencies of the acknowledgements.
pub async fn produce_steadily(
    address: SocketAddr,
    topic: &str,
    period: Duration,
    duration: Duration,
) -> Result<Latencies> {
    let mut connection = Connection::open(address).await?;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let until = Instant::now() + duration;
    let mut latencies = Latencies::default();
    while Instant::now() < until {
        ticks.tick().await;
        let started = Instant::now();
        produce_one(&mut connection, topic).await?;
        latencies.add(started.elapsed());
    }
    Ok(latencies)
}

/// Produces one record to partition 0 and waits for its acknowledgement.
pub async fn produce_one(connection: &mut Connection, topic: &str) -> Result<()> {
    let batch = Batch::plain(vec![vec![b'x'; 100].into()]).encode();
    let request = ProduceRequest { topic, acks: -1, partitions: &[(0, batch)] };
    let answers = connection.produce(&request).await?;
    ensure!(answers.len() == 1 && answers[0].error == 0, "{answers:?}");
    Ok(())
}

/// Connects and produces, over and over, until the first acknowledgement or `deadline`.
pub async fn first_acknowledgement(address: SocketAddr, topic: &str, deadline: Instant) -> Result<()> {
    let once = async || produce_one(&mut Connection::open(address).await?, topic).await;
    loop {
        match timeout_at(deadline, once()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ensure!(Instant::now() < deadline, "no acknowledgement in time: {error:#}"),
            Err(_) => anyhow::bail!("no acknowledgement in time"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
