//! Listens, and runs a task for each connection.

use super::{
    NetMetrics, Peer, Service,
    connection::{Shared, serve},
    limits::{ConnectionLimits, NetSettings},
};
use crate::context::Principal;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use thalweg_runtime::{Runtime, TaskHandle};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A listening socket, bound and not yet served.
pub struct BoundListener {
    name: Arc<str>,
    socket: TcpListener,
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Wait after a failed accept: the system is out of file descriptors, say.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

impl BoundListener {
    /// Binds the listener called `name`. Port 0 asks the system for one.
    pub fn bind(name: &str, address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { name: name.into(), socket: TcpListener::from_std(socket.into())? })
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Listeners that are being served.
pub struct Server {
    draining: watch::Sender<bool>,
    /// Each connection holds a receiver; all gone means all connections have ended.
    open: watch::Sender<()>,
    _accepting: Vec<TaskHandle>,
}

impl Server {
    /// Begins to accept connections on `listeners`.
    pub fn start(
        runtime: &Runtime,
        listeners: Vec<BoundListener>,
        service: &Arc<dyn Service>,
        settings: &NetSettings,
        metrics: &NetMetrics,
    ) -> Self {
        let draining = watch::Sender::new(false);
        let open = watch::Sender::new(());
        let limits = ConnectionLimits::default();
        let shared = Shared {
            runtime: runtime.clone(),
            service: service.clone(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            draining: draining.subscribe(),
        };
        let accept = |listener| {
            let accepting = accept(shared.clone(), listener, limits.clone(), open.clone());
            runtime.spawn_essential("a listener", accepting)
        };
        let accepting = listeners.into_iter().map(accept).collect();
        Self { draining, open, _accepting: accepting }
    }

    /// Takes no new connection and no new request, and returns once all that are in hand are answered.
    pub async fn drain(&self) {
        self.draining.send_replace(true);
        self.open.closed().await;
    }
}

async fn accept(shared: Shared, listener: BoundListener, limits: ConnectionLimits, open: watch::Sender<()>) {
    let mut draining = shared.draining.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                begin(&shared, &listener.name, socket, address, &limits, &open);
                // A storm of new connections takes turns with those that are being served.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(listener = &*listener.name, %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn begin(
    shared: &Shared,
    listener: &Arc<str>,
    socket: TcpStream,
    address: SocketAddr,
    limits: &ConnectionLimits,
    open: &watch::Sender<()>,
) {
    let place = match limits.enter(address.ip(), &shared.settings) {
        Ok(place) => place,
        Err(limit) => {
            shared.metrics.refused();
            tracing::debug!(%address, limit, "connection refused");
            return;
        }
    };
    // Answers are written whole, so nothing is gained by delaying a segment.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%address, %error, "connection lost before it was served");
        return;
    }
    let peer = Peer { listener: listener.clone(), address, principal: Principal::anonymous() };
    let (shared, still_open) = (shared.clone(), open.subscribe());
    let runtime = shared.runtime.clone();
    let task = runtime.spawn(async move {
        shared.metrics.opened();
        let (reader, writer) = socket.into_split();
        let metrics = shared.metrics.clone();
        let end = serve(shared, peer, reader, writer).await;
        metrics.ended(end.by_us());
        if end.by_us() {
            tracing::info!(%address, reason = %end, "connection closed");
        } else {
            tracing::debug!(%address, reason = %end, "connection ended");
        }
        drop((place, still_open));
    });
    task.detach();
}
