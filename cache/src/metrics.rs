//! Names of this crate's metrics, with their help.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

const LOG_CACHE_BYTES: (&str, &str) = ("log_cache_bytes", "Bytes that the log cache holds");
const LOG_CACHE_HITS: (&str, &str) = ("log_cache_hits", "Reads that the log cache answered");
const LOG_CACHE_MISSES: (&str, &str) = ("log_cache_misses", "Reads of offsets older than the log cache");
const LOG_CACHE_EVICTED_BYTES: (&str, &str) =
    ("log_cache_evicted_bytes", "Bytes of flushed batches that the log cache has dropped to make room");

pub(crate) struct LogCacheMetrics {
    pub bytes: Gauge,
    pub hits: Counter,
    pub misses: Counter,
    pub evicted_bytes: Counter,
}

impl LogCacheMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            bytes: gauge(registry, LOG_CACHE_BYTES),
            hits: counter(registry, LOG_CACHE_HITS),
            misses: counter(registry, LOG_CACHE_MISSES),
            evicted_bytes: counter(registry, LOG_CACHE_EVICTED_BYTES),
        }
    }
}

fn gauge(registry: &mut Registry, (name, help): (&str, &str)) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, (name, help): (&str, &str)) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
