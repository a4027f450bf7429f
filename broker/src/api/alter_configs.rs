//! AlterConfigs and IncrementalAlterConfigs, of everything that has settings (KIP-133, KIP-226, KIP-339, KIP-412, KIP-714,
//! KIP-848).

use super::{
    Handlers,
    topic_admin::{Refused, sentence_if_any},
};
use crate::{
    config::{
        ClientMetricsFault, Key, Keys, Kind, Update, Values, check, check_client_metrics, check_group,
        check_topic,
    },
    context::{Operation, RequestContext, Resource},
    dynamic::{self, MIN_INSYNC_REPLICAS},
    loggers::{LEVELS, ROOT},
    stored::{ChangeError, RecordKind, Records},
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::BrokerId;

use alter_configs_response::AlterConfigsResourceResponse as Altered;
use incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementallyAltered;

/// Kafka's numbers of the kinds of resources.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Longest value, as in Kafka.
const MAX_VALUE: usize = i16::MAX as usize;

/// Kafka's operations on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Set,
    Delete,
    Append,
    Subtract,
    /// None of Kafka's, with its number.
    Unknown(i8),
}

/// A change to one key.
#[derive(Clone, Debug)]
struct Change {
    name: String,
    operator: Operator,
    /// None only for DELETE, or where the client forgot it.
    value: Option<String>,
}

impl Change {
    fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    fn items(&self) -> impl Iterator<Item = &str> {
        self.value().split(',').map(str::trim).filter(|item| !item.is_empty())
    }
}

/// What is described or altered.
pub(super) enum Target {
    /// A topic.
    Topic(String),
    /// A broker, or the defaults of all.
    Broker(Option<BrokerId>),
    /// The log levels of this broker.
    Loggers,
    /// A subscription to clients' metrics.
    ClientMetrics(String),
    /// A group.
    Group(String),
}

/// What one request does to one resource.
struct Alteration<'a> {
    kind: i8,
    name: &'a str,
    changes: Vec<Change>,
    /// Named more than once in the request.
    repeated: bool,
    /// Something in the request makes Kafka's controller fail, to which all but log levels is handed.
    fails: bool,
    /// Forget first what is set (AlterConfigs).
    replace: bool,
    validate_only: bool,
}

impl Handlers {
    pub(super) async fn incremental_alter_configs(
        &self,
        context: &RequestContext,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let times = times_named(
            request
                .resources
                .iter()
                .map(|resource| (resource.resource_type, resource.resource_name.as_str())),
        );
        let is_repeated = |kind, name| times.get(&(kind, name)).is_some_and(|times| *times > 1);
        let changes =
            request.resources.iter().map(|resource| resource.configs.iter().map(incremental_change));
        let changes: Vec<Vec<Change>> = changes.map(Iterator::collect).collect();
        let fails = request.resources.iter().zip(&changes).any(|(resource, changes)| {
            [TOPIC, CLIENT_METRICS, GROUP].contains(&resource.resource_type)
                && !is_repeated(resource.resource_type, resource.resource_name.as_str())
                && fails(changes)
        });
        let mut responses = Vec::with_capacity(request.resources.len());
        for (resource, changes) in request.resources.iter().zip(changes) {
            let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
            let alteration = Alteration {
                kind,
                name,
                changes,
                repeated: is_repeated(kind, name),
                fails,
                replace: false,
                validate_only: request.validate_only,
            };
            let (code, message) = told(self.alter(context, alteration).await);
            let response = IncrementallyAltered::default().with_error_code(code).with_error_message(message);
            responses
                .push(response.with_resource_type(kind).with_resource_name(resource.resource_name.clone()));
        }
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }

