//! ListTransactions: the transactional ids that this broker coordinates (KIP-664, KIP-994, KIP-1152).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::transactions::{ListFilters, State},
};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use thalweg_protocol::{ErrorCode, messages::*};

use list_transactions_response::TransactionState;

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 4 * 1024;
/// Most bytes that a pattern may take when it is compiled.
const PATTERN_COMPILED_MAX: usize = 1024 * 1024;

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

/// What an id must match as a whole, if anything. A pattern takes many times its length in memory while it is read.
fn pattern_of(request: &ListTransactionsRequest) -> Result<Option<Regex>, regex::Error> {
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    let Some(pattern) = pattern else { return Ok(None) };
    if pattern.len() > PATTERN_MAX {
        return Err(regex::Error::CompiledTooBig(PATTERN_MAX));
    }
    RegexBuilder::new(&format!("^(?:{})$", pattern.as_str()))
        .size_limit(PATTERN_COMPILED_MAX)
        .build()
        .map(Some)
}

/// The filters, and the names of states that nobody knows.
fn filters_of(request: &ListTransactionsRequest) -> (ListFilters, Vec<StrBytes>) {
    let state = |name: &StrBytes| State::ALL.into_iter().find(|state| state.name() == name.as_str());
    let known = ["Dead", "PrepareEpochFence"];
    let unknown = request.state_filters.iter();
    let mut told = BTreeSet::new();
    let unknown = unknown.filter(|name| state(name).is_none() && !known.contains(&name.as_str()));
    let unknown = unknown.filter(|name| told.insert(name.as_str())).cloned().collect();
    let states = request.state_filters.iter().filter_map(state).collect();
    let filters = ListFilters {
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        states: (!request.state_filters.is_empty()).then_some(states),
        duration_ms: Some(request.duration_filter).filter(|duration| *duration >= 0),
    };
    (filters, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Option<Regex>, regex::Error> {
        let text = Some(StrBytes::from_string(text.to_owned()));
        pattern_of(&ListTransactionsRequest::default().with_transactional_id_pattern(text))
    }

    #[test]
    fn a_pattern_is_that_of_a_whole_id_and_has_bounds() {
        assert!(matches!(pattern(""), Ok(None)));
        let one = pattern("a|bc").expect("a pattern").expect("not empty");
        assert_eq!(["a", "bc", "ac", "abc"].map(|id| one.is_match(id)), [true, true, false, false]);
        for bad in ["(", "a{1000}{1000}{1000}", &"a".repeat(PATTERN_MAX + 1)] {
            assert!(pattern(bad).is_err());
        }
    }
}
