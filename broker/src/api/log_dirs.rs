//! DescribeLogDirs and AlterReplicaLogDirs: there is one log directory, the object store (KIP-113, KIP-827, KIP-1066).

use super::{Handlers, metadata::topic_name};
use crate::{
    context::{Operation, RequestContext, Resource},
    topics::Topic,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::{ErrorCode, messages::*};

use alter_replica_log_dirs_response::{AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult};
use describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};

/// Longest name of a directory of Kafka's; one that is about to replace another is called `TOPIC-PARTITION.UUID-future`.
const MAX_DIRECTORY_NAME: usize = 255;
const FUTURE_SUFFIX: usize = ".".len() + 32 + "-future".len();

impl Handlers {
    pub(super) fn describe_log_dirs(
        &self,
        context: &RequestContext,
        request: &DescribeLogDirsRequest,
    ) -> DescribeLogDirsResponse {
        let mut response = DescribeLogDirsResponse::default();
        if !self.authorizer.allows(context, Operation::Describe, Resource::Cluster) {
            response.error_code = ErrorCode::ClusterAuthorizationFailed.code();
            return response;
        }
        let topics = match &request.topics {
            None => {
                let all = self.broker.topics.all();
                all.iter().map(|topic| self.sizes(topic, 0..topic.logs.len() as i32)).collect()
            }
            Some(wanted) => self.wanted_sizes(wanted),
        };
        response.results = vec![DescribeLogDirsResult {
            log_dir: self.log_dir(),
            topics,
            ..DescribeLogDirsResult::default()
        }];
        response
    }

    /// A partition that isn't there isn't told of, one that is named twice is told of once.
    fn wanted_sizes(
        &self,
        wanted: &[describe_log_dirs_request::DescribableLogDirTopic],
    ) -> Vec<DescribeLogDirsTopic> {
        let mut partitions: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for topic in wanted {
            partitions.entry(&topic.topic).or_default().extend(&topic.partitions);
        }
        let described = partitions.into_iter().filter_map(|(name, partitions)| {
            let topic = self.broker.topics.by_name(name)?;
            Some(self.sizes(&topic, partitions)).filter(|sizes| !sizes.partitions.is_empty())
        });
        described.collect()
    }

    fn sizes(&self, topic: &Topic, partitions: impl IntoIterator<Item = i32>) -> DescribeLogDirsTopic {
        let sized = partitions.into_iter().filter_map(|index| {
            let log = topic.log(index)?;
            let size = self.broker.log_bytes(log);
            Some(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            })
        });
        DescribeLogDirsTopic { name: topic_name(topic.name()).0, partitions: sized.collect() }
    }

    /// The URL of the object store, in place of a path.
    fn log_dir(&self) -> StrBytes {
        StrBytes::from_string(self.config.text("object.store.url").to_owned())
    }

    pub(super) fn alter_replica_log_dirs(
        &self,
        context: &RequestContext,
        request: AlterReplicaLogDirsRequest,
    ) -> AlterReplicaLogDirsResponse {
        let allowed = self.authorizer.allows(context, Operation::Alter, Resource::Cluster);
        let here = self.log_dir();
        let mut results: BTreeMap<TopicName, BTreeMap<i32, ErrorCode>> = BTreeMap::new();
        for dir in request.dirs {
            // What names no partition isn't answered.
            for topic in dir.topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
                let codes = topic.partitions.iter().map(|index| {
                    let code = match allowed {
                        true => self.move_replica(&topic.name, *index, *dir.path == *here),
                        false => ErrorCode::ClusterAuthorizationFailed,
                    };
                    (*index, code)
                });
                let codes: Vec<_> = codes.collect();
                results.entry(topic.name).or_default().extend(codes);
            }
        }
        let results = results.into_iter().map(|(name, codes)| {
            let codes = codes.into_iter().map(|(index, code)| {
                let result = AlterReplicaLogDirPartitionResult::default().with_partition_index(index);
                result.with_error_code(code.code())
            });
            AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(codes.collect())
        });
        AlterReplicaLogDirsResponse::default().with_results(results.collect())
    }

    /// Where it is already is the only place that a replica can be moved to.
    fn move_replica(&self, name: &str, index: i32, here: bool) -> ErrorCode {
        if name.len() + "-".len() + index.to_string().len() + FUTURE_SUFFIX > MAX_DIRECTORY_NAME {
            return ErrorCode::InvalidTopicException;
        }
        match self.broker.topics.by_name(name) {
            _ if !here => ErrorCode::LogDirNotFound,
            Some(topic) if topic.log(index).is_some() => ErrorCode::None,
            _ => ErrorCode::UnknownTopicOrPartition,
        }
    }
}
