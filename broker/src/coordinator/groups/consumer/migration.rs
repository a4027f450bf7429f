//! Groups that change their type while they are in use (KIP-848): a classic group of consumers becomes a consumer group with its
//! first member of the new protocol, and a classic one again when the last of those is gone. In between members of both
//! protocols share it.
//!
//! The state changes at once, and comes back as it was should the records not be appended (`After::Converted`).

use super::{
    super::{
        Group, GroupBefore, Groups, MigrationPolicy,
        classic::{ClassicGroup, Member as ClassicMember, text},
        cluster::ClusterView,
        effects::{After, Effects, Now},
    },
    group::ConsumerGroup,
    hash::metadata_hash,
    member::{ClassicPart, Details, Member, MemberState},
    partitions::{Assignment, owned_since},
    records,
    refusal::Refusal,
};
use bytes::Bytes;
use std::sync::Arc;
use thalweg_protocol::{
    ConsumerProtocolAssignment, ErrorCode, consumer_protocol_assignment, decode_assignment,
    decode_subscription, encode_assignment,
};

impl Groups {
    /// The consumer group that a classic one becomes, with the records of that.
    pub(super) fn upgraded(
        &self,
        classic: &ClassicGroup,
        effects: &mut Effects,
    ) -> Result<ConsumerGroup, Refusal> {
        let id = classic.id();
        let settings = &self.settings.consumer;
        let because = |reason: &str| {
            let message = format!("Cannot upgrade classic group {id} to consumer group because {reason}");
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        if !settings.migration.allows_upgrade() {
            return Err(because("online upgrade is disabled."));
        }
        if !classic.is_of_consumers() {
            return Err(because("the group does not use the consumer embedded protocol."));
        }
        if classic.members().count() > settings.max_size {
            return Err(because("the group size exceeds the consumer group maximum size."));
        }
        let mut group = ConsumerGroup::new(id.clone());
        let generation = classic.generation();
        (group.epoch, group.assignment_epoch) = (generation, generation);
        for member in classic.members() {
            let subscription = classic.metadata_of(member);
            let (member, target) = upgraded_member(member, subscription, generation, &*self.cluster)
                .map_err(|fault| because(fault.words()))?;
            group.set_target(&member.id, target);
            group.put(member);
        }
        group.metadata_hash = metadata_hash(group.subscriptions.topics(), &*self.cluster);
        effects.records.push(classic.tombstone());
        effects.records.extend(records::whole(&group));
        tracing::info!(group = %id, generation, "a classic group becomes a consumer group");
        Ok(group)
    }

    /// Whether a group becomes a classic one when some of its members leave, which are sorted.
    pub(super) fn may_downgrade(&self, group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
        let stays = |member: &&Member| leaving.binary_search(&member.id).is_err();
        // Most groups have no classic members, and then nothing needs counting.
        if group.classic_members() == 0 || !self.settings.consumer.migration.allows_downgrade() {
            return false;
        }
        let (mut staying, mut all_classic) = (0, true);
        for member in group.members.values().filter(stays) {
            staying += 1;
            all_classic &= member.is_classic();
        }
        staying > 0 && all_classic && staying <= self.settings.max_size
    }

    /// Makes a consumer group a classic one, of the members that stay. `joining` takes the place of the holder of its instance id.
    pub(super) fn downgrade(
        &mut self,
        id: &str,
        leaving: &[Arc<str>],
        joining: Option<&Member>,
        rebalance: bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(group) = self.consumer(id) else { return };
        let replaced = joining
            .and_then(|joining| group.static_members.get_key_value(joining.details.instance.as_ref()?))
            .map(|(_, id)| id);
        let renamed = replaced.zip(joining.map(|joining| &joining.id));
        effects.records.extend(records::without_group(group, renamed));
        let staying = group.members.values().filter(|member| {
            leaving.binary_search(&member.id).is_err() && Some(&member.id) != replaced && member.is_classic()
        });
        let staying = staying.map(|member| (member, &member.id));
        let members = staying.chain(joining.zip(replaced)).map(|(member, holder)| {
            (member, assignment_for(member, group.target_of(holder), &*self.cluster))
        });
        let classic = ClassicGroup::of_consumer_group(group.id.clone(), group.epoch, now.wall_ms, members);
        effects.records.push(classic.whole_record());
        tracing::info!(group = %id, "a consumer group becomes a classic group");
        let Some((id, previous)) = self.take_group(id) else { return };
        self.insert(id.clone(), Group::Classic(Box::new(classic)));
        if let Some(mut flow) = self.flow(&id, now, effects) {
            flow.renew_all_sessions();
            if rebalance {
                flow.prepare("the group has become a classic one");
            }
        }
        effects.after = Some(After::Converted { group: id, previous: GroupBefore(previous) });
    }

    /// The records of a conversion are durable, or it is undone.
    pub(in crate::coordinator::groups) fn converted(
        &mut self,
        id: Arc<str>,
        previous: GroupBefore,
        stored: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        if stored.is_ok() {
            return;
        }
        tracing::warn!(group = %id, "a group could not be converted");
        if let Some((_, Group::Classic(mut failed))) = self.take_group(&id) {
            failed.send_away(effects);
        }
        self.insert(id.clone(), previous.0);
        self.begin_sessions(&id, now, effects);
    }
}

impl MigrationPolicy {
    fn allows_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    fn allows_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// Why a classic member can't be one of a consumer group.
enum Fault {
    Malformed,
    /// Its assignor has data of its own, which would be lost.
    OwnAssignor,
}

impl Fault {
    fn words(&self) -> &'static str {
        match self {
            Self::Malformed => "the embedded consumer protocol is malformed.",
            Self::OwnAssignor => {
                "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade."
            }
        }
    }
}

fn upgraded_member(
    classic: &ClassicMember,
    subscription: Bytes,
    generation: i32,
    cluster: &dyn ClusterView,
) -> Result<(Member, Assignment), Fault> {
    let given = match classic.assignment() {
        // It has just joined and never been assigned anything.
        none if none.is_empty() => ConsumerProtocolAssignment::default(),
        bytes => decode_assignment(bytes).map_err(|_| Fault::Malformed)?,
    };
    if given.user_data.is_some_and(|data| !data.is_empty()) {
        return Err(Fault::OwnAssignor);
    }
    let topic = |given: consumer_protocol_assignment::TopicPartition| {
        Some((cluster.topic(&given.topic)?.id, given.partitions.into_iter().collect()))
    };
    let target: Assignment = given.assigned_partitions.into_iter().filter_map(topic).collect();
    let protocols: Vec<(Arc<str>, Bytes)> = classic.protocols().collect();
    let (_, subscription) = decode_subscription(subscription).map_err(|_| Fault::Malformed)?;
    let details = Details {
        instance: classic.instance().cloned(),
        rack: subscription.rack_id.as_deref().filter(|rack| !rack.is_empty()).map(Arc::from),
        client_id: classic.client_id().clone(),
        client_host: classic.client_host().clone(),
        topics: subscription.topics.iter().map(|topic| topic.as_str().into()).collect(),
        rebalance_timeout_ms: classic.rebalance_timeout_ms(),
        classic: Some(ClassicPart { session_timeout_ms: classic.session_timeout_ms(), protocols }),
        ..Details::default()
    };
    let member = Member {
        details,
        epoch: generation,
        previous_epoch: generation,
        state: MemberState::Stable,
        assigned: owned_since(&target, generation),
        ..Member::new(classic.id().clone())
    };
    Ok((member, target))
}

/// What a member is told that it has, in the version of the consumers' protocol that it speaks.
pub(super) fn assignment_for(member: &Member, assignment: &Assignment, cluster: &dyn ClusterView) -> Bytes {
    let topics = assignment.iter().filter_map(|(topic, partitions)| {
        Some(consumer_protocol_assignment::TopicPartition {
            topic: text(&cluster.topic_name(*topic)?),
            partitions: partitions.iter().copied().collect(),
        })
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics.collect(),
        ..ConsumerProtocolAssignment::default()
    };
    let protocols = member.details.classic.iter().flat_map(|classic| &classic.protocols);
    let version = protocols.map(|(_, metadata)| metadata).next().and_then(|metadata| metadata.first_chunk());
    encode_assignment(&assignment, version.map_or(0, |version| i16::from_be_bytes(*version)))
}
