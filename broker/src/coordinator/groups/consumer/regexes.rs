//! Subscriptions by regular expression. They are checked when they come, and resolved in a task of their own: all of a group
//! together, so that one rebalance follows. What they stand for is stored, and looked at again when topics are created.

use super::{
    super::{Effects, Groups, Now},
    change::Change,
    hash::metadata_hash,
    member::Member,
    re2, records,
    refusal::Refusal,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_protocol::{ErrorCode, coordinator_records::ConsumerGroupRegularExpressionValue};

/// A group's expressions are resolved no more often than this.
const MIN_INTERVAL_MS: i64 = 10_000;
/// What an expression's topics weigh, and one of them, beside their names.
const OVERHEAD: usize = 300;
const NAME: usize = 100;

/// What a regular expression stood for at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub(super) topics: BTreeSet<Arc<str>>,
    /// The version of the topics then. It is of the broker that has looked.
    pub(super) version: i64,
    /// When, in wall-clock time.
    pub(super) resolved_ms: i64,
}

impl Resolved {
    pub(super) fn of_record(record: &ConsumerGroupRegularExpressionValue) -> Self {
        Self {
            topics: record.topics.iter().map(|topic| topic.as_str().into()).collect(),
            version: record.version,
            resolved_ms: record.timestamp,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.topics.iter().map(|topic| NAME + topic.len()).sum::<usize>()
    }
}

/// What a request has done to a member's expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Unchanged,
    /// It has another, which is yet to be resolved.
    Changed,
    /// It has another, and what that stands for is known; or it has none any more.
    ChangedAndResolved,
}

/// Expressions to be resolved, of one group.
#[derive(Debug)]
pub struct Resolving {
    expressions: Vec<Arc<str>>,
    names: Vec<Arc<str>>,
    version: u64,
    begun_ms: i64,
}

/// What each expression stands for.
pub type Found = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// Names that are looked at before others get a turn.
const NAMES_AT_A_TIME: usize = 1024;

impl Resolving {
    /// Finds the topics that each expression stands for, of those that `is_visible`. Gives way to other tasks now and then.
    pub async fn resolve(&self, is_visible: impl Fn(&str) -> bool) -> Found {
        let mut found = Found::new();
        for expression in &self.expressions {
            let mut matching = BTreeSet::new();
            // It was compiled when it came.
            if let Ok(regex) = re2::compile(expression) {
                for names in self.names.chunks(NAMES_AT_A_TIME) {
                    let names = names.iter().filter(|name| regex.is_match(name) && is_visible(name));
                    matching.extend(names.cloned());
                    tokio::task::yield_now().await;
                }
            }
            found.insert(expression.clone(), matching);
        }
        found
    }
}

impl Change<'_> {
    /// Looks at what a member's expression was and is. An error says that it is none.
    pub(super) fn update_regex(&mut self, before: &Member, after: &Member) -> Result<Update, Refusal> {
        let (old, new) = (before.details.regex(), after.details.regex());
        if old == new {
            return Ok(Update::Unchanged);
        }
        if let Some(old) = old.filter(|old| self.group.subscriptions.subscribers(old) == 1) {
            self.effects.records.push(records::without_regex(&self.group.id, old));
        }
        let Some(new) = new else { return Ok(Update::ChangedAndResolved) };
        if self.group.subscriptions.subscribers(new) == 0 {
            re2::compile(new).map_err(|words| invalid(new, words))?;
        } else if self.group.resolved.contains_key(new) {
            return Ok(Update::ChangedAndResolved);
        }
        Ok(Update::Changed)
    }

    /// Whether the group's expressions are to be resolved (anew), `before` having become `after`.
    pub(super) fn wants_resolution(&self, before: &Member, after: &Member) -> bool {
        let group = self.group;
        let subscribers = |regex: &Arc<str>| group.subscriptions.subscribers(regex);
        let (old, new) = (before.details.regex(), after.details.regex());
        let mut expressions = group.subscriptions.regexes().len();
        if old != new {
            expressions -= usize::from(old.is_some_and(|old| subscribers(old) == 1));
            expressions += usize::from(new.is_some_and(|new| subscribers(new) == 0));
        }
        if expressions == 0 || group.is_resolving {
            return false;
        }
        let last_ms = group.resolved.values().next().map_or(i64::MIN, |resolved| resolved.resolved_ms);
        let age_ms = self.now.wall_ms.saturating_sub(last_ms);
        if age_ms <= MIN_INTERVAL_MS {
            return false;
        }
        expressions != group.resolved.len()
            || group.resolved_version.is_none_or(|version| version < self.cluster.version())
            || age_ms > self.settings.consumer.regex_refresh_interval_ms
    }
}

fn invalid(regex: &str, words: &str) -> Refusal {
    let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {words}.");
    Refusal::new(ErrorCode::InvalidRegularExpression, message)
}

impl Groups {
    /// Begins to resolve the expressions of a group, unless somebody does already. To be followed by [`Self::resolved`].
    pub fn begin_resolving(&mut self, id: &str, now: Now) -> Option<Resolving> {
        let (version, names) = (self.cluster.version(), self.cluster.topic_names());
        let mut resolving = None;
        self.known_group(id, |group| {
            if !std::mem::replace(&mut group.is_resolving, true) {
                let expressions = group.subscriptions.regexes().cloned().collect();
                resolving = Some(Resolving { expressions, names, version, begun_ms: now.wall_ms });
            }
        });
        resolving
    }

    /// What the expressions of a group stand for is known.
    pub fn resolved(&mut self, id: &str, resolving: &Resolving, found: Found, effects: &mut Effects) {
        let Some(group) = self.consumer(id) else { return };
        let mut subscriptions = group.subscriptions.clone();
        let mut changed = false;
        for (regex, topics) in found {
            if group.subscriptions.subscribers(&regex) == 0 {
                continue;
            }
            let before = group.resolved.get(&regex).map(|before| &before.topics);
            let nothing = BTreeSet::new();
            if before.unwrap_or(&nothing) != &topics {
                changed = true;
                before.inspect(|before| subscriptions.unresolve(before));
                subscriptions.resolve(&topics);
            }
            let version = resolving.version.cast_signed();
            let resolved = Resolved { topics, version, resolved_ms: resolving.begun_ms };
            effects.records.push(records::regex(id, &regex, &resolved));
        }
        let hash = metadata_hash(subscriptions.topics(), &*self.cluster);
        if changed || hash != group.metadata_hash {
            effects.records.push(records::epoch(id, group.epoch.saturating_add(1), hash));
        }
        self.known_group(id, |group| {
            group.is_resolving = false;
            group.resolved_version = Some(resolving.version);
        });
    }
}
