//! Bytes that are not Kafka, at the real socket.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use anyhow::{Result, bail};
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Writer},
    servers::Options,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// More memory than a few hostile connections have a right to.
const MEMORY_GROWTH: u64 = 64 << 20;

/// Sends `bytes` and waits until the broker closes the connection.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    // The broker may close before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut rest = Vec::new();
    match timeout(PATIENCE, socket.read_to_end(&mut rest)).await {
        Ok(_) => Ok(()),
        Err(_) => bail!("the connection stays open"),
    }
}

/// A request whose body claims an array of two billion elements.
fn huge_array(api: i16, version: i16) -> Vec<u8> {
    let body = Writer::default().i16(api).i16(version).i32(1).string("hostile").i32(i32::MAX).finish();
    Writer::default().bytes(&body).finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kafka_is_closed_and_others_go_on() {
    let mut broker = Options::new().unwrap().start().unwrap();
    let address = broker.address();
    kafka::create_topic(address, "honest", 1).await.unwrap();
    let before = broker.process().usage().unwrap();
    let hostile: [(&str, Vec<u8>); 6] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 505]].concat()),
        ("a giant length", i32::MAX.to_be_bytes().to_vec()),
        ("a negative length", (-5_i32).to_be_bytes().to_vec()),
        ("a giant array in Metadata", huge_array(3, 1)),
        ("a giant array in CreateTopics", huge_array(19, 2)),
    ];
    for (what, bytes) in &hostile {
        for _ in 0..20 {
            is_closed_after(address, bytes).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
    let mut producer = kafka::IdempotentProducer::new(address, "honest", 0..1, 10, 100).await.unwrap();
    let mut requests = 0..10;
    producer.run(|_| requests.next().is_none()).await.unwrap();
    producer.check_all().await.unwrap();
    let grown = broker.process().usage().unwrap().resident_peak.saturating_sub(before.resident);
    assert!(grown < MEMORY_GROWTH, "{} MiB more", grown >> 20);
    assert!(broker.is_running() && !broker.process().output().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_a_hang_up_harm_nobody() {
    let mut broker = Options::new().unwrap().start().unwrap();
    let address = broker.address();
    let whole =
        Writer::default().bytes(&Writer::default().i16(18).i16(0).i32(1).string("half").finish()).finish();
    for length in 0..whole.len() {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&whole[..length]).await.unwrap();
    }
    kafka::Connection::open(address).await.unwrap().api_versions().await.unwrap();
    assert!(broker.is_running() && !broker.process().output().contains("panicked"));
}
