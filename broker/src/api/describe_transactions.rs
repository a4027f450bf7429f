//! DescribeTransactions: what is known of transactional ids (KIP-664).

use super::Handlers;
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*};

use describe_transactions_response::TransactionState;

impl Handlers {
    pub(super) async fn describe_transactions(
        &self,
        context: &RequestContext,
        request: DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let mut states = Vec::with_capacity(request.transactional_ids.len());
        for id in request.transactional_ids {
            let described = self.describe_transaction(context, &id).await;
            states.push(described.unwrap_or_else(|code| {
                TransactionState::default().with_transactional_id(id).with_error_code(code.code())
            }));
        }
        DescribeTransactionsResponse::default().with_transaction_states(states)
    }

    async fn describe_transaction(
        &self,
        context: &RequestContext,
        id: &str,
    ) -> Result<TransactionState, ErrorCode> {
        if !self.allows_transactional_id(context, Operation::Describe, id) {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let shard = self.broker.transaction_shard(id)?;
        let mut described = shard.run(|state, _, _| state.describe(id))?.durable().await??;
        described.topics.retain(|topic| self.allows_topic(context, Operation::Describe, &topic.topic));
        Ok(described)
    }
}
