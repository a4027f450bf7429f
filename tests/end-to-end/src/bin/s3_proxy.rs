//! The S3 proxy as a program: `s3-proxy --upstream 127.0.0.1:9000 --s3-latency`. Prints its counts once a second.

use anyhow::Result;
use clap::Parser;
use std::{net::SocketAddr, time::Duration};
use thalweg_end_to_end::proxy::{Faults, Latency, Proxy};

/// An S3 proxy with the latency of real S3, counters and faults.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The store behind.
    #[arg(long)]
    upstream: SocketAddr,
    /// Have the latency of real S3.
    #[arg(long)]
    s3_latency: bool,
    /// Latencies and faults are drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of writes (0 to 1) that reach the store but whose answer is lost.
    #[arg(long, default_value_t = 0.0)]
    lose_write_answers: f64,
    /// Answer everything with 503 SlowDown.
    #[arg(long)]
    slow_down: bool,
}

#[expect(clippy::disallowed_methods, reason = "a test tool that runs in real time")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let latency = if arguments.s3_latency { Latency::S3 } else { Latency::NONE };
    let proxy = Proxy::start_at(arguments.listen, arguments.upstream, latency, arguments.seed)?;
    let Arguments { lose_write_answers, slow_down, .. } = arguments;
    proxy.set_faults(Faults { lose_write_answers, slow_down, ..Faults::default() });
    println!("listening on http://{}", proxy.address());
    let mut before = proxy.counts();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = proxy.counts();
        println!("{}", &now - &before);
        before = now;
    }
}
