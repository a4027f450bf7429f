//! The target assignment: what each member is to have. It follows the group's epoch, at most once in a while, so that many who
//! come together cost one assignment, not one each (KIP-1263).

use super::{
    assignors::{Assignor, MemberSpec, Spec},
    change::{Change, Subscribed, Target},
    member::Member,
    partitions::Assignment,
    records,
};
use crate::coordinator::groups::cluster::TopicView;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};
use uuid::Uuid;

impl<'a> Change<'a> {
    /// The target that holds for a member which was `before` and is `after`. It is worked out anew where the group's epoch is
    /// beyond the target's, and the last one isn't too fresh.
    pub(super) fn target(&mut self, subscribed: &Subscribed, before: &Member, after: &Member) -> Target<'a> {
        let group = self.group;
        if group.assignment_epoch >= subscribed.epoch || !self.may_assign() {
            return self.last_target(after);
        }
        let replaced =
            after.details.instance.as_ref().and_then(|instance| group.static_members.get(instance));
        let replaced = replaced.filter(|id| **id != after.id);
        let mut members: BTreeMap<&str, &Member> =
            group.members.iter().map(|(id, member)| (&**id, member)).collect();
        if let Some(replaced) = replaced {
            members.remove(&**replaced);
        }
        members.insert(&after.id, after);
        let is_homogeneous = subscribed.is_homogeneous.unwrap_or_else(|| {
            let mut subscriptions = group.subscriptions.clone();
            subscriptions.remove(&before.details);
            subscriptions.add(&after.details);
            subscriptions.are_homogeneous(members.len())
        });
        let preferred = group.preferred_assignor(before, after);
        let targets = self.assign(preferred.as_deref(), &members, is_homogeneous, after);
        let mut own = Assignment::new();
        for (id, target) in members.keys().zip(targets) {
            if group.target.get(*id) != Some(&target) {
                self.effects.records.push(records::target(&group.id, id, &target));
            }
            if **id == *after.id {
                own = target;
            }
        }
        self.effects.records.push(records::target_epoch(&group.id, subscribed.epoch, self.now.wall_ms));
        tracing::debug!(group = %group.id, epoch = subscribed.epoch, members = members.len(), "assigned anew");
        Target { epoch: subscribed.epoch, assignment: Cow::Owned(own) }
    }

    /// The target as it is.
    pub(super) fn last_target(&self, member: &Member) -> Target<'a> {
        let assignment = Cow::Borrowed(self.group.target_for(member));
        Target { epoch: self.group.assignment_epoch, assignment }
    }

    /// Whether the last assignment is old enough; also where nobody knows when that was.
    fn may_assign(&self) -> bool {
        let own = self.cluster.group_overrides(&self.group.id).assignment_interval_ms;
        let interval_ms = i64::from(own.unwrap_or(self.settings.consumer.assignment_interval_ms));
        let last_ms = self.group.assignment_ms;
        last_ms == 0 || interval_ms == 0 || self.now.wall_ms >= last_ms.saturating_add(interval_ms)
    }

    fn assign<'m>(
        &self,
        preferred: Option<&str>,
        members: &BTreeMap<&'m str, &'m Member>,
        is_homogeneous: bool,
        after: &Member,
    ) -> Vec<Assignment> {
        let default = self.settings.consumer.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let assignor = preferred.and_then(Assignor::named).unwrap_or(default);
        let mut topics = Topics { change: self, partitions: BTreeMap::new(), known: BTreeMap::new() };
        let members = members.iter().map(|(id, member)| MemberSpec {
            id,
            instance: member.details.instance.as_deref(),
            topics: topics.of(member),
            before: if **id == *after.id { self.group.target_for(after) } else { self.group.target_of(id) },
        });
        let members: Vec<_> = members.collect();
        let spec = Spec { members, topics: topics.partitions, is_homogeneous };
        assignor.assign(&spec)
    }
}

/// What a member subscribes to: names, and a regular expression.
type Subscription<'m> = (&'m BTreeSet<Arc<str>>, &'m str);

/// The topics that members subscribe to, looked up once for all who subscribe to the same.
struct Topics<'c, 'a, 'm> {
    change: &'c Change<'a>,
    partitions: BTreeMap<Uuid, i32>,
    known: BTreeMap<Subscription<'m>, Rc<BTreeSet<Uuid>>>,
}

impl<'m> Topics<'_, '_, 'm> {
    fn of(&mut self, member: &'m Member) -> Rc<BTreeSet<Uuid>> {
        let key = (&member.details.topics, &*member.details.regex);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let resolved = member.details.regex().and_then(|regex| self.change.group.resolved.get(regex));
        let names = member.details.topics.iter().chain(resolved.iter().flat_map(|resolved| &resolved.topics));
        let mut topics = BTreeSet::new();
        for name in names {
            if let Some(TopicView { id, partitions }) = self.change.cluster.topic(name) {
                self.partitions.insert(id, partitions);
                topics.insert(id);
            }
        }
        let topics = Rc::new(topics);
        self.known.insert(key, topics.clone());
        topics
    }
}
