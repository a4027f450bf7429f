//! Records into state: one way for those of the log and for those that were appended just now.

use super::{Group, Groups, classic::ClassicGroup, offsets::Committed};
use std::sync::Arc;
use thalweg_protocol::coordinator_records::GroupRecord;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its offset in the log.
    pub offset: i64,
    /// The producer whose transaction it belongs to; -1 for none.
    pub producer_id: i64,
    /// It is read from the log, not appended by this life of the state, which knows more of a group than its record.
    pub loading: bool,
}

/// No transaction.
const NO_PRODUCER: i64 = -1;

impl Groups {
    /// Takes a record into the state.
    pub fn replay(&mut self, record: GroupRecord, at: Position) {
        // Offsets committed in a transaction count when it is committed. No API writes such records yet.
        if at.producer_id != NO_PRODUCER {
            return;
        }
        match record {
            GroupRecord::OffsetCommit(key, Some(value)) => {
                // A group that has offsets alone comes to be with the first of them.
                self.ensure(&key.group, value.commit_timestamp);
                let committed = Committed::of_record(&value, at.offset);
                self.offsets.put(&key.group, &key.topic, key.partition, committed);
            }
            GroupRecord::OffsetCommit(key, None) => {
                self.offsets.remove(&key.group, &key.topic, key.partition)
            }
            GroupRecord::GroupMetadata(key, Some(value)) if at.loading => {
                let id: Arc<str> = key.group.as_str().into();
                let group = ClassicGroup::of_record(id.clone(), value);
                self.insert(id, Group::Classic(Box::new(group)));
            }
            GroupRecord::GroupMetadata(_, Some(_)) => {}
            GroupRecord::GroupMetadata(key, None) => self.remove_group(&key.group),
        }
    }
}
