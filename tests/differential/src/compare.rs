//! Two answers as trees: where they differ.

use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// A place at which two answers differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Field names down to the place; elements of arrays by what names them: `Topics[there].Partitions[0].ErrorCode`.
    pub path: String,
    /// What Kafka says; none where only Thalweg says something.
    pub kafka: Option<Value>,
    /// What Thalweg says.
    pub thalweg: Option<Value>,
}

impl Difference {
    /// The path without the names of elements.
    pub fn shape(&self) -> String {
        let mut depth = 0;
        let kept = |letter: &char| {
            if *letter == ']' {
                depth -= 1;
            }
            let keep = depth == 0;
            if *letter == '[' {
                depth += 1;
            }
            keep
        };
        self.path.chars().filter(kept).collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Kafka {}, Thalweg {}", self.path, shown(&self.kafka), shown(&self.thalweg))
    }
}

/// A side's value in a line.
pub fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// Fields that name an element of an array: the first of these that it has, and that isn't empty.
const NAMES: [&str; 22] = [
    "Name",
    "TopicName",
    "Topic",
    "TopicId",
    "PartitionIndex",
    "Partition",
    "Index",
    "GroupId",
    "MemberId",
    "GroupInstanceId",
    "ApiKey",
    "NodeId",
    "BrokerId",
    "ResourceName",
    "ConfigName",
    "Key",
    "Feature",
    "TransactionalId",
    "BaseOffset",
    "ProducerId",
    "User",
    "LogDir",
];

/// Where `kafka` and `thalweg` differ. The order of elements that have names doesn't count: in many answers it is that of
/// a hash map.
pub fn differences(kafka: &Value, thalweg: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(String::new(), Some(kafka), Some(thalweg), &mut found);
    found
}

fn walk(path: String, kafka: Option<&Value>, thalweg: Option<&Value>, found: &mut Vec<Difference>) {
    match (kafka, thalweg) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(path, one.get(name), other.get(name), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            let (one, other) = (named(one), named(other));
            for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                walk(format!("{path}[{name}]"), one.get(name).copied(), other.get(name).copied(), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => {
            found.push(Difference { path, kafka: one.cloned(), thalweg: other.cloned() });
        }
    }
}

/// Elements by name; those of the same name by the order of their content, those without by their position.
fn named(elements: &[Value]) -> BTreeMap<String, &Value> {
    let mut by_name = BTreeMap::new();
    let mut elements: Vec<_> = elements.iter().collect();
    if elements.iter().any(|element| element.is_object()) {
        elements.sort_by_cached_key(|element| element.to_string());
    }
    for element in elements {
        let name = NAMES.iter().filter_map(|field| element.get(field)).map(|value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            value => value.to_string(),
        });
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let unique = (0..).map(|number| match number {
            0 if !name.is_empty() => name.clone(),
            number => format!("{name}#{number}"),
        });
        let unique = unique.into_iter().find(|name| !by_name.contains_key(name)).unwrap_or_default();
        by_name.insert(unique, element);
    }
    by_name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_compared_by_their_names() {
        let kafka = json!({ "Topics": [{ "Name": "a", "ErrorCode": 0 }, { "Name": "b", "ErrorCode": 3 }] });
        let thalweg = json!({ "Topics": [{ "Name": "b", "ErrorCode": 0 }, { "Name": "a", "ErrorCode": 0 }] });
        let found = differences(&kafka, &thalweg);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "Topics[b].ErrorCode: Kafka 3, Thalweg 0");
        assert_eq!(found[0].shape(), "Topics[].ErrorCode");
    }

    #[test]
    fn what_one_side_lacks_is_a_difference() {
        let found = differences(&json!([1, 2]), &json!([1]));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["[#1]: Kafka 2, Thalweg nothing"]
        );
    }
}
