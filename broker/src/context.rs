//! Who asks: what every request handler is given beside the request, and the seams for security and quotas.

use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The authenticated user.
    pub principal: Principal,
    /// Name of the listener that the connection came in by.
    pub listener: Arc<str>,
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
    /// Its address.
    pub client: SocketAddr,
}

/// A user, in Kafka's notation `type:name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Kind of principal, usually `User`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Principal {
    /// Whoever connects without authentication.
    pub fn anonymous() -> Self {
        Self { kind: "User".into(), name: "ANONYMOUS".into() }
    }
}

/// What a request wants to do, as Kafka's ACL operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch.
    Read,
    /// Produce.
    Write,
    /// Create topics.
    Create,
    /// Delete topics or records.
    Delete,
    /// Change partitions.
    Alter,
    /// See that it exists.
    Describe,
    /// See its settings.
    DescribeConfigs,
    /// Change its settings.
    AlterConfigs,
    /// Act as a broker.
    ClusterAction,
    /// Take a producer id.
    IdempotentWrite,
}

/// What it wants to do that to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// One topic.
    Topic(&'a str),
    /// One group.
    Group(&'a str),
    /// One transactional id.
    TransactionalId(&'a str),
}

/// Decides who may do what.
pub trait Authorizer: Send + Sync {
    /// Whether the context's principal may do `operation` to `resource`.
    fn allows(&self, context: &RequestContext, operation: Operation, resource: Resource<'_>) -> bool;
}

/// Everybody may do everything.
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &RequestContext, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Bytes produced.
    Produce,
    /// Bytes fetched.
    Fetch,
    /// Time spent on a request.
    Request,
}

/// Decides how long a client that uses more than its share is held back.
pub trait Quotas: Send + Sync {
    /// Notes `amount` of `kind` and returns for how long the client is to be silent.
    fn record(&self, context: &RequestContext, kind: QuotaKind, amount: u64) -> Duration;
}

/// Nobody is held back.
pub struct Unlimited;

impl Quotas for Unlimited {
    fn record(&self, _: &RequestContext, _: QuotaKind, _: u64) -> Duration {
        Duration::ZERO
    }
}
