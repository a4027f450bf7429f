//! DeleteRecords: moves the start of logs up (KIP-107).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    topics::is_internal,
};
use std::collections::BTreeMap;
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::Offset;

use delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};

/// "Up to the high watermark."
const ALL: i64 = -1;

impl Handlers {
    pub(super) async fn delete_records(
        &self,
        context: &RequestContext,
        request: DeleteRecordsRequest,
    ) -> DeleteRecordsResponse {
        // Of a partition that is named twice the last offset counts; what names no partition isn't answered.
        let mut wanted: BTreeMap<TopicName, BTreeMap<i32, i64>> = BTreeMap::new();
        for topic in request.topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
            let offsets = topic.partitions.iter().map(|one| (one.partition_index, one.offset));
            wanted.entry(topic.name).or_default().extend(offsets);
        }
        let mut topics = Vec::with_capacity(wanted.len());
        for (name, offsets) in wanted {
            let mut partitions = Vec::with_capacity(offsets.len());
            for (partition, offset) in offsets {
                let result = DeleteRecordsPartitionResult::default().with_partition_index(partition);
                partitions.push(match self.raise_start(context, &name, partition, offset).await {
                    Ok(start) => result.with_low_watermark(start.0),
                    Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
                });
            }
            topics.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions));
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
        partition: i32,
        offset: i64,
    ) -> Result<Offset, ErrorCode> {
        let log = self.log_of(context, Operation::Delete, topic, partition)?;
        if is_internal(topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        if self.only_compacts(topic) {
            return Err(ErrorCode::PolicyViolation);
        }
        let view = log.view();
        let to = if offset == ALL { view.high_watermark } else { Offset(offset) };
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
