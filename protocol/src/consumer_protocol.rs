//! What the broker reads of the consumers' own protocol: the topics in a member's subscription.
//!
//! ```text
//! version i16 | topics [string] | what later versions add …
//! ```

use crate::codec::{Malformed, Reader};
use crate::messages::StrBytes;
use bytes::Bytes;

/// The protocol type of Kafka's consumers.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// The topics of a subscription, of any version: they stand first in each.
pub fn subscribed_topics(metadata: Bytes) -> Result<Vec<StrBytes>, Malformed> {
    let mut reader = Reader::of_fixed_lengths(metadata);
    let version = reader.i16()?;
    if version < 0 {
        return Err(Malformed);
    }
    reader.array(Reader::string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_in_every_version_and_the_rest_is_left_alone() {
        let of =
            |version: u8| [&[0, version][..], &[0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 9, 9]].concat();
        for version in [0, 3, 99] {
            let topics = subscribed_topics(of(version).into()).expect("well-formed");
            assert_eq!(topics, ["a", "bc"].map(StrBytes::from_static_str));
        }
    }

    #[test]
    fn a_count_that_cannot_fit_is_malformed_at_once() {
        assert_eq!(subscribed_topics(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff])), Err(Malformed));
        assert_eq!(subscribed_topics(Bytes::new()), Err(Malformed));
    }
}
