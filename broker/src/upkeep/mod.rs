//! What the broker does for its stored data beside answering requests. One loop a file.

pub mod compaction;
pub mod garbage;
pub mod retention;
mod rewriting;
pub mod snapshot;

use crate::broker::Broker;
use std::sync::Arc;

/// Starts all of it; it ends with the broker.
pub fn start(broker: &Arc<Broker>) {
    compaction::start(broker);
    retention::start(broker);
    garbage::start(broker);
    snapshot::keep(broker);
}
