//! AddOffsetsToTxn: the offsets of a group join a transaction, by their partition of `__consumer_offsets`.

use super::{Handlers, init_producer_id::fenced_for};
use crate::{
    context::{Operation, RequestContext},
    coordinator::transactions::Producer,
    topics::OFFSETS_TOPIC,
};
use thalweg_protocol::{ErrorCode, messages::*};

/// First version whose clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 2;

impl Handlers {
    pub(super) async fn add_offsets_to_txn(
        &self,
        context: &RequestContext,
        version: i16,
        request: AddOffsetsToTxnRequest,
    ) -> AddOffsetsToTxnResponse {
        let code = match self.add_offsets(context, &request).await {
            Ok(()) => ErrorCode::None,
            Err(code) => fenced_for(version < PRODUCER_FENCED, code),
        };
        AddOffsetsToTxnResponse::default().with_error_code(code.code())
    }

    async fn add_offsets(
        &self,
        context: &RequestContext,
        request: &AddOffsetsToTxnRequest,
    ) -> Result<(), ErrorCode> {
        let id = &request.transactional_id;
        if !self.allows_transactional_id(context, Operation::Write, id) {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed);
        }
        let created = self.broker.offsets_topic().await;
        created.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        let (_, partition) = self.broker.group_partition(&request.group_id)?;
        let partition = i32::try_from(partition).map_err(|_| ErrorCode::UnknownServerError)?;
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let offsets = [(OFFSETS_TOPIC.into(), partition)];
        self.broker.add_to_transaction(id, producer, &offsets, 0).await
    }
}
