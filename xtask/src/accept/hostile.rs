//! Line 9: ten thousand connections that mean harm, and ten minutes of fuzzed requests.

use super::{Report, fuzz, runtime, steady_client::produce_steadily};
use anyhow::{Context, Result};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Connection, Writer},
    process::raise_file_limit,
    servers::{Options, Thalweg},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

const CONNECTIONS: usize = 10_000;
/// One connection in so many sends a frame of 100 MiB; the others share the kinds of cheap malice.
const ONE_LARGE_IN: usize = 50;
/// Large frames on the way at a time: more would measure how fast we can send.
const LARGE_AT_A_TIME: usize = 4;
const LARGE: usize = 100 << 20;
const WATCHED: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(5);
const MEMORY: u64 = 512 << 20;
const FUZZED: Duration = Duration::from_secs(600);
const TOPIC: &str = "honest";

pub fn check(report: &mut Report) -> Result<()> {
    raise_file_limit(CONNECTIONS as u64 + 1000)
        .context("10,000 connections need as many file descriptors")?;
    let mut broker = Options::new()?.set("memory.bytes", MEMORY).start()?;
    let address = broker.address();
    // The honest client has a thread of its own: it isn't the attackers' process whose latency is asked for.
    let honest = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hostile = runtime()?;
    honest.block_on(kafka::create_topic(address, TOPIC, 1))?;
    let alone = honest.block_on(produce_steadily(address, TOPIC, PERIOD, WATCHED))?;
    let attack = hostile.spawn(attack_with_all(address));
    let beside = honest.block_on(produce_steadily(address, TOPIC, PERIOD, WATCHED))?;
    attack.abort();
    report.note("an honest client, alone", &alone);
    report.note("an honest client beside 10,000 hostile connections", &beside);
    report.at_most(
        "its P99 beside them / alone",
        beside.percentile_ms(0.99) / alone.percentile_ms(0.99),
        2.0,
    );
    healthy(report, "after 10,000 hostile connections", &mut broker)?;
    let sent = hostile.block_on(fuzz::run(address, FUZZED))?;
    report.note("fuzzed requests sent", sent);
    honest.block_on(async { Connection::open(address).await?.metadata(TOPIC).await })?;
    healthy(report, "after the fuzzed requests", &mut broker)
}

fn healthy(report: &mut Report, when: &str, broker: &mut Thalweg) -> Result<()> {
    report.must(&format!("{when}: the broker runs"), broker.is_running());
    report.must(&format!("{when}: no panic in its log"), !broker.process().output().contains("panicked"));
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let peak = broker.process().usage()?.resident_peak;
    report.at_most(&format!("{when}: largest resident memory, MiB"), mebibytes(peak), mebibytes(MEMORY));
    Ok(())
}

/// Opens all hostile connections and keeps them open until the task is dropped.
async fn attack_with_all(address: SocketAddr) {
    let large: Arc<[Vec<u8>]> = LARGE_KINDS.map(large_frame).into();
    let sending = Arc::new(Semaphore::new(LARGE_AT_A_TIME));
    let mut connections = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (large, sending) = (large.clone(), sending.clone());
        connections.spawn(async move {
            // A broker that closes the connection early is right to do so.
            let _ = attack(address, number, &large, &sending).await;
            sleep(WATCHED).await;
        });
        // Connects as fast as the broker accepts, and not so fast that the kernel's queue of new connections overflows.
        tokio::task::yield_now().await;
    }
    while connections.join_next().await.is_some() {}
}

async fn attack(address: SocketAddr, number: usize, large: &[Vec<u8>], sending: &Semaphore) -> Result<()> {
    let mut socket = timeout(WATCHED, TcpStream::connect(address)).await??;
    if number.is_multiple_of(ONE_LARGE_IN) {
        let _turn = sending.acquire().await?;
        let frame = &large[number / ONE_LARGE_IN % large.len()];
        timeout(WATCHED, socket.write_all(frame)).await??;
    } else {
        socket.write_all(&malice(number)).await?;
    }
    sleep(WATCHED).await;
    Ok(())
}

/// Garbage, half a frame, a giant length, or nothing.
fn malice(number: usize) -> Vec<u8> {
    match number % 4 {
        0 => number.to_be_bytes().repeat(64),
        1 => Writer::default().i32(1000).i16(3).i16(1).i32(7).string("half").finish(),
        2 => Writer::default().i32(i32::MAX).i16(0).i16(7).finish(),
        _ => Vec::new(),
    }
}

/// API key and version of requests that begin with an array of strings or topics (after `head` bytes of other fields).
const LARGE_KINDS: [(i16, i16, usize); 3] = [
    (3, 1, 0),  // Metadata: names of topics
    (15, 0, 0), // DescribeGroups: ids of groups
    (0, 7, 8),  // Produce: topics, after a transactional id, acks and timeout
];

/// A well-formed frame of 100 MiB that holds nothing but tiny elements.
fn large_frame((api, version, head): (i16, i16, usize)) -> Vec<u8> {
    let header = Writer::default().i16(api).i16(version).i32(1).string("large").finish();
    // An element is a string of one letter; in Produce an empty array follows it.
    let element = match api {
        0 => Writer::default().string("a").i32(0).finish(),
        _ => Writer::default().string("a").finish(),
    };
    // A null transactional id, acks=all, a timeout of a second.
    let fields = [&[0xff, 0xff, 0xff, 0xff][..], &1000_i32.to_be_bytes()].concat();
    let count = (LARGE - header.len() - head - 4) / element.len();
    let count_field = i32::try_from(count).expect("100 MiB hold fewer than two billion elements");
    let body =
        Writer::default().raw(&header).raw(&fields[..head]).i32(count_field).raw(&element.repeat(count));
    Writer::default().bytes(&body.finish()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_are_as_large_as_a_broker_allows() {
        for kind in LARGE_KINDS {
            let frame = large_frame(kind);
            assert!(frame.len() <= LARGE + 4 && frame.len() > LARGE - 100, "{}", frame.len());
        }
    }
}
