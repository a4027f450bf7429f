//! The requests of Kafka's protocol: one file for each, decode → authorize → execute → respond.

mod acls;
mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod authorized_operations;
pub(crate) mod batch_check;
mod consumer_group_describe;
mod consumer_group_heartbeat;

mod client_quotas;
mod delegation_tokens;
mod delete_groups;
mod delete_records;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod log_dirs;
mod metadata;
mod named_once;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod partition_reassignments;
mod produce;
mod raft_voters;
mod response_memory;
mod scram_credentials;
mod sync_group;
mod topic_admin;
mod transactional_batches;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_txn_markers;

pub use response_memory::ResponseMemory;

use crate::{
    broker::Broker,
    config::{Config, Resolved},
    context::{Authorizer, Operation, Quotas, RequestContext, Resource},
    net::{Class, Frame, Peer, Reply, Rope, Service},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use std::sync::Arc;
use thalweg_protocol::{
    ApiKey, CheckedBody, DecodeError, ErrorCode, Request, RequestHeader, Response, messages::*,
};
use thalweg_runtime::Charge;
use tokio::sync::oneshot;

/// A request that is decoded into no more than so many bytes is handled on a network thread; a larger one has thousands of
/// elements.
const FEW_ELEMENTS: usize = 256 * 1024;

/// What a handler works with.
#[derive(Clone)]
pub struct Handlers {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The settings as the start gave them.
    pub config: Arc<Config>,
    /// What AlterConfigs has stored over them.
    pub resolved: Arc<RwLock<Resolved>>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who is held back.
    pub quotas: Arc<dyn Quotas>,
}

/// A response, and the memory that it keeps alive.
#[derive(Debug)]
pub struct Answer {
    /// The message; none where the client wants none.
    pub response: Option<Response>,
    /// Charges of what its slices point into.
    pub held: Vec<Charge>,
    /// Set where the connection must close, because the client can't be told of an error otherwise (acks=0).
    pub close: Option<String>,
}

impl<T: Into<Response>> From<T> for Answer {
    fn from(response: T) -> Self {
        Self { response: Some(response.into()), held: Vec::new(), close: None }
    }
}

/// A request that was taken in: its effect has its place in the order, its answer comes.
pub type Later = BoxFuture<'static, Answer>;

impl Handlers {
    /// Whether the caller may do `operation` to the group called `id`.
    fn allows_group(&self, context: &RequestContext, operation: Operation, id: &str) -> bool {
        self.authorizer.allows(context, operation, Resource::Group(id))
    }

    /// Whether the caller may do `operation` to the topic called `name`.
    fn allows_topic(&self, context: &RequestContext, operation: Operation, name: &str) -> bool {
        self.authorizer.allows(context, operation, Resource::Topic(name))
    }

    /// Whether the caller may do `operation` to a transactional id.
    fn allows_transactional_id(&self, context: &RequestContext, operation: Operation, id: &str) -> bool {
        self.authorizer.allows(context, operation, Resource::TransactionalId(id))
    }

    /// Takes a request in.
    pub async fn handle(
        &self,
        context: RequestContext,
        header: &RequestHeader,
        request: Request,
        charge: Charge,
    ) -> Later {
        let version = header.api_version;
        match request {
            Request::Produce(request) => self.produce(context, version, request, charge).await,
            request => {
                let handlers = self.clone();
                let header = header.clone();
                let changes = changes_anything(&request);
                let answer =
                    Box::pin(async move { handlers.answer(&context, &header, request, charge).await });
                if changes { self.see_through(answer) } else { answer }
            }
        }
    }

    /// Works in a task of its own, so that it comes to its end though the connection breaks: what the metadata store was
    /// told must also become known here. The task holds the charge of its request.
    fn see_through(&self, work: Later) -> Later {
        let runtime = self.broker.runtime.clone();
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            let task = runtime.spawn(async move {
                // The client may have gone away.
                let _ = done.send(work.await);
            });
            task.detach();
            answer.await.unwrap_or_else(|_| Answer {
                response: None,
                held: Vec::new(),
                close: Some("the broker is about to end".to_owned()),
            })
        })
    }

    /// Executes a request. Those that may wait for long give `charge`, the memory of their request, back before.
    async fn answer(
        &self,
        context: &RequestContext,
        header: &RequestHeader,
        request: Request,
        charge: Charge,
    ) -> Answer {
        let version = header.api_version;
        match request {
            Request::JoinGroup(request) => self.join_group(context, version, request, charge).await.into(),
            Request::ConsumerGroupHeartbeat(request) => {
                self.consumer_group_heartbeat(context, version, request, charge).await.into()
            }
            Request::SyncGroup(request) => self.sync_group(context, version, request, charge).await.into(),
            Request::OffsetCommit(request) => {
                self.offset_commit(context, version, request, charge).await.into()
            }
            request => {
                let answer = self.answer_soon(context, header, request).await;
                drop(charge);
                answer
            }
        }
    }

    async fn answer_soon(
        &self,
        context: &RequestContext,
        header: &RequestHeader,
        request: Request,
    ) -> Answer {
        let version = header.api_version;
        match request {
            Request::JoinGroup(_)
            | Request::SyncGroup(_)
            | Request::ConsumerGroupHeartbeat(_)
            | Request::OffsetCommit(_) => {
                unreachable!("those that wait are executed by `answer`")
            }
            Request::Produce(_) => unreachable!("Produce is taken in by `handle`"),
            Request::Fetch(request) => self.fetch(context, version, request).await,
            Request::Metadata(request) => self.metadata(context, version, request).await.into(),
            Request::ApiVersions(request) => self.api_versions(header, &request).into(),
            Request::InitProducerId(request) => self.init_producer_id(context, version, request).await.into(),
            Request::AddPartitionsToTxn(request) => {
                self.add_partitions_to_txn(context, version, request).await.into()
            }
            Request::AddOffsetsToTxn(request) => {
                self.add_offsets_to_txn(context, version, request).await.into()
            }
            Request::EndTxn(request) => self.end_txn(context, version, request).await.into(),
            Request::WriteTxnMarkers(request) => self.write_txn_markers(context, request).await.into(),
            Request::TxnOffsetCommit(request) => {
                self.txn_offset_commit(context, version, request).await.into()
            }
            Request::DescribeProducers(request) => self.describe_producers(context, request).into(),
            Request::DescribeTransactions(request) => {
                self.describe_transactions(context, request).await.into()
            }
            Request::ListTransactions(request) => self.list_transactions(context, request).await.into(),
            Request::FindCoordinator(request) => {
                self.find_coordinator(context, version, request).await.into()
            }
            Request::Heartbeat(request) => self.heartbeat(context, request).into(),
            Request::ConsumerGroupDescribe(request) => {
                self.consumer_group_describe(context, request).await.into()
            }
            Request::LeaveGroup(request) => self.leave_group(context, version, request).await.into(),
            Request::OffsetFetch(request) => self.offset_fetch(context, version, request).await.into(),
            Request::OffsetDelete(request) => self.offset_delete(context, request).await.into(),
            Request::DescribeGroups(request) => self.describe_groups(context, version, request).await.into(),
            Request::ListGroups(request) => self.list_groups(context, request).await.into(),
            Request::DeleteGroups(request) => self.delete_groups(context, request).await.into(),
            Request::CreateTopics(request) => self.create_topics(context, request).await.into(),
            Request::DeleteTopics(request) => self.delete_topics(context, request).await.into(),
            Request::CreatePartitions(request) => self.create_partitions(context, request).await.into(),
            Request::ListOffsets(request) => self.list_offsets(context, version, request).await.into(),
            Request::OffsetForLeaderEpoch(request) => self.offset_for_leader_epoch(context, request).into(),
            Request::DeleteRecords(request) => self.delete_records(context, request).await.into(),
            Request::DescribeCluster(request) => self.describe_cluster(context, &request).into(),
            Request::DescribeTopicPartitions(request) => {
                self.describe_topic_partitions(context, request).into()
            }
            Request::DescribeConfigs(request) => self.describe_configs(context, request).into(),
            Request::AlterConfigs(request) => self.alter_configs(context, request).await.into(),
            Request::IncrementalAlterConfigs(request) => {
                self.incremental_alter_configs(context, request).await.into()
            }
            Request::ListConfigResources(request) => {
                self.list_config_resources(context, version, &request).into()
            }
            Request::DescribeLogDirs(request) => self.describe_log_dirs(context, &request).into(),
            Request::AlterReplicaLogDirs(request) => self.alter_replica_log_dirs(context, request).into(),
            Request::ElectLeaders(request) => self.elect_leaders(context, version, request).into(),
            Request::AlterPartitionReassignments(request) => {
                self.alter_partition_reassignments(context, request).into()
            }
            Request::ListPartitionReassignments(_) => self.list_partition_reassignments(context).into(),
            Request::DescribeQuorum(request) => self.describe_quorum(context, version, &request).into(),
            Request::UpdateFeatures(request) => self.update_features(context, version, request).await.into(),
            Request::UnregisterBroker(request) => self.unregister_broker(context, &request).into(),
            Request::AddRaftVoter(request) => self.add_raft_voter(context, &request).into(),
            Request::RemoveRaftVoter(request) => self.remove_raft_voter(context, &request).into(),
            Request::DescribeClientQuotas(request) => self.describe_client_quotas(context, &request).into(),
            Request::AlterClientQuotas(request) => self.alter_client_quotas(context, request).await.into(),
            Request::DescribeUserScramCredentials(request) => {
                self.describe_user_scram_credentials(context, &request).into()
            }
            Request::AlterUserScramCredentials(request) => {
                self.alter_user_scram_credentials(context, request).await.into()
            }
            Request::DescribeAcls(_) => self.describe_acls().into(),
            Request::CreateAcls(request) => self.create_acls(&request).into(),
            Request::DeleteAcls(request) => self.delete_acls(&request).into(),
            Request::CreateDelegationToken(request) => {
                self.create_delegation_token(context, version, request).into()
            }
            Request::RenewDelegationToken(_) => self.renew_delegation_token().into(),
            Request::ExpireDelegationToken(_) => self.expire_delegation_token().into(),
            Request::DescribeDelegationToken(_) => self.describe_delegation_token().into(),
        }
    }

    /// Versions and features (KIP-35, KIP-511, KIP-584).
    fn api_versions(&self, header: &RequestHeader, request: &ApiVersionsRequest) -> ApiVersionsResponse {
        let version = header.api_version;
        let (features, epoch) = self.broker.stored.feature_levels();
        let response = thalweg_protocol::api_versions_response(version, &features, epoch);
        if !header.is_served() {
            return response.with_error_code(ErrorCode::UnsupportedVersion.code());
        }
        if version >= 3
            && !(is_software_name(&request.client_software_name)
                && is_software_name(&request.client_software_version))
        {
            return ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
        }
        response
    }
}

