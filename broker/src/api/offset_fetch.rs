//! OffsetFetch: how far groups have read.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::groups::OffsetsWanted,
};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

/// First version with an error of the whole group.
const GROUP_ERROR: i16 = 2;
/// First version with several groups (KIP-709).
const BATCHED: i16 = 8;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 10;

/// What is asked for of a group, and by whom.
#[derive(Clone, Copy)]
struct Reader<'a> {
    group: &'a str,
    stable: bool,
    /// Member id and epoch, where a member of a consumer group asks.
    member: (Option<&'a str>, i32),
}

impl Handlers {
    pub(super) async fn offset_fetch(
        &self,
        context: &RequestContext,
        version: i16,
        request: OffsetFetchRequest,
    ) -> OffsetFetchResponse {
        let stable = request.require_stable;
        if version >= BATCHED {
            let mut seen = BTreeSet::new();
            let mut groups = Vec::new();
            for group in request.groups {
                // A group that is named twice is answered once: what it has committed may be large.
                if seen.insert(group.group_id.clone()) {
                    groups.push(self.fetch_group(context, version, group, stable).await);
                }
            }
            return OffsetFetchResponse::default().with_groups(groups);
        }
        let group = self.fetch_group(context, version, only_group(request), stable).await;
        OffsetFetchResponse::default()
            .with_error_code(group.error_code)
            .with_topics(group.topics.into_iter().map(in_old_form).collect())
    }

    async fn fetch_group(
        &self,
        context: &RequestContext,
        version: i16,
        request: OffsetFetchRequestGroup,
        stable: bool,
    ) -> OffsetFetchResponseGroup {
        let group = OffsetFetchResponseGroup::default().with_group_id(GroupId(request.group_id.clone()));
        let asked = request.topics.clone();
        let reader = Reader {
            group: &request.group_id,
            stable,
            member: (request.member_id.as_deref(), request.member_epoch),
        };
        let fetched = match request.topics {
            None => self.fetch_all(context, version, reader).await,
            Some(topics) => self.fetch_some(context, version, reader, topics).await,
        };
        match fetched {
            Ok(topics) => group.with_topics(topics),
            Err(code) if version >= GROUP_ERROR => group.with_error_code(code.code()),
            Err(code) => {
                let topics = asked.unwrap_or_default().into_iter();
                group.with_topics(topics.map(|topic| refused(topic, code)).collect())
            }
        }
    }

    /// Everything that the group has committed, for topics that the caller may see.
    async fn fetch_all(
        &self,
        context: &RequestContext,
        version: i16,
        reader: Reader<'_>,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        let mut topics = self.committed(context, reader, OffsetsWanted::All).await?;
        topics.retain(|topic| self.allows_topic(context, Operation::Describe, &topic.name));
        if version >= TOPIC_IDS {
            for topic in &mut topics {
                let known = self.broker.topics.by_name(&topic.name);
                topic.topic_id = known.map_or(Uuid::nil(), |known| known.id());
            }
            // What has no id can't be told any more.
            topics.retain(|topic| !topic.topic_id.is_nil());
        }
        Ok(topics)
    }

    async fn fetch_some(
        &self,
        context: &RequestContext,
        version: i16,
        reader: Reader<'_>,
        topics: Vec<OffsetFetchRequestTopics>,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        let (mut wanted, mut refusals) = (Vec::with_capacity(topics.len()), Vec::new());
        for mut topic in topics {
            if version < TOPIC_IDS {
                // What was committed for an earlier topic of this name is not told.
                let known = self.broker.topics.by_name(&topic.name);
                topic.topic_id = known.map_or(Uuid::nil(), |known| known.id());
            } else {
                let known = self.broker.topics.by_id(topic.topic_id);
                let Some(known) = known else {
                    refusals.push(refused(topic, ErrorCode::UnknownTopicId));
                    continue;
                };
                topic.name = StrBytes::from_string(known.name().to_owned());
            }
            match self.allows_topic(context, Operation::Describe, &topic.name) {
                true => wanted.push((topic.name, topic.topic_id, topic.partition_indexes)),
                false => refusals.push(refused(topic, ErrorCode::TopicAuthorizationFailed)),
            }
        }
        let mut fetched = self.committed(context, reader, OffsetsWanted::Of(wanted)).await?;
        fetched.append(&mut refusals);
        if version < TOPIC_IDS {
            fetched.iter_mut().for_each(|topic| topic.topic_id = Uuid::nil());
        }
        Ok(fetched)
    }

    /// Only what is durable is told; where `stable`, nothing that an open transaction may change.
    async fn committed(
        &self,
        context: &RequestContext,
        Reader { group, stable, member }: Reader<'_>,
        wanted: OffsetsWanted,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        if !self.allows_group(context, Operation::Describe, group) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        let shard = self.broker.group_shard(group)?;
        shard.run(|groups, _, _| groups.fetch_offsets(group, wanted, stable, member))?.durable().await?
    }
}

/// The one group of an old request, as new ones have it.
fn only_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topic = |topic: offset_fetch_request::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        };
        topics.into_iter().map(topic).collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }
}

fn refused(topic: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.into_iter().map(|partition| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default()))
            .with_error_code(code.code())
    });
    OffsetFetchResponseTopics::default()
        .with_name(TopicName(topic.name))
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}

fn in_old_form(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}
