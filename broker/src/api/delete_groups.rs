//! DeleteGroups: deletes empty groups with their offsets (KIP-229).

use super::Handlers;
use crate::context::{Operation, RequestContext};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};

use delete_groups_response::DeletableGroupResult;

impl Handlers {
    pub(super) async fn delete_groups(
        &self,
        context: &RequestContext,
        request: DeleteGroupsRequest,
    ) -> DeleteGroupsResponse {
        let mut seen = BTreeSet::new();
        let mut results = Vec::new();
        for id in request.groups_names {
            // A group that is named twice is answered once.
            if !seen.insert(id.clone()) {
                continue;
            }
            let code = self.delete_group(context, &id).await.err().unwrap_or(ErrorCode::None);
            results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code.code()));
        }
        DeleteGroupsResponse::default().with_results(results)
    }

    async fn delete_group(&self, context: &RequestContext, id: &str) -> Result<(), ErrorCode> {
        if !self.allows_group(context, Operation::Delete, id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        let shard = self.broker.group_shard(id)?;
        shard.run(|groups, _, effects| groups.delete(id, effects))?.durable().await?
    }
}
