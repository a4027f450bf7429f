//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use super::{
    Group, Groups, check_group_id,
    classic::State,
    consumer::{Committer, MayCommit},
    effects::{Effects, Now},
    sorted::SortedMap,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_protocol::{
    CONSUMER_PROTOCOL, ErrorCode,
    coordinator_records::{GroupRecord, OffsetCommitKey, OffsetCommitValue},
    messages::{
        OffsetCommitRequest, StrBytes, TopicName,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_response::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
    },
};
use uuid::Uuid;

/// One committed offset.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// Of the last record that was read, or -1 (KIP-320).
    pub(super) leader_epoch: i32,
    pub(super) metadata: Box<str>,
    pub(super) commit_ms: i64,
    /// Set by old clients alone (OffsetCommit up to version 4), else -1.
    pub(super) expire_ms: i64,
    /// All zero where a record of before Kafka 4.2 doesn't tell.
    pub(super) topic_id: Uuid,
    /// Where its record is in the log: of a commit in a transaction and another the later one counts.
    pub(super) record_offset: i64,
}

impl Committed {
    pub(super) fn of_record(value: &OffsetCommitValue, record_offset: i64) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.as_str().into(),
            commit_ms: value.commit_timestamp,
            expire_ms: value.expire_timestamp,
            topic_id: value.topic_id,
            record_offset,
        }
    }
}

type Partitions = SortedMap<i32, Box<Committed>>;
type Topics = SortedMap<Arc<str>, Partitions>;

/// The committed offsets of all groups of a partition of the log.
#[derive(Default)]
pub(super) struct Offsets {
    by_group: BTreeMap<Arc<str>, Topics>,
    bytes: usize,
}

/// What an offset weighs beside its metadata, and a topic beside its name.
const OFFSET_OVERHEAD: usize = 128;
const TOPIC_OVERHEAD: usize = 128;

impl Offsets {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics, partitions and offsets of a group.
    pub(super) fn of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&Arc<str>, impl Iterator<Item = (i32, &Committed)>)> {
        let topics = self.by_group.get(group).into_iter().flat_map(SortedMap::iter);
        topics.map(|(topic, partitions)| {
            (topic, partitions.iter().map(|(partition, committed)| (*partition, &**committed)))
        })
    }

    pub(super) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        Some(self.by_group.get(group)?.get(topic)?.get(&partition)?)
    }

    pub(super) fn put(&mut self, group: &Arc<str>, topic: &str, partition: i32, committed: Committed) {
        let topics = self.by_group.entry(group.clone()).or_default();
        let mut added = OFFSET_OVERHEAD + committed.metadata.len();
        let partitions = topics.entry(topic, || {
            added += TOPIC_OVERHEAD + topic.len();
            (topic.into(), Partitions::default())
        });
        self.bytes += added;
        if let Some(before) = partitions.insert(partition, Box::new(committed)) {
            self.bytes -= OFFSET_OVERHEAD + before.metadata.len();
        }
    }

    pub(super) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.by_group.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        if let Some(removed) = partitions.remove(&partition) {
            self.bytes -= OFFSET_OVERHEAD + removed.metadata.len();
        }
        if partitions.is_empty() {
            topics.remove(topic);
            self.bytes -= TOPIC_OVERHEAD + topic.len();
        }
        if topics.is_empty() {
            self.by_group.remove(group);
        }
    }
}

/// An OffsetCommit whose topics were found to exist.
#[derive(Clone, Copy, Debug)]
pub struct OffsetCommit<'a> {
    /// The request. Its topics don't count.
    pub request: &'a OffsetCommitRequest,
    /// The topics, each with its name and id.
    pub topics: &'a [OffsetCommitRequestTopic],
    /// Version of the request.
    pub version: i16,
    /// Whether there is memory for more than the group has committed already.
    pub has_room: bool,
}

/// From this version an unknown group has an error of its own.
const GROUP_ID_NOT_FOUND: i16 = 9;

