//! Metrics of the network layer.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// The label of what is counted per API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// Counters and gauges of connections and requests. Cheap to clone.
#[derive(Clone)]
pub struct NetMetrics {
    requests: Family<ApiLabel, Counter>,
    latency: Family<ApiLabel, Histogram>,
    received_bytes: Counter,
    sent_bytes: Counter,
    connections: Gauge,
    refused: Counter,
    closed_by_us: Counter,
}

/// Bucket bounds of latencies: from a tail fetch to a PUT in an outage.
const LATENCY_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0];

impl NetMetrics {
    /// Registers everything under its name.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS)),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            connections: Gauge::default(),
            refused: Counter::default(),
            closed_by_us: Counter::default(),
        };
        registry.register("thalweg_requests", "Requests, by API", metrics.requests.clone());
        registry.register_with_unit(
            "thalweg_request_duration",
            "Time from a request's last byte to its answer, by API",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register_with_unit(
            "thalweg_received",
            "Bytes of requests",
            Unit::Bytes,
            metrics.received_bytes.clone(),
        );
        registry.register_with_unit(
            "thalweg_sent",
            "Bytes of responses",
            Unit::Bytes,
            metrics.sent_bytes.clone(),
        );
        registry.register("thalweg_connections", "Open connections", metrics.connections.clone());
        registry.register(
            "thalweg_connections_refused",
            "Connections refused by max.connections or max.connections.per.ip",
            metrics.refused.clone(),
        );
        registry.register(
            "thalweg_connections_closed",
            "Connections that the broker closed, because of bad bytes, idleness or overload",
            metrics.closed_by_us.clone(),
        );
        metrics
    }

    pub(super) fn opened(&self) {
        self.connections.inc();
    }

    pub(super) fn ended(&self, by_us: bool) {
        self.connections.dec();
        if by_us {
            self.closed_by_us.inc();
        }
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn received(&self, api: &'static str, bytes: usize) {
        self.requests.get_or_create(&ApiLabel { api }).inc();
        self.received_bytes.inc_by(bytes as u64 + 4);
    }

    pub(super) fn answered(&self, api: &'static str, after: Duration) {
        self.latency.get_or_create(&ApiLabel { api }).observe(after.as_secs_f64());
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
    }
}
