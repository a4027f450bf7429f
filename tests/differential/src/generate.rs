//! Requests out of their schemas: right in every field but some, and those take the values at which brokers go wrong.

use crate::{
    batch::{Batch, TIMESTAMP},
    codec::UNKNOWN_TAGS,
    schema::{Api, Field, Kind, ZERO_ID},
    world::{SUBSCRIPTION, World},
};
use rand::{Rng, rngs::SmallRng};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// An id that no broker gives: not of the random kind.
const UNKNOWN_ID: &str = "00000000-0000-1000-8000-00000000beef";

/// Makes requests of one API in one version about one world.
pub struct Generator<'a> {
    /// What is asked.
    pub api: &'a Api,
    /// Its version.
    pub version: i16,
    /// What exists.
    pub world: &'a World,
    /// The share of fields that are not simply right, 0 to 1.
    pub boldness: f64,
    /// Where chance comes from.
    pub random: &'a mut SmallRng,
}

impl Generator<'_> {
    /// A request.
    pub fn request(&mut self) -> Value {
        let api = self.api;
        let mut request = self.structure(&api.request.fields);
        keep_what_is_answered(api, &mut request);
        self.settle_epochs(&mut request, None);
        request
    }

    fn structure(&mut self, fields: &[Field]) -> Value {
        let (version, mut value) = (self.version, Map::new());
        for field in fields.iter().filter(|field| field.versions.contain(version)) {
            let chosen = self.field(field);
            // A client leaves a tagged field out that has its default.
            if !(field.is_tagged(self.version) && chosen == field.default) {
                value.insert(field.name.clone(), chosen);
            }
        }
        if self.api.request.flexible.contain(self.version) && self.is_bold(0.2) {
            value.insert(UNKNOWN_TAGS.into(), json!({ "77": "0102", "9000": "" }));
        }
        value.into()
    }

    fn field(&mut self, field: &Field) -> Value {
        let nullable = field.nullable.contain(self.version);
        if nullable && self.is_bold(0.4) {
            return Value::Null;
        }
        let known = choices(&self.api.name, self.version, field, self.world);
        if let Some(known) = known {
            return self.choose(&known).unwrap_or(Value::Null);
        }
        match &field.kind {
            Kind::Struct(_) if nullable && !self.is_bold(1.0) && field.default.is_null() => Value::Null,
            Kind::Struct(fields) => self.structure(fields),
            Kind::Array(element) => self.array(field, element),
            kind => {
                let mut all = vec![field.default.clone()];
                all.extend(boundaries(kind));
                self.choose(&all).unwrap_or(Value::Null)
            }
        }
    }

    fn array(&mut self, field: &Field, element: &Kind) -> Value {
        let count = if self.is_bold(1.0) { self.random.random_range(0..4) } else { 1 };
        let mut elements: Vec<Value> = (0..count).map(|_| self.element(field, element)).collect();
        if elements.len() > 1 && self.is_bold(0.3) {
            elements[1] = elements[0].clone();
        }
        elements.into()
    }

    fn element(&mut self, field: &Field, element: &Kind) -> Value {
        match element {
            Kind::Struct(fields) => self.structure(fields),
            kind => {
                let one = Field { kind: kind.clone(), default: default_of(kind), ..field.clone() };
                let known = choices(&self.api.name, self.version, &one, self.world);
                let all = known.unwrap_or_else(|| boundaries(kind));
                self.choose(&all).unwrap_or(Value::Null)
            }
        }
    }

    /// The first of `all`, or, boldly, any.
    fn choose(&mut self, all: &[Value]) -> Option<Value> {
        let at = if self.is_bold(1.0) { self.random.random_range(0..all.len().max(1)) } else { 0 };
        all.get(at).cloned()
    }

    fn is_bold(&mut self, share: f64) -> bool {
        self.random.random_bool((self.boldness * share).clamp(0.0, 1.0))
    }

    /// `$epoch` stands for the epoch of the topic around it.
    fn settle_epochs(&self, value: &mut Value, topic: Option<&str>) {
        match value {
            Value::String(text) if text == "$epoch" => {
                let known = topic
                    .filter(|topic| [&self.world.full, &self.world.empty].contains(&&(*topic).to_owned()));
                *value = known.map_or(json!(0), |topic| json!(format!("$epoch:{topic}")));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.settle_epochs(value, topic)),
            Value::Object(fields) => {
                let named = ["Topic", "Name", "TopicName", "TopicId"];
                let own = named.iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned));
                let own = own.map(|own| own.trim_start_matches("$id:").to_owned());
                let topic = own.as_deref().or(topic);
                fields.values_mut().for_each(|value| self.settle_epochs(value, topic));
            }
            _ => {}
        }
    }
}

