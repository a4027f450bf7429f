//! What the broker reads and writes of the consumers' own protocol, which classic groups carry as opaque bytes.
//!
//! ```text
//! subscription: version i16 | topics [string] | user data bytes? | from 1: owned partitions | from 2: generation i32 | from 3: rack
//! assignment:   version i16 | partitions [topic, [i32]] | user data bytes?
//! ```
//! A version to come is read as the latest that is known: fields are only ever added at the end.

use crate::codec::{Malformed, Message, Reader};
use crate::messages::StrBytes;
use bytes::{Buf, Bytes, BytesMut};

pub use crate::generated_messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
    consumer_protocol_subscription,
};

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

/// A whole subscription, and the version that its member speaks.
pub fn decode_subscription(bytes: Bytes) -> Result<(i16, ConsumerProtocolSubscription), Malformed> {
    decode(bytes)
}

/// A whole assignment.
pub fn decode_assignment(bytes: Bytes) -> Result<ConsumerProtocolAssignment, Malformed> {
    decode(bytes).map(|(_, assignment)| assignment)
}

/// An assignment in `version`, as a member expects it that speaks this version. Topic names fit, as topics have them.
pub fn encode_assignment(assignment: &ConsumerProtocolAssignment, version: i16) -> Bytes {
    let version = version.clamp(0, ConsumerProtocolAssignment::VERSIONS.1);
    let mut out = BytesMut::from(&version.to_be_bytes()[..]);
    match assignment.encode(&mut out, version) {
        Ok(()) => out.freeze(),
        Err(_) => Bytes::new(),
    }
}

fn decode<T: Message>(mut bytes: Bytes) -> Result<(i16, T), Malformed> {
    let version = bytes.try_get_i16().map_err(|_| Malformed)?;
    if version < 0 {
        return Err(Malformed);
    }
    let version = version.min(T::VERSIONS.1);
    Ok((version, T::decode(&mut bytes, version)?))
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
        assert_eq!(subscribed_topics(Bytes::from_static(&[0xff])), Err(Malformed));
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written_and_what_follows_it_is_left_alone() {
        let partitions = consumer_protocol_assignment::TopicPartition {
            topic: StrBytes::from_static_str("t"),
            partitions: vec![0, 5],
        };
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![partitions],
            ..ConsumerProtocolAssignment::default()
        };
        for version in [0, 3, 99] {
            let bytes = encode_assignment(&assignment, version);
            assert_eq!(bytes[..2], version.min(3).to_be_bytes());
            let longer = [&bytes[..], &[1, 2, 3]].concat();
            assert_eq!(decode_assignment(longer.into()), Ok(assignment.clone()));
        }
        assert_eq!(decode_assignment(Bytes::from_static(&[0xff, 0xff, 0])), Err(Malformed));
        assert_eq!(decode_assignment(Bytes::new()), Err(Malformed));
    }

    #[test]
    fn a_subscription_has_what_its_version_has() {
        // Version 1, as librdkafka writes it: one topic, no user data, one owned partition.
        let bytes: &[u8] = &[
            0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0,
            0, 7,
        ];
        let (version, subscription) = decode_subscription(Bytes::from_static(bytes)).expect("well-formed");
        assert_eq!((version, subscription.topics.len(), subscription.rack_id), (1, 1, None));
        assert_eq!(subscription.owned_partitions[0].partitions, [7]);
        assert_eq!(decode_subscription(Bytes::from_static(&bytes[..9])), Err(Malformed));
    }
}
