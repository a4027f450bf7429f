//! Kafka's semantics: how long 100,000 groups keep a restarted coordinator busy, and what memory they take.

use super::{Report, runtime};
use anyhow::{Result, ensure};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Connection},
    servers::{MinIo, Options, Thalweg},
    wait,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const GROUPS: usize = 100_000;
const TOPIC: &str = "committed";
/// A connection's commits follow one another, as in Kafka.
const CONNECTIONS: usize = 500;
const LOAD_TARGET_S: f64 = 2.0;
const BYTES_TARGET: f64 = 1024.0;
/// Every so many groups one is asked for: some of each partition of `__consumer_offsets`.
const ASKED: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that is free again is given back to the system within this time.
const SETTLING: Duration = Duration::from_secs(30);

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let runtime = runtime()?;
    let mut broker = Options::on_minio(&minio, "groups")?.start()?;
    runtime.block_on(kafka::create_topic(broker.address(), TOPIC, 1))?;
    // What a broker with its internal topic takes that has nothing but one group.
    runtime.block_on(commit_first(broker.address()))?;
    broker.kill()?;
    let bare = restart(&runtime, &mut broker, 1)?;
    let started = Instant::now();
    runtime.block_on(commit_all(broker.address()))?;
    report.note(&format!("{GROUPS} first commits, s"), format!("{:.1}", started.elapsed().as_secs_f64()));
    broker.kill()?;
    let full = restart(&runtime, &mut broker, GROUPS)?;
    report.note("process start to all coordinators loaded, one group, s", format!("{:.2}", bare.loaded_s));
    report.note("process start to serving with all groups, s", format!("{:.2}", full.serving_s));
    report.at_most(
        &format!("process start to all coordinators loaded, {GROUPS} groups, s"),
        full.loaded_s,
        LOAD_TARGET_S,
    );
    report.note("resident memory with one group, MB", format!("{:.1}", bare.resident / 1e6));
    report.note("resident memory with all groups, MB", format!("{:.1}", full.resident / 1e6));
    let strings = (name(0).len() + TOPIC.len()) as f64;
    let each = (full.resident - bare.resident) / GROUPS as f64;
    report.at_most("resident bytes a group beyond its own strings", each - strings, BYTES_TARGET);
    Ok(())
}

/// A life of the broker.
struct Life {
    /// Seconds from its start until it answered.
    serving_s: f64,
    /// Seconds from its start until it knew all its groups.
    loaded_s: f64,
    /// Bytes, once settled.
    resident: f64,
}

/// Starts the broker again, and asks for some of its `groups` groups.
fn restart(runtime: &tokio::runtime::Runtime, broker: &mut Thalweg, groups: usize) -> Result<Life> {
    let started = Instant::now();
    broker.start_again()?;
    let serving_s = started.elapsed().as_secs_f64();
    runtime.block_on(ask(broker.address(), groups))?;
    let loaded_s = started.elapsed().as_secs_f64();
    std::thread::sleep(SETTLING);
    Ok(Life { serving_s, loaded_s, resident: broker.process().usage()?.resident as f64 })
}

async fn ask(address: SocketAddr, groups: usize) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let deadline = Instant::now() + PATIENCE;
    for number in (0..groups).step_by(ASKED) {
        while !is_known(&mut connection, number).await? {
            ensure!(Instant::now() < deadline, "group {number} is not loaded after {PATIENCE:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

/// Whether the group's coordinator is loaded. Fails if it is and knows nothing of the group.
async fn is_known(connection: &mut Connection, number: usize) -> Result<bool> {
    match connection.committed_offset(&name(number), TOPIC).await? {
        Ok(offset) => {
            ensure!(offset == offset_of(number), "group {number}: offset {offset}");
            Ok(true)
        }
        Err(error) if kafka::code::is_retriable(error) => Ok(false),
        Err(error) => anyhow::bail!("OffsetFetch: error {error}"),
    }
}

async fn commit_all(address: SocketAddr) -> Result<()> {
    let mut connections = JoinSet::new();
    let each = GROUPS / CONNECTIONS;
    for first in (0..GROUPS).step_by(each) {
        connections.spawn(commit(address, first..first + each));
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}

/// The first commit of all.
async fn commit_first(address: SocketAddr) -> Result<()> {
    wait::until_ok("the first commit", PATIENCE, || async {
        Connection::open(address).await?.commit_first_offset(&name(0), TOPIC, offset_of(0)).await
    })
    .await
}

/// A commit for each of some groups.
async fn commit(address: SocketAddr, groups: std::ops::Range<usize>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut connection = Connection::open(address).await?;
    for group in groups {
        loop {
            match connection.commit_offset(&name(group), TOPIC, offset_of(group)).await? {
                0 => break,
                error if kafka::code::is_retriable(error) && Instant::now() < deadline => {
                    sleep(Duration::from_millis(1)).await;
                }
                error => anyhow::bail!("commit of group {group}: error {error}"),
            }
        }
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("group-{number:06}")
}

/// An offset by which a group is recognised.
fn offset_of(number: usize) -> i64 {
    i64::try_from(number).map_or(0, |number| number + 1)
}
