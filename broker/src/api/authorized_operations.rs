//! What a client may do, for those that ask (KIP-430): a bit for each of Kafka's ACL operations.

use super::Handlers;
use crate::context::{Operation, RequestContext, Resource};

/// "Not asked for", as the schemas' default.
pub(super) const UNKNOWN: i32 = i32::MIN;

const OF_TOPICS: [Operation; 8] = [
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];

const OF_THE_CLUSTER: [Operation; 7] = [
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
];

const OF_GROUPS: [Operation; 5] = [
    Operation::Read,
    Operation::Delete,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];

impl Handlers {
    /// What the caller may do to a group.
    pub(super) fn group_operations(&self, context: &RequestContext, asked: bool, id: &str) -> i32 {
        self.operations(context, asked, &OF_GROUPS, Resource::Group(id))
    }

    /// What the caller may do to a topic.
    pub(super) fn topic_operations(&self, context: &RequestContext, asked: bool, name: &str) -> i32 {
        self.operations(context, asked, &OF_TOPICS, Resource::Topic(name))
    }

    /// What the caller may do to the cluster.
    pub(super) fn cluster_operations(&self, context: &RequestContext, asked: bool) -> i32 {
        self.operations(context, asked, &OF_THE_CLUSTER, Resource::Cluster)
    }

    fn operations(&self, context: &RequestContext, asked: bool, all: &[Operation], of: Resource<'_>) -> i32 {
        if !asked {
            return UNKNOWN;
        }
        let allowed = all.iter().filter(|operation| self.authorizer.allows(context, **operation, of));
        allowed.fold(0, |bits, operation| bits | 1 << number(*operation))
    }
}

/// Kafka's number of an operation.
fn number(operation: Operation) -> i32 {
    match operation {
        Operation::Read => 3,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::Delete => 6,
        Operation::Alter => 7,
        Operation::Describe => 8,
        Operation::ClusterAction => 9,
        Operation::DescribeConfigs => 10,
        Operation::AlterConfigs => 11,
        Operation::IdempotentWrite => 12,
    }
}
