//! ListGroups: all groups that this broker coordinates.

use super::Handlers;
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

use list_groups_response::ListedGroup;

impl Handlers {
    pub(super) async fn list_groups(
        &self,
        context: &RequestContext,
        request: ListGroupsRequest,
    ) -> ListGroupsResponse {
        let texts = |texts: Vec<StrBytes>| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (states, types) = (texts(request.states_filter), texts(request.types_filter));
        match self.all_groups(&states, &types).await {
            Ok(mut groups) => {
                if !self.authorizer.allows(context, Operation::Describe, Resource::Cluster) {
                    groups.retain(|group| self.allows_group(context, Operation::Describe, &group.group_id));
                }
                ListGroupsResponse::default().with_groups(groups)
            }
            Err(code) => ListGroupsResponse::default().with_error_code(code.code()),
        }
    }

    /// One partition that is loading makes the whole list wait, as in Kafka.
    async fn all_groups(&self, states: &[String], types: &[String]) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut all = Vec::new();
        for shard in self.broker.group_shards() {
            let listed = match shard.run(|groups, _, _| groups.list(states, types)) {
                Ok(listed) => listed.durable().await,
                Err(code) => Err(code),
            };
            match listed {
                Ok(groups) => all.extend(groups),
                // Its groups are another broker's to list.
                Err(ErrorCode::NotCoordinator) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(all)
    }
}
