//! ConsumerGroupDescribe: the state of consumer groups, and their members (KIP-848).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::groups::consumer::Refusal,
};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};

use consumer_group_describe_response::DescribedGroup;

impl Handlers {
    pub(super) async fn consumer_group_describe(
        &self,
        context: &RequestContext,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let mut seen = BTreeSet::new();
        let mut groups = Vec::new();
        for id in request.group_ids {
            // A group that is named twice is answered once: its members may be many.
            if !seen.insert(id.clone()) {
                continue;
            }
            let mut group = self.consumer_group(context, &id).await.unwrap_or_else(|refusal| {
                DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_error_code(refusal.code.code())
                    .with_error_message(refusal.text())
            });
            let asked = request.include_authorized_operations && group.error_code == 0;
            group.authorized_operations = self.group_operations(context, asked, &id);
            groups.push(group);
        }
        ConsumerGroupDescribeResponse::default().with_groups(groups)
    }

    async fn consumer_group(&self, context: &RequestContext, id: &str) -> Result<DescribedGroup, Refusal> {
        if !self.broker.stored.has_consumer_groups() {
            return Err(ErrorCode::UnsupportedVersion.into());
        }
        if !self.allows_group(context, Operation::Describe, id) {
            return Err(ErrorCode::GroupAuthorizationFailed.into());
        }
        if id.is_empty() {
            return Err(ErrorCode::InvalidGroupId.into());
        }
        let shard = self.broker.group_shard(id)?;
        let group = shard.run(|groups, _, _| groups.describe_consumer(id))?.durable().await??;
        let hidden = |topic: &str| !self.allows_topic(context, Operation::Describe, topic);
        let assignments =
            group.members.iter().flat_map(|member| [&member.assignment, &member.target_assignment]);
        let topics = assignments.flat_map(|assignment| &assignment.topic_partitions);
        if topics.into_iter().any(|topic| hidden(&topic.topic_name)) {
            let message = "The group has described topic(s) that the client is not authorized to describe.";
            let code = ErrorCode::TopicAuthorizationFailed;
            return Err(Refusal { code, message: Some(message.to_owned()) });
        }
        Ok(group)
    }
}
