//! Servers in processes of their own: temporary folders, ports from the system, logs in files.

mod kafka;
mod minio;
mod thalweg;

pub use kafka::Kafka;
pub use minio::{ACCESS_KEY, MinIo, REGION, SECRET_KEY};
pub use thalweg::{Options, Thalweg, binary};

use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback address that nobody listens at now, for programs that cannot tell which port the system gave them.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
