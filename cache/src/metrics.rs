//! Names of this crate's metrics, with their help.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

const LOG_CACHE_BYTES: (&str, &str) = ("thalweg_log_cache_bytes", "Bytes that the log cache holds");
const LOG_CACHE_HITS: (&str, &str) = ("thalweg_log_cache_hits", "Reads that the log cache answered");
const LOG_CACHE_MISSES: (&str, &str) =
    ("thalweg_log_cache_misses", "Reads of offsets older than the log cache");
const LOG_CACHE_EVICTED_BYTES: (&str, &str) = (
    "thalweg_log_cache_evicted_bytes",
    "Bytes of flushed batches that the log cache has dropped to make room",
);

const BLOCK_CACHE_BYTES: (&str, &str) = ("thalweg_block_cache_bytes", "Bytes that the block cache holds");
const BLOCK_CACHE_HITS: (&str, &str) = ("thalweg_block_cache_hits", "Blocks that the block cache had");
const BLOCK_CACHE_MISSES: (&str, &str) = (
    "block_cache_misses",
    "Blocks that were read from the object store, or waited for while another reader did",
);
const BLOCK_CACHE_FETCHED_BYTES: (&str, &str) =
    ("thalweg_block_cache_fetched_bytes", "Bytes of blocks read from the object store");
const BLOCK_CACHE_IN_FLIGHT_BYTES: (&str, &str) =
    ("thalweg_block_cache_in_flight_bytes", "Bytes of blocks that are being read from the object store");

const READ_AHEAD_BYTES: (&str, &str) =
    ("thalweg_read_ahead_bytes", "Bytes that are held for consumers that have not asked for them yet");
const READ_AHEAD_DROPPED_BYTES: (&str, &str) = (
    "thalweg_read_ahead_dropped_bytes",
    "Bytes that were read ahead and given up before anybody asked for them",
);

const DISK_CACHE_READ_BYTES: (&str, &str) =
    ("thalweg_disk_cache_read_bytes", "Bytes of blocks that the disk cache gave");
const DISK_CACHE_WRITTEN_BYTES: (&str, &str) =
    ("thalweg_disk_cache_written_bytes", "Bytes of blocks written to the disk cache");
const DISK_CACHE_DECLINED_BYTES: (&str, &str) = (
    "thalweg_disk_cache_declined_bytes",
    "Bytes of blocks not written to the disk cache because the disk was behind",
);
const DISK_CACHE_SWITCHED_OFF: (&str, &str) =
    ("thalweg_disk_cache_switched_off", "How often the disk cache was switched off, for errors or slowness");

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

pub(crate) struct BlockCacheMetrics {
    pub bytes: Gauge,
    pub hits: Counter,
    pub misses: Counter,
    pub fetched_bytes: Counter,
    in_flight_bytes: Gauge,
}

impl BlockCacheMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            bytes: gauge(registry, BLOCK_CACHE_BYTES),
            hits: counter(registry, BLOCK_CACHE_HITS),
            misses: counter(registry, BLOCK_CACHE_MISSES),
            fetched_bytes: counter(registry, BLOCK_CACHE_FETCHED_BYTES),
            in_flight_bytes: gauge(registry, BLOCK_CACHE_IN_FLIGHT_BYTES),
        }
    }

    /// Counts `bytes` as in flight until the guard is dropped.
    pub fn in_flight(&self, bytes: u64) -> InFlight {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.in_flight_bytes.inc_by(bytes);
        InFlight { gauge: self.in_flight_bytes.clone(), bytes }
    }
}

pub(crate) struct ReadAheadMetrics {
    pub bytes: Gauge,
    pub dropped_bytes: Counter,
}

impl ReadAheadMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            bytes: gauge(registry, READ_AHEAD_BYTES),
            dropped_bytes: counter(registry, READ_AHEAD_DROPPED_BYTES),
        }
    }
}

pub(crate) struct DiskCacheMetrics {
    pub read_bytes: Counter,
    pub written_bytes: Counter,
    pub declined_bytes: Counter,
    pub switched_off: Counter,
}

impl DiskCacheMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            read_bytes: counter(registry, DISK_CACHE_READ_BYTES),
            written_bytes: counter(registry, DISK_CACHE_WRITTEN_BYTES),
            declined_bytes: counter(registry, DISK_CACHE_DECLINED_BYTES),
            switched_off: counter(registry, DISK_CACHE_SWITCHED_OFF),
        }
    }
}

pub(crate) struct InFlight {
    gauge: Gauge,
    bytes: i64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec_by(self.bytes);
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
