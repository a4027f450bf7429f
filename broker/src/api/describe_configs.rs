//! DescribeConfigs, of everything that has settings: every value, where it comes from, and what it hides (KIP-133, KIP-226,
//! KIP-412, KIP-714, KIP-848).

use super::{
    Handlers,
    alter_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, Target},
    topic_admin::{MALFORMED, Refused, sentence},
};
use crate::{
    config::{Key, Kind, Update, Values},
    context::{Operation, RequestContext, Resource},
};
use std::{borrow::Cow, collections::BTreeSet};
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_segment::BrokerId;

use describe_configs_request::DescribeConfigsResource as Wanted;
use describe_configs_response::{
    DescribeConfigsResourceResult as Described, DescribeConfigsResult, DescribeConfigsSynonym as Synonym,
};

/// Kafka's numbers of where a value comes from.
const TOPIC_CONFIG: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
const BROKER_LOGGER_CONFIG: i8 = 6;
const CLIENT_METRICS_CONFIG: i8 = 7;
const GROUP_CONFIG: i8 = 8;

impl Handlers {
    pub(super) fn describe_configs(
        &self,
        context: &RequestContext,
        request: DescribeConfigsRequest,
    ) -> DescribeConfigsResponse {
        let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
        if request.resources.iter().any(|wanted| !known.contains(&wanted.resource_type)) {
            // Kafka refuses the request as a whole.
            let results = request.resources.iter().map(|wanted| {
                let result = DescribeConfigsResult::default().with_resource_type(wanted.resource_type);
                result
                    .with_resource_name(wanted.resource_name.clone())
                    .with_error_code(ErrorCode::InvalidRequest.code())
                    .with_error_message(Some(MALFORMED.into()))
            });
            return DescribeConfigsResponse::default().with_results(results.collect());
        }
        let results = request.resources.iter().map(|wanted| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(wanted.resource_type)
                .with_resource_name(wanted.resource_name.clone());
            match self.describe_resource(context, wanted) {
                Ok(mut configs) => {
                    for config in &mut configs {
                        if !request.include_synonyms {
                            config.synonyms.clear();
                        }
                        if !request.include_documentation {
                            config.documentation = None;
                        }
                    }
                    result.with_configs(configs)
                }
                Err(Refused(code, message)) => {
                    result.with_error_code(code.code()).with_error_message(Some(sentence(message)))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn describe_resource(
        &self,
        context: &RequestContext,
        wanted: &Wanted,
    ) -> Result<Vec<Described>, Refused> {
        // None and an empty list both mean all of them.
        let keys = wanted.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
        let keys: Option<BTreeSet<&str>> = keys.map(|keys| keys.iter().map(StrBytes::as_str).collect());
        let named = |name: &str| keys.as_ref().is_none_or(|keys| keys.contains(name));
        let asked = |key: &Key| named(key.name);
        match self.described_target(wanted.resource_type, &wanted.resource_name)? {
            Target::Topic(name) => {
                if !self.allows_topic(context, Operation::DescribeConfigs, &name) {
                    return Err(Refused(ErrorCode::TopicAuthorizationFailed, "Authorization failed.".into()));
                }
                self.describe_topic_configs(&name, asked)
            }
            Target::Broker(id) => {
                if !self.authorizer.allows(context, Operation::DescribeConfigs, Resource::Cluster) {
                    return Err(Refused(
                        ErrorCode::ClusterAuthorizationFailed,
                        "Authorization failed.".into(),
                    ));
                }
                Ok(self.describe_broker_configs(id, asked))
            }
            Target::Loggers => {
                self.check_describe_cluster(context)?;
                Ok(self.describe_loggers(named))
            }
            Target::ClientMetrics(name) => {
                self.check_describe_cluster(context)?;
                Ok(self.describe_client_metrics(&name, asked))
            }
            Target::Group(id) => {
                if !self.allows_group(context, Operation::DescribeConfigs, &id) {
                    return Err(Refused(ErrorCode::GroupAuthorizationFailed, "Authorization failed.".into()));
                }
                Ok(self.describe_group_configs(&id, asked))
            }
        }
    }

    fn check_describe_cluster(&self, context: &RequestContext) -> Result<(), Refused> {
        match self.authorizer.allows(context, Operation::DescribeConfigs, Resource::Cluster) {
            true => Ok(()),
            false => Err(Refused(ErrorCode::ClusterAuthorizationFailed, "Authorization failed.".into())),
        }
    }

    fn describe_loggers(&self, named: impl Fn(&str) -> bool) -> Vec<Described> {
        let levels = self.broker.loggers.levels().into_iter().filter(|(name, _)| named(name));
        let described = levels.map(|(name, level)| {
            let config = Described::default().with_name(StrBytes::from_static_str(name));
            let config = config.with_value(Some(StrBytes::from_static_str(level)));
            config.with_config_source(BROKER_LOGGER_CONFIG).with_documentation(None)
        });
        described.collect()
    }

    fn describe_client_metrics(&self, name: &str, asked: impl Fn(&Key) -> bool) -> Vec<Described> {
        let own = self.broker.stored.client_metrics.get(&name.to_owned()).unwrap_or_default();
        let keys = self.config.client_metrics_keys().values().filter(|key| asked(key));
        let described = keys.map(|key| {
            let value = own.get(key.name);
            let synonyms = value.map(|value| synonym(key.name, &shown(key, value), CLIENT_METRICS_CONFIG));
            let value = value.map_or(key.default, String::as_str);
            described(key, value, synonyms.into_iter().collect(), false)
        });
        described.collect()
    }

    fn describe_group_configs(&self, id: &str, asked: impl Fn(&Key) -> bool) -> Vec<Described> {
        let own = self.broker.stored.groups.get(&id.to_owned()).unwrap_or_default();
        let resolved = self.resolved.read().clone();
        let keys = self.config.group_keys().values().filter(|key| asked(key));
        let described = keys.map(|key| {
            let value = resolved.resource_text(&self.config, &own, key);
            let broker_key = key.broker_default.and_then(|name| self.config.keys().get(name));
            let inherited = match broker_key {
                Some(key) => self.broker_synonyms(key),
                None => vec![synonym(key.name, key.default, DEFAULT)],
            };
            let set = own.get(key.name).map(|value| synonym(key.name, &shown(key, value), GROUP_CONFIG));
            described(key, &value, set.into_iter().chain(inherited).collect(), false)
        });
        described.collect()
    }

    fn described_target(&self, kind: i8, name: &str) -> Result<Target, Refused> {
        let own = self.broker.settings.broker;
        let invalid = |message: String| Err(Refused(ErrorCode::InvalidRequest, message));
        match (kind, name.parse::<i32>()) {
            (TOPIC, _) => Ok(Target::Topic(name.to_owned())),
            (BROKER, _) if name.is_empty() => Ok(Target::Broker(None)),
            (BROKER, Ok(id)) if id == own.0 => Ok(Target::Broker(Some(own))),
            (BROKER, Ok(id)) => {
                invalid(format!("Unexpected broker id, expected {own} or empty string, but received {id}"))
            }
            (BROKER, Err(_)) => invalid(format!("Broker id must be an integer, but it is: {name}")),
            (BROKER_LOGGER, _) if name.is_empty() => invalid("Broker id must not be empty".into()),
            (BROKER_LOGGER, Ok(id)) if id == own.0 => Ok(Target::Loggers),
            (BROKER_LOGGER, Ok(id)) => {
                invalid(format!("Unexpected broker id, expected {own} but received {id}"))
            }
            (BROKER_LOGGER, Err(_)) => invalid(format!("Broker id must be an integer, but it is: {name}")),
            (CLIENT_METRICS, _) if name.is_empty() => {
                invalid("Client metrics subscription name must not be empty".into())
            }
            (CLIENT_METRICS, _) => Ok(Target::ClientMetrics(name.to_owned())),
            (GROUP, _) if name.is_empty() => invalid("Group name must not be empty".into()),
            (GROUP, _) => Ok(Target::Group(name.to_owned())),
            (other, _) => invalid(format!("Unsupported resource type: {other}")),
        }
    }

    fn describe_topic_configs(
        &self,
        name: &str,
        asked: impl Fn(&Key) -> bool,
    ) -> Result<Vec<Described>, Refused> {
        thalweg_protocol::validate_topic_name(name)
            .map_err(|error| Refused(ErrorCode::InvalidTopicException, error.to_string()))?;
        let unknown = || Refused(ErrorCode::UnknownTopicOrPartition, String::new());
        let topic = self.broker.topics.by_name(name).ok_or_else(unknown)?;
        let own = &topic.record.configs;
        let resolved = self.resolved.read().clone();
        let keys = self.config.topic_keys().values().filter(|key| asked(key));
        let described = keys.map(|key| {
            let value = resolved.topic_text(&self.config, own, key);
            described(key, &value, self.topic_synonyms(key, own), false)
        });
        Ok(described.collect())
    }

    /// Every value that stands for a topic's key, the one in force first.
    pub(super) fn topic_synonyms(&self, key: &Key, own: &Values) -> Vec<Synonym> {
        let own = own.get(key.name).map(|value| synonym(key.name, &shown(key, value), TOPIC_CONFIG));
        let broker_key = key.broker_default.and_then(|name| self.config.keys().get(name));
        own.into_iter().chain(broker_key.into_iter().flat_map(|key| self.broker_synonyms(key))).collect()
    }

    fn describe_broker_configs(&self, id: Option<BrokerId>, asked: impl Fn(&Key) -> bool) -> Vec<Described> {
        let resolved = self.resolved.read().clone();
        let keys = self.config.keys().values().filter(|key| asked(key));
        if id.is_some() {
            let one = |key: &Key| {
                let value = resolved.text(&self.config, key.name);
                described(key, value, self.broker_synonyms(key), key.update == Update::ReadOnly)
            };
            return keys.map(one).collect();
        }
        // The defaults of all brokers: only what was stored.
        let stored = keys.filter_map(|key| {
            let value = resolved.cluster.get(key.name)?;
            Some(described(key, value, vec![synonym(key.name, value, DYNAMIC_DEFAULT_BROKER)], false))
        });
        stored.collect()
    }

    fn broker_synonyms(&self, key: &Key) -> Vec<Synonym> {
        let resolved = self.resolved.read();
        let dynamic = resolved.broker.get(key.name).map(|value| synonym(key.name, value, DYNAMIC_BROKER));
        let cluster =
            resolved.cluster.get(key.name).map(|value| synonym(key.name, value, DYNAMIC_DEFAULT_BROKER));
        let given = self.config.given(key.name).map(|given| synonym(key.name, &given.value, STATIC_BROKER));
        let default = Some(synonym(key.name, key.default, DEFAULT)).filter(|_| !key.default.is_empty());
        [dynamic, cluster, given, default].into_iter().flatten().collect()
    }
}

fn described(key: &Key, value: &str, mut synonyms: Vec<Synonym>, read_only: bool) -> Described {
    let shown = shown(key, value);
    let value = &*shown;
    let sensitive = key.kind == Kind::Password;
    if sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    // An empty text or list is a value, an empty number is none.
    let none = sensitive || value.is_empty() && !matches!(key.kind, Kind::Text | Kind::List);
    Described::default()
        .with_name(StrBytes::from_static_str(key.name))
        .with_value((!none).then(|| StrBytes::from_string(value.to_owned())))
        .with_config_source(synonyms.first().map_or(DEFAULT, |first| first.source))
        .with_read_only(read_only)
        .with_is_sensitive(sensitive)
        .with_synonyms(synonyms)
        .with_config_type(type_number(key.kind))
        .with_documentation(Some(StrBytes::from_static_str(key.doc)))
}

/// As Kafka shows a value: an item of a list once.
fn shown<'a>(key: &Key, value: &'a str) -> Cow<'a, str> {
    let mut seen = BTreeSet::new();
    match key.kind {
        Kind::List => {
            let items = value.split(',').map(str::trim).filter(|item| seen.insert(*item));
            items.collect::<Vec<_>>().join(",").into()
        }
        _ => value.into(),
    }
}

fn synonym(name: &'static str, value: &str, source: i8) -> Synonym {
    let synonym = Synonym::default().with_name(StrBytes::from_static_str(name)).with_source(source);
    synonym.with_value(Some(StrBytes::from_string(value.to_owned())))
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
