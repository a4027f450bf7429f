//! The whole index at one moment, for those who decide what to rewrite.

use super::{Extent, ObjectIndex, ObjectRef};
use crate::ObjectRecord;
use std::sync::Arc;
use thalweg_segment::{LogId, Offset, SegmentId};

/// Objects and logs as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct IndexSnapshot {
    /// Every row, in order of the objects' names.
    pub objects: Vec<ObjectRecord>,
    /// Every log of which the index holds something, in order.
    pub logs: Vec<LogSnapshot>,
}

/// One log.
#[derive(Clone, Debug)]
pub struct LogSnapshot {
    /// Which.
    pub log: LogId,
    /// What readers see: in order, without overlap.
    pub extents: Vec<Extent>,
    /// The newest state block: at which offset, and in which object.
    pub state: Option<(Offset, Arc<ObjectRef>)>,
}

impl IndexSnapshot {
    /// The position of an object among the rows.
    pub fn position(&self, id: SegmentId) -> Option<usize> {
        self.objects.binary_search_by_key(&id, ObjectRecord::id).ok()
    }
}

impl ObjectIndex {
    /// All of it as it is now: about 100 bytes for each extent.
    pub fn snapshot(&self) -> IndexSnapshot {
        let all = self.0.logs.read();
        let log = |(log, extents): (&LogId, &super::LogExtents)| LogSnapshot {
            log: *log,
            extents: extents.from(Offset(0)).to_vec(),
            state: extents.state().cloned(),
        };
        IndexSnapshot {
            objects: all.objects.values().copied().collect(),
            logs: all.extents.iter().map(log).collect(),
        }
    }
}