/// Leaves out what no two answers can be compared for.
fn keep_what_is_answered(api: &Api, request: &mut Value) {
    match &*api.name {
        "Produce" => keep_one_batch_for_each(request),
        "JoinGroup" => {
            // Kafka's coordinator fails inside where a protocol is named twice, and never answers.
            let mut seen = BTreeSet::new();
            if let Some(protocols) = request["Protocols"].as_array_mut() {
                protocols.retain(|protocol| seen.insert(protocol["Name"].to_string()));
            }
        }
        _ => {}
    }
}

/// Which of several batches for the same partition Kafka takes, and of which it tells, depends on which of them are valid:
/// a story tells the plain case.
fn keep_one_batch_for_each(produce: &mut Value) {
    let mut seen = BTreeSet::new();
    for topic in produce["TopicData"].as_array_mut().into_iter().flatten() {
        let name = format!("{} {}", topic["Name"], topic["TopicId"]);
        if let Some(partitions) = topic["PartitionData"].as_array_mut() {
            partitions.retain(|partition| seen.insert(format!("{name} {}", partition["Index"])));
        }
    }
}

fn default_of(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!(false),
        Kind::Str | Kind::Bytes => json!(""),
        Kind::Uuid => json!(ZERO_ID),
        _ => json!(0),
    }
}

/// Values at the edges of a type.
fn boundaries(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Bool => vec![json!(false), json!(true)],
        Kind::Int8 => vec![json!(0), json!(1), json!(-1), json!(i8::MAX), json!(i8::MIN)],
        Kind::Int16 => vec![json!(0), json!(1), json!(-1), json!(i16::MAX), json!(i16::MIN)],
        Kind::Uint16 => vec![json!(0), json!(1), json!(65_535)],
        Kind::Int32 => vec![json!(0), json!(1), json!(-1), json!(i32::MAX), json!(i32::MIN)],
        Kind::Uint32 => vec![json!(0), json!(1)],
        Kind::Int64 => vec![json!(0), json!(1), json!(-1), json!(i64::MAX), json!(i64::MIN)],
        Kind::Float64 => vec![json!(0.0), json!(1.5), json!(-1.0)],
        Kind::Uuid => vec![json!(ZERO_ID), json!(UNKNOWN_ID)],
        Kind::Str => vec![json!(""), json!("text"), json!("ünïcode"), json!("a b\n")],
        Kind::Bytes => vec![json!(""), json!("00"), json!("ffffffff")],
        Kind::Array(_) | Kind::Struct(_) => Vec::new(),
    }
}

/// What a field may be, the right value first; none where the type alone decides.
fn choices(api: &str, version: i16, field: &Field, world: &World) -> Option<Vec<Value>> {
    let is_scalar = !matches!(field.kind, Kind::Array(_) | Kind::Struct(_));
    of_api(api, version, field, world)
        .or_else(|| if is_scalar { of_entity(api, field, world) } else { None })
        .or_else(|| if is_scalar { of_name(api, field, world) } else { None })
}

fn all<T: Into<Value> + Clone>(values: &[T]) -> Option<Vec<Value>> {
    Some(values.iter().cloned().map(Into::into).collect())
}

fn of_entity(api: &str, field: &Field, world: &World) -> Option<Vec<Value>> {
    match field.entity.as_str() {
        "topicName" if api == "CreateTopics" => all(&[
            format!("made-{}", world.number),
            world.full.clone(),
            String::new(),
            "bad/name".into(),
            ".".into(),
            "x".repeat(250),
            "__consumer_offsets".into(),
            world.full.replace('-', "."),
        ]),
        "topicName" => all(&[
            world.full.clone(),
            world.empty.clone(),
            world.unknown.clone(),
            String::new(),
            "bad/name".into(),
            "x".repeat(250),
        ]),
        "groupId" if api == "JoinGroup" => {
            all(&[&*world.new, &*world.joined, &*world.offsets, &*world.consumers, ""])
        }
        "groupId" if api.starts_with("ConsumerGroup") => {
            all(&[&*world.consumers, &*world.new, &*world.joined, &*world.offsets, ""])
        }
        "groupId" if ["Heartbeat", "LeaveGroup", "SyncGroup"].contains(&api) => {
            all(&[&*world.joined, &*world.offsets, &*world.new, ""])
        }
        "groupId" => all(&[&*world.offsets, &*world.joined, &*world.new, &*world.consumers, ""]),
        "transactionalId" if !world.transactions => Some(vec![field.default.clone()]),
        "transactionalId" => {
            Some(vec![field.default.clone(), json!(format!("tx-{}", world.number)), json!("")])
        }
        "producerId" => all(&[-1_i64, 1_000_000, 0, i64::MAX]),
        "brokerId" if field.name == "ReplicaId" => all(&[-1, 1, 5, -2, -3]),
        "brokerId" => all(&[1, 5, -1]),
        _ => None,
    }
}

