//! The metrics of the write-ahead log: names, help and units.

use crate::sequencer::Cause;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Below the registry's own prefix.
const PREFIX: &str = "wal";
/// Upper bounds of latency buckets, in seconds: from a memory store to a PUT that is repeated.
const PUT_SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 20.0];
/// Upper bounds of flush durations, in seconds.
const FLUSH_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

type CauseLabel = [(&'static str, &'static str); 1];

/// See the help texts in [`Metrics::register`].
#[derive(Clone)]
pub(crate) struct Metrics {
    objects: Family<CauseLabel, Counter>,
    object_bytes: Counter,
    put_seconds: Histogram,
    pub attempts_failed: Counter,
    pub hedges: Counter,
    pub hedges_won: Counter,
    pub in_flight: Gauge,
    pub window_stalls: Counter,
    pub unflushed_bytes: Gauge,
    pub flush_seconds: Histogram,
    pub flushed_bytes: Counter,
    pub trim_point: Gauge,
}

impl Metrics {
    /// Makes the metrics and enters them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            objects: Family::default(),
            object_bytes: Counter::default(),
            put_seconds: Histogram::new(PUT_SECONDS),
            attempts_failed: Counter::default(),
            hedges: Counter::default(),
            hedges_won: Counter::default(),
            in_flight: Gauge::default(),
            window_stalls: Counter::default(),
            unflushed_bytes: Gauge::default(),
            flush_seconds: Histogram::new(FLUSH_SECONDS),
            flushed_bytes: Counter::default(),
            trim_point: Gauge::default(),
        };
        metrics.enter_uploads(registry.sub_registry_with_prefix(PREFIX));
        metrics.enter_flushes(registry.sub_registry_with_prefix(PREFIX));
        metrics
    }

    fn enter_uploads(&self, registry: &mut Registry) {
        registry.register("objects", "WAL objects cut, by cause (size, idle, budget)", self.objects.clone());
        registry.register_with_unit(
            "object",
            "Bytes of batches in the WAL objects cut",
            Unit::Bytes,
            self.object_bytes.clone(),
        );
        registry.register_with_unit(
            "put",
            "From the cut of a WAL object until it was known durable, repetitions included",
            Unit::Seconds,
            self.put_seconds.clone(),
        );
        registry.register(
            "attempts_failed",
            "Attempts to PUT a WAL object that failed or timed out",
            self.attempts_failed.clone(),
        );
        registry.register("hedges", "Second PUTs of a WAL object sent", self.hedges.clone());
        registry.register("hedges_won", "Second PUTs that were answered first", self.hedges_won.clone());
        registry.register("in_flight", "WAL objects being uploaded", self.in_flight.clone());
        registry.register(
            "window_stalls",
            "Times that batches began to wait for the window or the bytes in flight",
            self.window_stalls.clone(),
        );
    }

    fn enter_flushes(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "unflushed",
            "Bytes appended and not yet flushed",
            Unit::Bytes,
            self.unflushed_bytes.clone(),
        );
        registry.register_with_unit(
            "flush",
            "Duration of flushes, from their start to their commit",
            Unit::Seconds,
            self.flush_seconds.clone(),
        );
        registry.register_with_unit(
            "flushed",
            "Bytes of the segments that flushes have written",
            Unit::Bytes,
            self.flushed_bytes.clone(),
        );
        registry.register("trim_point", "Lowest WAL sequence that is still needed", self.trim_point.clone());
    }

    /// An object of `bytes` was cut.
    pub fn cut(&self, cause: Cause, bytes: usize) {
        let cause = match cause {
            Cause::Size => "size",
            Cause::Idle => "idle",
            Cause::Budget => "budget",
        };
        self.objects.get_or_create(&[("cause", cause)]).inc();
        self.object_bytes.inc_by(bytes as u64);
    }

    /// An object was known durable `after` its cut.
    pub fn durable(&self, after: Duration) {
        self.put_seconds.observe(after.as_secs_f64());
    }
}
