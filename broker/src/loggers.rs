//! Log levels by target, which can be changed while the broker runs (KIP-412). Like Kafka's they are forgotten when it ends.

use parking_lot::RwLock;
use std::collections::BTreeMap;

/// Kafka's name of what stands for all that have no level of their own.
pub const ROOT: &str = "root";

/// The levels that Kafka takes, in its order.
pub const LEVELS: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// What writes log lines: the program's parts, and the libraries that talk.
const KNOWN: [&str; 10] = [
    ROOT,
    "foyer",
    "object_store",
    "slatedb",
    "thalweg_broker",
    "thalweg_cache",
    "thalweg_metadata",
    "thalweg_protocol",
    "thalweg_segment",
    "thalweg_wal",
];

/// Puts a filter of `tracing` in force, e.g. `info,thalweg_wal=debug`.
pub type SetFilter = Box<dyn Fn(&str) + Send + Sync>;

/// The levels in force.
#[derive(Default)]
pub struct Loggers(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    /// The filter that the start gave.
    given: String,
    /// What was set since, in Kafka's words.
    set: BTreeMap<String, &'static str>,
    set_filter: Option<SetFilter>,
}

impl Loggers {
    /// Says which filter is in force, and who puts others in force.
    pub fn connect(&self, given: &str, set_filter: SetFilter) {
        let mut inner = self.0.write();
        inner.given = given.to_owned();
        inner.set_filter = Some(set_filter);
    }

    /// Whether there is a logger called `name`.
    pub fn exists(&self, name: &str) -> bool {
        KNOWN.contains(&name)
    }

    /// Every logger and its level, in order.
    pub fn levels(&self) -> BTreeMap<&'static str, &'static str> {
        let inner = self.0.read();
        KNOWN.iter().map(|name| (*name, inner.level(name))).collect()
    }

    /// Sets the level of a logger to one of [`LEVELS`]; with none, to that of all others. Others change nothing.
    pub fn set(&self, name: &str, level: Option<&str>) {
        let mut inner = self.0.write();
        let level = level.and_then(|level| LEVELS.into_iter().find(|known| *known == level));
        match level {
            Some(level) => drop(inner.set.insert(name.to_owned(), level)),
            None => drop(inner.set.remove(name)),
        }
        if level.is_none() && inner.level(name) != inner.level(ROOT) {
            let root = inner.level(ROOT);
            inner.set.insert(name.to_owned(), root);
        }
        let filter = inner.filter();
        tracing::warn!(logger = name, filter, "log levels changed");
        if let Some(set_filter) = &inner.set_filter {
            set_filter(&filter);
        }
    }
}

impl Inner {
    fn level(&self, name: &str) -> &'static str {
        let set = self.set.get(name).copied();
        let given =
            set.or_else(|| self.given.split(',').rev().find_map(|directive| level_in(directive, name)));
        match given {
            Some(level) => level,
            None if name == ROOT => "ERROR",
            None => self.level(ROOT),
        }
    }

    /// What comes later goes before what came earlier.
    fn filter(&self) -> String {
        let directive = |(name, level): (&String, &&str)| match (name.as_str(), tracing_level(level)) {
            (ROOT, level) => format!(",{level}"),
            (name, level) => format!(",{name}={level}"),
        };
        self.set.iter().map(directive).fold(self.given.clone(), |filter, directive| filter + &directive)
    }
}

/// Kafka has one level more.
fn tracing_level(level: &str) -> String {
    if level == "FATAL" { "error".to_owned() } else { level.to_ascii_lowercase() }
}

/// The level that a directive of a filter gives to `name`.
fn level_in(directive: &str, name: &str) -> Option<&'static str> {
    let level = match directive.split_once('=') {
        Some((target, level)) => Some(level).filter(|_| target.trim() == name),
        None => Some(directive).filter(|_| name == ROOT),
    };
    let level = level?.trim().to_ascii_uppercase();
    LEVELS.into_iter().find(|known| *known == level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_is_set_goes_before_what_was_given_until_it_is_unset() {
        let loggers = Loggers::default();
        let seen: Arc<RwLock<Vec<String>>> = Arc::default();
        let filters = seen.clone();
        loggers.connect("info,slatedb=warn", Box::new(move |filter| filters.write().push(filter.to_owned())));
        let level = |name: &str| loggers.levels()[name];
        assert_eq!((level(ROOT), level("slatedb"), level("thalweg_wal")), ("INFO", "WARN", "INFO"));
        loggers.set("thalweg_wal", Some("DEBUG"));
        loggers.set(ROOT, Some("FATAL"));
        assert_eq!((level("thalweg_wal"), level("thalweg_broker")), ("DEBUG", "FATAL"));
        loggers.set("thalweg_wal", None);
        loggers.set("slatedb", None);
        assert_eq!((level("thalweg_wal"), level("slatedb")), ("FATAL", "FATAL"));
        assert_eq!(
            *seen.read(),
            [
                "info,slatedb=warn,thalweg_wal=debug",
                "info,slatedb=warn,error,thalweg_wal=debug",
                "info,slatedb=warn,error",
                "info,slatedb=warn,error,slatedb=error",
            ]
        );
    }

    #[test]
    fn there_are_only_the_loggers_that_there_are() {
        let loggers = Loggers::default();
        assert!(loggers.exists(ROOT) && !loggers.exists("kafka.server.KafkaApis"));
    }
}
