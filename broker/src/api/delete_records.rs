//! DeleteRecords: moves the start of logs up (KIP-107).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    topics::is_internal,
};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::Offset;

use delete_records_request::DeleteRecordsPartition;
use delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};

/// "Up to the high watermark."
const ALL: i64 = -1;

impl Handlers {
    pub(super) async fn delete_records(
        &self,
        context: &RequestContext,
        request: DeleteRecordsRequest,
    ) -> DeleteRecordsResponse {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let result =
                    DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
                partitions.push(match self.raise_start(context, &topic.name, partition).await {
                    Ok(start) => result.with_low_watermark(start.0),
                    Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
                });
            }
            topics
                .push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
        }
        DeleteRecordsResponse::default().with_topics(topics)
    }

    /// Whether the topic keeps the newest record of each key for ever: then no offset may cut any off.
    fn only_compacts(&self, topic: &str) -> bool {
        let (Some(topic), Some(key)) =
            (self.broker.topics.by_name(topic), self.config.topic_keys().get("cleanup.policy"))
        else {
            return false;
        };
        let resolved = self.resolved.read();
        let policy = resolved.topic_text(&self.config, &topic.record.configs, key);
        let has = |wanted: &str| policy.split(',').any(|policy| policy.trim() == wanted);
        has("compact") && !has("delete")
    }

    async fn raise_start(
        &self,
        context: &RequestContext,
        topic: &str,
        wanted: &DeleteRecordsPartition,
    ) -> Result<Offset, ErrorCode> {
        let log = self.log_of(context, Operation::Delete, topic, wanted.partition_index)?;
        if is_internal(topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        if self.only_compacts(topic) {
            return Err(ErrorCode::PolicyViolation);
        }
        let view = log.view();
        let to = if wanted.offset == ALL { view.high_watermark } else { Offset(wanted.offset) };
        if to < Offset(0) || to > view.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if to <= view.start {
            return Ok(view.start);
        }
        self.broker.topics.raise_start(&log, to).await.map_err(|error| {
            tracing::warn!(log = %log.id(), %error, "could not move the start of a log");
            ErrorCode::RequestTimedOut
        })
    }
}