    pub(super) async fn alter_configs(
        &self,
        context: &RequestContext,
        request: AlterConfigsRequest,
    ) -> AlterConfigsResponse {
        let times = times_named(
            request
                .resources
                .iter()
                .map(|resource| (resource.resource_type, resource.resource_name.as_str())),
        );
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in &request.resources {
            let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
            let set = |config: &alter_configs_request::AlterableConfig| Change {
                name: config.name.to_string(),
                operator: Operator::Set,
                value: config.value.as_ref().map(ToString::to_string),
            };
            let alteration = Alteration {
                kind,
                name,
                changes: resource.configs.iter().map(set).collect(),
                repeated: times.get(&(kind, name)).is_some_and(|times| *times > 1),
                fails: false,
                replace: true,
                validate_only: request.validate_only,
            };
            let (code, message) = told(self.alter(context, alteration).await);
            let response = Altered::default().with_error_code(code).with_error_message(message);
            responses
                .push(response.with_resource_type(kind).with_resource_name(resource.resource_name.clone()));
        }
        AlterConfigsResponse::default().with_responses(responses)
    }

    async fn alter(&self, context: &RequestContext, alteration: Alteration<'_>) -> Result<(), Refused> {
        if alteration.repeated {
            return Err(Refused(ErrorCode::InvalidRequest, "Each resource must appear at most once.".into()));
        }
        let changes = alteration.changes;
        check_changes(&changes)?;
        let (replace, validate_only) = (alteration.replace, alteration.validate_only);
        let target = self.altered_target(alteration.kind, alteration.name)?;
        if let Target::Broker(_) = target {
            check_operators(&changes)?;
        }
        if alteration.fails && !matches!(target, Target::Loggers) {
            return Err(failed_inside());
        }
        match target {
            Target::Topic(name) => {
                if !self.allows_topic(context, Operation::AlterConfigs, &name) {
                    return Err(Refused(ErrorCode::TopicAuthorizationFailed, "Authorization failed.".into()));
                }
                self.alter_topic(&name, &changes, replace, validate_only).await
            }
            Target::Broker(id) => {
                if !self.authorizer.allows(context, Operation::AlterConfigs, Resource::Cluster) {
                    return Err(Refused(
                        ErrorCode::ClusterAuthorizationFailed,
                        "Authorization failed.".into(),
                    ));
                }
                self.alter_broker(id, &changes, replace, validate_only).await
            }
            // AlterConfigs can't name them.
            Target::Loggers if replace => {
                Err(Refused(ErrorCode::InvalidRequest, format!("Unknown resource type {BROKER_LOGGER}")))
            }
            Target::Loggers => {
                self.check_cluster(context)?;
                self.alter_loggers(&changes, validate_only)
            }
            Target::ClientMetrics(name) => {
                self.check_cluster(context)?;
                let records = &self.broker.stored.client_metrics;
                let keys = self.config.client_metrics_keys();
                let check = |values: &Values| {
                    if name.is_empty() {
                        return Err(invalid_request("Subscription name can't be empty"));
                    }
                    check_client_metrics(&self.config, values).map_err(|fault| match fault {
                        ClientMetricsFault::Request(message) => Refused(ErrorCode::InvalidRequest, message),
                        ClientMetricsFault::Config(message) => Refused(ErrorCode::InvalidConfig, message),
                    })
                };
                alter_resource(records, &name, keys, &changes, replace, validate_only, check).await
            }
            Target::Group(id) => {
                if !self.allows_group(context, Operation::AlterConfigs, &id) {
                    return Err(Refused(ErrorCode::GroupAuthorizationFailed, "Authorization failed.".into()));
                }
                let check = |values: &Values| {
                    if id.is_empty() {
                        return Err(invalid_request("Default group resources are not allowed."));
                    }
                    let checked = check_group(&self.config, &self.resolved.read(), values);
                    checked.map_err(|fault| Refused(ErrorCode::InvalidConfig, fault))
                };
                let records = &self.broker.stored.groups;
                let keys = self.config.group_keys();
                alter_resource(records, &id, keys, &changes, replace, validate_only, check).await?;
                dynamic::apply_groups(&self.broker, &self.config, &self.resolved);
                Ok(())
            }
        }
    }

    fn check_cluster(&self, context: &RequestContext) -> Result<(), Refused> {
        match self.authorizer.allows(context, Operation::AlterConfigs, Resource::Cluster) {
            true => Ok(()),
            false => Err(Refused(ErrorCode::ClusterAuthorizationFailed, "Authorization failed.".into())),
        }
    }