fn of_name(api: &str, field: &Field, world: &World) -> Option<Vec<Value>> {
    let group_is_joined = ["Heartbeat", "LeaveGroup", "SyncGroup"].contains(&api);
    match field.name.as_str() {
        "TopicId" => Some(vec![
            json!(World::id_of(&world.full)),
            json!(World::id_of(&world.empty)),
            json!(UNKNOWN_ID),
            json!(ZERO_ID),
        ]),
        "PartitionIndex" | "Partition" | "PartitionIndexes" | "PartitionId" | "Index" | "Partitions" => {
            all(&[0, 1, 2, -1, i32::MAX])
        }
        "CurrentLeaderEpoch" | "LastFetchedEpoch" => {
            Some(vec![json!(-1), json!("$epoch"), json!(1_000_000), json!(-2)])
        }
        "LeaderEpoch" => Some(vec![json!("$epoch"), json!(-1), json!(1_000_000), json!(-2)]),
        "Acks" => all(&[-1, 1, 0, 2, -2]),
        "Records" => all(&[
            Batch::of(2).hex(),
            Batch::of(1).hex() + &Batch::of(1).hex(),
            String::new(),
            "00".repeat(30),
            "ff".repeat(80),
            Batch { crc_off_by: 1, ..Batch::of(1) }.hex(),
        ]),
        "MaxWaitMs" => all(&[20, 0, -1]),
        "MinBytes" => all(&[1, 0, -1, i32::MAX]),
        "MaxBytes" | "PartitionMaxBytes" => all(&[1 << 20, 0, 1, i32::MAX]),
        "IsolationLevel" => all(&[0, 1]),
        "SessionEpoch" => all(&[-1, 0, 1, i32::MAX]),
        "SessionId" => all(&[0, 12345, -1]),
        "FetchOffset" => all(&[0_i64, 1, 2, 3, 4, -1, i64::MAX]),
        "Timestamp" => {
            all(&[-1, -2, -3, -4, -5, -6, -7, TIMESTAMP, TIMESTAMP + 1, TIMESTAMP + 2, 0, i64::MAX])
        }
        "MemberId" if group_is_joined => {
            Some(vec![json!(world.member()), json!(""), json!("unknown-member")])
        }
        "MemberId" => all(&["", "unknown-member"]),
        "GenerationId" | "GenerationIdOrMemberEpoch" if group_is_joined => all(&[1, 0, -1, 2, i32::MAX]),
        "GenerationId" | "GenerationIdOrMemberEpoch" => all(&[-1, 0, 1, i32::MAX]),
        "MemberEpoch" if api == "OffsetFetch" => all(&[-1, 0, 1]),
        "GroupInstanceId" | "InstanceId" => Some(vec![Value::Null, json!("instance"), json!("")]),
        "SessionTimeoutMs" => all(&[30_000, 6000, 5999, 1_800_000, 1_800_001, 0, -1]),
        "RebalanceTimeoutMs" => all(&[1000, 0, -1, i32::MAX]),
        "ProtocolType" => all(&["consumer", "", "other"]),
        "ProtocolName" => all(&["range", "", "other"]),
        "CommittedOffset" => all(&[5_i64, 0, -1, -2, i64::MAX]),
        "CommittedLeaderEpoch" => all(&[-1, 0, 5]),
        "CommittedMetadata" => all(&["", "noted", &"m".repeat(4096), &"m".repeat(4097)]),
        "RetentionTimeMs" => all(&[-1, 1000]),
        "TimeoutMs" | "timeoutMs" => all(&[10_000, 30_000, i32::MAX]),
        "StatesFilter" => all(&["Empty", "Stable", "stable", "Nonsense", ""]),
        "TypesFilter" => all(&["classic", "consumer", "Classic", "nonsense", ""]),
        "ProducerEpoch" => all(&[-1, 0, 1, i16::MAX]),
        "TransactionTimeoutMs" => all(&[60_000, 0, -1, 900_000, 900_001, i32::MAX]),
        _ => None,
    }
}

