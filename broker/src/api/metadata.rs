//! Metadata: the brokers, and the topics that the client asks for. Creates a missing topic where that is allowed.

use super::{Handlers, authorized_operations::UNKNOWN};
use crate::{
    context::{Operation, RequestContext, Resource},
    settings::Endpoint,
    topics::{Topic, is_internal},
};
use std::{collections::BTreeSet, sync::Arc};
use thalweg_metadata::MetadataError;
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

use metadata_request::MetadataRequestTopic;
use metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

/// First version whose answer may lack a topic's name, so that topics can be asked for by id alone.
const TOPIC_IDS: i16 = 12;
/// First version with an error code of the whole.
const TOP_LEVEL_CODE: i16 = 13;

impl Handlers {
    pub(super) async fn metadata(
        &self,
        context: &RequestContext,
        version: i16,
        request: MetadataRequest,
    ) -> MetadataResponse {
        if version < TOPIC_IDS && request.topics.iter().flatten().any(asks_by_id) {
            return refused(request, ErrorCode::InvalidRequest);
        }
        let ids = |topic: &MetadataRequestTopic| !topic.topic_id.is_nil();
        let by_ids = request.topics.iter().flatten().any(ids);
        if !by_ids && request.topics.iter().flatten().any(|topic| topic.name.is_none()) {
            // Neither a name nor an id: Kafka fails inside.
            let mut response = refused(request, ErrorCode::UnknownServerError);
            if version >= TOP_LEVEL_CODE {
                response.error_code = ErrorCode::UnknownServerError.code();
            }
            return response;
        }
        let all = match &request.topics {
            None => true,
            Some(topics) => version == 0 && topics.is_empty(),
        };
        let mut topics = Vec::new();
        if all {
            let visible = self.broker.topics.all();
            let visible =
                visible.iter().filter(|topic| self.allows_topic(context, Operation::Describe, topic.name()));
            topics.extend(visible.map(|topic| self.describe_topic(topic)));
        }
        let mut answered = BTreeSet::new();
        for wanted in request.topics.unwrap_or_default() {
            // Where one topic is asked for by id, names don't count.
            let name = wanted.name.filter(|_| !by_ids);
            // A topic that is named twice is answered once.
            if by_ids && wanted.topic_id.is_nil() || !answered.insert((name.clone(), wanted.topic_id)) {
                continue;
            }
            topics.push(match name {
                Some(name) => self.metadata_by_name(context, name, request.allow_auto_topic_creation).await,
                None => self.metadata_by_id(context, wanted.topic_id),
            });
        }
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| may_be_seen(topic)) {
                let name = topic.name.as_deref().map_or("", |name| name.as_str());
                topic.topic_authorized_operations = self.topic_operations(context, true, name);
            }
        }
        let broker = self.broker.settings.broker.0.into();
        MetadataResponse::default()
            .with_brokers(self.brokers(context))
            .with_cluster_id(Some(self.cluster_id()))
            .with_controller_id(broker)
            .with_topics(topics)
            .with_cluster_authorized_operations(
                self.cluster_operations(context, request.include_cluster_authorized_operations),
            )
    }

    async fn metadata_by_name(
        &self,
        context: &RequestContext,
        name: TopicName,
        create: bool,
    ) -> MetadataResponseTopic {
        let failed = |code: ErrorCode| {
            let topic =
                MetadataResponseTopic::default().with_name(Some(name.clone())).with_error_code(code.code());
            topic.with_is_internal(is_internal(&name)).with_topic_authorized_operations(UNKNOWN)
        };
        if !self.allows_topic(context, Operation::Describe, &name) {
            return failed(ErrorCode::TopicAuthorizationFailed);
        }
        if let Some(topic) = self.broker.topics.by_name(&name) {
            return self.describe_topic(&topic);
        }
        if thalweg_protocol::validate_topic_name(&name).is_err() {
            return failed(ErrorCode::InvalidTopicException);
        }
        if !create || !self.broker.dynamic().auto_create_topics || is_internal(&name) {
            return failed(ErrorCode::UnknownTopicOrPartition);
        }
        let may_create = self.authorizer.allows(context, Operation::Create, Resource::Cluster)
            || self.allows_topic(context, Operation::Create, &name);
        if !may_create {
            return failed(ErrorCode::TopicAuthorizationFailed);
        }
        match self.auto_create(&name).await {
            Ok(topic) => self.describe_topic(&topic),
            Err(code) => failed(code),
        }
    }

    async fn auto_create(&self, name: &str) -> Result<Arc<Topic>, ErrorCode> {
        if self.broker.topics.colliding(name).is_some() {
            return Err(ErrorCode::InvalidTopicException);
        }
        let partitions = self.broker.dynamic().num_partitions;
        match self.broker.topics.create(name, partitions, Default::default()).await {
            Ok(topic) => Ok(topic),
            // Another client was first.
            Err(MetadataError::TopicExists { .. }) => {
                self.broker.topics.by_name(name).ok_or(ErrorCode::LeaderNotAvailable)
            }
            Err(error) => {
                tracing::warn!(topic = name, %error, "could not create a topic");
                Err(ErrorCode::LeaderNotAvailable)
            }
        }
    }

    fn metadata_by_id(&self, context: &RequestContext, id: Uuid) -> MetadataResponseTopic {
        let failed = |code: ErrorCode| {
            let topic = MetadataResponseTopic::default().with_name(None).with_topic_id(id);
            topic.with_error_code(code.code()).with_topic_authorized_operations(UNKNOWN)
        };
        match self.broker.topics.by_id(id) {
            None => failed(ErrorCode::UnknownTopicId),
            Some(topic) if self.allows_topic(context, Operation::Describe, topic.name()) => {
                self.describe_topic(&topic)
            }
            Some(_) => failed(ErrorCode::TopicAuthorizationFailed),
        }
    }

    fn describe_topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let leader = self.broker.settings.broker.0.into();
        let partitions = (0..).zip(&topic.logs).map(|(index, log)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(leader)
                .with_leader_epoch(log.leader_epoch().0)
                .with_replica_nodes(vec![leader])
                .with_isr_nodes(vec![leader])
        });
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(topic.name())))
            .with_topic_id(topic.id())
            .with_is_internal(is_internal(topic.name()))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(UNKNOWN)
    }

    fn brokers(&self, context: &RequestContext) -> Vec<MetadataResponseBroker> {
        let settings = &self.broker.settings;
        let broker = self.endpoint(context).map(|endpoint| {
            MetadataResponseBroker::default()
                .with_node_id(settings.broker.0.into())
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(settings.rack.clone().map(StrBytes::from_string))
        });
        broker.into_iter().collect()
    }

    /// Where this broker is reached by the listener that the client came in by.
    pub(super) fn endpoint(&self, context: &RequestContext) -> Option<&Endpoint> {
        self.broker.settings.advertised.iter().find(|endpoint| *endpoint.listener == *context.listener)
    }

    /// The cluster's id.
    pub(super) fn cluster_id(&self) -> StrBytes {
        StrBytes::from_string(self.broker.cluster_id.clone())
    }
}

