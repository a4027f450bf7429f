//! What the broker does for its stored data beside answering requests. One loop a file.

mod cleaner_metrics;
pub mod cleaning;
pub mod compaction;
pub mod garbage;
mod record_codec;
pub mod retention;
mod rewriting;
pub mod snapshot;

pub use cleaner_metrics::CleanerMetrics;
pub use record_codec::BatchRecords;

use crate::broker::Broker;
use std::sync::Arc;

/// Starts all of it; it ends with the broker.
pub fn start(broker: &Arc<Broker>) {
    compaction::start(broker);
    retention::start(broker);
    garbage::start(broker);
    snapshot::keep(broker);
    cleaning::start(broker);
}
