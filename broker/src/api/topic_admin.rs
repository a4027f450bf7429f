//! CreateTopics, DeleteTopics and CreatePartitions.

use super::{Handlers, metadata::topic_name};
use crate::{
    config::{Values, check_topic},
    context::{Operation, RequestContext, Resource},
    topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_metadata::MetadataError;
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::BrokerId;

use create_partitions_request::CreatePartitionsTopic;
use create_partitions_response::CreatePartitionsTopicResult;
use create_topics_request::CreatableTopic;
use create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use delete_topics_response::DeletableTopicResult;

/// Most partitions that one request may create, as in Kafka.
const MAX_PARTITIONS_PER_REQUEST: u64 = 10_000;
const TOO_MANY_PARTITIONS: &str = "Excessively large number of partitions per request.";
/// Where a setting comes from that nobody has set, in Kafka's numbers.
const SOURCE_DEFAULT: i8 = 5;

const EMPTY_ASSIGNMENT: &str = "The manual partition assignment includes an empty replica list.";
const NO_SUCH_PARTITION: &str = "This server does not host this topic-partition.";

/// An error and the sentence that goes with it.
pub(super) struct Refused(pub ErrorCode, pub String);

/// Longest text in a response. What quotes a name of the request may be longer; then its end is left out.
const MAX_MESSAGE: usize = i16::MAX as usize;

/// The message of a refusal, as a response can hold it.
pub(super) fn sentence(message: String) -> StrBytes {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    StrBytes::from_string(message[..end].to_owned())
}

/// The same, and null of no words at all.
pub(super) fn sentence_if_any(message: String) -> Option<StrBytes> {
    Some(message).filter(|message| !message.is_empty()).map(sentence)
}

/// What Kafka says to a request that makes no sense, where it has no words of its own.
pub(super) const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or the \
                                    message was sent to an incompatible broker. See the broker logs for more details.";

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

impl From<MetadataError> for Refused {
    fn from(error: MetadataError) -> Self {
        let code = match &error {
            MetadataError::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            MetadataError::NoSuchTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            MetadataError::Conflict { .. } | MetadataError::Stale { .. } => ErrorCode::RequestTimedOut,
            MetadataError::Fenced { .. } => ErrorCode::NotController,
            MetadataError::Store(thalweg_metadata::KvError::Fenced { .. }) => ErrorCode::NotController,
            MetadataError::Store(_) => ErrorCode::RequestTimedOut,
        };
        Self(code, error.to_string())
    }
}

impl Handlers {
    pub(super) async fn create_topics(
        &self,
        context: &RequestContext,
        request: CreateTopicsRequest,
    ) -> CreateTopicsResponse {
        let twice = repeated(request.topics.iter().map(|topic| &topic.name));
        let asked: u64 = request.topics.iter().map(|topic| self.partitions_of(topic)).sum();
        let mut seen = BTreeSet::new();
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            // A topic that is named twice is answered once.
            if !seen.insert(topic.name.clone()) {
                continue;
            }
            let outcome = if twice.contains(&topic.name) {
                Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
            } else if asked > MAX_PARTITIONS_PER_REQUEST {
                Err(Refused::new(ErrorCode::PolicyViolation, TOO_MANY_PARTITIONS))
            } else {
                self.create_topic(context, &topic, request.validate_only).await
            };
            results.push(outcome.unwrap_or_else(|Refused(code, message)| {
                let result =
                    CreatableTopicResult::default().with_name(topic.name).with_error_code(code.code());
                let result =
                    result.with_error_message(Some(sentence(message))).with_configs(Some(Vec::new()));
                result.with_num_partitions(-1).with_replication_factor(-1)
            }));
        }
        CreateTopicsResponse::default().with_topics(results)
    }

    fn partitions_of(&self, topic: &CreatableTopic) -> u64 {
        match topic.num_partitions {
            _ if !topic.assignments.is_empty() => topic.assignments.len() as u64,
            -1 => u64::from(self.broker.dynamic().num_partitions),
            count => u64::try_from(count).unwrap_or(0),
        }
    }

    async fn create_topic(
        &self,
        context: &RequestContext,
        topic: &CreatableTopic,
        validate_only: bool,
    ) -> Result<CreatableTopicResult, Refused> {
        self.check_new_name(context, &topic.name)?;
        check_shape(topic, self.broker.settings.broker)?;
        let configs = topic.configs.iter().map(|config| match &config.value {
            Some(value) => Ok((config.name.to_string(), value.to_string())),
            None => {
                let message = format!("Null value not supported for topic configs: {}", config.name);
                Err(Refused::new(ErrorCode::InvalidConfig, message))
            }
        });
        let configs: Values = configs.collect::<Result<_, _>>()?;
        check_topic(&self.config, &configs).map_err(|fault| Refused::new(ErrorCode::InvalidConfig, fault))?;
        let partitions = u32::try_from(self.partitions_of(topic)).unwrap_or(u32::MAX);
        let id = match validate_only {
            true => uuid::Uuid::nil(),
            false => self.broker.topics.create(&topic.name, partitions, configs.clone()).await?.id(),
        };
        let replicas = topic.assignments.first().map_or(1, |first| first.broker_ids.len() as i16);
        Ok(CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_topic_id(id)
            .with_error_message(None)
            .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
            .with_replication_factor(replicas.min(1))
            .with_configs(Some(self.effective_configs(&configs))))
    }

    fn check_new_name(&self, context: &RequestContext, name: &str) -> Result<(), Refused> {
        let allowed = self.authorizer.allows(context, Operation::Create, Resource::Cluster)
            || self.allows_topic(context, Operation::Create, name);
        if !allowed {
            return Err(Refused::new(ErrorCode::TopicAuthorizationFailed, "Authorization failed."));
        }
        thalweg_protocol::validate_topic_name(name)
            .map_err(|error| Refused::new(ErrorCode::InvalidTopicException, error.to_string()))?;
        if self.broker.topics.by_name(name).is_some() {
            let message = format!("Topic '{name}' already exists.");
            return Err(Refused::new(ErrorCode::TopicAlreadyExists, message));
        }
        match self.broker.topics.colliding(name) {
            Some(other) => {
                let message = format!("Topic '{name}' collides with existing topic: {other}");
                Err(Refused::new(ErrorCode::InvalidTopicException, message))
            }
            None => Ok(()),
        }
    }

    /// Every setting of a new topic, as CreateTopics answers them.
    fn effective_configs(&self, own: &Values) -> Vec<CreatableTopicConfigs> {
        let resolved = self.resolved.read().clone();
        let keys = self.config.topic_keys().values();
        keys.map(|key| {
            let value = resolved.topic_text(&self.config, own, key).into_owned();
            let source = self.topic_synonyms(key, own).first().map_or(SOURCE_DEFAULT, |first| first.source);
            let config = CreatableTopicConfigs::default().with_name(StrBytes::from_static_str(key.name));
            config.with_value(Some(value.into())).with_config_source(source)
        })
        .collect()
    }

    pub(super) async fn delete_topics(
        &self,
        context: &RequestContext,
        request: DeleteTopicsRequest,
    ) -> DeleteTopicsResponse {
        let named = request.topic_names.into_iter().map(|name| (Some(name), uuid::Uuid::nil()));
        let stated = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
        let mut responses = Vec::new();
        let wanted: Vec<(Option<TopicName>, uuid::Uuid)> = named.chain(stated).collect();
        let twice = repeated(wanted.iter());
        let mut seen = BTreeSet::new();
        for (name, id) in wanted {
            // A topic that is named twice is answered once.
            if !seen.insert((name.clone(), id)) {
                continue;
            }
            let mut result = DeletableTopicResult::default().with_name(name.clone()).with_topic_id(id);
            let outcome = match twice.contains(&(name.clone(), id)) {
                true => Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
                false => self.delete_topic(context, name, id).await,
            };
            match outcome {
                Ok(topic) => {
                    result = result.with_name(Some(topic_name(topic.name()))).with_topic_id(topic.id());
                }
                Err(Refused(code, message)) => {
                    result = result.with_error_code(code.code()).with_error_message(Some(sentence(message)));
                }
            }
            responses.push(result);
        }
        DeleteTopicsResponse::default().with_responses(responses)
    }

    async fn delete_topic(
        &self,
        context: &RequestContext,
        name: Option<TopicName>,
        id: uuid::Uuid,
    ) -> Result<Arc<Topic>, Refused> {
        if !self.broker.dynamic().delete_topics {
            return Err(Refused::new(ErrorCode::TopicDeletionDisabled, "Topic deletion is disabled."));
        }
        let topics = &self.broker.topics;
        let topic = match (&name, id.is_nil()) {
            (Some(_), false) => {
                let message = "You may not specify both topic name and topic id.";
                return Err(Refused::new(ErrorCode::InvalidRequest, message));
            }
            (Some(name), true) => topics.by_name(name),
            (None, false) => topics.by_id(id),
            (None, true) => {
                return Err(Refused::new(
                    ErrorCode::InvalidRequest,
                    "Neither topic name nor id were specified.",
                ));
            }
        };
        let (missing, message) = match name.is_some() {
            true => (ErrorCode::UnknownTopicOrPartition, NO_SUCH_PARTITION),
            false => (ErrorCode::UnknownTopicId, "This server does not host this topic ID."),
        };
        let topic = topic.ok_or_else(|| Refused::new(missing, message))?;
        if !self.allows_topic(context, Operation::Delete, topic.name()) {
            return Err(Refused::new(ErrorCode::TopicAuthorizationFailed, "Authorization failed."));
        }
        topics.delete(&topic).await?;
        self.forget_offsets(&topic);
        Ok(topic)
    }

    /// Whatever groups have committed for a topic that is no more is deleted, in the background.
    fn forget_offsets(&self, topic: &Topic) {
        for shard in self.broker.group_shards() {
            // Nobody waits for it, and whoever owns the shard after this broker has the old records at worst.
            let _ = shard.run(|groups, _, effects| groups.topic_deleted(topic.name(), topic.id(), effects));
        }
    }

    pub(super) async fn create_partitions(
        &self,
        context: &RequestContext,
        request: CreatePartitionsRequest,
    ) -> CreatePartitionsResponse {
        let twice = repeated(request.topics.iter().map(|topic| &topic.name));
        let mut results = Vec::with_capacity(request.topics.len());
        let mut seen = BTreeSet::new();
        for wanted in &request.topics {
            // A topic that is named twice is answered once.
            if !seen.insert(wanted.name.as_str()) {
                continue;
            }
            let outcome = match twice.contains(&wanted.name) {
                true => Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
                false => self.grow_topic(context, wanted, request.validate_only).await,
            };
            let mut result = CreatePartitionsTopicResult::default()
                .with_name(wanted.name.clone())
                .with_error_message(None);
            if let Err(Refused(code, message)) = outcome {
                let message = Some(message).filter(|message| !message.is_empty());
                result = result.with_error_code(code.code()).with_error_message(message.map(sentence));
            }
            results.push(result);
        }
        CreatePartitionsResponse::default().with_results(results)
    }

    async fn grow_topic(
        &self,
        context: &RequestContext,
        wanted: &CreatePartitionsTopic,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let name = wanted.name.as_str();
        if !self.allows_topic(context, Operation::Alter, name) {
            return Err(Refused::new(ErrorCode::TopicAuthorizationFailed, "Authorization failed."));
        }
        // Kafka leaves it at the code.
        let missing = || Refused::new(ErrorCode::UnknownTopicOrPartition, "");
        let topic = self.broker.topics.by_name(name).ok_or_else(missing)?;
        if [OFFSETS_TOPIC, TRANSACTIONS_TOPIC].contains(&name) {
            let message =
                "The number of its partitions decides where each group or transactional id is, and stays.";
            return Err(Refused::new(ErrorCode::InvalidPartitions, message));
        }
        let have = topic.logs.len() as i64;
        let count = i64::from(wanted.count);
        if count == have {
            return Err(Refused::new(
                ErrorCode::InvalidPartitions,
                format!("Topic already has {have} partition(s)."),
            ));
        }
        if count < have {
            let message = format!(
                "The topic {name} currently has {have} partition(s); {count} would not be an increase."
            );
            return Err(Refused::new(ErrorCode::InvalidPartitions, message));
        }
        let added = (count - have) as u64;
        if added > MAX_PARTITIONS_PER_REQUEST {
            return Err(Refused::new(ErrorCode::PolicyViolation, TOO_MANY_PARTITIONS));
        }
        if let Some(assignments) = &wanted.assignments
            && assignments.len() as u64 != added
        {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        for assignment in wanted.assignments.iter().flatten() {
            check_replicas(self.broker.settings.broker, &assignment.broker_ids)?;
        }
        if !validate_only {
            self.broker.topics.grow(&topic, u32::try_from(count).unwrap_or(u32::MAX)).await?;
        }
        Ok(())
    }
}

/// The replicas of one partition, as Kafka's controller checks them where they are given by hand: `own` is the only broker.
pub(super) fn check_replicas(own: BrokerId, replicas: &[impl Copy + Into<i32>]) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut sorted: Vec<i32> = replicas.iter().map(|id| (*id).into()).collect();
    sorted.sort_unstable();
    match (sorted.first(), sorted.iter().find(|id| **id != own.0)) {
        (None, _) => refused(EMPTY_ASSIGNMENT.to_owned()),
        // In order, what comes twice may stand before what isn't there.
        (_, Some(other)) if *other < own.0 || sorted.get(1) != Some(&own.0) => refused(format!(
            "The manual partition assignment includes broker {other}, but no such broker is registered."
        )),
        _ if sorted.len() > 1 => {
            refused(format!("The manual partition assignment includes the broker {own} more than once."))
        }
        _ => Ok(()),
    }
}

