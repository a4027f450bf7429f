//! What each broker chooses by itself (ids, ports, epochs, times) stands for the same thing on both sides. A *symbol* is
//! its common name: `$id:topic` in a request becomes each broker's own id, and comes back as `$id:topic` in the answers.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// The symbols of one broker.
#[derive(Debug, Default)]
pub struct Symbols {
    values: BTreeMap<String, Value>,
    /// The names of texts.
    names: BTreeMap<String, String>,
    /// The names of producer ids.
    producers: BTreeMap<i64, String>,
}

/// `{BATCH: {"Count": 2, "ProducerId": "$producer"}}` stands for a record batch with these fields.
pub const BATCH: &str = "$batch";

/// A clock that is off by less counts as now.
const NOW_MS: i64 = 3_600_000;

/// Texts shorter than that are no ids, and are never taken for one.
const SHORTEST_ID: usize = 16;

impl Symbols {
    /// Gives `value` the name `$name`.
    pub fn set(&mut self, name: &str, value: Value) {
        if let Some(text) = value.as_str().filter(|text| text.len() >= SHORTEST_ID) {
            self.names.insert(text.to_owned(), format!("${name}"));
            // Kafka's messages show ids of topics in base 64.
            if let Ok(id) = uuid::Uuid::parse_str(text) {
                self.names.insert(URL_SAFE_NO_PAD.encode(id), format!("${name}"));
            }
        }
        if let Some(id) = value.as_i64().filter(|_| name.starts_with("producer")) {
            self.producers.insert(id, format!("${name}"));
        }
        self.values.insert(name.to_owned(), value);
    }

    /// A request with this broker's values in place of symbols. An unknown symbol is left as it is.
    pub fn resolve(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('$').and_then(|name| self.values.get(name)) {
                Some(value) => value.clone(),
                None => value.clone(),
            },
            Value::Array(values) => values.iter().map(|value| self.resolve(value)).collect(),
            Value::Object(fields) => {
                let fields: Map<_, _> =
                    fields.iter().map(|(name, value)| (name.clone(), self.resolve(value))).collect();
                fields
                    .get(BATCH)
                    .map_or_else(|| json!(fields), |batch| json!(crate::batch::of_fields(batch).hex()))
            }
            _ => value.clone(),
        }
    }

    /// An answer with symbols in place of this broker's values.
    pub fn normalise(&self, value: &Value) -> Value {
        self.normalise_field("", value)
    }

    fn normalise_field(&self, field: &str, value: &Value) -> Value {
        match value {
            Value::Array(values) => values.iter().map(|value| self.normalise_field(field, value)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.normalise_field(name, value)))
                .collect::<Map<_, _>>()
                .into(),
            Value::String(text) if field == "Records" => {
                let batches = crate::batch::describe(text);
                if batches.is_string() { batches } else { self.normalise_field("Batches", &batches) }
            }
            Value::String(text) => json!(self.normalise_text(field, text)),
            Value::Number(number) => {
                match number.as_i64().and_then(|number| self.normalise_number(field, number)) {
                    Some(name) => json!(name),
                    None => value.clone(),
                }
            }
            _ => value.clone(),
        }
    }

    fn normalise_text(&self, field: &str, text: &str) -> String {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        if text.len() < SHORTEST_ID {
            return text.to_owned();
        }
        // Where a coordinator makes up ids of members by itself, Kafka's are in base 64.
        if field == "MemberId" && is_random_base64(text) {
            return "<id>".into();
        }
        let mut text = text.to_owned();
        for (known, name) in &self.names {
            // Error messages show ids within sentences, and topic ids in base 64.
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), name);
            }
        }
        // Assignments, tokens and the like are bytes.
        if field == "Metadata" || field == "Assignment" { text } else { mask_ids(&text) }
    }

    fn normalise_number(&self, field: &str, number: i64) -> Option<String> {
        match field {
            "ProducerId" => self.producers.get(&number).cloned(),
            "Port" if self.values.get("port") == Some(&json!(number)) => Some("$port".into()),
            "Epoch" | "LeaderEpoch" | "CurrentLeaderEpoch" | "PartitionLeaderEpoch" if number >= 0 => {
                Some("<leader epoch>".into())
            }
            "SessionId" if number != 0 => Some("<session>".into()),
            "FinalizedFeaturesEpoch" if number >= 0 => Some("<epoch>".into()),
            "LogAppendTimeMs"
            | "Timestamp"
            | "BaseTimestamp"
            | "MaxTimestamp"
            | "LastTimestamp"
            | "TransactionStartTimeMs"
                if (now_ms() - number).abs() < NOW_MS =>
            {
                Some("<now>".into())
            }
            _ => None,
        }
    }
}

/// Replaces whatever looks like a random UUID, except those that requests made up.
fn mask_ids(text: &str) -> String {
    const LENGTH: usize = 36;
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match rest.get(..LENGTH).filter(|part| part.contains('-')).map(uuid::Uuid::parse_str) {
            Some(Ok(id)) if id.get_version_num() == 4 => {
                out.push_str("<id>");
                rest = &rest[LENGTH..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Whether a text is a random UUID, and nothing else, in base 64.
fn is_random_base64(text: &str) -> bool {
    let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| uuid::Uuid::from_slice(&bytes).ok());
    id.is_some_and(|id| id.get_version_num() == 4)
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_chooses_has_the_same_name_on_both_sides() {
        let id = "c0ffee00-0000-4000-8000-000000000001";
        let mut symbols = Symbols::default();
        symbols.set("id:t", json!(id));
        symbols.set("producer", json!(17));
        assert_eq!(symbols.resolve(&json!({ "TopicId": "$id:t" })), json!({ "TopicId": id }));
        let answer = json!({
            "TopicId": id,
            "ErrorMessage": format!("no topic {id}"),
            "MemberId": "differential-c0ffee00-0000-4000-8000-000000000002",
            "ProducerId": 17,
            "LeaderEpoch": 5,
            "Timestamp": now_ms(),
            "Partition": 17,
        });
        let expected = json!({
            "TopicId": "$id:t",
            "ErrorMessage": "no topic $id:t",
            "MemberId": "differential-<id>",
            "ProducerId": "$producer",
            "LeaderEpoch": "<leader epoch>",
            "Timestamp": "<now>",
            "Partition": 17,
        });
        assert_eq!(symbols.normalise(&answer), expected);
    }
}