    /// Checks all of them before the first is changed.
    fn alter_loggers(&self, changes: &[Change], validate_only: bool) -> Result<(), Refused> {
        let loggers = &self.broker.loggers;
        for change in changes {
            let name = &change.name;
            let word = match change.operator {
                Operator::Append => "APPEND",
                Operator::Subtract => "SUBTRACT",
                Operator::Set | Operator::Delete if !loggers.exists(name) => {
                    return Err(Refused(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!")));
                }
                Operator::Set if !LEVELS.contains(&change.value()) => {
                    let message = format!(
                        "Cannot set the log level of {name} to {} as it is not a supported log level. Valid log levels are {}",
                        change.value(),
                        LEVELS.join(", ")
                    );
                    return Err(Refused(ErrorCode::InvalidConfig, message));
                }
                Operator::Delete if name == ROOT => {
                    return Err(invalid_request("Removing the log level of the root logger is not allowed"));
                }
                Operator::Set | Operator::Delete => continue,
                Operator::Unknown(_) => return Err(failed_inside()),
            };
            return Err(invalid_request(&format!(
                "{word} operation is not allowed for the BROKER_LOGGER resource"
            )));
        }
        if !validate_only {
            changes.iter().for_each(|change| loggers.set(&change.name, change.value.as_deref()));
        }
        Ok(())
    }

    fn altered_target(&self, kind: i8, name: &str) -> Result<Target, Refused> {
        let own = self.broker.settings.broker;
        let invalid = |message: String| Err(Refused(ErrorCode::InvalidRequest, message));
        match (kind, name.parse::<i32>()) {
            (TOPIC, _) if name.is_empty() => invalid("Default topic resources are not allowed.".into()),
            (TOPIC, _) => match thalweg_protocol::validate_topic_name(name) {
                Ok(()) => Ok(Target::Topic(name.to_owned())),
                Err(error) => Err(Refused(ErrorCode::InvalidTopicException, error.to_string())),
            },
            (BROKER, _) if name.is_empty() => Ok(Target::Broker(None)),
            (BROKER, Ok(id)) if id == own.0 => Ok(Target::Broker(Some(own))),
            (BROKER, Ok(id)) => invalid(format!("Unexpected broker id, expected {own}, but received {id}")),
            (BROKER_LOGGER, Ok(id)) if id == own.0 => Ok(Target::Loggers),
            (BROKER_LOGGER, Ok(id)) => {
                invalid(format!("Unexpected node id. Expected {own}, but received {id}"))
            }
            (BROKER | BROKER_LOGGER, Err(_)) => {
                invalid(format!("Node id must be an integer, but it is: {name}"))
            }
            (CLIENT_METRICS, _) => Ok(Target::ClientMetrics(name.to_owned())),
            (GROUP, _) => Ok(Target::Group(name.to_owned())),
            (other, _) => invalid(format!("Unknown resource type {other}")),
        }
    }

    async fn alter_topic(
        &self,
        name: &str,
        changes: &[Change],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let unknown =
            || Refused(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
        let topic = self.broker.topics.by_name(name);
        let changed = |own: &Values| {
            let effective = |key: &str| {
                let found = self.config.topic_keys().get(key)?;
                Some(self.resolved.read().topic_text(&self.config, own, found).into_owned())
            };
            apply(own, changes, replace, self.config.topic_keys(), effective)
        };
        // What is wrong with the values is told before that there is no such topic.
        let values = changed(topic.as_ref().map_or(&Values::new(), |topic| &topic.record.configs))?;
        check_topic(&self.config, &values).map_err(|fault| Refused(ErrorCode::InvalidConfig, fault))?;
        let topic = topic.ok_or_else(unknown)?;
        if !validate_only {
            self.broker
                .topics
                .configure(&topic, |own| {
                    // Checked above; nobody else changes a topic between, other than to values checked as well.
                    if let Ok(values) = changed(own) {
                        *own = values;
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn alter_broker(
        &self,
        id: Option<BrokerId>,
        changes: &[Change],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let held = match id {
            Some(_) => self.resolved.read().broker.clone(),
            None => self.resolved.read().cluster.clone(),
        };
        let effective = |key: &str| {
            let found = self.config.keys().get(key)?;
            Some(self.resolved.read().text(&self.config, found.name).to_owned())
        };
        let values = apply(&held, changes, replace, self.config.keys(), effective)?;
        self.check_broker(id, changes, &values)?;
        if self.broker.stored.has_eligible_replicas() {
            check_min_insync_replicas(id, changes, &held, &values)?;
        }
        if validate_only {
            return Ok(());
        }
        self.broker.metadata.set_broker_configs(id, &held, values.clone()).await?;
        {
            let mut resolved = self.resolved.write();
            *(if id.is_some() { &mut resolved.broker } else { &mut resolved.cluster }) = values;
        }
        dynamic::apply(&self.broker, &self.config, &self.resolved).await;
        Ok(())
    }

    fn check_broker(&self, id: Option<BrokerId>, changes: &[Change], values: &Values) -> Result<(), Refused> {
        let keys = self.config.keys();
        let update = |change: &Change| keys.get(change.name.as_str()).map(|key| key.update);
        if let Some(change) = changes.iter().find(|change| update(change).is_none()) {
            return Err(Refused(
                ErrorCode::InvalidConfig,
                format!("Unknown broker config name: {}", change.name),
            ));
        }
        let of = |wanted: Update| {
            changes.iter().filter(|change| update(change) == Some(wanted)).map(|c| c.name.as_str()).collect()
        };
        let invalid = |message: String| Err(Refused(ErrorCode::InvalidRequest, message));
        let (fixed, of_one): (Vec<&str>, Vec<&str>) = (of(Update::ReadOnly), of(Update::PerBroker));
        if !fixed.is_empty() {
            return invalid(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
        }
        if id.is_none() && !of_one.is_empty() {
            let message = "Cannot update these configs at default cluster level, broker id must be specified";
            return invalid(format!("{message}: [{}]", of_one.join(", ")));
        }
        for (name, value) in values {
            if let Some(Err(fault)) = keys.get(name.as_str()).map(|key| check(key, value)) {
                return invalid(format!(
                    "Invalid value {value} for configuration {name}: {}",
                    fault.in_kafkas_words()
                ));
            }
        }
        Ok(())
    }
}

/// What Kafka tells of an exception that has no code.
fn failed_inside() -> Refused {
    Refused(ErrorCode::UnknownServerError, String::new())
}

fn invalid_request(message: &str) -> Refused {
    Refused(ErrorCode::InvalidRequest, message.to_owned())
}

/// Changes the settings of a group or a subscription; `check` sees them as they are to be. None at all are no record.
async fn alter_resource<K: RecordKind<Key = String, Record = Values>>(
    records: &Records<K>,
    name: &String,
    keys: &Keys,
    changes: &[Change],
    replace: bool,
    validate_only: bool,
    check: impl Fn(&Values) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let changed = |held: Option<&Values>| {
        let own = held.cloned().unwrap_or_default();
        let effective =
            |key: &str| own.get(key).cloned().or_else(|| keys.get(key).map(|key| key.default.to_owned()));
        let values = apply(&own, changes, replace, keys, effective)?;
        check(&values)?;
        Ok(Some(values).filter(|values| !values.is_empty()))
    };
    if validate_only {
        return changed(records.get(name).as_ref()).map(|_| ());
    }
    records.change(name, changed).await.map_err(|error| match error {
        ChangeError::Refused(refused) => refused,
        ChangeError::Store(error) => error.into(),
    })
}

/// Where eligible leader replicas are on, one value holds for the whole cluster.
fn check_min_insync_replicas(
    id: Option<BrokerId>,
    changes: &[Change],
    held: &Values,
    values: &Values,
) -> Result<(), Refused> {
    let removed = held.contains_key(MIN_INSYNC_REPLICAS) && !values.contains_key(MIN_INSYNC_REPLICAS);
    let named = changes.iter().any(|change| change.name == MIN_INSYNC_REPLICAS);
    let message = match id {
        Some(_) if named || removed => {
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
        }
        None if removed => "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        _ => return Ok(()),
    };
    Err(Refused(ErrorCode::InvalidConfig, message.into()))
}

fn times_named<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> BTreeMap<(i8, &'a str), u32> {
    let mut times = BTreeMap::new();
    resources.for_each(|resource| *times.entry(resource).or_insert(0) += 1);
    times
}

fn told(outcome: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(Refused(code, message)) => (code.code(), sentence_if_any(message)),
    }
}

fn incremental_change(config: &incremental_alter_configs_request::AlterableConfig) -> Change {
    let operator = match config.config_operation {
        0 => Operator::Set,
        1 => Operator::Delete,
        2 => Operator::Append,
        3 => Operator::Subtract,
        other => Operator::Unknown(other),
    };
    Change { name: config.name.to_string(), operator, value: config.value.as_ref().map(ToString::to_string) }
}

/// Whether Kafka's controller fails inside at these changes: at an operation that does not exist.
fn fails(changes: &[Change]) -> bool {
    check_changes(changes).is_ok() && check_operators(changes).is_err()
}

/// Only operations that exist.
fn check_operators(changes: &[Change]) -> Result<(), Refused> {
    let unknown = changes.iter().find_map(|change| match change.operator {
        Operator::Unknown(number) => Some(number),
        _ => None,
    });
    match unknown {
        Some(number) => Err(invalid_request(&format!("Unknown operations type {number}"))),
        None => Ok(()),
    }
}

/// Each key once, and a value for each.
fn check_changes(changes: &[Change]) -> Result<(), Refused> {
    let names: BTreeSet<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    if names.len() < changes.len() {
        return Err(Refused(ErrorCode::InvalidRequest, "Error due to duplicate config keys".into()));
    }
    let missing =
        changes.iter().filter(|change| change.operator != Operator::Delete && change.value.is_none());
    let missing: Vec<&str> = missing.map(|change| change.name.as_str()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Refused(
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {}", missing.join(", ")),
        )),
    }
}

/// The values after `changes`. Lists are changed from what is in force.
fn apply(
    own: &Values,
    changes: &[Change],
    replace: bool,
    keys: &Keys,
    effective: impl Fn(&str) -> Option<String>,
) -> Result<Values, Refused> {
    let mut values = if replace { Values::new() } else { own.clone() };
    for change in changes {
        let name = &change.name;
        let value = match change.operator {
            Operator::Set => change.value().to_owned(),
            Operator::Delete => {
                values.remove(name);
                continue;
            }
            Operator::Append | Operator::Subtract => {
                check_list(keys.get(name.as_str()), change)?;
                changed_list(&effective(name).unwrap_or_default(), change)
            }
            Operator::Unknown(_) => return Err(failed_inside()),
        };
        if value.len() > MAX_VALUE {
            let message = format!(
                "The configuration value cannot be added because it exceeds the maximum value size of {MAX_VALUE} bytes."
            );
            return Err(Refused(ErrorCode::InvalidConfig, message));
        }
        values.insert(name.clone(), value);
    }
    Ok(values)
}

fn check_list(key: Option<&Key>, change: &Change) -> Result<(), Refused> {
    if key.is_none_or(|key| key.kind == Kind::List) {
        return Ok(());
    }
    let operator = if change.operator == Operator::Append { "APPEND" } else { "SUBTRACT" };
    let message = format!("Can't {operator} to key {} because its type is not LIST.", change.name);
    Err(Refused(ErrorCode::InvalidConfig, message))
}

/// A list with items added that it lacks, or without some that it has.
fn changed_list(current: &str, change: &Change) -> String {
    let mut items: Vec<&str> = current.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    match change.operator {
        Operator::Append => {
            let known: BTreeSet<&str> = items.iter().copied().collect();
            items.extend(change.items().filter(|item| !known.contains(item)));
        }
        _ => {
            let gone: BTreeSet<&str> = change.items().collect();
            items.retain(|item| !gone.contains(item));
        }
    }
    items.join(",")
}
