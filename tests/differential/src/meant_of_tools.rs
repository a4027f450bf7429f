//! Where Kafka's command-line tools say something else on purpose: the entries `[[tool]]` of `meant.toml`.

use crate::meant::like;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeSet, fmt};

/// Of which broker a tool spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Kafka.
    OfKafka,
    /// Thalweg.
    OfThalweg,
}

/// A line that a tool says of one broker alone. Patterns may have `*` for any text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// A pattern of the tool and its arguments.
    step: String,
    /// A pattern of what it says of Kafka alone.
    kafka: Option<String>,
    /// A pattern of what it says of Thalweg alone.
    thalweg: Option<String>,
    why: String,
}

/// The list, and which of it was met.
pub struct MeantOfTools {
    lines: Vec<Line>,
    met: BTreeSet<usize>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    tool: Vec<Line>,
}

impl MeantOfTools {
    /// The list of this crate.
    pub fn load() -> Result<Self> {
        Self::parse(include_str!("../meant.toml"))
    }

    /// A list.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).context("meant.toml")?;
        ensure!(file.tool.iter().all(|line| !line.why.is_empty()), "a difference without a reason");
        Ok(Self { lines: file.tool, met: BTreeSet::new() })
    }

    /// Why `said` is meant to be said of one broker alone, if it is.
    pub fn why(&mut self, step: &str, spoken: Spoken, said: &str) -> Option<&str> {
        let found = self.lines.iter().position(|line| line.matches(step, spoken, said))?;
        self.met.insert(found);
        Some(&self.lines[found].why)
    }

    /// Entries that nothing has matched.
    pub fn unmet(&self) -> Vec<String> {
        let unmet = self.lines.iter().enumerate().filter(|(index, _)| !self.met.contains(index));
        unmet.map(|(_, line)| format!("{}: {}", line.step, line.why)).collect()
    }
}

impl Line {
    fn matches(&self, step: &str, spoken: Spoken, said: &str) -> bool {
        let pattern = match spoken {
            Spoken::OfKafka => &self.kafka,
            Spoken::OfThalweg => &self.thalweg,
        };
        like(&self.step, step) && pattern.as_deref().is_some_and(|pattern| like(pattern, said))
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfKafka => "of Kafka",
            Self::OfThalweg => "of Thalweg",
        })
    }
}
