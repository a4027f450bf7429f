//! OffsetCommit: stores how far a group has read.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::groups::OffsetCommit,
};
use std::collections::BTreeMap;
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;

use offset_commit_request::OffsetCommitRequestTopic;
use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};

/// First version that names topics by id.
const TOPIC_IDS: i16 = 10;

/// The answer so far, in the order in which topics come to it.
#[derive(Default)]
struct Answered {
    topics: Vec<OffsetCommitResponseTopic>,
    /// Where each topic is, by name and id.
    places: BTreeMap<(StrBytes, uuid::Uuid), usize>,
    /// Whether all partitions of a topic come together.
    one_entry_each: bool,
}

impl Answered {
    fn add(&mut self, topic: &OffsetCommitRequestTopic, codes: impl IntoIterator<Item = (i32, ErrorCode)>) {
        let next = self.topics.len();
        let known = *self.places.entry((topic.name.clone(), topic.topic_id)).or_insert(next);
        let place = if self.one_entry_each { known } else { next };
        if place == next {
            let answered = OffsetCommitResponseTopic::default().with_topic_id(topic.topic_id);
            self.topics.push(answered.with_name(TopicName(topic.name.clone())));
        }
        self.topics[place].partitions.extend(codes.into_iter().map(|(partition, code)| {
            let answered = OffsetCommitResponsePartition::default().with_partition_index(partition);
            answered.with_error_code(code.code())
        }));
    }

    fn add_all(&mut self, topic: &OffsetCommitRequestTopic, code: ErrorCode) {
        self.add(topic, topic.partitions.iter().map(|partition| (partition.partition_index, code)));
    }
}

impl Handlers {
    pub(super) async fn offset_commit(
        &self,
        context: &RequestContext,
        version: i16,
        mut request: OffsetCommitRequest,
        charge: Charge,
    ) -> OffsetCommitResponse {
        let mut answered = Answered { one_entry_each: true, ..Answered::default() };
        let topics = std::mem::take(&mut request.topics);
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            topics.iter().for_each(|topic| answered.add_all(topic, ErrorCode::GroupAuthorizationFailed));
            return OffsetCommitResponse::default().with_topics(answered.topics);
        }
        let mut valid = Vec::with_capacity(topics.len());
        for topic in topics {
            valid.extend(self.existing(context, version, topic, &mut answered));
        }
        if !valid.is_empty() {
            let codes = self.commit(version, &request, &valid, charge).await;
            // As Kafka has it: a topic that is named twice is answered twice, unless something was refused before.
            answered.one_entry_each = !answered.topics.is_empty();
            for (at, topic) in valid.iter().enumerate() {
                match &codes {
                    Ok(codes) => answered.add(topic, codes[at].iter().copied()),
                    Err(code) => answered.add_all(topic, *code),
                }
            }
        }
        OffsetCommitResponse::default().with_topics(answered.topics)
    }

    /// What of a topic exists, with its name and id. The rest is answered.
    fn existing(
        &self,
        context: &RequestContext,
        version: i16,
        mut topic: OffsetCommitRequestTopic,
        answered: &mut Answered,
    ) -> Option<OffsetCommitRequestTopic> {
        let topics = &self.broker.topics;
        let known = match version >= TOPIC_IDS {
            true => topics.by_id(topic.topic_id),
            false => topics.by_name(&topic.name),
        };
        if let Some(known) = &known
            && version >= TOPIC_IDS
        {
            topic.name = StrBytes::from_string(known.name().to_owned());
        }
        let refusal = match &known {
            None if version >= TOPIC_IDS => Some(ErrorCode::UnknownTopicId),
            _ if !self.allows_topic(context, Operation::Read, &topic.name) => {
                Some(ErrorCode::TopicAuthorizationFailed)
            }
            None => Some(ErrorCode::UnknownTopicOrPartition),
            Some(_) => None,
        };
        if let Some(code) = refusal {
            answered.add_all(&topic, code);
            return None;
        }
        let known = known?;
        topic.topic_id = known.id();
        let (there, missing) = topic
            .partitions
            .into_iter()
            .partition(|partition| known.log(partition.partition_index).is_some());
        topic.partitions = missing;
        if !topic.partitions.is_empty() {
            answered.add_all(&topic, ErrorCode::UnknownTopicOrPartition);
        }
        topic.partitions = there;
        (!topic.partitions.is_empty()).then_some(topic)
    }

    async fn commit(
        &self,
        version: i16,
        request: &OffsetCommitRequest,
        topics: &[OffsetCommitRequestTopic],
        charge: Charge,
    ) -> Result<Vec<Vec<(i32, ErrorCode)>>, ErrorCode> {
        let shard = self.broker.group_shard(&request.group_id)?;
        shard.room(charge.bytes()).await?;
        let commit = OffsetCommit { request, topics, version, has_room: shard.has_room() };
        let pending = shard.run(|groups, now, effects| groups.commit(commit, now, effects))?;
        // Waiting for a PUT must not take memory from requests that wait for none.
        drop(charge);
        match pending.peek() {
            // Nothing is stored, so nothing is waited for.
            Err(code) => Err(*code),
            Ok(_) => pending.durable().await?,
        }
    }
}
