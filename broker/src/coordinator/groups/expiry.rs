//! What ends by itself: sessions, phases of a rebalance, offsets that nobody has committed for long. And DeleteGroups.

use super::{
    Groups,
    classic::{ClassicGroup, State, text},
    effects::{Effects, Now},
    offsets::{Committed, tombstone},
    timers::{Alarm, Timer},
};
use std::sync::Arc;
use thalweg_protocol::{
    ErrorCode,
    coordinator_records::{GroupMetadataKey, GroupRecord},
};

impl Groups {
    /// The log has been read to its end: the sessions of the members begin, and the look-out for expired offsets.
    pub fn loaded(&mut self, now: Now, effects: &mut Effects) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(mut flow) = self.flow(&id, now, effects) else { continue };
            let members: Vec<_> = flow.group.member_ids();
            members.iter().for_each(|member| flow.renew_session(member));
            if members.len() > flow.settings.max_size {
                flow.prepare("the group is larger than group.max.size now");
            }
        }
        self.look_again_later(now);
    }

    fn look_again_later(&mut self, now: Now) {
        let interval = self.settings.retention_check_interval.as_millis();
        let interval = u64::try_from(interval).unwrap_or(u64::MAX);
        self.timers.set(Timer::Retention, now.monotonic_ms.saturating_add(interval), Alarm::Retention);
    }

    /// Does what is due first. False where nothing is.
    pub fn expire(&mut self, now: Now, effects: &mut Effects) -> bool {
        let Some((timer, alarm)) = self.timers.pop_due(now.monotonic_ms) else { return false };
        match (timer, alarm) {
            (Timer::Retention, _) => {
                self.expire_offsets(now.wall_ms, effects);
                self.look_again_later(now);
            }
            (Timer::Join(id) | Timer::Sync(id), alarm) => {
                if let Some(mut flow) = self.flow(&id, now, effects) {
                    match alarm {
                        Alarm::InitialDelay { delay_ms, remaining_ms } => {
                            flow.first_delay_over(delay_ms, remaining_ms)
                        }
                        Alarm::PendingSync { generation } => flow.syncs_overdue(generation),
                        _ => flow.complete_join(),
                    }
                }
            }
            (Timer::Session(id, member), _) => {
                if let Some(mut flow) = self.flow(&id, now, effects) {
                    flow.session_over(&member);
                }
            }
        }
        true
    }

    /// Deletes offsets whose retention is over, and groups that have neither members nor offsets any more (KIP-211).
    fn expire_offsets(&self, wall_ms: i64, effects: &mut Effects) {
        let retention_ms = i64::try_from(self.settings.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        for id in self.groups.keys() {
            let Some(group) = self.classic(id) else { continue };
            // What an open transaction has committed must find its group.
            let mut left = self.pending.any(id);
            for (topic, partitions) in self.offsets.of_group(id) {
                for (partition, committed) in partitions {
                    let expired = !group.is_subscribed_to(topic)
                        && !self.pending.is_open(id, topic, partition)
                        && is_expired(group, committed, wall_ms, retention_ms);
                    match expired {
                        true => effects.records.push(tombstone(id, topic, partition)),
                        false => left = true,
                    }
                }
            }
            if !left && group.is_empty() {
                effects.records.push(group_tombstone(id));
            }
        }
    }

    /// Deletes a group with its offsets (DeleteGroups).
    pub fn delete(&self, id: &str, effects: &mut Effects) -> Result<(), ErrorCode> {
        let group = self.classic(id).ok_or(ErrorCode::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        for (topic, partitions) in self.offsets.of_group(id) {
            effects.records.extend(partitions.map(|(partition, _)| tombstone(id, topic, partition)));
        }
        let pending = self.pending.of_group(id);
        effects.records.extend(pending.map(|(topic, partition)| tombstone(id, topic, partition)));
        effects.records.push(group_tombstone(id));
        Ok(())
    }
}

fn group_tombstone(id: &str) -> GroupRecord {
    GroupRecord::GroupMetadata(GroupMetadataKey { group: text(id) }, None)
}

/// Whether an offset's retention is over. It begins with the commit; in a group that had members, when the last one left.
fn is_expired(group: &ClassicGroup, committed: &Committed, wall_ms: i64, retention_ms: i64) -> bool {
    let since_ms = match (group.protocol_type(), group.state()) {
        (None, _) => committed.commit_ms,
        (Some(_), State::Empty) => group.state_since_ms().unwrap_or(committed.commit_ms),
        (Some(_), State::Stable) if group.knows_subscriptions() => committed.commit_ms,
        (Some(_), _) => return false,
    };
    match committed.expire_ms {
        -1 => wall_ms.saturating_sub(since_ms) >= retention_ms,
        expire_ms => wall_ms >= expire_ms,
    }
}
