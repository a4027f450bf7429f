//! What log compaction does, in figures.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::sync::atomic::AtomicU64;
use thalweg_object_compactor::clean::Tally;

type Outcome = [(&'static str, &'static str); 1];

/// See the help texts.
#[derive(Debug, Default)]
pub struct CleanerMetrics {
    rounds: Family<Outcome, Counter>,
    read: Counter,
    kept: Counter,
    uncleanable: Gauge,
    dirtiest: Gauge<f64, AtomicU64>,
}

impl CleanerMetrics {
    /// All at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("thalweg_log_cleaner");
        registry.register("rounds", "Rounds of log compaction, by outcome", metrics.rounds.clone());
        let read = metrics.read.clone();
        registry.register_with_unit("read", "Bytes of batches that rounds went through", Unit::Bytes, read);
        let kept = metrics.kept.clone();
        registry.register_with_unit("kept", "Bytes of batches that rounds have left", Unit::Bytes, kept);
        let uncleanable = metrics.uncleanable.clone();
        registry.register("uncleanable_logs", "Compacted logs that hold something unreadable", uncleanable);
        let dirtiest = metrics.dirtiest.clone();
        registry.register_with_unit(
            "max_dirty",
            "How much of the dirtiest log is dirty",
            Unit::Ratios,
            dirtiest,
        );
        metrics
    }

    /// The cleaner has looked for the next log.
    pub(super) fn looked(&self, uncleanable: usize, highest_ratio: f64) {
        self.uncleanable.set(i64::try_from(uncleanable).unwrap_or(i64::MAX));
        self.dirtiest.set(highest_ratio);
    }

    /// A round has ended.
    pub(super) fn cleaned(&self, tally: &Tally) {
        self.rounds.get_or_create(&[("outcome", "done")]).inc();
        self.read.inc_by(tally.bytes_read);
        self.kept.inc_by(tally.bytes_kept);
    }

    /// A round has ended before its end.
    pub(super) fn failed(&self) {
        self.rounds.get_or_create(&[("outcome", "failed")]).inc();
    }
}
