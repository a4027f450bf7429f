//! Requests that are nearly right, at the real socket.

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::kafka::{Batch, Connection, Writer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

/// Connections at a time.
const WORKERS: u64 = 8;
/// How long an answer to a fuzzed request is waited for: most have none.
const ANSWER: Duration = Duration::from_millis(20);

/// Sends fuzzed requests for `duration`; how many. The same seeds each time.
pub async fn run(address: SocketAddr, duration: Duration) -> Result<u64> {
    let versions = Connection::open(address).await?.api_versions().await?;
    let until = Instant::now() + duration;
    let mut workers = JoinSet::new();
    for seed in 0..WORKERS {
        workers.spawn(fuzz(address, versions.clone(), seed, until));
    }
    let mut sent = 0;
    while let Some(of_worker) = workers.join_next().await {
        sent += of_worker??;
    }
    Ok(sent)
}

async fn fuzz(address: SocketAddr, versions: Vec<(i16, i16, i16)>, seed: u64, until: Instant) -> Result<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut sent = 0;
    while Instant::now() < until {
        // A broker that doesn't accept has died, which must not look like success.
        let mut socket = timeout(Duration::from_secs(30), TcpStream::connect(address)).await??;
        for _ in 0..random.random_range(1..8) {
            if socket.write_all(&request(&mut random, &versions)).await.is_err() {
                break;
            }
            sent += 1;
        }
        drain(&mut socket).await;
    }
    Ok(sent)
}

/// Reads what the broker says until it closes or falls silent.
async fn drain(socket: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + ANSWER;
    while let Ok(Ok(1..)) = timeout_at(deadline, socket.read(&mut buffer)).await {}
}

/// A frame of some API, with a header that is right more often than not and a body that isn't.
fn request(random: &mut SmallRng, versions: &[(i16, i16, i16)]) -> Vec<u8> {
    let (api, lowest, highest) = versions[random.random_range(0..versions.len())];
    let version = random.random_range(lowest..=highest);
    let header = Writer::default().i16(api).i16(version).i32(random.random()).string("fuzz");
    // Flexible versions have tagged fields in their header: none, here.
    let header = if random.random() { header.i8(0) } else { header };
    let mut body = body(random);
    for _ in 0..random.random_range(0..4) {
        mutate(random, &mut body);
    }
    let mut frame = Writer::default().bytes(&header.raw(&body).finish()).finish();
    if random.random_ratio(1, 20) {
        mutate(random, &mut frame);
    }
    frame
}

/// Something like a body: the beginning of a real one, lengths and small numbers, or noise.
fn body(random: &mut SmallRng) -> Vec<u8> {
    match random.random_range(0..3) {
        0 => produce_body(random),
        1 => (0..random.random_range(0..40)).fold(Writer::default(), |to, _| field(random, to)).finish(),
        _ => (0..random.random_range(0..200)).map(|_| random.random()).collect(),
    }
}

fn produce_body(random: &mut SmallRng) -> Vec<u8> {
    let mut batch = Batch::plain(vec![vec![b'x'; random.random_range(0..50)].into()]).encode();
    if random.random() {
        mutate(random, &mut batch);
    }
    let head = Writer::default().null_string().i16(-1).i32(1000).i32(1).string("honest");
    head.i32(1).i32(random.random_range(-1..3)).bytes(&batch).finish()
}

fn field(random: &mut SmallRng, to: Writer) -> Writer {
    match random.random_range(0..7) {
        0 => to.i8(random.random_range(-1..3)),
        1 => to.i16(random.random_range(-2..5)),
        2 => to.i32(random.random_range(-2..5)),
        3 => to.i32(random.random()),
        4 => to.i64(random.random_range(-2..5)),
        5 => to.string("honest"),
        _ => to.varint(random.random()),
    }
}

/// Flips a bit, cuts, repeats or inserts.
fn mutate(random: &mut SmallRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..4) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes.truncate(at),
        2 => bytes.extend_from_within(at..),
        _ => bytes.insert(at, random.random()),
    }
}