/// What an OffsetFetch asks for.
#[derive(Clone, Debug)]
pub enum OffsetsWanted {
    /// Whatever is committed.
    All,
    /// Name, id (all zero if not known) and partitions.
    Of(Vec<(StrBytes, Uuid, Vec<i32>)>),
}

impl Groups {
    /// OffsetCommit. The codes are those of the partitions, in the order of the request.
    pub fn commit(
        &mut self,
        commit: OffsetCommit<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Vec<Vec<(i32, ErrorCode)>>, ErrorCode> {
        let may_commit = self.check_commit(commit)?;
        self.check_partitions(commit, may_commit)?;
        if !commit.has_room && commit.topics.iter().any(|topic| self.adds_to(&commit.request.group_id, topic))
        {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.renew_by_commit(commit.request, now, effects);
        let retention_ms = commit.request.retention_time_ms;
        let expire_ms = if retention_ms == -1 { -1 } else { now.wall_ms.saturating_add(retention_ms) };
        Ok(self.commit_records(commit, now, expire_ms, effects))
    }

    /// A record for each partition whose metadata isn't too long.
    fn commit_records(
        &self,
        commit: OffsetCommit<'_>,
        now: Now,
        expire_ms: i64,
        effects: &mut Effects,
    ) -> Vec<Vec<(i32, ErrorCode)>> {
        let mut codes = Vec::with_capacity(commit.topics.len());
        for topic in commit.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                if self.is_too_long(partition) {
                    return (partition.partition_index, ErrorCode::OffsetMetadataTooLarge);
                }
                let record = record_of(&commit.request.group_id, topic, partition, now.wall_ms, expire_ms);
                effects.records.push(record);
                (partition.partition_index, ErrorCode::None)
            });
            codes.push(partitions.collect());
        }
        codes
    }

    /// TxnOffsetCommit: gives the records, which are to be part of the producer's transaction (KIP-98, KIP-447). The codes are those
    /// of the partitions, in the order of the request.
    pub fn commit_in_transaction(
        &self,
        commit: OffsetCommit<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Vec<Vec<(i32, ErrorCode)>>, ErrorCode> {
        let request = commit.request;
        check_group_id(&request.group_id)?;
        let generation = request.generation_id_or_member_epoch;
        let instance = request.group_instance_id.as_deref();
        match self.groups.get(&*request.group_id) {
            Some(Group::Classic(group)) => {
                group.check_transactional_commit(&request.member_id, instance, generation)?;
            }
            Some(Group::Consumer(group)) => {
                let from = Committer { member: &request.member_id, instance, epoch: generation };
                group
                    .check_commit(from, None)
                    .and_then(|may_commit| self.check_partitions(commit, may_commit))
                    .map_err(|code| match code {
                        // Producers don't know the other one.
                        ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
                        code => code,
                    })?;
            }
            None if generation < 0 => {}
            None => return Err(ErrorCode::IllegalGeneration),
        }
        if !commit.has_room {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(self.commit_records(commit, now, -1, effects))
    }

    fn check_commit(&self, commit: OffsetCommit<'_>) -> Result<MayCommit<'_>, ErrorCode> {
        let request = commit.request;
        let (generation, instance) =
            (request.generation_id_or_member_epoch, request.group_instance_id.as_deref());
        match self.groups.get(&*request.group_id) {
            Some(Group::Classic(group)) => {
                group.check_commit(&request.member_id, instance, generation).map(|()| MayCommit::All)
            }
            Some(Group::Consumer(group)) => {
                let from = Committer { member: &request.member_id, instance, epoch: generation };
                group.check_commit(from, Some(commit.version))
            }
            // A consumer that assigns partitions to itself: its group comes to be by the record.
            None if generation < 0 => Ok(MayCommit::All),
            None if commit.version >= GROUP_ID_NOT_FOUND => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// One partition that may not be committed spoils the whole request, as in Kafka.
    fn check_partitions(&self, commit: OffsetCommit<'_>, may_commit: MayCommit<'_>) -> Result<(), ErrorCode> {
        for topic in commit.topics {
            for partition in topic.partitions.iter().filter(|partition| !self.is_too_long(partition)) {
                may_commit.check(topic.topic_id, partition.partition_index)?;
            }
        }
        Ok(())
    }

    /// Whether a commit needs memory: for a partition that the group has no offset of, or for longer metadata.
    fn adds_to(&self, group: &str, topic: &OffsetCommitRequestTopic) -> bool {
        let adds = |partition: &OffsetCommitRequestPartition| {
            let known = self.offsets.get(group, &topic.name, partition.partition_index);
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            known.is_none_or(|known| known.metadata.len() < metadata.len())
        };
        topic.partitions.iter().any(adds)
    }

    /// Who commits lives.
    fn renew_by_commit(&mut self, request: &OffsetCommitRequest, now: Now, effects: &mut Effects) {
        if let Some(mut flow) = self.flow(&request.group_id, now, effects)
            && matches!(flow.group.state(), State::Stable | State::PreparingRebalance)
        {
            flow.renew_session(&request.member_id);
        }
    }

    fn is_too_long(&self, partition: &OffsetCommitRequestPartition) -> bool {
        let max = self.settings.metadata_max_len;
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        metadata.len() > max && metadata.encode_utf16().count() > max
    }

    /// OffsetFetch of one group, in the form of version 8. A group that isn't there has no offsets.
    ///
    /// `member` and its epoch are given by who asks as a member of a consumer group.
    ///
    /// Where only stable ones are wanted, one that an open transaction may change has the error UNSTABLE_OFFSET_COMMIT (KIP-447).
    pub fn fetch_offsets(
        &self,
        group: &str,
        wanted: OffsetsWanted,
        stable: bool,
        (member, epoch): (Option<&str>, i32),
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        if let Some(known) = self.consumer(group) {
            known.check_fetch(member, epoch)?;
        }
        let mut topics = self.committed_offsets(group, wanted);
        if stable && self.pending.any(group) {
            for topic in &mut topics {
                for partition in &mut topic.partitions {
                    if self.pending.is_open(group, &topic.name, partition.partition_index) {
                        *partition = unstable(partition.partition_index);
                    }
                }
            }
        }
        Ok(topics)
    }

    fn committed_offsets(&self, group: &str, wanted: OffsetsWanted) -> Vec<OffsetFetchResponseTopics> {
        match wanted {
            OffsetsWanted::All => self.offsets.of_group(group).map(all_of_topic).collect(),
            OffsetsWanted::Of(topics) => {
                let topics = topics.into_iter().map(|(name, id, partitions)| {
                    let found = |partition: i32| {
                        let committed = self.offsets.get(group, &name, partition);
                        fetched(partition, committed.filter(|committed| is_of(committed, id)))
                    };
                    OffsetFetchResponseTopics::default()
                        .with_partitions(partitions.into_iter().map(found).collect())
                        .with_name(TopicName(name.clone()))
                        .with_topic_id(id)
                });
                topics.collect()
            }
        }
    }

    /// Whether offsets of a group can be deleted while it is in use (OffsetDelete, KIP-496).
    pub fn check_offset_delete(&self, group: &str) -> Result<(), ErrorCode> {
        check_group_id(group)?;
        let group = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        let is_of_consumers = group.protocol_type() == CONSUMER_PROTOCOL;
        if group.is_empty() || is_of_consumers { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// Deletes the offset of one partition, unless somebody subscribes to the topic.
    pub fn delete_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let known = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        if known.is_subscribed_to(topic) {
            return Err(ErrorCode::GroupSubscribedToTopic);
        }
        if self.offsets.get(group, topic, partition).is_some()
            || self.pending.is_open(group, topic, partition)
        {
            effects.records.push(tombstone(group, topic, partition));
        }
        Ok(())
    }

    /// Deletes every group's offsets of a topic that is no more, those of open transactions too. Those of another topic of the
    /// same name stay.
    pub fn topic_deleted(&self, topic: &str, id: Uuid, effects: &mut Effects) {
        let pending = self.pending.of_topic(topic).filter(|(.., committed)| is_of(committed, id));
        let mut deleted: BTreeSet<(&Arc<str>, i32)> =
            pending.map(|(group, partition, _)| (group, partition)).collect();
        for (group, topics) in &self.offsets.by_group {
            for (partition, committed) in topics.get(topic).into_iter().flat_map(SortedMap::iter) {
                if is_of(committed, id) {
                    deleted.insert((group, *partition));
                }
            }
        }
        let tombstones = deleted.into_iter().map(|(group, partition)| tombstone(group, topic, partition));
        effects.records.extend(tombstones);
    }

    /// Deletes the offsets of topics that are no more: those that were deleted while these offsets were not in memory, or whose
    /// deletion from here did not become durable.
    pub(super) fn forget_deleted_topics(&self, effects: &mut Effects) {
        let mut there: BTreeMap<Uuid, bool> = BTreeMap::from([(Uuid::nil(), true)]);
        let mut is_gone = |committed: &Committed| {
            let id = committed.topic_id;
            !*there.entry(id).or_insert_with(|| self.cluster.topic_name(id).is_some())
        };
        let mut deleted: BTreeSet<(&str, &str, i32)> = BTreeSet::new();
        for (group, topics) in &self.offsets.by_group {
            for (topic, partitions) in topics.iter() {
                let gone = partitions.iter().filter(|(_, committed)| is_gone(committed));
                deleted.extend(gone.map(|(partition, _)| (&**group, &**topic, *partition)));
            }
        }
        let pending = self.pending.all().filter(|(.., committed)| is_gone(committed));
        deleted.extend(pending.map(|(group, topic, partition, _)| (&**group, &**topic, partition)));
        let tombstones =
            deleted.into_iter().map(|(group, topic, partition)| tombstone(group, topic, partition));
        effects.records.extend(tombstones);
    }
}

fn record_of(
    group: &StrBytes,
    topic: &OffsetCommitRequestTopic,
    partition: &OffsetCommitRequestPartition,
    commit_ms: i64,
    expire_ms: i64,
) -> GroupRecord {
    let key = OffsetCommitKey {
        group: group.clone(),
        topic: topic.name.clone(),
        partition: partition.partition_index,
    };
    let value = OffsetCommitValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: commit_ms,
        expire_timestamp: expire_ms,
        topic_id: topic.topic_id,
    };
    GroupRecord::OffsetCommit(key, Some(value))
}

/// The record that deletes an offset.
pub(super) fn tombstone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    let text = super::classic::text;
    GroupRecord::OffsetCommit(OffsetCommitKey { group: text(group), topic: text(topic), partition }, None)
}

/// Whether an offset was committed for the topic with this id; where one of the ids isn't known, it counts as such.
fn is_of(committed: &Committed, id: Uuid) -> bool {
    committed.topic_id.is_nil() || id.is_nil() || committed.topic_id == id
}

fn all_of_topic<'a>(
    (name, partitions): (&Arc<str>, impl Iterator<Item = (i32, &'a Committed)>),
) -> OffsetFetchResponseTopics {
    let partitions = partitions.map(|(partition, committed)| fetched(partition, Some(committed)));
    OffsetFetchResponseTopics::default()
        .with_name(TopicName(super::classic::text(name)))
        .with_partitions(partitions.collect())
}

fn unstable(partition: i32) -> OffsetFetchResponsePartitions {
    fetched(partition, None).with_error_code(ErrorCode::UnstableOffsetCommit.code())
}

fn fetched(partition: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    let response = OffsetFetchResponsePartitions::default().with_partition_index(partition);
    match committed {
        None => response
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default())),
        Some(committed) => response
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(super::classic::text(&committed.metadata))),
    }
}
