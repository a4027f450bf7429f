//! The shards of one coordinator: one for each partition of its topic that this broker owns.

use super::{
    loading::{self, Turns},
    rules::Rules,
    shard::{Make, Means, Perform, Shard},
};
use crate::{broker::Broker, partition::Log, topics::Topic};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_segment::LogId;

/// A coordinator: its shards by log.
pub struct Shards<R: Rules> {
    means: Means,
    make: Make<R>,
    perform: Perform<R>,
    shards: Mutex<BTreeMap<LogId, Arc<Shard<R>>>>,
    turns: Turns,
}

impl<R: Rules> Shards<R> {
    /// A coordinator without shards, whose states are made by `make`, and whose tasks are begun by `perform`.
    pub(super) fn new(means: Means, make: Make<R>, perform: Perform<R>) -> Self {
        Self { means, make, perform, shards: Mutex::default(), turns: Turns::default() }
    }

    /// Bytes that the states of all coordinators with the same bound take, about.
    pub fn bytes(&self) -> usize {
        self.means.memory.used()
    }

    /// The shard of a log, loaded in the background the first time.
    pub(super) fn shard(&self, broker: &Arc<Broker>, topic: &Topic, log: &Arc<Log>) -> Arc<Shard<R>> {
        let mut shards = self.shards.lock();
        if let Some(shard) = shards.get(&log.id()) {
            return shard.clone();
        }
        // Those of a topic that was deleted.
        shards.retain(|_, shard| !shard.is_closed());
        let (make, max_batch) = (self.make.clone(), topic.settings.max_message_bytes);
        let tasks = (self.perform, Arc::downgrade(broker));
        let shard = Shard::new(log.clone(), max_batch, self.means.clone(), make, tasks);
        shards.insert(log.id(), shard.clone());
        drop(shards);
        self.load(broker, &shard);
        shard
    }

    fn load(&self, broker: &Arc<Broker>, shard: &Arc<Shard<R>>) {
        let view = shard.log().view();
        if view.start == view.end {
            return shard.loaded();
        }
        let (weak, shard, turns) = (Arc::downgrade(broker), shard.clone(), self.turns.clone());
        let task = self.means.runtime.spawn_essential("coordinator loading", async move {
            loading::load(weak, shard, turns.next().await).await;
        });
        task.detach();
    }
}

/// The partition of a coordinator's topic that has what is called `key`, as Kafka counts: Java's hash, without its sign.
pub(super) fn partition_of(key: &str, partitions: usize) -> usize {
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // The one number without a positive counterpart counts as 0.
    let positive = hash.checked_abs().unwrap_or(0);
    positive as usize % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_kafka_has_them() {
        assert_eq!(partition_of("", 50), 0);
        // "console".hashCode() is 951510359.
        assert_eq!(partition_of("console", 50), 951_510_359 % 50);
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // "ü".hashCode() is 252; a character beyond the first plane counts as two.
        assert_eq!(partition_of("ü", 50), 2);
        assert_eq!(partition_of("𝄞", 1_000_000), (31 * 0xd834 + 0xdd1e) % 1_000_000);
    }
}
