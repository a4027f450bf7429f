//! InitProducerId: an id for an idempotent producer, or the next epoch for a transactional one.

use super::Handlers;
use crate::{
    context::{Operation, RequestContext, Resource},
    coordinator::transactions::{InitProducer, Producer},
};
use thalweg_protocol::{ErrorCode, messages::*};

/// First version whose clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 4;

impl Handlers {
    pub(super) async fn init_producer_id(
        &self,
        context: &RequestContext,
        version: i16,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        match self.next_producer(context, &request).await {
            Ok(producer) => InitProducerIdResponse::default()
                .with_producer_id(producer.id.into())
                .with_producer_epoch(producer.epoch),
            Err(code) => InitProducerIdResponse::default()
                .with_error_code(fenced_for(version < PRODUCER_FENCED, code).code())
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        }
    }

    async fn next_producer(
        &self,
        context: &RequestContext,
        request: &InitProducerIdRequest,
    ) -> Result<Producer, ErrorCode> {
        let Some(id) = &request.transactional_id else {
            if !self.authorizer.allows(context, Operation::IdempotentWrite, Resource::Cluster) {
                return Err(ErrorCode::ClusterAuthorizationFailed);
            }
            expected(request)?;
            // A producer without transactions that asks again, with the id that it has, gets a new one with epoch 0, as from
            // Kafka: only transactional producers keep theirs.
            return Ok(Producer { id: self.broker.fresh_producer_id().await?, epoch: 0 });
        };
        if !self.allows_transactional_id(context, Operation::Write, id) {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let expected = expected(request)?;
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let timeout_ms = request.transaction_timeout_ms;
        let init = InitProducer { id, timeout_ms, expected, fresh: None, has_room: false };
        self.broker.init_transactional_producer(init).await
    }
}

/// The producer that a client goes on from: both of id and epoch, or neither.
fn expected(request: &InitProducerIdRequest) -> Result<Option<Producer>, ErrorCode> {
    match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ErrorCode::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}

/// Old clients understand INVALID_PRODUCER_EPOCH in place of PRODUCER_FENCED (KIP-588).
pub(super) fn fenced_for(is_old: bool, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if is_old => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}
