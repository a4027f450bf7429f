//! What the members of a group subscribe to, counted.

use super::member::Details;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Who subscribes to a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Members that name it.
    names: usize,
    /// Regular expressions that stand for it.
    regexes: usize,
}

/// The topics and regular expressions of all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions {
    topics: BTreeMap<Arc<str>, Count>,
    /// How many members subscribe by each regular expression.
    regexes: BTreeMap<Arc<str>, usize>,
}

impl Subscriptions {
    pub(super) fn add(&mut self, details: &Details) {
        for name in &details.topics {
            self.topics.entry(name.clone()).or_default().names += 1;
        }
        if let Some(regex) = details.regex() {
            *self.regexes.entry(regex.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, details: &Details) {
        for name in &details.topics {
            self.change(name, |count| count.names = count.names.saturating_sub(1));
        }
        if let Some(regex) = details.regex()
            && let Some(count) = self.regexes.get_mut(regex)
        {
            *count -= 1;
            if *count == 0 {
                self.regexes.remove(regex);
            }
        }
    }

    /// A regular expression stands for these topics.
    pub(super) fn resolve(&mut self, topics: &BTreeSet<Arc<str>>) {
        for name in topics {
            self.topics.entry(name.clone()).or_default().regexes += 1;
        }
    }

    /// It doesn't any more.
    pub(super) fn unresolve(&mut self, topics: &BTreeSet<Arc<str>>) {
        for name in topics {
            self.change(name, |count| count.regexes = count.regexes.saturating_sub(1));
        }
    }

    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Count)) {
        if let Some(count) = self.topics.get_mut(name) {
            change(count);
            if *count == Count::default() {
                self.topics.remove(name);
            }
        }
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn regexes(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.regexes.keys()
    }

    /// Members that subscribe by a regular expression.
    pub(super) fn subscribers(&self, regex: &str) -> usize {
        self.regexes.get(regex).copied().unwrap_or(0)
    }

    /// Whether each of so many members subscribes to the same: to the same names, or by one and the same regular expression.
    pub(super) fn are_homogeneous(&self, members: usize) -> bool {
        match self.regexes.values().next() {
            None => self.topics.values().all(|count| count.names == members),
            Some(subscribers) => {
                *subscribers == members
                    && self.topics.values().all(|count| count.regexes == 1 && count.names == 0)
            }
        }
    }
}
