//! DescribeGroups: the state of classic groups, and their members.

use super::Handlers;
use crate::context::{Operation, RequestContext};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};

use describe_groups_response::DescribedGroup;

impl Handlers {
    pub(super) async fn describe_groups(
        &self,
        context: &RequestContext,
        version: i16,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let mut seen = BTreeSet::new();
        let mut groups = Vec::new();
        for id in request.groups {
            // A group that is named twice is answered once: its members may be many.
            if !seen.insert(id.clone()) {
                continue;
            }
            let mut group = match self.describe_group(context, version, &id).await {
                Ok(group) => group,
                Err(code) => DescribedGroup::default().with_group_id(id.clone()).with_error_code(code.code()),
            };
            let asked = request.include_authorized_operations && group.error_code == 0;
            group.authorized_operations = self.group_operations(context, asked, &id);
            groups.push(group);
        }
        DescribeGroupsResponse::default().with_groups(groups)
    }

    async fn describe_group(
        &self,
        context: &RequestContext,
        version: i16,
        id: &str,
    ) -> Result<DescribedGroup, ErrorCode> {
        if !self.allows_group(context, Operation::Describe, id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        let shard = self.broker.group_shard(id)?;
        shard.run(|groups, _, _| groups.describe(id, version))?.durable().await
    }
}
