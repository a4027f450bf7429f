//! Values: their kinds, and which are valid.

use super::keys::Key;

/// What kind of value a key takes; Kafka's names of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Any text.
    Text,
    /// Texts separated by commas.
    List,
    /// A Java class, which means nothing here.
    Class,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// The kind of Kafka's name `name`.
    pub fn named(name: &str) -> Self {
        match name {
            "boolean" => Self::Boolean,
            "short" => Self::Short,
            "int" => Self::Int,
            "long" => Self::Long,
            "double" => Self::Double,
            "list" => Self::List,
            "class" => Self::Class,
            "password" => Self::Password,
            _ => Self::Text,
        }
    }

    /// Its name, as Kafka prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Short => "short",
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::Text => "string",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }
}

/// Which values are valid, in Kafka's notation.
#[derive(Clone, Debug, PartialEq)]
pub enum Valid {
    /// Any of the kind.
    Any,
    /// `[min,...]` or `[min,...,max]`, perhaps `or` one value more.
    Range {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
        /// One value outside of the range that is valid too.
        or: Option<f64>,
    },
    /// `[a, b]`: each of these.
    OneOf(Vec<&'static str>),
}

impl Valid {
    /// Reads Kafka's notation; what has none of these forms allows any value.
    pub fn parse(text: &'static str) -> Self {
        let (list, or) = match text.split_once("] or ") {
            Some((list, or)) => (list, or.parse().ok()),
            None => (text.trim_end_matches(']'), None),
        };
        let Some(inner) = list.strip_prefix('[').filter(|inner| !inner.contains(':')) else {
            return Self::Any;
        };
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        match parts[..] {
            [min, "..."] => Self::range(min, None, or),
            [min, "...", max] => Self::range(min, Some(max), or),
            _ => Self::OneOf(parts),
        }
    }

    fn range(min: &str, max: Option<&str>, or: Option<f64>) -> Self {
        let min = min.parse().unwrap_or(f64::MIN);
        Self::Range { min, max: max.and_then(|max| max.parse().ok()).unwrap_or(f64::MAX), or }
    }
}

/// Why a value is refused: a phrase that follows the key's name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Neither true nor false.
    #[error("must be true or false, not {0:?}")]
    NotBoolean(String),
    /// Not a number of its kind.
    #[error("must be a {}, not {value:?}", if *.kind == Kind::Double { "number" } else { "whole number" })]
    NotNumber {
        /// The value.
        value: String,
        /// What it should be.
        kind: Kind,
    },
    /// Too small.
    #[error("must be at least {min}, not {value}")]
    TooSmall {
        /// The value.
        value: String,
        /// The least.
        min: f64,
    },
    /// Too large.
    #[error("must be at most {max}, not {value}")]
    TooLarge {
        /// The value.
        value: String,
        /// The most.
        max: f64,
    },
    /// None of the choices.
    #[error("must be one of {}, not {value:?}", choices.join(", "))]
    NotAChoice {
        /// The value.
        value: String,
        /// The choices.
        choices: Vec<&'static str>,
    },
}

impl Fault {
    /// As Kafka's clients are used to read it, behind "Invalid value … for configuration …: ".
    pub fn in_kafkas_words(&self) -> String {
        match self {
            Self::NotBoolean(_) => "Expected value to be either true or false".to_owned(),
            Self::NotNumber { kind, .. } => format!("Not a number of type {}", kind.name().to_uppercase()),
            Self::TooSmall { min, .. } => format!("Value must be at least {min}"),
            Self::TooLarge { max, .. } => format!("Value must be no more than {max}"),
            Self::NotAChoice { choices, .. } => format!("String must be one of: {}", choices.join(", ")),
        }
    }
}

/// Checks `value` against its key.
pub fn check(key: &Key, value: &str) -> Result<(), Fault> {
    let number = match key.kind {
        Kind::Boolean => {
            let known = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
            return known.then_some(()).ok_or_else(|| Fault::NotBoolean(value.to_owned()));
        }
        Kind::Short => value.trim().parse::<i16>().ok().map(f64::from),
        Kind::Int => value.trim().parse::<i32>().ok().map(f64::from),
        Kind::Long => value.trim().parse::<i64>().ok().map(|number| number as f64),
        Kind::Double => value.trim().parse().ok(),
        Kind::Text | Kind::Class | Kind::Password => return check_choice(key, &[value.trim()]),
        Kind::List => {
            return check_choice(key, &value.split(',').map(str::trim).collect::<Vec<_>>());
        }
    };
    let value = value.to_owned();
    match (number, &key.valid) {
        (None, _) => Err(Fault::NotNumber { value, kind: key.kind }),
        (Some(number), Valid::Range { or, .. }) if *or == Some(number) => Ok(()),
        (Some(number), Valid::Range { min, .. }) if number < *min => {
            Err(Fault::TooSmall { value, min: *min })
        }
        (Some(number), Valid::Range { max, .. }) if number > *max => {
            Err(Fault::TooLarge { value, max: *max })
        }
        _ => Ok(()),
    }
}

fn check_choice(key: &Key, values: &[&str]) -> Result<(), Fault> {
    let Valid::OneOf(choices) = &key.valid else { return Ok(()) };
    let wrong = values.iter().find(|value| !value.is_empty() && !choices.contains(value));
    match wrong {
        Some(wrong) => Err(Fault::NotAChoice { value: (*wrong).to_owned(), choices: choices.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_notation_of_valid_values_is_understood() {
        assert_eq!(Valid::parse("[0,...]"), Valid::Range { min: 0.0, max: f64::MAX, or: None });
        assert_eq!(Valid::parse("[1,...,9] or -1"), Valid::Range { min: 1.0, max: 9.0, or: Some(-1.0) });
        assert_eq!(Valid::parse("[compact, delete]"), Valid::OneOf(vec!["compact", "delete"]));
        assert_eq!(Valid::parse("[partitionId]:[brokerId],..."), Valid::Any);
        assert_eq!(Valid::parse("non-null string"), Valid::Any);
    }
}
