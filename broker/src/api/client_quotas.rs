//! DescribeClientQuotas and AlterClientQuotas: how much users, clients and addresses may use (KIP-546, KIP-612).

use super::{
    Handlers,
    topic_admin::{Refused, sentence},
};
use crate::{
    context::{Operation, RequestContext, Resource},
    stored::ChangeError,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use thalweg_metadata::{QuotaEntity, QuotaRecord};
use thalweg_protocol::{ErrorCode, messages::*};

use alter_client_quotas_request::{EntryData as Alteration, OpData};
use alter_client_quotas_response::EntryData as Altered;
use describe_client_quotas_request::ComponentData;
use describe_client_quotas_response::{EntityData, EntryData, ValueData};

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// How a component of a filter matches.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// What a quota can be: a whole number up to the greatest, or any.
#[derive(Clone, Copy)]
enum Range {
    Any,
    Whole { max: f64, kind: &'static str },
}

/// Which quotas an entity can have.
type Allowed = &'static [(&'static str, Range)];

const LONG: Range = Range::Whole { max: i64::MAX as f64, kind: "a LONG" };
const INT: Range = Range::Whole { max: i32::MAX as f64, kind: "an INT" };

const OF_USERS_AND_CLIENTS: [(&str, Range); 4] = [
    ("producer_byte_rate", LONG),
    ("consumer_byte_rate", LONG),
    ("request_percentage", Range::Any),
    ("controller_mutation_rate", Range::Any),
];
const OF_ADDRESSES: [(&str, Range); 1] = [("connection_creation_rate", INT)];

/// The parts of an entity by their kinds. None is the default of that kind.
type Parts = BTreeMap<String, Option<String>>;

fn invalid(message: impl Into<String>) -> Refused {
    Refused(ErrorCode::InvalidRequest, message.into())
}

impl Handlers {
    pub(super) fn describe_client_quotas(
        &self,
        context: &RequestContext,
        request: &DescribeClientQuotasRequest,
    ) -> DescribeClientQuotasResponse {
        let response = DescribeClientQuotasResponse::default();
        let outcome = match self.authorizer.allows(context, Operation::DescribeConfigs, Resource::Cluster) {
            true => Filter::of(&request.components, request.strict),
            false => {
                Err(Refused(ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed.".into()))
            }
        };
        let filter = match outcome {
            Ok(filter) => filter,
            Err(Refused(code, message)) => {
                let response = response.with_error_code(code.code()).with_entries(None);
                return response.with_error_message(Some(sentence(message)));
            }
        };
        let mut entries = Vec::new();
        self.broker.stored.quotas.each(|entity, record| {
            let parts = parts(entity);
            if filter.matches(&parts) {
                entries.push(entry(&parts, record));
            }
        });
        response.with_entries(Some(entries))
    }

    pub(super) async fn alter_client_quotas(
        &self,
        context: &RequestContext,
        request: AlterClientQuotasRequest,
    ) -> AlterClientQuotasResponse {
        let allowed = self.authorizer.allows(context, Operation::AlterConfigs, Resource::Cluster);
        // Each entity is answered once; one that is named again is refused, though its first change is made.
        let mut outcomes: BTreeMap<Parts, Result<(), Refused>> = BTreeMap::new();
        for alteration in &request.entries {
            let entity = named_parts(alteration);
            let outcome = if !allowed {
                let message = "Cluster authorization failed.";
                Err(Refused(ErrorCode::ClusterAuthorizationFailed, message.into()))
            } else if outcomes.contains_key(&entity) || repeats_a_key(&alteration.ops) {
                Err(invalid(format!("Ignoring duplicate entity {}", shown(&entity))))
            } else {
                self.alter_quotas(&entity, &alteration.ops, request.validate_only).await
            };
            outcomes.insert(entity, outcome);
        }
        let entries = outcomes.into_iter().map(|(entity, outcome)| altered(entity, outcome));
        AlterClientQuotasResponse::default().with_entries(entries.collect())
    }

    async fn alter_quotas(&self, parts: &Parts, ops: &[OpData], validate_only: bool) -> Result<(), Refused> {
        let (entity, keys) = checked_entity(parts)?;
        if let Some(Some(ip)) = &entity.ip
            && !is_address(ip).await
        {
            return Err(invalid(format!("{ip} is not a valid IP or resolvable host.")));
        }
        for op in ops.iter().filter(|op| !op.remove) {
            check_quota(keys, &op.key, op.value)?;
        }
        if validate_only {
            return Ok(());
        }
        let changed = |held: Option<&QuotaRecord>| -> Result<_, Refused> {
            let mut record = held.cloned().unwrap_or_default();
            for op in ops {
                match op.remove {
                    true => record.values.remove(op.key.as_str()),
                    false => record.values.insert(op.key.to_string(), op.value),
                };
            }
            Ok(Some(record).filter(|record| !record.values.is_empty()))
        };
        self.broker.stored.quotas.change(&entity, changed).await.map_err(|error| match error {
            ChangeError::Refused(refused) => refused,
            ChangeError::Store(error) => error.into(),
        })
    }
}

/// Which entities are wanted.
struct Filter {
    exact: Parts,
    any: BTreeSet<String>,
    /// Only those that have no other parts.
    strict: bool,
}

impl Filter {
    fn of(components: &[ComponentData], strict: bool) -> Result<Self, Refused> {
        let (mut exact, mut any) = (Parts::new(), BTreeSet::new());
        for component in components {
            let kind = component.entity_type.to_string();
            if kind.is_empty() {
                return Err(invalid("Invalid empty entity type."));
            }
            if exact.contains_key(&kind) || any.contains(&kind) {
                return Err(invalid(format!(
                    "Entity type {kind} cannot appear more than once in the filter."
                )));
            }
            if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
                let message = format!("Unsupported entity type {kind}");
                return Err(Refused(ErrorCode::UnsupportedVersion, message));
            }
            let unwanted = |name| {
                invalid(format!("Request specified MATCH_TYPE_{name}, but also specified a match string."))
            };
            match (component.match_type, &component._match) {
                (EXACT, Some(name)) => drop(exact.insert(kind, Some(name.to_string()))),
                (EXACT, None) => {
                    return Err(invalid("Request specified MATCH_TYPE_EXACT, but set match string to null."));
                }
                (DEFAULT, None) => drop(exact.insert(kind, None)),
                (DEFAULT, Some(_)) => return Err(unwanted("DEFAULT")),
                (ANY, None) => drop(any.insert(kind)),
                (ANY, Some(_)) => return Err(unwanted("SPECIFIED")),
                (other, _) => return Err(invalid(format!("Unknown match type {other}"))),
            }
        }
        let has = |kind: &str| exact.contains_key(kind) || any.contains(kind);
        if has(IP) && (has(USER) || has(CLIENT_ID)) {
            return Err(invalid(
                "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.",
            ));
        }
        Ok(Self { exact, any, strict })
    }

    fn matches(&self, parts: &Parts) -> bool {
        (!self.strict || parts.len() == self.exact.len() + self.any.len())
            && self.exact.iter().all(|(kind, name)| parts.get(kind) == Some(name))
            && self.any.iter().all(|kind| parts.contains_key(kind))
    }
}

/// Of parts of one kind the last counts.
fn named_parts(alteration: &Alteration) -> Parts {
    let parts = alteration.entity.iter();
    parts
        .map(|part| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)))
        .collect()
}

