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
    /// `[partitionId]:[brokerId],…`: pairs, or `*`.
    Replicas,
    /// `[a, b]`: each of these.
    OneOf(Vec<&'static str>),
}

impl Valid {
    /// Reads Kafka's notation; what has none of these forms allows any value.
    pub fn parse(text: &'static str) -> Self {
        if text.starts_with("[partitionId]:") {
            return Self::Replicas;
        }
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
    /// Neither in its range nor the one value beside it.
    #[error("must be {min} to {max}, or {or}, not {value}")]
    OutOfRange {
        /// The value.
        value: String,
        /// The least.
        min: f64,
        /// The most.
        max: f64,
        /// The value beside.
        or: f64,
    },
    /// No list of partitions and brokers.
    #[error("must be * or a list of PARTITION:BROKER, not {value:?}")]
    NotReplicas {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
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
    /// The value, as Kafka's clients are used to see it: what was read as a list is in brackets.
    pub fn shown<'a>(&'a self, value: &'a str) -> &'a str {
        match self {
            Self::NotReplicas { value, .. } => value,
            _ => value,
        }
    }

    /// As Kafka's clients are used to read it, behind "Invalid value … for configuration …: ".
    pub fn in_kafkas_words(&self) -> String {
        match self {
            Self::NotBoolean(_) => "Expected value to be either true or false".to_owned(),
            Self::NotNumber { kind, .. } => format!("Not a number of type {}", kind.name().to_uppercase()),
            Self::TooSmall { min, .. } => format!("Value must be at least {min}"),
            Self::OutOfRange { min, max, or, .. } => {
                format!("Value must be between {min} and {max} or equal to {or}")
            }
            Self::NotReplicas { key, .. } => format!(
                "{key} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            ),
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
        Kind::Double => java_double(value.trim()),
        Kind::List if key.valid == Valid::Replicas => return check_replicas(key, value),
        Kind::Text | Kind::Class | Kind::Password => return check_choice(key, &[value.trim()]),
        Kind::List => {
            return check_choice(key, &value.split(',').map(str::trim).collect::<Vec<_>>());
        }
    };
    let value = value.to_owned();
    match (number, &key.valid) {
        (None, _) => Err(Fault::NotNumber { value, kind: key.kind }),
        (Some(number), Valid::Range { or, .. }) if *or == Some(number) => Ok(()),
        (Some(number), Valid::Range { min, max, or: Some(or) }) if number < *min || number > *max => {
            Err(Fault::OutOfRange { value, min: *min, max: *max, or: *or })
        }
        (Some(number), Valid::Range { min, .. }) if number < *min => {
            Err(Fault::TooSmall { value, min: *min })
        }
        (Some(number), Valid::Range { max, .. }) if number > *max => {
            Err(Fault::TooLarge { value, max: *max })
        }
        _ => Ok(()),
    }
}

/// Java's numbers may end in the letter of their type.
fn java_double(text: &str) -> Option<f64> {
    text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text).parse().ok()
}

/// `*`, nothing, or pairs of a partition and a broker.
fn check_replicas(key: &Key, value: &str) -> Result<(), Fault> {
    let is_pair = |text: &str| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.trim().split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
    };
    match value.trim() {
        "" | "*" => Ok(()),
        pairs if pairs.split(',').all(is_pair) => Ok(()),
        // Kafka shows the list that it has read.
        pairs => Err(Fault::NotReplicas { key: key.name, value: format!("[{pairs}]") }),
    }
}

fn check_choice(key: &Key, values: &[&str]) -> Result<(), Fault> {
    let Valid::OneOf(choices) = &key.valid else { return Ok(()) };
    let may_be_empty = key.kind == Kind::List || key.default.is_empty();
    let is_right = |value: &&str| choices.contains(value) || may_be_empty && value.is_empty();
    let wrong = values.iter().find(|value| !is_right(value));
    match wrong {
        Some(wrong) => Err(Fault::NotAChoice { value: (*wrong).to_owned(), choices: choices.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_judged_as_kafka_does() {
        let keys = super::super::keys::topic_keys();
        let fault =
            |name: &str, value: &str| check(&keys[name], value).err().map(|fault| fault.in_kafkas_words());
        assert_eq!(
            fault("compression.gzip.level", "10").as_deref(),
            Some("Value must be between 1 and 9 or equal to -1")
        );
        assert_eq!(fault("compression.gzip.level", "-1"), None);
        assert!(fault("compression.type", "").is_some());
        assert_eq!(fault("cleanup.policy", ""), None);
        assert_eq!(fault("min.cleanable.dirty.ratio", "0.5f"), None);
        assert!(fault("min.cleanable.dirty.ratio", "f").is_some());
        for good in ["*", "", "0:1", "0:1, 1:1"] {
            assert_eq!(fault("leader.replication.throttled.replicas", good), None);
        }
        for bad in ["none", "0", "0:", "0:1,", "a:1"] {
            assert!(fault("leader.replication.throttled.replicas", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn kafkas_notation_of_valid_values_is_understood() {
        assert_eq!(Valid::parse("[0,...]"), Valid::Range { min: 0.0, max: f64::MAX, or: None });
        assert_eq!(Valid::parse("[1,...,9] or -1"), Valid::Range { min: 1.0, max: 9.0, or: Some(-1.0) });
        assert_eq!(Valid::parse("[compact, delete]"), Valid::OneOf(vec!["compact", "delete"]));
        assert_eq!(Valid::parse("[partitionId]:[brokerId],..."), Valid::Replicas);
        assert_eq!(Valid::parse("non-null string"), Valid::Any);
    }
}
