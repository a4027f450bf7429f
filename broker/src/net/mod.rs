//! Kafka's wire protocol over TCP: frames in, frames out, in order and within bounds.
//!
//! Nothing here knows a message. A frame's first bytes tell its class; a [`Service`] makes an answer of it. Per connection
//! one task reads and hands frames to the service, another writes the answers in order:
//!
//! ```text
//! socket → read frame (charged by class) → Service::serve → queue of answers, in order → await → write → socket
//! ```
//! A Produce behind Produces is served at once, while those wait for their PUT. Any other request is served only when all
//! before it are answered, so that it sees their effects.

mod connection;
mod frame;
mod limits;
mod low_water;
mod metrics;
mod pace;
mod rope;
mod server;

pub use frame::{Class, Frame};
pub use limits::{ConnectionLimits, NetSettings};
pub use metrics::NetMetrics;
pub use rope::Rope;
pub use server::{BoundListener, Server};

use crate::context::Principal;
use futures::future::BoxFuture;
use std::{net::SocketAddr, sync::Arc};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name of the listener that it came in by.
    pub listener: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// The authenticated user.
    pub principal: Principal,
}

/// What comes of a request in the end.
#[derive(Debug)]
pub enum Reply {
    /// Send this.
    Send(Rope),
    /// Send nothing (acks=0).
    Nothing,
    /// Close the connection, for this reason.
    Close(String),
}

/// Makes answers of frames.
pub trait Service: Send + Sync + 'static {
    /// What bounds a frame is read under, by its API key, and the API's name for metrics.
    fn class(&self, api_key: i16) -> (Class, &'static str);

    /// Whether the first bytes of a frame, behind which `missing` more will come, already tell that it is refused.
    fn is_too_large(&self, begun: &[u8], missing: usize) -> bool;

    /// Takes a request in. When the outer future is done, its effect has its place in the order of this connection's requests; the
    /// inner one then waits for the answer.
    fn serve<'a>(&'a self, peer: &'a Peer, frame: Frame) -> BoxFuture<'a, BoxFuture<'static, Reply>>;
}
