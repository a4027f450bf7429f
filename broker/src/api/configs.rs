//! DescribeConfigs, AlterConfigs and IncrementalAlterConfigs, of topics and brokers (KIP-226, KIP-339).

use super::{Handlers, topic_admin::Refused};
use crate::{
    config::{Key, Kind, Update, Values, check, check_topic},
    context::{Operation, RequestContext, Resource},
    dynamic,
};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::BrokerId;

use alter_configs_response::AlterConfigsResourceResponse as Altered;
use describe_configs_response::{
    DescribeConfigsResourceResult as Described, DescribeConfigsResult, DescribeConfigsSynonym as Synonym,
};
use incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementallyAltered;

/// Kafka's numbers of the kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Kafka's numbers of where a value comes from.
const TOPIC_CONFIG: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// A change to one key: Kafka's operations SET, DELETE, APPEND and SUBTRACT.
#[derive(Clone, Debug)]
enum Change {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

/// What an alteration is of.
enum Target {
    Topic(String),
    Broker(Option<BrokerId>),
}

impl Handlers {
    pub(super) fn describe_configs(
        &self,
        context: &RequestContext,
        request: DescribeConfigsRequest,
    ) -> DescribeConfigsResponse {
        let results = request.resources.into_iter().map(|resource| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            let described = self.describe_resource(context, resource.resource_type, &resource.resource_name);
            match described {
                Ok(mut configs) => {
                    if let Some(wanted) = &resource.configuration_keys {
                        configs.retain(|config| wanted.contains(&config.name));
                    }
                    for config in &mut configs {
                        if !request.include_synonyms {
                            config.synonyms.clear();
                        }
                        if !request.include_documentation {
                            config.documentation = None;
                        }
                    }
                    result.with_configs(configs).with_error_message(None)
                }
                Err(Refused(code, message)) => {
                    result.with_error_code(code.code()).with_error_message(Some(message.into()))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn describe_resource(
        &self,
        context: &RequestContext,
        kind: i8,
        name: &str,
    ) -> Result<Vec<Described>, Refused> {
        match self.target(kind, name)? {
            Target::Topic(name) => {
                if !self.allows_topic(context, Operation::DescribeConfigs, &name) {
                    return Err(Refused(ErrorCode::TopicAuthorizationFailed, "Authorization failed.".into()));
                }
                self.describe_topic_configs(&name)
            }
            Target::Broker(id) => {
                if !self.authorizer.allows(context, Operation::DescribeConfigs, Resource::Cluster) {
                    return Err(Refused(
                        ErrorCode::ClusterAuthorizationFailed,
                        "Authorization failed.".into(),
                    ));
                }
                Ok(self.describe_broker_configs(id))
            }
        }
    }

    fn target(&self, kind: i8, name: &str) -> Result<Target, Refused> {
        match kind {
            TOPIC => Ok(Target::Topic(name.to_owned())),
            BROKER if name.is_empty() => Ok(Target::Broker(None)),
            BROKER => match name.parse() {
                Ok(id) if id == self.broker.settings.broker.0 => Ok(Target::Broker(Some(BrokerId(id)))),
                Ok(id) => {
                    let own = self.broker.settings.broker;
                    let message =
                        format!("Unexpected broker id, expected {own} or empty string, but received {id}");
                    Err(Refused(ErrorCode::InvalidRequest, message))
                }
                Err(_) => Err(Refused(
                    ErrorCode::InvalidRequest,
                    format!("Broker id must be an integer, but it is: {name}"),
                )),
            },
            other => Err(Refused(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
        }
    }

    fn describe_topic_configs(&self, name: &str) -> Result<Vec<Described>, Refused> {
        thalweg_protocol::validate_topic_name(name)
            .map_err(|error| Refused(ErrorCode::InvalidTopicException, error.to_string()))?;
        let unknown = || {
            Refused(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.".into(),
            )
        };
        let topic = self.broker.topics.by_name(name).ok_or_else(unknown)?;
        let own = &topic.record.configs;
        let keys = self.config.topic_keys().values();
        Ok(keys.map(|key| self.described(key, self.topic_synonyms(key, own), false)).collect())
    }

    /// Every value that stands for a topic's key, the one in force first.
    fn topic_synonyms(&self, key: &Key, own: &Values) -> Vec<Synonym> {
        let mut synonyms: Vec<_> =
            own.get(key.name).map(|value| synonym(key.name, value, TOPIC_CONFIG)).into_iter().collect();
        if let Some(broker_key) = key.broker_default.and_then(|name| self.config.keys().get(name)) {
            synonyms
                .extend(self.broker_synonyms(broker_key).into_iter().filter(|found| found.value.is_some()));
        }
        if !synonyms.iter().any(|found| found.source == DEFAULT) {
            synonyms.push(synonym(key.name, key.default, DEFAULT));
        }
        synonyms
    }

    fn describe_broker_configs(&self, id: Option<BrokerId>) -> Vec<Described> {
        let keys = self.config.keys().values();
        if id.is_none() {
            // The defaults of all brokers: only what was stored.
            let resolved = self.resolved.read();
            let stored = keys.filter_map(|key| {
                let value = resolved.cluster.get(key.name)?;
                Some(self.described(key, vec![synonym(key.name, value, DYNAMIC_DEFAULT_BROKER)], false))
            });
            return stored.collect();
        }
        keys.map(|key| self.described(key, self.broker_synonyms(key), key.update == Update::ReadOnly))
            .collect()
    }

    fn broker_synonyms(&self, key: &Key) -> Vec<Synonym> {
        let resolved = self.resolved.read();
        let dynamic = resolved.broker.get(key.name).map(|value| synonym(key.name, value, DYNAMIC_BROKER));
        let cluster =
            resolved.cluster.get(key.name).map(|value| synonym(key.name, value, DYNAMIC_DEFAULT_BROKER));
        let given = self.config.given(key.name).map(|given| synonym(key.name, &given.value, STATIC_BROKER));
        let default = Some(synonym(key.name, key.default, DEFAULT));
        [dynamic, cluster, given, default].into_iter().flatten().collect()
    }

    fn described(&self, key: &Key, mut synonyms: Vec<Synonym>, read_only: bool) -> Described {
        let sensitive = key.kind == Kind::Password;
        if sensitive {
            synonyms.iter_mut().for_each(|synonym| synonym.value = None);
        }
        let first = synonyms.first().cloned().unwrap_or_default();
        Described::default()
            .with_name(StrBytes::from_static_str(key.name))
            .with_value(first.value)
            .with_config_source(first.source)
            .with_read_only(read_only)
            .with_is_sensitive(sensitive)
            .with_synonyms(synonyms)
            .with_config_type(type_number(key.kind))
            .with_documentation(Some(StrBytes::from_static_str(key.doc)))
    }

    pub(super) async fn incremental_alter_configs(
        &self,
        context: &RequestContext,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let changes: Result<Vec<_>, Refused> = resource.configs.iter().map(incremental_change).collect();
            let outcome = match changes {
                Ok(changes) => {
                    let (kind, name) = (resource.resource_type, &resource.resource_name);
                    self.alter(context, kind, name, changes, false, request.validate_only).await
                }
                Err(refused) => Err(refused),
            };
            let mut response = IncrementallyAltered::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_error_message(None);
            if let Err(Refused(code, message)) = outcome {
                response = response.with_error_code(code.code()).with_error_message(Some(message.into()));
            }
            responses.push(response);
        }
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }

    pub(super) async fn alter_configs(
        &self,
        context: &RequestContext,
        request: AlterConfigsRequest,
    ) -> AlterConfigsResponse {
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let changes = resource.configs.iter().map(|config| match &config.value {
                Some(value) => (config.name.to_string(), Change::Set(value.to_string())),
                None => (config.name.to_string(), Change::Delete),
            });
            let changes = changes.collect();
            let (kind, name) = (resource.resource_type, &resource.resource_name);
            let outcome = self.alter(context, kind, name, changes, true, request.validate_only).await;
            let mut response = Altered::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_error_message(None);
            if let Err(Refused(code, message)) = outcome {
                response = response.with_error_code(code.code()).with_error_message(Some(message.into()));
            }
            responses.push(response);
        }
        AlterConfigsResponse::default().with_responses(responses)
    }

    /// Changes one resource. `replace` first forgets everything that is set (AlterConfigs).
    async fn alter(
        &self,
        context: &RequestContext,
        kind: i8,
        name: &str,
        changes: Vec<(String, Change)>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refused> {
        match self.target(kind, name)? {
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
        }
    }

    async fn alter_topic(
        &self,
        name: &str,
        changes: &[(String, Change)],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let unknown =
            || Refused(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
        let topic = self.broker.topics.by_name(name).ok_or_else(unknown)?;
        let changed = |own: &Values| {
            let effective = |key: &str| {
                let found = self.config.topic_keys().get(key)?;
                Some(self.resolved.read().topic_text(&self.config, own, found).to_owned())
            };
            apply(own, changes, replace, effective)
        };
        let values = changed(&topic.record.configs)?;
        check_topic(&self.config, &values).map_err(|fault| Refused(ErrorCode::InvalidConfig, fault))?;
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
        changes: &[(String, Change)],
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
        let values = apply(&held, changes, replace, effective)?;
        self.check_broker(id, changes, &values)?;
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

    fn check_broker(
        &self,
        id: Option<BrokerId>,
        changes: &[(String, Change)],
        values: &Values,
    ) -> Result<(), Refused> {
        let invalid = |message: String| Err(Refused(ErrorCode::InvalidConfig, message));
        for (name, _) in changes {
            match self.config.keys().get(name.as_str()).map(|key| key.update) {
                None => return invalid(format!("Unknown broker config name: {name}")),
                Some(Update::ReadOnly) => {
                    return Err(Refused(
                        ErrorCode::InvalidRequest,
                        format!("Cannot update these configs dynamically: {name}"),
                    ));
                }
                Some(Update::PerBroker) if id.is_none() => {
                    return Err(Refused(
                        ErrorCode::InvalidRequest,
                        format!(
                            "Cannot update these configs at default cluster level, broker id must be specified: {name}"
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
        for (name, value) in values {
            if let Some(key) = self.config.keys().get(name.as_str())
                && let Err(fault) = check(key, value)
            {
                return invalid(format!("Invalid value {value} for configuration {name}: {fault}"));
            }
        }
        Ok(())
    }
}

fn incremental_change(
    config: &incremental_alter_configs_request::AlterableConfig,
) -> Result<(String, Change), Refused> {
    let value = || {
        let missing = || {
            Refused(
                ErrorCode::InvalidRequest,
                format!("Null value not supported for : {}", config.name.as_str()),
            )
        };
        config.value.as_ref().map(ToString::to_string).ok_or_else(missing)
    };
    let change = match config.config_operation {
        0 => Change::Set(value()?),
        1 => Change::Delete,
        2 => Change::Append(value()?),
        3 => Change::Subtract(value()?),
        other => return Err(Refused(ErrorCode::InvalidRequest, format!("Unknown operation {other}"))),
    };
    Ok((config.name.to_string(), change))
}

/// The values after `changes`. Lists are changed from what is in force.
fn apply(
    own: &Values,
    changes: &[(String, Change)],
    replace: bool,
    effective: impl Fn(&str) -> Option<String>,
) -> Result<Values, Refused> {
    let mut values = if replace { Values::new() } else { own.clone() };
    for (name, change) in changes {
        let items = || -> Vec<String> {
            let current = effective(name).unwrap_or_default();
            current.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        match change {
            Change::Set(value) => drop(values.insert(name.clone(), value.clone())),
            Change::Delete => drop(values.remove(name)),
            Change::Append(value) => {
                let mut items = items();
                let added =
                    value.split(',').map(str::trim).filter(|item| !items.iter().any(|known| known == item));
                let added: Vec<String> = added.map(str::to_owned).collect();
                items.extend(added);
                values.insert(name.clone(), items.join(","));
            }
            Change::Subtract(value) => {
                let mut items = items();
                items.retain(|item| !value.split(',').any(|gone| gone.trim() == item));
                values.insert(name.clone(), items.join(","));
            }
        }
    }
    Ok(values)
}

fn synonym(name: &'static str, value: &str, source: i8) -> Synonym {
    let value = Some(value).filter(|value| !(value.is_empty() && source == DEFAULT));
    let synonym = Synonym::default().with_name(StrBytes::from_static_str(name)).with_source(source);
    synonym.with_value(value.map(|value| StrBytes::from_string(value.to_owned())))
}

/// Kafka's numbers of the kinds of values.
fn type_number(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}
