//! JoinGroup: takes the client into a group, and waits until the others have joined too.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::groups::{Caller, Parked},
};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;
use tokio::sync::oneshot;

/// First version in which the protocol's name may be null. In those before, no name is an empty one.
const NULL_NAME: i16 = 7;

impl Handlers {
    pub(super) async fn join_group(
        &self,
        context: &RequestContext,
        version: i16,
        mut request: JoinGroupRequest,
        charge: Charge,
    ) -> JoinGroupResponse {
        if version == 0 {
            request.rebalance_timeout_ms = request.session_timeout_ms;
        }
        let parked = self.park_join(context, version, &request);
        // The group has copied what it keeps, and others may take minutes to join.
        let member = request.member_id.clone();
        drop((request, charge));
        let response = match parked {
            Ok(parked) => match parked.await {
                Ok(Parked::Join(response)) => response,
                _ => refused(ErrorCode::NotCoordinator, StrBytes::default()),
            },
            // Kafka hands the id back where it looks at nothing but the request.
            Err(code @ ErrorCode::InvalidGroupId) => refused(code, member),
            Err(code) => refused(code, StrBytes::default()),
        };
        in_version(response, version)
    }

    fn park_join(
        &self,
        context: &RequestContext,
        version: i16,
        request: &JoinGroupRequest,
    ) -> Result<oneshot::Receiver<Parked>, ErrorCode> {
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        // An empty id has no shard that is worth finding.
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let shard = self.broker.group_shard(&request.group_id)?;
        let client_host = format!("/{}", context.client.ip());
        let client_id = context.client_id.as_deref().unwrap_or_default();
        let caller = Caller { client_id, client_host: &client_host, version, has_room: shard.has_room() };
        shard.park(|groups, ticket, now, effects| groups.join(caller, request, ticket, now, effects))
    }
}

fn refused(code: ErrorCode, member: StrBytes) -> JoinGroupResponse {
    let refused = JoinGroupResponse::default().with_error_code(code.code()).with_generation_id(-1);
    refused.with_protocol_name(None).with_member_id(member)
}

fn in_version(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    let named = response.protocol_name.take().filter(|name| !name.is_empty());
    response.protocol_name = if version < NULL_NAME { Some(named.unwrap_or_default()) } else { named };
    response
}
