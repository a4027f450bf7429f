//! SyncGroup: brings the leader's assignment, and gets the client's part of it.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::groups::Parked,
};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;
use tokio::sync::oneshot;

/// First version in which the protocol's type and name must be given (KIP-559).
const NAMED: i16 = 5;

impl Handlers {
    pub(super) async fn sync_group(
        &self,
        context: &RequestContext,
        version: i16,
        request: SyncGroupRequest,
        charge: Charge,
    ) -> SyncGroupResponse {
        let parked = self.park_sync(context, version, &request).await;
        // The group has copied what it keeps, and the leader may take long.
        drop((request, charge));
        let refused = |code: ErrorCode| SyncGroupResponse::default().with_error_code(code.code());
        match parked {
            Ok(parked) => match parked.await {
                Ok(Parked::Sync(response)) => response,
                _ => refused(ErrorCode::NotCoordinator),
            },
            Err(code) => refused(code),
        }
    }

    async fn park_sync(
        &self,
        context: &RequestContext,
        version: i16,
        request: &SyncGroupRequest,
    ) -> Result<oneshot::Receiver<Parked>, ErrorCode> {
        if version >= NAMED && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let shard = self.broker.group_shard(&request.group_id)?;
        let assigned: usize = request.assignments.iter().map(|one| one.assignment.len()).sum();
        if assigned > 0 {
            shard.room(assigned).await?;
        }
        shard.park(|groups, ticket, now, effects| groups.sync(request, ticket, now, effects))
    }
}
