//! DescribeProducers: who writes to partitions, and which transactions are open there (KIP-664).

use super::{
    Handlers,
    topic_admin::{Refused, sentence_if_any},
};
use crate::context::{Operation, RequestContext};
use thalweg_protocol::{ErrorCode, messages::*, validate_topic_name};
use thalweg_segment::{ProducerId, ProducerState};

use describe_producers_response::{PartitionResponse, ProducerState as Described, TopicResponse};

impl Handlers {
    pub(super) fn describe_producers(
        &self,
        context: &RequestContext,
        request: DescribeProducersRequest,
    ) -> DescribeProducersResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|partition| {
                let response = PartitionResponse::default().with_partition_index(*partition);
                match self.producers_of(context, &topic.name, *partition) {
                    Ok(producers) => response.with_active_producers(producers),
                    Err(Refused(code, message)) => {
                        response.with_error_code(code.code()).with_error_message(sentence_if_any(message))
                    }
                }
            });
            let partitions = partitions.collect();
            TopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        DescribeProducersResponse::default().with_topics(topics.collect())
    }

    fn producers_of(
        &self,
        context: &RequestContext,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<Described>, Refused> {
        validate_topic_name(topic)
            .map_err(|error| Refused(ErrorCode::InvalidTopicException, error.to_string()))?;
        let log = self.log_of(context, Operation::Read, topic, partition);
        let log = log.map_err(|code| Refused(code, String::new()))?;
        Ok(log.with_producers(|producers| producers.iter().map(described).collect()))
    }
}

fn described((id, state): (ProducerId, &ProducerState)) -> Described {
    let last = state.batches.back().map_or(-1, |batch| batch.last_sequence);
    Described::default()
        .with_producer_id(id.0.into())
        .with_producer_epoch(state.epoch.into())
        .with_last_sequence(last)
        .with_last_timestamp(state.last_timestamp)
        .with_coordinator_epoch(state.coordinator_epoch)
        .with_current_txn_start_offset(state.transaction_start.map_or(-1, |start| start.0))
}
