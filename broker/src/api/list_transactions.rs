//! ListTransactions: the transactional ids that this broker coordinates (KIP-664, KIP-994, KIP-1152).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::transactions::{ListFilters, State},
};
use regex::Regex;
use thalweg_protocol::{ErrorCode, messages::*};

use list_transactions_response::TransactionState;

impl Handlers {
    pub(super) async fn list_transactions(
        &self,
        context: &RequestContext,
        request: ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let refused = |code: ErrorCode| ListTransactionsResponse::default().with_error_code(code.code());
        let Ok(pattern) = pattern_of(&request) else { return refused(ErrorCode::InvalidRegularExpression) };
        let (filters, unknown) = filters_of(&request);
        match self.all_transactions(&filters).await {
            Ok(mut states) => {
                states.retain(|state| {
                    let id = &state.transactional_id;
                    pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
                        && self.allows_transactional_id(context, Operation::Describe, id)
                });
                ListTransactionsResponse::default()
                    .with_unknown_state_filters(unknown)
                    .with_transaction_states(states)
            }
            Err(code) => refused(code),
        }
    }

    /// One partition that is loading makes the whole list wait, as in Kafka.
    async fn all_transactions(&self, filters: &ListFilters) -> Result<Vec<TransactionState>, ErrorCode> {
        let mut all = Vec::new();
        for shard in self.broker.transaction_shards() {
            let listed = match shard.run(|state, now, _| state.list(filters, now.wall_ms)) {
                Ok(listed) => listed.durable().await,
                Err(code) => Err(code),
            };
            match listed {
                Ok(states) => all.extend(states),
                // Its transactions are another broker's to list.
                Err(ErrorCode::NotCoordinator) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(all)
    }
}

/// What an id must match as a whole, if anything.
fn pattern_of(request: &ListTransactionsRequest) -> Result<Option<Regex>, regex::Error> {
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    pattern.map(|pattern| Regex::new(&format!("^(?:{})$", pattern.as_str()))).transpose()
}

/// The filters, and the names of states that nobody knows.
fn filters_of(request: &ListTransactionsRequest) -> (ListFilters, Vec<StrBytes>) {
    let state = |name: &StrBytes| State::ALL.into_iter().find(|state| state.name() == name.as_str());
    let known = ["Dead", "PrepareEpochFence"];
    let unknown = request.state_filters.iter();
    let unknown = unknown.filter(|name| state(name).is_none() && !known.contains(&name.as_str()));
    let states = request.state_filters.iter().filter_map(state).collect();
    let filters = ListFilters {
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        states: (!request.state_filters.is_empty()).then_some(states),
        duration_ms: Some(request.duration_filter).filter(|duration| *duration >= 0),
    };
    (filters, unknown.cloned().collect())
}