/// Partition count, replication factor and assignments, as Kafka's controller checks them.
fn check_shape(topic: &CreatableTopic, own: BrokerId) -> Result<(), Refused> {
    if topic.assignments.is_empty() {
        let invalid = |count: i32| count < -1 || count == 0;
        return match (invalid(topic.replication_factor.into()), invalid(topic.num_partitions)) {
            (true, _) => Err(Refused::new(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )),
            (_, true) => Err(Refused::new(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            )),
            _ => Ok(()),
        };
    }
    for (name, given) in
        [("replication factor", i32::from(topic.replication_factor)), ("numPartitions", topic.num_partitions)]
    {
        if given != -1 {
            let message =
                format!("A manual partition assignment was specified, but {name} was not set to -1.");
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
    }
    let mut named = BTreeMap::new();
    for assignment in &topic.assignments {
        if named.insert(assignment.partition_index, ()).is_some() {
            let index = assignment.partition_index;
            let message = format!("Found multiple manual partition assignments for partition {index}");
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        check_replicas(own, &assignment.broker_ids)?;
    }
    let consecutive = named.keys().copied().eq(0..topic.assignments.len() as i32);
    let message = "partitions should be a consecutive 0-based integer sequence";
    consecutive.then_some(()).ok_or_else(|| Refused::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn repeated<'a, T: Clone + Ord + 'a>(items: impl Iterator<Item = &'a T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(*item)).cloned().collect()
}
