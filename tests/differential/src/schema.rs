//! Kafka's message schemas: what fields a request or response has in which version.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::Command};
use thalweg_end_to_end::tools::KafkaJars;

/// The APIs of Kafka, by key.
pub struct Schemas {
    apis: BTreeMap<i16, Api>,
}

/// A request and its response.
#[derive(Clone, Debug)]
pub struct Api {
    /// The number that stands first in a request.
    pub key: i16,
    /// Kafka's name, without `Request`.
    pub name: String,
    /// Versions that are defined.
    pub versions: Versions,
    /// What is asked.
    pub request: Message,
    /// What is answered.
    pub response: Message,
}

/// A request or a response.
#[derive(Clone, Debug)]
pub struct Message {
    /// Versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// Its fields in the order of the wire.
    pub fields: Vec<Field>,
}

/// First and last version, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first one.
    pub first: i16,
    /// The last one.
    pub last: i16,
}

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Kafka's name of it.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Versions that have it.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Versions,
    /// Its tag, and the versions in which it is tagged.
    pub tag: Option<(u32, Versions)>,
    /// What stands there when nothing is said.
    pub default: Value,
    /// What its value names, in Kafka's words: `topicName`, `groupId`, …
    pub entity: String,
}

/// A type of the schemas' language.
#[derive(Clone, Debug)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    Str,
    Bytes,
    Array(Box<Kind>),
    Struct(Vec<Field>),
}

impl Versions {
    const NONE: Self = Self { first: i16::MAX, last: -1 };

    /// Whether `version` is one of them.
    pub fn contain(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    fn of(value: &Value) -> Result<Self> {
        value.as_str().map_or(Ok(Self::NONE), Self::parse)
    }

    /// `3`, `3-5`, `3+` or `none`.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        if let Some(first) = text.strip_suffix('+') {
            return Ok(Self { first: first.parse()?, last: i16::MAX });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok(Self { first: first.parse()?, last: last.parse()? })
    }
}

impl Schemas {
    /// Takes the schemas out of Kafka's jar of messages, which is fetched the first time.
    pub fn fetch() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut unpack = Command::new("jar");
        unpack.current_dir(folder.path()).arg("xf").arg(KafkaJars::fetch()?.jar("kafka-clients"));
        let status = unpack
            .arg("common/message")
            .status()
            .context("running jar, a tool of Java's development kit (Debian: default-jdk-headless)")?;
        anyhow::ensure!(status.success(), "could not take the schemas out of Kafka's jar");
        Self::read(&folder.path().join("common/message"))
    }

    fn read(folder: &Path) -> Result<Self> {
        let (mut requests, mut responses) = (BTreeMap::new(), BTreeMap::new());
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            // JSON with `//` comments on lines of their own.
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let schema: Value = serde_json::from_str(&lines.collect::<Vec<_>>().join("\n"))
                .with_context(|| path.display().to_string())?;
            let key = schema["apiKey"].as_i64().and_then(|key| i16::try_from(key).ok());
            match (key, schema["type"].as_str()) {
                (Some(key), Some("request")) => drop(requests.insert(key, schema)),
                (Some(key), Some("response")) => drop(responses.insert(key, schema)),
                _ => {}
            }
        }
        let mut apis = BTreeMap::new();
        for (key, request) in requests {
            let response = responses.get(&key).with_context(|| format!("no response of API {key}"))?;
            let name = request["name"].as_str().context("name")?.trim_end_matches("Request").to_owned();
            let api = Api {
                key,
                versions: Versions::of(&request["validVersions"])?,
                request: Message::of(&request).with_context(|| name.clone())?,
                response: Message::of(response).with_context(|| name.clone())?,
                name,
            };
            apis.insert(key, api);
        }
        Ok(Self { apis })
    }

    /// The API of a key.
    pub fn by_key(&self, key: i16) -> Option<&Api> {
        self.apis.get(&key)
    }

    /// The API of a name.
    pub fn by_name(&self, name: &str) -> Result<&Api> {
        self.apis.values().find(|api| api.name == name).with_context(|| format!("no API {name}"))
    }
}

impl Message {
    fn of(schema: &Value) -> Result<Self> {
        let common = schema["commonStructs"].as_array().into_iter().flatten();
        let common = common.filter_map(|one| Some((one["name"].as_str()?, &one["fields"]))).collect();
        Ok(Self {
            flexible: Versions::of(&schema["flexibleVersions"])?,
            fields: fields(&schema["fields"], &common)?,
        })
    }
}

type Common<'a> = BTreeMap<&'a str, &'a Value>;

fn fields(schema: &Value, common: &Common<'_>) -> Result<Vec<Field>> {
    schema.as_array().into_iter().flatten().map(|field| self::field(field, common)).collect()
}

fn field(schema: &Value, common: &Common<'_>) -> Result<Field> {
    let kind = kind(schema["type"].as_str().context("type")?, &schema["fields"], common)?;
    let tag = match schema["tag"].as_u64() {
        Some(tag) => Some((u32::try_from(tag)?, Versions::of(&schema["taggedVersions"])?)),
        None => None,
    };
    Ok(Field {
        name: schema["name"].as_str().context("name")?.to_owned(),
        default: default(&kind, &schema["default"])?,
        kind,
        versions: Versions::of(&schema["versions"])?,
        nullable: Versions::of(&schema["nullableVersions"])?,
        tag,
        entity: schema["entityType"].as_str().unwrap_or_default().to_owned(),
    })
}

fn kind(name: &str, inner: &Value, common: &Common<'_>) -> Result<Kind> {
    if let Some(element) = name.strip_prefix("[]") {
        return Ok(Kind::Array(Box::new(kind(element, inner, common)?)));
    }
    Ok(match name {
        "bool" => Kind::Bool,
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "uint16" => Kind::Uint16,
        "int32" => Kind::Int32,
        "uint32" => Kind::Uint32,
        "int64" => Kind::Int64,
        "float64" => Kind::Float64,
        "uuid" => Kind::Uuid,
        "string" => Kind::Str,
        "bytes" | "records" => Kind::Bytes,
        _ if inner.is_array() => Kind::Struct(fields(inner, common)?),
        _ => match common.get(name) {
            Some(inner) => Kind::Struct(fields(inner, common)?),
            None => bail!("no type {name}"),
        },
    })
}

/// Numbers are written as numbers or as text, in decimal or hexadecimal.
fn default(kind: &Kind, given: &Value) -> Result<Value> {
    if given == "null" {
        return Ok(Value::Null);
    }
    let text = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
    let number = || match text.strip_prefix("0x") {
        _ if given.is_null() || text.is_empty() => Ok(0),
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Ok(match kind {
        Kind::Bool => json!(text == "true"),
        Kind::Float64 => json!(0.0),
        Kind::Uuid => json!(ZERO_ID),
        Kind::Str | Kind::Bytes => json!(given.as_str().unwrap_or_default()),
        Kind::Array(_) => json!([]),
        Kind::Struct(_) => json!({}),
        _ => json!(number()?),
    })
}

/// The id that stands for none.
pub const ZERO_ID: &str = "00000000-0000-0000-0000-000000000000";
