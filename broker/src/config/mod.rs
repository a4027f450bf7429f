//! Settings: what there are, where their values come from, and what is in force.
//!
//! Sources in rising order: defaults, a file in Kafka's `server.properties` syntax, the environment
//! (`THALWEG_ADVERTISED_LISTENERS` for `advertised.listeners`), `--set key=value`, and what AlterConfigs has stored.

mod client_metrics;
mod groups;
mod keys;
mod listeners;
mod resolve;
mod sources;
mod suggest;
mod value;

pub use client_metrics::{Fault as ClientMetricsFault, check_client_metrics};
pub use groups::{GroupConfig, check_group};
pub use keys::{Key, Keys, Update, broker_keys, client_metrics_keys, group_keys, topic_keys};
pub use listeners::{ListenerSpec, advertised};
pub use resolve::{Resolved, Values, check_topic, topic_resolver};
pub use sources::{Source, from_environment, parse_properties, split_argument};
pub use value::{Kind, Valid, check};

use std::collections::BTreeMap;

/// What is wrong with the settings; one line for the person who starts the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("unknown setting {name:?} ({source_name}){}", nearest.as_ref().map_or(String::new(), |n| format!("; did you mean {n}?")))]
    UnknownKey {
        /// As it was given.
        name: String,
        /// Where.
        source_name: String,
        /// The known one that is most like it.
        nearest: Option<String>,
    },
    /// Not a value of this key.
    #[error("{name} {fault} ({source_name})")]
    BadValue {
        /// The key.
        name: String,
        /// A phrase that follows the key's name.
        fault: String,
        /// Where.
        source_name: String,
    },
    /// A file or an argument can't be read.
    #[error("{0}")]
    Unreadable(String),
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// Its source.
    pub source: Source,
}

/// The values in force at start. Immutable; what AlterConfigs changes is laid over it by [`Resolved`].
#[derive(Clone, Debug)]
pub struct Config {
    keys: Keys,
    topic_keys: Keys,
    group_keys: Keys,
    client_metrics_keys: Keys,
    given: BTreeMap<&'static str, Setting>,
    warnings: Vec<String>,
}

impl Config {
    /// Puts the sources together, later ones over earlier ones, and checks every value.
    pub fn load(sources: Vec<(Source, Vec<(String, String)>)>) -> Result<Self, ConfigError> {
        let mut config = Self {
            keys: broker_keys(),
            topic_keys: topic_keys(),
            group_keys: group_keys(),
            client_metrics_keys: client_metrics_keys(),
            given: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for (source, pairs) in sources {
            for (name, value) in pairs {
                config.give(&name, &value, &source)?;
            }
        }
        Ok(config)
    }

    /// Nothing given: the defaults.
    pub fn defaults() -> Self {
        Self::load(Vec::new()).expect("nothing is given, so nothing is wrong")
    }

    fn give(&mut self, name: &str, value: &str, source: &Source) -> Result<(), ConfigError> {
        let key = self.find(name, source)?;
        check(key, value).map_err(|fault| ConfigError::BadValue {
            name: name.to_owned(),
            fault: fault.to_string(),
            source_name: source.to_string(),
        })?;
        let (name, acts) = (key.name, key.acts());
        if !acts {
            self.warnings.push(format!(
                "{name} has no effect: Thalweg keeps no records on disks of its own ({source})"
            ));
        }
        self.given.insert(name, Setting { value: value.trim().to_owned(), source: source.clone() });
        Ok(())
    }

    fn find(&self, name: &str, source: &Source) -> Result<&Key, ConfigError> {
        self.keys.get(name).ok_or_else(|| ConfigError::UnknownKey {
            name: name.to_owned(),
            source_name: source.to_string(),
            nearest: suggest::nearest(name, self.keys.keys().copied()).map(str::to_owned),
        })
    }

    /// One line for each key of Kafka's that was given and does nothing here.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The keys of a broker.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The keys of a topic.
    pub fn topic_keys(&self) -> &Keys {
        &self.topic_keys
    }

    /// The keys of a group.
    pub fn group_keys(&self) -> &Keys {
        &self.group_keys
    }

    /// The keys of a subscription to clients' metrics.
    pub fn client_metrics_keys(&self) -> &Keys {
        &self.client_metrics_keys
    }

    /// The value of a key that was given, and its source.
    pub fn given(&self, name: &str) -> Option<&Setting> {
        self.given.get(name)
    }

    /// The value in force for `name`: given, or its default.
    pub fn text(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some(setting) => &setting.value,
            None => self.keys.get(name).map_or("", |key| key.default),
        }
    }

    /// The value in force, where it is not empty.
    pub fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    /// A number in force. Only for keys whose values are checked to be numbers.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).trim().parse().expect("the value of a numeric key was checked when it was given")
    }

    /// A size or count in force; negative values count as 0.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(0)
    }

    /// A number with a fraction.
    pub fn fraction(&self, name: &str) -> f64 {
        self.text(name).trim().parse().expect("the value of a numeric key was checked when it was given")
    }

    /// A truth value.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(vec![(Source::Argument, pairs)])
    }

    #[test]
    fn an_unknown_key_is_refused_and_the_nearest_known_one_named() {
        let error = load(&[("objct.store.url", "memory:")]).expect_err("there is no such key");
        assert_eq!(
            error.to_string(),
            "unknown setting \"objct.store.url\" (--set); did you mean object.store.url?"
        );
    }

    #[test]
    fn a_key_that_needs_disks_is_accepted_with_one_warning() {
        let config = load(&[("log.dirs", "/data")]).expect("Kafka knows it");
        assert_eq!(config.warnings().len(), 1);
        assert!(config.warnings()[0].starts_with("log.dirs has no effect"));
    }

    #[test]
    fn a_bad_value_is_refused_in_one_line() {
        let error = load(&[("wal.put.burst", "many")]).expect_err("not a number");
        assert_eq!(error.to_string(), "wal.put.burst must be a whole number, not \"many\" (--set)");
        assert!(load(&[("num.partitions", "0")]).is_err());
        assert!(load(&[("log.format", "xml")]).is_err());
    }

    #[test]
    fn later_sources_go_before_earlier_ones() {
        let given = |source, value: &str| (source, vec![("num.partitions".to_owned(), value.to_owned())]);
        let config =
            Config::load(vec![given(Source::File("f".into()), "3"), given(Source::Environment, "5")]);
        let config = config.expect("both are valid");
        assert_eq!(config.number("num.partitions"), 5);
        assert_eq!(config.given("num.partitions").map(|setting| &setting.source), Some(&Source::Environment));
    }
}
