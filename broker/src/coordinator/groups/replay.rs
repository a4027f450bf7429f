//! Records into state: one way for those of the log and for those that were appended just now. And how a shard sees groups.

use super::{After, Effects, Group, Groups, Now, Parked, classic::ClassicGroup, offsets::Committed};
use crate::coordinator::rules::{Position, Rules};
use std::{convert::Infallible, sync::Arc};
use thalweg_protocol::{ErrorCode, coordinator_records::GroupRecord};

/// No transaction.
const NO_PRODUCER: i64 = -1;

impl Groups {
    /// Takes a record into the state.
    pub fn replay(&mut self, record: GroupRecord, at: Position) {
        match record {
            GroupRecord::OffsetCommit(key, Some(value)) => {
                // A group that has offsets alone comes to be with the first of them.
                let group = self.ensure(&key.group, value.commit_timestamp);
                let committed = Committed::of_record(&value, at.offset);
                match at.producer_id {
                    NO_PRODUCER => self.offsets.put(&group, &key.topic, key.partition, committed),
                    // It counts when the transaction is committed.
                    id => self.pending.put(id, &key.group, &key.topic, key.partition, committed),
                }
            }
            GroupRecord::OffsetCommit(key, None) => {
                self.offsets.remove(&key.group, &key.topic, key.partition);
                self.pending.forget(&key.group, &key.topic, key.partition);
            }
            GroupRecord::GroupMetadata(key, Some(value)) if at.loading => {
                let id: Arc<str> = key.group.as_str().into();
                let group = ClassicGroup::of_record(id.clone(), value);
                self.insert(id, Group::Classic(Box::new(group)));
            }
            GroupRecord::GroupMetadata(_, Some(_)) => {}
            GroupRecord::GroupMetadata(key, None) => {
                if self.classic(&key.group).is_some() {
                    self.remove_group(&key.group);
                }
            }
            of_consumers => self.replay_consumer(of_consumers),
        }
    }

    /// The offsets that a producer committed in its transaction count now, or never. Of a commit in a transaction and another
    /// the one counts whose record is the later.
    pub fn transaction_ended(&mut self, producer_id: i64, committed: bool) {
        for (group, topic, partition, offset) in self.pending.take(producer_id) {
            let known = self.offsets.get(&group, &topic, partition);
            if committed && known.is_none_or(|known| known.record_offset < offset.record_offset) {
                self.offsets.put(&group, &topic, partition, offset);
            }
        }
    }
}

impl Rules for Groups {
    type Record = GroupRecord;
    type Answer = Parked;
    type After = After;
    type Task = Infallible;
    const NAME: &'static str = "groups";

    fn next_deadline_ms(&self) -> Option<u64> {
        self.next_deadline_ms()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn replay(&mut self, record: GroupRecord, at: Position) {
        self.replay(record, at);
    }

    fn transaction_ended(&mut self, producer_id: i64, committed: bool) {
        self.transaction_ended(producer_id, committed);
    }

    fn loaded(&mut self, now: Now, effects: &mut Effects) {
        self.loaded(now, effects);
    }

    fn expire(&mut self, now: Now, effects: &mut Effects) -> bool {
        self.expire(now, effects)
    }

    fn stored(&mut self, after: After, stored: Result<(), ErrorCode>, now: Now, effects: &mut Effects) {
        self.stored(after, stored, now, effects);
    }
}