/// Versions 10 and 11 have a field for the id, but their answer has a name always.
fn asks_by_id(topic: &MetadataRequestTopic) -> bool {
    topic.name.is_none() || !topic.topic_id.is_nil()
}

/// A request that is refused as a whole, as Kafka does it: with nothing but an error for each topic.
fn refused(request: MetadataRequest, code: ErrorCode) -> MetadataResponse {
    let topic = |topic: MetadataRequestTopic| {
        MetadataResponseTopic::default()
            .with_name(Some(topic.name.unwrap_or_default()))
            .with_topic_id(topic.topic_id)
            .with_error_code(code.code())
            .with_topic_authorized_operations(UNKNOWN)
    };
    MetadataResponse::default()
        .with_cluster_id(None)
        .with_controller_id((-1).into())
        .with_topics(request.topics.unwrap_or_default().into_iter().map(topic).collect())
        .with_cluster_authorized_operations(UNKNOWN)
}

/// Whether the caller is told what it may do to a topic, be it there or not.
fn may_be_seen(topic: &MetadataResponseTopic) -> bool {
    let hidden = [ErrorCode::TopicAuthorizationFailed, ErrorCode::UnknownTopicId];
    hidden.iter().all(|code| topic.error_code != code.code())
}

/// A name as messages have it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
