//! Kafka's rules for the names of topics.

/// Longest name, in characters: 255 less what a partition's folder adds in Kafka.
pub const MAX_TOPIC_NAME: usize = 249;

/// Why a name can't be a topic's. The message is Kafka's, clients show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No name.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// More than [`MAX_TOPIC_NAME`].
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length {MAX_TOPIC_NAME}"
    )]
    TooLong(String),
    /// Something but letters, digits, `.`, `_` and `-`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    BadCharacters(String),
}

/// Checks a name for a new topic.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots(name.into())),
        _ if name.encode_utf16().count() > MAX_TOPIC_NAME => Err(TopicNameError::TooLong(name.into())),
        _ if !name.bytes().all(allowed) => Err(TopicNameError::BadCharacters(name.into())),
        _ => Ok(()),
    }
}

/// Whether the names of two topics would give metrics of the same name, in which `.` becomes `_`. Kafka refuses to
/// create the second.
pub fn topic_names_collide(one: &str, other: &str) -> bool {
    let unified = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.bytes().map(unified).eq(other.bytes().map(unified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "a".repeat(249);
        for good in ["a", "A-1_b.c", "...", "-", &longest] {
            assert_eq!(validate_topic_name(good), Ok(()));
        }
        let too_long = "a".repeat(250);
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &too_long] {
            assert!(validate_topic_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_alone_collide() {
        assert!(topic_names_collide("a.b_c", "a_b.c"));
        assert!(topic_names_collide("a", "a"));
        assert!(!topic_names_collide("a.b", "a-b"));
        assert!(!topic_names_collide("a.b", "a.b."));
    }
}