/// Whether a request may change what the metadata store holds, other than by drawing numbers.
fn changes_anything(request: &Request) -> bool {
    match request {
        Request::CreateTopics(_)
        | Request::DeleteTopics(_)
        | Request::CreatePartitions(_)
        | Request::DeleteRecords(_)
        | Request::FindCoordinator(_)
        | Request::AlterConfigs(_)
        | Request::IncrementalAlterConfigs(_)
        | Request::UpdateFeatures(_)
        | Request::AlterClientQuotas(_)
        | Request::AlterUserScramCredentials(_) => true,
        Request::Metadata(request) => request.topics.is_some() && request.allow_auto_topic_creation,
        _ => false,
    }
}

/// As Kafka's ApiVersionsRequest checks the name and version of the client's software (KIP-511).
fn is_software_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    outer(text.as_bytes().first()) && outer(text.as_bytes().last()) && text.bytes().all(inner)
}

impl Service for Handlers {
    fn class(&self, api_key: i16) -> (Class, &'static str) {
        match ApiKey::from_key(api_key) {
            Some(ApiKey::Produce) => (Class::Produce, ApiKey::Produce.name()),
            Some(api) => (Class::Other, api.name()),
            None => (Class::Other, "unknown"),
        }
    }

    #[expect(
        clippy::async_yields_async,
        reason = "the inner future is the answer, which is awaited in its turn"
    )]
    fn serve<'a>(&'a self, peer: &'a Peer, frame: Frame) -> BoxFuture<'a, BoxFuture<'static, Reply>> {
        Box::pin(async move {
            let (header, body) = match thalweg_protocol::decode_header(&frame.bytes) {
                Ok((header, body)) => (header, frame.bytes.slice(body..)),
                Err(error) => return closed(error),
            };
            match header.check(body.clone(), FEW_ELEMENTS) {
                Ok(body) => self.take_in(peer, header, body, frame).await,
                Err(DecodeError::TooLarge { .. }) => self.take_in_aside(peer, header, body, frame).await,
                Err(error) => closed(error),
            }
        })
    }

    fn is_too_large(&self, begun: &[u8], missing: usize) -> bool {
        thalweg_protocol::is_surely_larger(begun, missing, self.broker.budgets.requests.capacity())
    }
}

