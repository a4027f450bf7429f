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

/// Why a value is refused, as a phrase that follows the key's name.
pub type Fault = String;

/// Checks `value` against its key.
pub fn check(key: &Key, value: &str) -> Result<(), Fault> {
    let number = match key.kind {
        Kind::Boolean => {
            let known = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
            return known.then_some(()).ok_or_else(|| format!("must be true or false, not {value:?}"));
        }
        Kind::Short => integer(value, i64::from(i16::MIN), i64::from(i16::MAX))?,
        Kind::Int => integer(value, i64::from(i32::MIN), i64::from(i32::MAX))?,
        Kind::Long => integer(value, i64::MIN, i64::MAX)?,
        Kind::Double => value.parse().map_err(|_| format!("must be a number, not {value:?}"))?,
        Kind::Text | Kind::Class | Kind::Password => return check_choice(key, &[value.trim()]),
        Kind::List => {
            return check_choice(key, &value.split(',').map(str::trim).collect::<Vec<_>>());
        }
    };
    match key.valid {
        Valid::Range { min, max, or } if !(min..=max).contains(&number) && or != Some(number) => {
            let max = if max == f64::MAX { String::new() } else { format!(" and at most {max}") };
            Err(format!("must be at least {min}{max}, not {value}"))
        }
        _ => Ok(()),
    }
}

fn integer(value: &str, min: i64, max: i64) -> Result<f64, Fault> {
    let number: i64 = value.trim().parse().map_err(|_| format!("must be a whole number, not {value:?}"))?;
    if (min..=max).contains(&number) {
        Ok(number as f64)
    } else {
        Err(format!("{value} does not fit its type"))
    }
}

fn check_choice(key: &Key, values: &[&str]) -> Result<(), Fault> {
    let Valid::OneOf(choices) = &key.valid else { return Ok(()) };
    let wrong = values.iter().find(|value| !value.is_empty() && !choices.contains(value));
    match wrong {
        Some(wrong) => Err(format!("must be one of {}, not {wrong:?}", choices.join(", "))),
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
