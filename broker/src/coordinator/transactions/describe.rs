//! DescribeTransactions and ListTransactions (KIP-664, KIP-994).

use super::{
    Transactions,
    transaction::{State, Transaction, text},
};
use std::collections::BTreeMap;
use thalweg_protocol::{
    ErrorCode,
    messages::{
        TopicName, TransactionalId,
        describe_transactions_response::{self, TopicData},
        list_transactions_response,
    },
};

/// Which transactional ids to list; what is empty lets all through.
#[derive(Clone, Debug, Default)]
pub struct ListFilters {
    /// Of these producers.
    pub producer_ids: Vec<i64>,
    /// In one of these states; none where no filter was given.
    pub states: Option<Vec<State>>,
    /// Begun longer ago than this.
    pub duration_ms: Option<i64>,
}

impl Transactions {
    /// All that is known of one id. TRANSACTIONAL_ID_NOT_FOUND where that is nothing.
    pub fn describe(&self, id: &str) -> Result<describe_transactions_response::TransactionState, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let known = self.by_id.get(id).ok_or(ErrorCode::TransactionalIdNotFound)?;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &known.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicData::default().with_topic(TopicName(text(topic))).with_partitions(partitions)
        });
        Ok(describe_transactions_response::TransactionState::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(known.producer_id.into())
            .with_producer_epoch(known.epoch)
            .with_transaction_state(text(known.state.name()))
            .with_transaction_timeout_ms(known.timeout_ms)
            .with_transaction_start_time_ms(known.start_ms)
            .with_topics(topics.collect()))
    }

    /// The ids that pass.
    pub fn list(
        &self,
        filters: &ListFilters,
        now_ms: i64,
    ) -> Vec<list_transactions_response::TransactionState> {
        let passing = self.by_id.iter().filter(|(_, one)| filters.pass(one, now_ms));
        let listed = passing.map(|(id, one)| {
            list_transactions_response::TransactionState::default()
                .with_transactional_id(TransactionalId(text(id)))
                .with_producer_id(one.producer_id.into())
                .with_transaction_state(text(one.state.name()))
        });
        listed.collect()
    }
}

impl ListFilters {
    fn pass(&self, one: &Transaction, now_ms: i64) -> bool {
        let duration_ms = now_ms.saturating_sub(one.start_ms);
        (self.producer_ids.is_empty() || self.producer_ids.contains(&one.producer_id))
            && self.states.as_ref().is_none_or(|states| states.contains(&one.state))
            && self.duration_ms.is_none_or(|longer| duration_ms > longer)
    }
}
