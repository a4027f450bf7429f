//! Garbage collection, a look at a time (`thalweg_object_compactor::collect`).

use crate::broker::Broker;
use std::sync::Arc;
use thalweg_object_compactor::collect::{Collector, LookError, Own, Pace};
use thalweg_segment::{Incarnation, SegmentId, WalSequence};
use thalweg_wal::Wal;
use tokio::time::{Instant, sleep};

/// This broker's incarnation.
struct Ours {
    incarnation: Incarnation,
    wal: Wal,
}

impl Own for Ours {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn trim_point(&self) -> WalSequence {
        self.wal.trim_point()
    }

    fn is_reserved(&self, id: SegmentId) -> bool {
        self.wal.is_reserved(id)
    }

    fn has_ended(&self) -> bool {
        self.wal.has_ended()
    }
}

/// Collects garbage for as long as the broker lives and is not fenced.
pub fn start(broker: &Arc<Broker>) {
    let ours = Ours { incarnation: broker.topics.owner().incarnation, wal: broker.wal.clone() };
    let mut collector = Collector::new(
        broker.store.clone(),
        broker.topics.index().clone(),
        broker.deletion.clone(),
        ours,
        broker.settled.clone(),
        broker.settings.listing,
    );
    let mut pace = Pace::new(Instant::now(), broker.store.requests().total());
    let weak = Arc::downgrade(broker);
    let task = broker.runtime.spawn_essential("the garbage collection", async move {
        loop {
            sleep(Pace::interval()).await;
            let Some(broker) = weak.upgrade() else { return };
            let now = Instant::now();
            let may_look = collector.not_before().is_none_or(|at| at <= now);
            if !may_look || !pace.is_due(now, broker.store.requests().total()) {
                continue;
            }
            match collector.look(broker.dynamic().topic.delete_delay).await {
                Ok(0) => {}
                Ok(objects) => tracing::info!(objects, "deleted objects that nothing refers to"),
                Err(LookError::Ended) => return,
                Err(error) => tracing::warn!(%error, "could not look for garbage"),
            }
        }
    });
    task.detach();
}
