//! OffsetDelete: forgets how far a group has read in some topics (KIP-496).

use super::{Handlers, named_once::named_once};
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};

use offset_delete_request::OffsetDeleteRequestTopic;
use offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};

/// A partition, and what became of it; none yet for what the group is to delete.
type Partition = (i32, Option<ErrorCode>);

impl Handlers {
    pub(super) async fn offset_delete(
        &self,
        context: &RequestContext,
        request: OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        match self.delete_offsets(context, request).await {
            Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
            Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
        }
    }

    async fn delete_offsets(
        &self,
        context: &RequestContext,
        request: OffsetDeleteRequest,
    ) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
        let group = request.group_id.as_str();
        if !self.allows_group(context, Operation::Delete, group) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let mut topics: Vec<_> =
            request.topics.into_iter().map(|topic| self.deletable(context, topic)).collect();
        // What can't be deleted is answered first, as by Kafka.
        topics.sort_by_key(|(_, partitions)| partitions.iter().all(|(_, code)| code.is_none()));
        let shard = self.broker.group_shard(group)?;
        let deleted = shard.run(|groups, _, effects| {
            groups.check_offset_delete(group)?;
            let topics = topics.into_iter().map(|(name, partitions)| {
                let code = |(partition, code): Partition| {
                    let code = code.or_else(|| groups.delete_offset(group, &name, partition, effects).err());
                    answer(partition, code.unwrap_or(ErrorCode::None))
                };
                let partitions = partitions.into_iter().map(code).collect();
                OffsetDeleteResponseTopic::default().with_name(name.clone()).with_partitions(partitions)
            });
            let join = |first: &mut OffsetDeleteResponseTopic, mut later: OffsetDeleteResponseTopic| {
                first.partitions.append(&mut later.partitions);
            };
            Ok(named_once(topics, |topic| topic.name.clone(), join))
        });
        deleted?.durable().await?
    }

    fn deletable(
        &self,
        context: &RequestContext,
        topic: OffsetDeleteRequestTopic,
    ) -> (TopicName, Vec<Partition>) {
        let allowed = self.allows_topic(context, Operation::Read, &topic.name);
        let known = self.broker.topics.by_name(&topic.name);
        let code = |partition: i32| match &known {
            _ if !allowed => Some(ErrorCode::TopicAuthorizationFailed),
            Some(known) if known.log(partition).is_some() => None,
            _ => Some(ErrorCode::UnknownTopicOrPartition),
        };
        let partitions = topic.partitions.iter().map(|one| (one.partition_index, code(one.partition_index)));
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_by_key(|(_, code)| code.is_none());
        (topic.name, partitions)
    }
}

fn answer(partition: i32, code: ErrorCode) -> OffsetDeleteResponsePartition {
    OffsetDeleteResponsePartition::default().with_partition_index(partition).with_error_code(code.code())
}
