//! What ends by itself: sessions, phases of a rebalance, offsets that nobody has committed for long. And DeleteGroups.

use super::{
    Group, Groups,
    classic::{ClassicGroup, State},
    consumer::Change,
    effects::{Effects, Now},
    offsets::{Committed, tombstone},
    timers::{Alarm, Timer},
};
use std::sync::Arc;
use thalweg_protocol::ErrorCode;

impl Groups {
    /// The log has been read to its end: the sessions of the members begin, and the look-out for expired offsets.
    pub fn loaded(&mut self, now: Now, effects: &mut Effects) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.begin_sessions(&id, now, effects);
            let Some(mut flow) = self.flow(&id, now, effects) else { continue };
            if flow.group.members().count() > flow.settings.max_size {
                flow.prepare("the group is larger than group.max.size now");
            }
        }
        self.forget_deleted_topics(effects);
        self.look_again_later(now);
    }

    /// The sessions of all members of a group begin, and the time of those that are to give partitions up.
    pub(super) fn begin_sessions(&mut self, id: &str, now: Now, effects: &mut Effects) {
        if let Some(mut flow) = self.flow(id, now, effects) {
            return flow.renew_all_sessions();
        }
        let Some(Group::Consumer(group)) = self.groups.get(id) else { return };
        let (cluster, settings, timers) = (&*self.cluster, &*self.settings, &mut self.timers);
        Change { group, cluster, settings, timers, effects, now }.begin_sessions();
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
                } else {
                    self.fence(&id, &[member], now, effects);
                }
            }
            (Timer::Revocation(id, member), Alarm::RevocationOverdue { epoch }) => {
                let known = self.consumer(&id).and_then(|group| group.members.get(&member));
                if known.is_some_and(|known| known.epoch == epoch) {
                    self.fence(&id, &[member], now, effects);
                }
            }
            (
                Timer::Revocation(id, member) | Timer::Rejoin(id, member) | Timer::MemberSync(id, member),
                _,
            ) => {
                self.fence(&id, &[member], now, effects);
            }
        }
        true
    }

    /// Deletes offsets whose retention is over, and groups that have neither members nor offsets any more (KIP-211).
    fn expire_offsets(&self, wall_ms: i64, effects: &mut Effects) {
        let retention_ms = i64::try_from(self.settings.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        for id in self.groups.keys() {
            let Some(group) = self.groups.get(id) else { continue };
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
                effects.records.extend(group.tombstones());
            }
        }
    }

    /// Deletes a group with its offsets (DeleteGroups).
    pub fn delete(&self, id: &str, effects: &mut Effects) -> Result<(), ErrorCode> {
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        for (topic, partitions) in self.offsets.of_group(id) {
            effects.records.extend(partitions.map(|(partition, _)| tombstone(id, topic, partition)));
        }
        let pending = self.pending.of_group(id);
        effects.records.extend(pending.map(|(topic, partition)| tombstone(id, topic, partition)));
        effects.records.extend(group.tombstones());
        Ok(())
    }
}

/// Whether an offset's retention is over. It begins with the commit; in a classic group that had members, when the last one left.
fn is_expired(group: &Group, committed: &Committed, wall_ms: i64, retention_ms: i64) -> bool {
    let since_ms = match group {
        Group::Consumer(_) => Some(committed.commit_ms),
        Group::Classic(group) => expires_since(group, committed),
    };
    let Some(since_ms) = since_ms else { return false };
    match committed.expire_ms {
        -1 => wall_ms.saturating_sub(since_ms) >= retention_ms,
        expire_ms => wall_ms >= expire_ms,
    }
}

/// None while a classic group's offsets don't expire.
fn expires_since(group: &ClassicGroup, committed: &Committed) -> Option<i64> {
    match (group.protocol_type(), group.state()) {
        (None, _) => Some(committed.commit_ms),
        (Some(_), State::Empty) => group.state_since_ms().or(Some(committed.commit_ms)),
        (Some(_), State::Stable) if group.knows_subscriptions() => Some(committed.commit_ms),
        (Some(_), _) => None,
    }
}
