//! Makes room when produce requests wait for memory: asks for a flush. The log cache bounds by itself what is flushed; it gives
//! up more only where little is left to flush.

use crate::broker::Broker;
use std::{sync::Arc, time::Duration};

/// How long to wait for an eviction or a flush to show before looking again.
const INTERVAL: Duration = Duration::from_millis(10);
/// What is evicted at a time, and what a flush is worth, as a part of the produce budget.
const PART: usize = 16;

/// Relieves the produce budget for as long as the broker lives.
pub fn relieve(broker: &Arc<Broker>) {
    let weak = Arc::downgrade(broker);
    let budget = broker.budgets.produce.clone();
    let part = budget.capacity() / PART;
    let task = broker.runtime.spawn_essential("the relief of memory", async move {
        loop {
            budget.pressure().await;
            while budget.waiting() > 0 {
                let Some(broker) = weak.upgrade() else { return };
                // Tiny batches are charged more than their bytes: though few are unflushed, they may be all there is to free.
                let unflushed = broker.wal.unflushed_bytes();
                if unflushed > part || (broker.cache.shrink(part) == 0 && unflushed > 0) {
                    broker.wal.request_flush();
                }
                drop(broker);
                tokio::time::sleep(INTERVAL).await;
            }
        }
    });
    task.detach();
}
