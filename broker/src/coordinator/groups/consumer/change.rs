//! One operation on a consumer group: what it reads, and what it leaves.

use super::{
    group::ConsumerGroup,
    hash::metadata_hash,
    member::Member,
    partitions::Assignment,
    reconcile::{Goal, reconcile},
    records,
    refusal::Refusal,
};
use crate::coordinator::groups::{
    GroupSettings,
    cluster::ClusterView,
    effects::{Effects, Now},
    timers::{Alarm, Timer, Timers},
};
use std::{borrow::Cow, sync::Arc};
use thalweg_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use uuid::Uuid;

/// A group as it was before, to which nothing is done: what is to change stands in the records, which are replayed once they
/// are appended. Timers are set at once; one that fires for what was not stored finds nothing to do.
pub(in crate::coordinator::groups) struct Change<'a> {
    pub(in crate::coordinator::groups) group: &'a ConsumerGroup,
    pub(in crate::coordinator::groups) cluster: &'a dyn ClusterView,
    pub(in crate::coordinator::groups) settings: &'a GroupSettings,
    pub(in crate::coordinator::groups) timers: &'a mut Timers,
    pub(in crate::coordinator::groups) effects: &'a mut Effects,
    pub(in crate::coordinator::groups) now: Now,
}

/// The target that a member is on its way to.
pub(super) struct Target<'a> {
    pub(super) epoch: i32,
    pub(super) assignment: Cow<'a, Assignment>,
}

/// How a request has changed what a group subscribes to.
pub(super) struct Subscribed {
    /// The group's epoch now.
    pub(super) epoch: i32,
    /// Whether all members subscribe to the same; not known where nothing has changed.
    pub(super) is_homogeneous: Option<bool>,
}

impl<'a> Change<'a> {
    /// Looks whether the group's epoch must rise: because the request says so (`bump`), or because topics have changed.
    pub(super) fn update_subscriptions(&mut self, bump: bool, before: &Member, after: &Member) -> Subscribed {
        let (group, id) = (self.group, &self.group.id);
        let mut subscriptions = group.subscriptions.clone();
        subscriptions.remove(&before.details);
        subscriptions.add(&after.details);
        let (old, new) = (before.details.regex(), after.details.regex());
        if let Some(old) = old.filter(|old| Some(*old) != new && group.subscriptions.subscribers(old) == 1) {
            group.resolved.get(old).inspect(|resolved| subscriptions.unresolve(&resolved.topics));
        }
        let hash = metadata_hash(subscriptions.topics(), self.cluster);
        let mut epoch = group.epoch;
        if bump || hash != group.metadata_hash {
            epoch = epoch.saturating_add(1);
            self.effects.records.push(records::epoch(id, epoch, hash));
            tracing::debug!(group = %id, epoch, "the group's epoch rises");
        }
        if group.has_partitions_record {
            self.effects.records.push(records::without_partitions(id));
        }
        Subscribed { epoch, is_homogeneous: Some(subscriptions.are_homogeneous(group.members_with(after))) }
    }

    /// The member's next step towards the target, stored.
    pub(super) fn reconcile(
        &mut self,
        member: Member,
        target: &Target<'a>,
        subscription_changed: bool,
        owned: Option<&[TopicPartitions]>,
    ) -> Result<Member, Refusal> {
        if !subscription_changed && member.is_reconciled_to(target.epoch) {
            return Ok(member);
        }
        let (group, cluster) = (self.group, self.cluster);
        let resolved = member.details.regex().and_then(|regex| group.resolved.get(regex));
        let is_subscribed = |topic: Uuid| {
            cluster.topic_name(topic).is_some_and(|name| {
                member.details.topics.contains(&name)
                    || resolved.is_some_and(|resolved| resolved.topics.contains(&name))
            })
        };
        let goal = Goal {
            epoch: target.epoch,
            target: &target.assignment,
            is_subscribed: &is_subscribed,
            is_free: &|topic, partition| group.is_free(topic, partition),
            owned,
            subscription_changed,
        };
        let Some(next) = reconcile(&member, &goal)? else { return Ok(member) };
        self.effects.records.push(records::current(&group.id, &next));
        tracing::debug!(group = %group.id, member = %next.id, epoch = next.epoch, state = ?next.state, "reconciled");
        if !next.is_classic() {
            self.watch_revocation(&next);
        }
        Ok(next)
    }

    pub(super) fn timer(&self, of: fn(Arc<str>, Arc<str>) -> Timer, member: &Arc<str>) -> Timer {
        of(self.group.id.clone(), member.clone())
    }

    /// A member has shown that it lives: its session begins anew.
    pub(super) fn renew_session(&mut self, member: &Arc<str>, timeout_ms: i32) {
        self.set_timer(Timer::Session, member, timeout_ms, Alarm::SessionOver);
    }

    pub(super) fn set_timer(
        &mut self,
        of: fn(Arc<str>, Arc<str>) -> Timer,
        member: &Arc<str>,
        timeout_ms: i32,
        alarm: Alarm,
    ) {
        let deadline_ms = self.now.monotonic_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0));
        let timer = self.timer(of, member);
        self.timers.set(timer, deadline_ms, alarm);
    }

    /// Whoever is to give partitions up has its rebalance timeout for that.
    pub(super) fn watch_revocation(&mut self, member: &Member) {
        if member.is_revoking() {
            let alarm = Alarm::RevocationOverdue { epoch: member.epoch };
            let timeout_ms = member.details.rebalance_timeout_ms;
            self.set_timer(Timer::Revocation, &member.id, timeout_ms, alarm);
        } else {
            let timer = self.timer(Timer::Revocation, &member.id);
            self.timers.cancel(&timer);
        }
    }

    /// The group has just been loaded: all its members are given time to show that they live.
    pub(in crate::coordinator::groups) fn begin_sessions(&mut self) {
        let timeout_ms = self.session_timeout_ms();
        for member in self.group.members.values() {
            self.renew_session(&member.id, timeout_ms);
            if member.is_revoking() {
                self.watch_revocation(member);
            }
        }
    }

    pub(super) fn session_timeout_ms(&self) -> i32 {
        let own = self.cluster.group_overrides(&self.group.id).session_timeout_ms;
        own.unwrap_or(self.settings.consumer.session_timeout_ms)
    }

    pub(super) fn heartbeat_interval_ms(&self) -> i32 {
        let own = self.cluster.group_overrides(&self.group.id).heartbeat_interval_ms;
        own.unwrap_or(self.settings.consumer.heartbeat_interval_ms)
    }
}
