//! LeaveGroup: takes members out of a group.

use super::Handlers;
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};

use leave_group_request::MemberIdentity;
use leave_group_response::MemberResponse;

/// First version with several members (KIP-345). In those before, the one member's error is the response's.
const BATCHED: i16 = 3;

impl Handlers {
    pub(super) async fn leave_group(
        &self,
        context: &RequestContext,
        version: i16,
        mut request: LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let members = match version >= BATCHED {
            true => std::mem::take(&mut request.members),
            false => vec![MemberIdentity::default().with_member_id(request.member_id)],
        };
        let response = LeaveGroupResponse::default();
        match self.leave(context, &request.group_id, members).await {
            Err(code) => response.with_error_code(code.code()),
            Ok(members) if version >= BATCHED => response.with_members(members),
            Ok(members) => response.with_error_code(members.first().map_or(0, |member| member.error_code)),
        }
    }

    async fn leave(
        &self,
        context: &RequestContext,
        group: &str,
        members: Vec<MemberIdentity>,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        if !self.allows_group(context, Operation::Read, group) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let shard = self.broker.group_shard(group)?;
        shard.run(|groups, now, effects| groups.leave(group, members, now, effects))?.durable().await?
    }
}