/// A reply that closes the connection.
fn closed(reason: impl ToString) -> BoxFuture<'static, Reply> {
    Box::pin(std::future::ready(Reply::Close(reason.to_string())))
}

impl Handlers {
    /// Takes in a request of many elements: to walk over them, to decode and to answer them takes so long that it would hold up
    /// the connections that share the thread.
    async fn take_in_aside(
        &self,
        peer: &Peer,
        header: RequestHeader,
        body: Bytes,
        frame: Frame,
    ) -> BoxFuture<'static, Reply> {
        let (taken_in, order) = oneshot::channel();
        let (answered, answer) = oneshot::channel();
        let (handlers, peer) = (self.clone(), peer.clone());
        let work = self.broker.runtime.spawn_aside(async move {
            let reply = match header.check(body, handlers.broker.budgets.requests.capacity()) {
                Ok(body) => handlers.take_in(&peer, header, body, frame).await,
                Err(error) => closed(error),
            };
            // Whoever waited may have gone away with its connection.
            let _ = taken_in.send(());
            let _ = answered.send(reply.await);
        });
        let _ = order.await;
        Box::pin(async move {
            let reply = answer.await.unwrap_or_else(|_| Reply::Close("the request was given up".to_owned()));
            drop(work);
            reply
        })
    }

    /// Decodes a request and has it handled, once there is memory for both.
    async fn take_in(
        &self,
        peer: &Peer,
        header: RequestHeader,
        body: CheckedBody,
        frame: Frame,
    ) -> BoxFuture<'static, Reply> {
        let arrived = if frame.class == Class::Produce { 0 } else { frame.bytes.len() };
        // In one piece, so that no request holds a part of the budget while it waits for the rest.
        let memory = body.memory().saturating_add(arrived);
        let decoded = self.broker.budgets.requests.charge(memory).await;
        let request = match body.decode() {
            Ok(request) => request,
            Err(error) => return closed(error),
        };
        let client_id = Some(&header.client_id).filter(|id| !id.is_empty());
        let context = RequestContext {
            principal: peer.principal.clone(),
            listener: peer.listener.clone(),
            client_id: client_id.map(|id| id.as_str().into()),
            client: peer.address,
        };
        if frame.class == Class::Produce {
            let later = self.handle(context, &header, request, frame.charge).await;
            // What is left of it waits for its PUT, which must not take memory from requests that wait for none.
            drop(decoded);
            return reply(self.broker.clone(), header, later);
        }
        drop(frame.charge);
        let later = self.handle(context, &header, request, decoded).await;
        reply(self.broker.clone(), header, later)
    }
}

fn reply(broker: Arc<Broker>, header: RequestHeader, later: Later) -> BoxFuture<'static, Reply> {
    Box::pin(async move {
        let expected = broker.responses.expect(header.api_key).await;
        let answer = later.await;
        if let Some(reason) = answer.close {
            return Reply::Close(reason);
        }
        match answer.response.map(|response| thalweg_protocol::encode_response(&header, response)) {
            Some(Ok(chunks)) => {
                let bytes = chunks.iter().map(Bytes::len).sum();
                let held = &answer.held;
                let charge = broker.responses.settle(header.api_key, expected, bytes, held).await;
                let mut rope = Rope::new(chunks, answer.held);
                charge.into_iter().for_each(|charge| rope.hold(charge));
                Reply::Send(rope)
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a response could not be encoded");
                Reply::Close(error.to_string())
            }
            None => Reply::Nothing,
        }
    })
}
