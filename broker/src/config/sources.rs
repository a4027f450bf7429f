//! Where values come from.

use super::{ConfigError, keys::Keys};
use std::fmt;

/// A source of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--config FILE`.
    File(String),
    /// A variable `THALWEG_…`.
    Environment,
    /// `--set`.
    Argument,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Environment => f.write_str("environment"),
            Self::Argument => f.write_str("--set"),
        }
    }
}

/// Prefix of environment variables that are settings.
const PREFIX: &str = "THALWEG_";

/// Reads the syntax of Java's properties files as far as `server.properties` uses it: `key=value`, `key: value`, comments with
/// `#` or `!`, and lines continued by a backslash at their end.
pub fn parse_properties(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            logical.push_str(lines.next().unwrap_or_default().trim_start());
        }
        if !logical.trim().is_empty() {
            let (key, value) = logical.split_once(['=', ':']).unwrap_or((&logical, ""));
            pairs.push((unescape(key.trim()), unescape(value.trim())));
        }
    }
    pairs
}

/// An odd number of backslashes at the end: the last one is not escaped itself.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    out
}

/// Settings among environment variables: `THALWEG_` and the key in capitals, with `_` for `.`.
pub fn from_environment(
    keys: &Keys,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let known = keys.keys().find(|key| key.replace(['.', '-'], "_").eq_ignore_ascii_case(rest));
        let name = known.map_or_else(|| rest.to_lowercase().replace('_', "."), |key| (*key).to_owned());
        pairs.push((name, value));
    }
    // The environment has no order of its own.
    pairs.sort();
    Ok(pairs)
}

/// Splits the `key=value` of a `--set`.
pub fn split_argument(argument: &str) -> Result<(String, String), ConfigError> {
    match argument.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(ConfigError::Unreadable(format!("--set takes key=value, not {argument:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_comments_continuations_and_two_separators() {
        let text = "# a comment\n a = 1\nb: two words\n! another\nc=x,\\\n   y\n\nd\n";
        let pairs = parse_properties(text);
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "two words"), ("c", "x,y"), ("d", "")]);
    }

    #[test]
    fn a_variable_names_its_key_in_capitals() {
        let variables = [("THALWEG_ADVERTISED_LISTENERS", "x"), ("HOME", "/"), ("THALWEG_NO_SUCH", "1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let pairs = from_environment(&super::super::broker_keys(), variables.into_iter()).expect("readable");
        let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["advertised.listeners", "no.such"]);
    }
}
