//! FindCoordinator: the broker that coordinates a group or a transactional id. Creates the topic of their state the first time, as
//! Kafka does.

use super::{Handlers, topic_admin::MALFORMED};
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};

use find_coordinator_response::Coordinator;

/// First version that asks for several coordinators at once (KIP-699).
const BATCHED: i16 = 4;
/// First version that may ask for the coordinator of a share partition (KIP-932).
const SHARE: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE_PARTITION: i8 = 2;

const NO_SHARE_GROUPS: &str = "Share groups are not supported yet";

/// A code, and a sentence for people.
type Refusal = (ErrorCode, Option<&'static str>);

impl Handlers {
    pub(super) async fn find_coordinator(
        &self,
        context: &RequestContext,
        version: i16,
        request: FindCoordinatorRequest,
    ) -> FindCoordinatorResponse {
        if version >= BATCHED {
            let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
            for key in request.coordinator_keys {
                let found = self.coordinator_of(context, version, request.key_type, &key).await;
                coordinators.push(self.coordinator(context, found).with_key(key));
            }
            return FindCoordinatorResponse::default().with_coordinators(coordinators);
        }
        let found = self.coordinator_of(context, version, request.key_type, &request.key).await;
        let mut found = self.coordinator(context, found);
        if found.error_code == 0 {
            // Kafka's name of the code, which it tells in these versions in place of a message.
            found.error_message = Some(StrBytes::from_static_str("NONE"));
        }
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(found.error_message)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    }

    async fn coordinator_of(
        &self,
        context: &RequestContext,
        version: i16,
        kind: i8,
        key: &str,
    ) -> Result<(), Refusal> {
        match kind {
            GROUP if !self.allows_group(context, Operation::Describe, key) => {
                Err((ErrorCode::GroupAuthorizationFailed, None))
            }
            GROUP => self.broker.offsets_topic().await.map(drop).map_err(|error| {
                tracing::warn!(%error, "could not create the topic of the groups' state");
                (ErrorCode::CoordinatorNotAvailable, None)
            }),
            TRANSACTION if !self.allows_transactional_id(context, Operation::Describe, key) => {
                Err((ErrorCode::TransactionalIdAuthorizationFailed, None))
            }
            TRANSACTION => self.broker.transactions_topic().await.map(drop).map_err(|error| {
                tracing::warn!(%error, "could not create the topic of the transactions' state");
                (ErrorCode::CoordinatorNotAvailable, None)
            }),
            SHARE_PARTITION if version >= SHARE => {
                Err((ErrorCode::UnsupportedVersion, Some(NO_SHARE_GROUPS)))
            }
            _ => Err((ErrorCode::InvalidRequest, Some(MALFORMED))),
        }
    }

    /// This broker owns all logs, so it coordinates all groups and transactions.
    fn coordinator(&self, context: &RequestContext, found: Result<(), Refusal>) -> Coordinator {
        let endpoint =
            found.and_then(|()| self.endpoint(context).ok_or((ErrorCode::CoordinatorNotAvailable, None)));
        match endpoint {
            Ok(endpoint) => Coordinator::default()
                .with_node_id(self.broker.settings.broker.0.into())
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_error_message(Some(StrBytes::default())),
            Err((code, message)) => Coordinator::default()
                .with_node_id((-1).into())
                .with_port(-1)
                .with_error_code(code.code())
                .with_error_message(message.map(StrBytes::from_static_str)),
        }
    }
}