fn of_api(api: &str, version: i16, field: &Field, world: &World) -> Option<Vec<Value>> {
    let config_names = || {
        all(&[
            "retention.ms",
            "cleanup.policy",
            "compression.type",
            "max.message.bytes",
            "unknown.config",
            "",
        ])
    };
    let config_values = || all(&["1000000", "compact", "-1", "abc", "", "zstd"]);
    match (api, field.name.as_str()) {
        ("Metadata" | "DeleteTopics", "Name") if version >= 6 => {
            Some(vec![json!(world.full), json!(world.unknown), json!("bad/name"), Value::Null, json!("")])
        }
        ("Metadata", "TopicId") => {
            Some(vec![json!(ZERO_ID), json!(World::id_of(&world.full)), json!(UNKNOWN_ID)])
        }
        ("DeleteTopics", "TopicId") => Some(vec![
            json!(ZERO_ID),
            json!(World::id_of(&world.full)),
            json!(World::id_of(&world.empty)),
            json!(UNKNOWN_ID),
        ]),
        ("Metadata", "AllowAutoTopicCreation") => all(&[false]),
        ("FindCoordinator", "KeyType") if world.transactions => all(&[0, 1, 3, -1]),
        ("FindCoordinator", "KeyType") => all(&[0, 3, -1]),
        ("FindCoordinator", "Key") => all(&[&*world.offsets, ""]),
        ("FindCoordinator", "CoordinatorKeys") if !matches!(field.kind, Kind::Array(_)) => {
            all(&[&*world.offsets, &*world.new, ""])
        }
        ("JoinGroup", "Name") => all(&["range", "roundrobin", ""]),
        ("JoinGroup", "Metadata") => all(&[SUBSCRIPTION, "", "ffff"]),
        ("CreateTopics", "NumPartitions") => all(&[2, 1, 0, -1, -2]),
        ("CreateTopics", "ReplicationFactor") => all(&[1, -1, 0, -2]),
        ("CreateTopics", "Assignments") => Some(vec![json!([])]),
        ("CreateTopics" | "AlterConfigs" | "IncrementalAlterConfigs", "Name") => config_names(),
        ("CreateTopics" | "AlterConfigs" | "IncrementalAlterConfigs", "Value") => config_values(),
        ("DeleteRecords", "Offset") => all(&[1_i64, 0, -1, 3, 4, -2, i64::MAX]),
        ("CreatePartitions", "Count") => all(&[3, 2, 1, 0, -1]),
        ("CreatePartitions", "Assignments") => Some(vec![Value::Null]),
        ("DescribeConfigs" | "AlterConfigs" | "IncrementalAlterConfigs", "ResourceName") => {
            all(&[&*world.full, &*world.empty, &*world.unknown, "1", "2", "", "bad/name", "-1"])
        }
        ("DescribeConfigs", "ResourceType") => all(&[2, 4, 8, 16, 32, 3, 0, -1]),
        ("AlterConfigs" | "IncrementalAlterConfigs", "ResourceType") => all(&[2, 3, 0, 16, 32, -1]),
        ("DescribeConfigs", "ConfigurationKeys") => match field.kind {
            Kind::Array(_) => None,
            _ => all(&["retention.ms", "cleanup.policy", "unknown.config", "log.retention.ms", ""]),
        },
        ("IncrementalAlterConfigs", "ConfigOperation") => all(&[0, 1, 2, 3, 4, -1]),
        ("DescribeCluster", "EndpointType") => all(&[1, 2, 0, 3]),
        ("ApiVersions", "ClientSoftwareName") => all(&["differential", "", "bad name!", "-x"]),
        ("ApiVersions", "ClientSoftwareVersion") => all(&["1.0", "", "bad version!"]),
        ("DescribeTopicPartitions", "ResponsePartitionLimit") => all(&[2000, 1, 2, 0, -1]),
        ("DescribeTopicPartitions", "Cursor") => Some(vec![
            Value::Null,
            json!({ "TopicName": world.full, "PartitionIndex": 1 }),
            json!({ "TopicName": world.empty, "PartitionIndex": 0 }),
            json!({ "TopicName": world.full, "PartitionIndex": 7 }),
            json!({ "TopicName": world.full, "PartitionIndex": -1 }),
        ]),
        ("ConsumerGroupHeartbeat", "MemberId") => all(&[world.consumer(), "another", ""]),
        ("ConsumerGroupHeartbeat", "MemberEpoch") => all(&[0, 1, 2, -1, -2, -3, i32::MAX]),
        ("ConsumerGroupHeartbeat", "TopicPartitions") => {
            let owned = json!([{ "TopicId": World::id_of(&world.full), "Partitions": [0] }]);
            Some(vec![json!([]), Value::Null, owned])
        }
        ("ConsumerGroupHeartbeat", "SubscribedTopicRegex") => Some(vec![Value::Null, json!(""), json!("(")]),
        ("ConsumerGroupHeartbeat", "ServerAssignor") => {
            Some(vec![Value::Null, json!("uniform"), json!("range"), json!("sticky"), json!("")])
        }
        ("UpdateFeatures", "ValidateOnly") => all(&[true]),
        ("UnregisterBroker", "BrokerId") => all(&[5, -1]),
        ("SyncGroup", "Assignment") => all(&[crate::world::ASSIGNMENT, "", "ff"]),
        _ => None,
    }
}
