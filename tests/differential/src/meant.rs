//! The differences that are meant, each with its reason: `meant.toml`.

use crate::{compare::Difference, schema::Versions};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The list, and which of it was met.
pub struct Meant {
    rules: Vec<Rule>,
    absent: BTreeMap<String, String>,
    not_examined: BTreeSet<String>,
    /// By rule, the places that it was for.
    met: BTreeMap<usize, BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    not_offered: Vec<NotOffered>,
    #[serde(default)]
    difference: Vec<Rule>,
    /// APIs whose differences nobody has gone through yet: they are counted apart.
    #[serde(default)]
    not_examined: Vec<String>,
    /// For [`crate::MeantOfTools`].
    #[serde(default, rename = "tool")]
    _tool: Vec<crate::meant_of_tools::Line>,
}

/// APIs of Kafka that Thalweg doesn't offer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotOffered {
    apis: Vec<String>,
    why: String,
}

/// Differences of one kind. Patterns may have `*` for any text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The API's name.
    api: String,
    /// `3`, `3-5` or `3+`; all if left out.
    versions: Option<String>,
    /// A pattern of the case's name; any if left out.
    case: Option<String>,
    /// A pattern of the place, without the names of elements or with them.
    path: String,
    /// Patterns, each of which may stand for `<name>` in the path.
    #[serde(default)]
    names: Vec<String>,
    /// A pattern of what Kafka says, as JSON; `nothing` for a field or element that isn't there.
    #[serde(default = "anything")]
    kafka: String,
    /// A pattern of what Thalweg says.
    #[serde(default = "anything")]
    thalweg: String,
    why: String,
}

fn anything() -> String {
    "*".into()
}

impl Meant {
    /// The list of this crate.
    pub fn load() -> Result<Self> {
        Self::parse(include_str!("../meant.toml"))
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).context("meant.toml")?;
        ensure!(file.difference.iter().all(|rule| !rule.why.is_empty()), "a difference without a reason");
        let absent = file.not_offered.iter();
        let absent = absent.flat_map(|row| row.apis.iter().map(|api| (api.clone(), row.why.clone())));
        Ok(Self {
            absent: absent.collect(),
            rules: file.difference,
            not_examined: file.not_examined.into_iter().collect(),
            met: BTreeMap::new(),
        })
    }

    /// Why an API isn't offered.
    pub fn why_absent(&self, api: &str) -> Option<&str> {
        self.absent.get(api).map(String::as_str)
    }

    /// Whether somebody has gone through what an API answers otherwise.
    pub fn is_examined(&self, api: &str) -> bool {
        !self.not_examined.contains(api)
    }

    /// The APIs that are not offered, as the list says.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.absent.keys().map(String::as_str)
    }

    /// Whether a difference is meant.
    pub fn allows(&mut self, api: &str, version: i16, case: &str, difference: &Difference) -> bool {
        let found = self.rules.iter().position(|rule| rule.matches(api, version, case, difference));
        if let Some(rule) = found {
            self.met.entry(rule).or_default().insert(difference.to_string());
        }
        found.is_some()
    }

    /// Each rule that something has matched, with all that it was for.
    pub fn met(&self) -> Vec<(String, Vec<String>)> {
        let met = self.met.iter().filter_map(|(index, places)| Some((self.rules.get(*index)?, places)));
        met.map(|(rule, places)| (rule.to_string(), places.iter().cloned().collect())).collect()
    }

    /// Rules that nothing has matched.
    pub fn unmet(&self) -> Vec<String> {
        let unmet = self.rules.iter().enumerate().filter(|(index, _)| !self.met.contains_key(index));
        unmet.map(|(_, rule)| rule.to_string()).collect()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.api, self.path, self.why)
    }
}

impl Rule {
    fn matches(&self, api: &str, version: i16, case: &str, difference: &Difference) -> bool {
        let versions = self.versions.as_deref().and_then(|text| Versions::parse(text).ok());
        let value = crate::compare::shown;
        like(&self.api, api)
            && versions.is_none_or(|versions| versions.contain(version))
            && self.case.as_deref().is_none_or(|pattern| like(pattern, case))
            && self.is_for(difference)
            && like(&self.kafka, &value(&difference.kafka))
            && like(&self.thalweg, &value(&difference.thalweg))
    }

    fn is_for(&self, difference: &Difference) -> bool {
        let is_it = |path: &str| like(path, &difference.shape()) || like(path, &difference.path);
        match &self.names[..] {
            [] => is_it(&self.path),
            names => names.iter().any(|name| is_it(&self.path.replace("<name>", name))),
        }
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any text.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let Some((before, behind)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.any(|at| like(behind, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_have_stars() {
        assert!(like("a*c", "abbc") && like("*", "") && like("a", "a") && like("*b*", "abc"));
        assert!(!like("a*c", "abb") && !like("a", "ab"));
    }

    #[test]
    fn a_rule_is_for_its_place_and_values_and_is_known_to_be_met() {
        let text = "[[difference]]\napi = \"Fetch\"\nversions = \"4-6\"\npath = \"Topics[].Name\"\nkafka = \"1\"\nwhy = \"so\"\n";
        let mut meant = Meant::parse(text).unwrap();
        let path = "Topics[x].Name".to_owned();
        let mut difference = Difference { path, kafka: Some(json!(1)), thalweg: None };
        assert!(!meant.allows("Fetch", 7, "", &difference));
        assert_eq!(meant.unmet().len(), 1);
        assert!(meant.allows("Fetch", 6, "", &difference));
        assert!(meant.unmet().is_empty());
        difference.kafka = None;
        assert!(!meant.allows("Fetch", 6, "", &difference));
    }

    #[test]
    fn a_rule_may_be_for_several_names() {
        let text = "[[difference]]\napi = \"Fetch\"\npath = \"A[<name>].B\"\nnames = [\"x.*\", \"y\"]\nwhy = \"so\"\n";
        let mut meant = Meant::parse(text).unwrap();
        let mut allows = |path: &str| {
            let difference = Difference { path: path.to_owned(), kafka: None, thalweg: None };
            meant.allows("Fetch", 6, "", &difference)
        };
        assert!(allows("A[x.1].B") && allows("A[y].B"));
        assert!(!allows("A[z].B") && !allows("A[x.1].C") && !allows("A[<name>].B"));
    }

    #[test]
    fn the_list_itself_can_be_read() {
        assert!(Meant::load().is_ok());
    }
}
