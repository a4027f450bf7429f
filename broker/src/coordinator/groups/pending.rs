//! Offsets that were committed in transactions which are still open (KIP-447): who reads stable offsets must wait for them.

use super::offsets::Committed;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Group, topic and partition.
type Place = (Arc<str>, Arc<str>, i32);
/// Producers with an open commit, by topic and partition.
type Open = BTreeMap<Arc<str>, BTreeMap<i32, BTreeSet<i64>>>;

/// The offsets of open transactions of all groups of a partition of the log.
#[derive(Default)]
pub(super) struct PendingOffsets {
    by_producer: BTreeMap<i64, BTreeMap<Place, Committed>>,
    by_group: BTreeMap<Arc<str>, Open>,
    bytes: usize,
}

/// What an offset weighs beside its metadata and its names.
const OVERHEAD: usize = 320;

fn weight((group, topic, _): &Place, committed: &Committed) -> usize {
    OVERHEAD + group.len() + topic.len() + committed.metadata.len()
}

impl PendingOffsets {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(
        &mut self,
        producer_id: i64,
        group: &str,
        topic: &str,
        partition: i32,
        committed: Committed,
    ) {
        let place: Place = (group.into(), topic.into(), partition);
        let topics = self.by_group.entry(place.0.clone()).or_default();
        topics.entry(place.1.clone()).or_default().entry(partition).or_default().insert(producer_id);
        self.bytes += weight(&place, &committed);
        let before = self.by_producer.entry(producer_id).or_default().insert(place.clone(), committed);
        self.bytes -= before.map_or(0, |before| weight(&place, &before));
    }

    /// Takes out what a producer has committed.
    pub(super) fn take(&mut self, producer_id: i64) -> Vec<(Arc<str>, Arc<str>, i32, Committed)> {
        let taken = self.by_producer.remove(&producer_id).unwrap_or_default();
        let mut offsets = Vec::with_capacity(taken.len());
        for (place, committed) in taken {
            self.bytes -= weight(&place, &committed);
            self.close(&place, producer_id);
            offsets.push((place.0, place.1, place.2, committed));
        }
        offsets
    }

    /// Drops what any transaction has committed for a partition: the offset was deleted since.
    pub(super) fn forget(&mut self, group: &str, topic: &str, partition: i32) {
        if !self.is_open(group, topic, partition) {
            return;
        }
        let place: Place = (group.into(), topic.into(), partition);
        let producers =
            self.by_group.get(group).and_then(|topics| topics.get(topic)?.get(&partition).cloned());
        for producer_id in producers.unwrap_or_default() {
            let Some(offsets) = self.by_producer.get_mut(&producer_id) else { continue };
            if let Some(before) = offsets.remove(&place) {
                self.bytes -= weight(&place, &before);
            }
            if offsets.is_empty() {
                self.by_producer.remove(&producer_id);
            }
            self.close(&place, producer_id);
        }
    }

    fn close(&mut self, (group, topic, partition): &Place, producer_id: i64) {
        let Some(topics) = self.by_group.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        if let Some(producers) = partitions.get_mut(partition) {
            producers.remove(&producer_id);
            if producers.is_empty() {
                partitions.remove(partition);
            }
        }
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.by_group.remove(group);
        }
    }

    /// Whether an open transaction has committed an offset of the partition.
    pub(super) fn is_open(&self, group: &str, topic: &str, partition: i32) -> bool {
        let partitions = self.by_group.get(group).and_then(|topics| topics.get(topic));
        partitions.is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether an open transaction has committed any offset of the group.
    pub(super) fn any(&self, group: &str) -> bool {
        self.by_group.contains_key(group)
    }

    /// What open transactions have committed for a topic: group, partition, offset.
    pub(super) fn of_topic<'a>(
        &'a self,
        topic: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, i32, &'a Committed)> {
        let of_topic = self.all().filter(move |(_, of, ..)| ***of == *topic);
        of_topic.map(|(group, _, partition, committed)| (group, partition, committed))
    }

    /// What open transactions have committed: group, topic, partition, offset.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, i32, &Committed)> {
        let all = self.by_producer.values().flatten();
        all.map(|((group, topic, partition), committed)| (group, topic, *partition, committed))
    }

    /// The partitions of a group of which an open transaction has committed an offset.
    pub(super) fn of_group(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let topics = self.by_group.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: "m".into(),
            commit_ms: 0,
            expire_ms: -1,
            topic_id: uuid::Uuid::nil(),
            record_offset: offset,
        }
    }

    #[test]
    fn what_is_put_is_open_until_it_is_taken_or_forgotten_and_then_weighs_nothing() {
        let mut pending = PendingOffsets::default();
        pending.put(1, "g", "t", 0, committed(5));
        pending.put(1, "g", "t", 0, committed(6));
        pending.put(1, "g", "t", 1, committed(7));
        pending.put(2, "g", "t", 0, committed(8));
        assert!(pending.is_open("g", "t", 0) && pending.any("g") && !pending.any("h"));
        assert_eq!(pending.of_group("g").map(|(_, partition)| partition).collect::<Vec<_>>(), [0, 1]);
        let taken: Vec<_> = pending.take(1).into_iter().map(|(.., offset)| offset.offset).collect();
        assert_eq!(taken, [6, 7]);
        assert!(pending.is_open("g", "t", 0) && !pending.is_open("g", "t", 1));
        pending.forget("g", "t", 0);
        assert!(!pending.any("g") && pending.take(2).is_empty());
        assert_eq!(pending.bytes(), 0);
    }
}
