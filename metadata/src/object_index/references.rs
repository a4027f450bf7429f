//! What refers to what: objects that no reader needs any more, and the WAL objects that manifests need.

use super::{IndexError, ObjectIndex, ObjectRef};
use crate::ObjectRecord;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};
use thalweg_segment::{Incarnation, Index, LogId, Offset, SegmentId, WalSequence};

/// Logs that are looked at under one lock.
const LOGS_AT_ONCE: usize = 1000;

/// An object of which nothing can be read any more: each of its logs was deleted, begins behind what the object holds of it, or has
/// the same in a better object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadObject {
    /// Its row.
    pub record: ObjectRecord,
    /// Logs that there are whose newest state it has. That has to be kept elsewhere before the object may go.
    pub newest_states_of: Vec<LogId>,
}

impl ObjectIndex {
    /// Objects that are dead, where `start_of` says where each log begins, none of a log that was deleted. It is asked of logs that
    /// the index has something of, after that came in.
    pub fn dead_objects(&self, start_of: impl Fn(LogId) -> Option<Offset>) -> Vec<DeadObject> {
        // First: whatever comes in while the logs are looked at isn't judged.
        let objects = self.objects();
        let mut read: BTreeSet<SegmentId> = BTreeSet::new();
        let mut states: BTreeMap<SegmentId, Vec<LogId>> = BTreeMap::new();
        let mut from = Bound::Unbounded;
        loop {
            let all = self.0.logs.read();
            let mut looked_at = 0;
            for (log, extents) in all.extents.range((from, Bound::Unbounded)).take(LOGS_AT_ONCE) {
                looked_at += 1;
                from = Bound::Excluded(*log);
                let Some(start) = start_of(*log) else { continue };
                read.extend(extents.from(start).iter().map(|extent| extent.object.id));
                if let Some((_, object)) = extents.state() {
                    states.entry(object.id).or_default().push(*log);
                }
            }
            if looked_at < LOGS_AT_ONCE {
                break;
            }
        }
        let dead = objects.into_iter().filter(|record| !read.contains(&record.id()));
        dead.map(|record| {
            let newest_states_of = states.remove(&record.id()).unwrap_or_default();
            DeadObject { record, newest_states_of }
        })
        .collect()
    }

    /// The WAL objects of `incarnation` that manifests of the index refer to.
    pub async fn adopted(&self, incarnation: Incarnation) -> Result<BTreeSet<WalSequence>, IndexError> {
        let mut adopted = BTreeSet::new();
        for record in self.objects() {
            let ObjectRecord::Shared(shared) = record else { continue };
            if shared.adopts == Some(incarnation) {
                let index = self.block_index(&record).await?;
                adopted.extend(index.blocks.iter().map(|block| WalSequence(block.object)));
            }
        }
        Ok(adopted)
    }

    /// The index block of an object, from the cache or by one range GET.
    pub async fn block_index(&self, record: &ObjectRecord) -> Result<Arc<Index>, IndexError> {
        let object = match record {
            ObjectRecord::Shared(record) => ObjectRef::of_shared(record),
            ObjectRecord::Log(record) => ObjectRef::of_log(record),
        };
        self.0.objects.index(&object).await
    }
}