fn repeats_a_key(ops: &[OpData]) -> bool {
    let mut seen = BTreeSet::new();
    !ops.iter().all(|op| seen.insert(op.key.as_str()))
}

fn parts(entity: &QuotaEntity) -> Parts {
    let parts = [(USER, &entity.user), (CLIENT_ID, &entity.client_id), (IP, &entity.ip)];
    parts.into_iter().filter_map(|(kind, name)| Some((kind.to_owned(), name.clone()?))).collect()
}

/// The entity, and which quotas it can have.
fn checked_entity(parts: &Parts) -> Result<(QuotaEntity, Allowed), Refused> {
    if parts.is_empty() {
        return Err(invalid("Invalid empty client quota entity"));
    }
    if let Some(kind) = parts.keys().find(|kind| ![USER, CLIENT_ID, IP].contains(&kind.as_str())) {
        return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
    }
    let part = |kind: &str| parts.get(kind).cloned();
    let entity = QuotaEntity { user: part(USER), client_id: part(CLIENT_ID), ip: part(IP) };
    match (entity.ip.is_some(), parts.len()) {
        (true, 1) => Ok((entity, &OF_ADDRESSES)),
        (true, _) => Err(invalid(
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        )),
        (false, _) => Ok((entity, &OF_USERS_AND_CLIENTS)),
    }
}

fn check_quota(keys: Allowed, key: &str, value: f64) -> Result<(), Refused> {
    let Some((_, range)) = keys.iter().find(|(known, _)| *known == key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    // Kafka takes what is no number.
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    match range {
        Range::Whole { max, kind } if value > *max => {
            Err(invalid(format!("Proposed value for {key} is too large for {kind}.")))
        }
        Range::Whole { .. } if (value % 1.0).abs() > 1e-6 => {
            Err(invalid(format!("{key} cannot be a fractional value.")))
        }
        _ => Ok(()),
    }
}

/// An address, or a name that has one.
async fn is_address(ip: &str) -> bool {
    ip.parse::<IpAddr>().is_ok() || tokio::net::lookup_host((ip, 0)).await.is_ok()
}

/// As Kafka shows an entity.
fn shown(parts: &Parts) -> String {
    let part =
        |(kind, name): (&String, &Option<String>)| format!("{kind}={}", name.as_deref().unwrap_or("null"));
    format!("ClientQuotaEntity(entries={{{}}})", parts.iter().map(part).collect::<Vec<_>>().join(", "))
}

fn entry(parts: &Parts, record: &QuotaRecord) -> EntryData {
    let entity = parts.iter().map(|(kind, name)| {
        let part = EntityData::default().with_entity_type(kind.clone().into());
        part.with_entity_name(name.clone().map(StrBytes::from_string))
    });
    let values = record
        .values
        .iter()
        .map(|(key, value)| ValueData::default().with_key(key.clone().into()).with_value(*value));
    EntryData::default().with_entity(entity.collect()).with_values(values.collect())
}

fn altered(parts: Parts, outcome: Result<(), Refused>) -> Altered {
    let (code, message) = match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err(Refused(code, message)) => (code, Some(sentence(message))),
    };
    let entity = parts.into_iter().map(|(kind, name)| {
        let part = alter_client_quotas_response::EntityData::default().with_entity_type(kind.into());
        part.with_entity_name(name.map(StrBytes::from_string))
    });
    Altered::default().with_error_code(code.code()).with_error_message(message).with_entity(entity.collect())
}
