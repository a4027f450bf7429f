//! What the index in memory notes of one object.

use super::{Extent, ObjectRef};
use crate::{LogSegmentRecord, ObjectRecord, SharedRecord};
use std::sync::Arc;
use thalweg_segment::{BlockEntry, Index, LogId, OBJECT_HEADER_LEN, Offset};

/// What one object holds: an extent for each run of a log, and of which logs it has the state, at which offset.
pub(super) struct Contents {
    pub(super) record: ObjectRecord,
    pub(super) extents: Vec<(LogId, Extent)>,
    pub(super) states: Vec<(LogId, Offset, Arc<ObjectRef>)>,
}

impl Contents {
    /// A log segment. Like every flushed segment, it has the state of its log at its end.
    pub(super) fn of_log(record: &LogSegmentRecord) -> Self {
        let object = ObjectRef::of_log(record);
        let extent = Extent {
            base: record.base_offset,
            end: record.end_offset,
            max_timestamp: record.max_timestamp,
            // Its batches, and the state of its log behind them.
            bytes: record.shape.index_position.saturating_sub(OBJECT_HEADER_LEN as u64),
            object: object.clone(),
        };
        Self {
            record: ObjectRecord::Log(*record),
            extents: vec![(record.log, extent)],
            states: vec![(record.log, record.end_offset, object)],
        }
    }

    /// A shared segment or a manifest.
    pub(super) fn of_shared(record: &SharedRecord, index: &Index) -> (Arc<ObjectRef>, Self) {
        let object = &ObjectRef::of_shared(record);
        // What lies between two runs of a log may be another object's; so no extent goes across it.
        let of_one_run = |a: &BlockEntry, b: &BlockEntry| a.log == b.log && a.end_offset == b.base_offset;
        let contents = Self {
            record: ObjectRecord::Shared(*record),
            extents: index
                .blocks
                .chunk_by(of_one_run)
                .filter_map(|blocks| Some((blocks.first()?.log, extent_of(blocks, object)?)))
                .collect(),
            states: index.states.iter().map(|state| (state.log, state.end, object.clone())).collect(),
        };
        (object.clone(), contents)
    }
}

fn extent_of(blocks: &[BlockEntry], object: &Arc<ObjectRef>) -> Option<Extent> {
    Some(Extent {
        base: blocks.first()?.base_offset,
        end: blocks.last()?.end_offset,
        max_timestamp: blocks.iter().map(|block| block.max_timestamp).max()?,
        bytes: blocks.iter().map(|block| u64::from(block.size)).sum(),
        object: object.clone(),
    })
}
