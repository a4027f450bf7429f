//! Forgets idempotent producers: those that have been silent for long enough, and, while the states of all take too much
//! memory, those that were active least recently in the logs that know most.

use crate::{broker::Broker, partition::Log};
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often silent producers are looked for; Kafka's `producer.id.expiration.check.interval.ms`.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);
/// Of a log that knows too many producers, one in so many is evicted at a time …
const PART: usize = 8;
/// … though no more than this, since the log is locked meanwhile.
const MOST: usize = 4096;
/// How long to wait where all that are left have a transaction open.
const INTERVAL: Duration = Duration::from_secs(1);

/// Forgets silent producers, now and then, for as long as the broker lives.
pub fn expire(broker: &Arc<Broker>) {
    let weak = Arc::downgrade(broker);
    let task = broker.runtime.spawn_essential("the expiry of producers", async move {
        loop {
            tokio::time::sleep(EXPIRY_INTERVAL).await;
            let Some(broker) = weak.upgrade() else { return };
            expire_now(&broker);
        }
    });
    task.detach();
}

/// Has every log forget its silent producers, and note how far it is by now.
pub fn expire_now(broker: &Broker) {
    let (now, silence) = (Instant::now(), broker.dynamic().producer_id_expiration);
    for log in broker.logs.all() {
        if let Some(expired) = log.expire_producers(now, silence) {
            broker.wal.forget_producers(log.id(), expired);
        }
    }
}

/// Keeps the memory of producer states within its limit for as long as the broker lives.
pub fn evict(broker: &Arc<Broker>) {
    let weak = Arc::downgrade(broker);
    let memory = broker.logs.producer_memory().clone();
    let task = broker.runtime.spawn_essential("the eviction of producers", async move {
        loop {
            memory.crowded().await;
            let Some(broker) = weak.upgrade() else { return };
            if !relieve(&broker) {
                drop(broker);
                tokio::time::sleep(INTERVAL).await;
            }
        }
    });
    task.detach();
}

/// Has the logs with the most producers forget some of them while all together take too much. False where none could.
pub fn relieve(broker: &Broker) -> bool {
    let memory = broker.logs.producer_memory();
    let mut logs: Vec<(usize, Arc<Log>)> =
        broker.logs.all().into_iter().map(|log| (log.producer_memory(), log)).collect();
    logs.sort_by_key(|(bytes, _)| Reverse(*bytes));
    let mut any = false;
    for (bytes, log) in logs {
        // Down to half of it; then it is the turn of the next.
        while memory.excess() > 0
            && log.producer_memory() > bytes / 2
            && let Some(evicting) = log.evict_producers(PART, MOST)
        {
            broker.wal.forget_producers(log.id(), evicting);
            any = true;
        }
    }
    any
}
