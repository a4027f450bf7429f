//! /metrics, /health and /ready over HTTP.

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use thalweg_runtime::Runtime;

/// Whether the broker takes requests.
#[derive(Clone)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// It does.
    pub fn ready() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    health: Health,
}

/// Serves on `listener` (`HOST:PORT`, or a port on loopback), if there is one. Returns where.
pub async fn start(
    runtime: &Runtime,
    listener: Option<&str>,
    registry: Registry,
    health: Health,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(listener) = listener else { return Ok(None) };
    let address = if listener.contains(':') { listener.to_owned() } else { format!("127.0.0.1:{listener}") };
    let socket = tokio::net::TcpListener::bind(&address).await;
    let socket = socket.with_context(|| format!("cannot listen on http.listener={listener}"))?;
    let bound = socket.local_addr()?;
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(Shared { registry: Arc::new(registry), health });
    let serving = runtime.spawn(async move {
        if let Err(error) = axum::serve(socket, routes).await {
            tracing::error!(%error, "the HTTP listener ended");
        }
    });
    serving.detach();
    Ok(Some(bound))
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &shared.registry) {
        Ok(()) => Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.health.0.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
