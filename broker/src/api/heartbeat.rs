//! Heartbeat: a member of a group lives, and learns of a rebalance.

use super::Handlers;
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};

impl Handlers {
    pub(super) fn heartbeat(&self, context: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
        let code = match self.beat(context, &request) {
            Ok(()) => ErrorCode::None,
            // While its group is loading, nobody's session ends.
            Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Err(code) => code,
        };
        HeartbeatResponse::default().with_error_code(code.code())
    }

    fn beat(&self, context: &RequestContext, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let shard = self.broker.group_shard(&request.group_id)?;
        shard.run(|groups, now, effects| groups.heartbeat(request, now, effects))?.at_once()
    }
}
