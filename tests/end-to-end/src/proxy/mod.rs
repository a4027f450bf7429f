//! An S3 proxy between a broker and MinIO: it has the latency of real S3, counts, and misbehaves on demand.
//!
//! HTTP/1.1 on both sides, bodies streamed, connections kept. The `Host` header, which is part of AWS's signature, goes
//! through unchanged, so the store accepts requests that were signed for the proxy.

mod body;
mod counts;
mod faults;
mod latency;
mod relay;

pub use counts::{Counts, Kind, Operation, Tally};
pub use faults::Faults;
pub use latency::{Latency, Profile};

use anyhow::Result;
use parking_lot::Mutex;
use relay::Relay;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};
use tokio::{net::TcpListener, sync::oneshot};

/// A running proxy with a thread of its own. Dropping it closes its listener and all its connections.
pub struct Proxy {
    address: SocketAddr,
    relay: Arc<Relay>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one before the store at `upstream`. `latency` and all faults are drawn from `seed`.
    pub fn start(upstream: SocketAddr, latency: Latency, seed: u64) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), upstream, latency, seed)
    }

    /// Starts one that listens at `address`.
    pub fn start_at(address: SocketAddr, upstream: SocketAddr, latency: Latency, seed: u64) -> Result<Self> {
        let relay = Arc::new(Relay::new(upstream, latency, seed));
        let (bound, when_bound) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serving = relay.clone();
        let thread = std::thread::Builder::new().name("s3-proxy".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime needs nothing but file descriptors");
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await;
                let local = listener
                    .as_ref()
                    .map_err(|error| error.to_string())
                    .and_then(|listener| listener.local_addr().map_err(|error| error.to_string()));
                let _ = bound.send(local);
                if let Ok(listener) = listener {
                    tokio::select! {
                        biased;
                        _ = stopped => {}
                        () = serving.serve(listener) => {}
                    }
                }
            });
        })?;
        let address = when_bound.recv()?.map_err(anyhow::Error::msg)?;
        Ok(Self { address, relay, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has gone through so far.
    pub fn counts(&self) -> Counts {
        self.relay.counts()
    }

    /// Requests that a pause holds back.
    pub fn waiting(&self) -> usize {
        self.relay.waiting()
    }

    /// Changes the faults from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.relay.set_faults(faults);
    }

    /// Changes the latency from the next request on.
    pub fn set_latency(&self, latency: Latency) {
        self.relay.set_latency(latency);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State that changes while requests read it; held for a copy only.
type Shared<T> = Arc<Mutex<T>>;

fn shared<T>(value: T) -> Shared<T> {
    Arc::new(Mutex::new(value))
}
