//! EndTxn: commits or aborts a transaction. Answered once that is decided durably; markers follow.

use super::{Handlers, init_producer_id::fenced_for};
use crate::{
    context::{Operation, RequestContext},
    coordinator::transactions::{EndTransaction, Producer},
};
use thalweg_protocol::{ErrorCode, messages::*};

/// First version whose clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 2;
/// First version in which every end raises the producer's epoch (KIP-890).
const EPOCH_BUMP: i16 = 5;

impl Handlers {
    pub(super) async fn end_txn(
        &self,
        context: &RequestContext,
        version: i16,
        request: EndTxnRequest,
    ) -> EndTxnResponse {
        let id = &request.transactional_id;
        if !self.allows_transactional_id(context, Operation::Write, id) {
            let code = ErrorCode::TransactionalIdAuthorizationFailed.code();
            return EndTxnResponse::default().with_error_code(code);
        }
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let protocol = if version >= EPOCH_BUMP { 2 } else { 0 };
        let commit = request.committed;
        let end = EndTransaction { id, producer, commit, version: protocol, fresh: None };
        let response = EndTxnResponse::default();
        match self.broker.end_transaction(end).await {
            Ok(Some(next)) if version >= EPOCH_BUMP => {
                response.with_producer_id(next.id.into()).with_producer_epoch(next.epoch)
            }
            Ok(_) => response,
            Err(code) => response.with_error_code(fenced_for(version < PRODUCER_FENCED, code).code()),
        }
    }
}
