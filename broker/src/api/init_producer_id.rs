//! InitProducerId: an id for an idempotent producer. Transactional ones come with the transaction coordinator.

use super::Handlers;
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

impl Handlers {
    pub(super) async fn init_producer_id(
        &self,
        context: &RequestContext,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let refused = |code: ErrorCode| {
            let response = InitProducerIdResponse::default().with_error_code(code.code());
            response.with_producer_id((-1).into()).with_producer_epoch(-1)
        };
        let half_given = (request.producer_id.0 < 0) != (request.producer_epoch < 0);
        if half_given || request.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
            return refused(ErrorCode::InvalidRequest);
        }
        if request.transactional_id.is_some() {
            return refused(ErrorCode::CoordinatorNotAvailable);
        }
        if !self.authorizer.allows(context, Operation::IdempotentWrite, Resource::Cluster) {
            return refused(ErrorCode::ClusterAuthorizationFailed);
        }
        // A producer without transactions that asks again, with the id that it has, gets a new one with epoch 0, as from
        // Kafka: only transactional producers keep theirs.
        match self.broker.producer_ids.next().await {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(0),
            Err(error) => {
                tracing::warn!(%error, "no producer ids from the metadata store");
                refused(ErrorCode::CoordinatorLoadInProgress)
            }
        }
    }
}
