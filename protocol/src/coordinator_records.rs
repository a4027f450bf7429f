//! The records that coordinators keep in `__consumer_offsets`, in Kafka's schemas.
//!
//! ```text
//! key:   type of the record i16 | the key's fields
//! value: version i16            | the value's fields in that version; null deletes
//! ```

use crate::codec::{Malformed, Message, TooLong};
use bytes::{Buf, Bytes, BytesMut};

pub use crate::generated_messages::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
    group_metadata_value::MemberMetadata,
};

/// Type number of offset commits before Kafka 4.0's, with the same key.
const LEGACY_OFFSET_COMMIT: i16 = 0;

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident($key:ident, $value:ident, $version:expr),)*) => {
        /// A record of a group coordinator: what it is about, and its value; none deletes it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum GroupRecord {
            $($(#[$doc])* $name($key, Option<$value>),)*
        }

        impl GroupRecord {
            /// Key and value as bytes.
            pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), TooLong> {
                match self {
                    $(Self::$name(key, value) => {
                        let version = |value: &$value| -> i16 { ($version)(value) };
                        let value = value.as_ref().map(|value| with_number(version(value), value, version(value)));
                        Ok((with_number($key::RECORD_TYPE, key, 0)?, value.transpose()?))
                    })*
                }
            }

            /// Reads a record. None of a type that nobody knows, which Kafka passes over too.
            pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, Malformed> {
                let number = key.try_get_i16().map_err(|_| Malformed)?;
                let number = if number == LEGACY_OFFSET_COMMIT { OffsetCommitKey::RECORD_TYPE } else { number };
                $(if number == $key::RECORD_TYPE {
                    let key = $key::decode(&mut key, 0)?;
                    return Ok(Some(Self::$name(key, value.map(decode_value).transpose()?)));
                })*
                Ok(None)
            }
        }
    };
}

records! {
    /// A group's committed offset of a partition. Version 1 alone has a time of expiry.
    OffsetCommit(
        OffsetCommitKey,
        OffsetCommitValue,
        |value: &OffsetCommitValue| if value.expire_timestamp == -1 { 4 } else { 1 }
    ),
    /// A classic group, in version 3, as Kafka 4.3.1 writes it.
    GroupMetadata(GroupMetadataKey, GroupMetadataValue, |_: &GroupMetadataValue| 3),
}

fn with_number(number: i16, message: &impl Message, version: i16) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::from(&number.to_be_bytes()[..]);
    message.encode(&mut out, version)?;
    Ok(out.freeze())
}

fn decode_value<T: Message>(mut bytes: Bytes) -> Result<T, Malformed> {
    let version = bytes.try_get_i16().map_err(|_| Malformed)?;
    T::decode(&mut bytes, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::StrBytes;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// A record whose strings and values are as the golden files say.
    fn round_trips(record: &GroupRecord) {
        let (key, value) = record.encode().expect("short strings");
        assert_eq!(GroupRecord::decode(key, value), Ok(Some(record.clone())));
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let key = OffsetCommitKey { group: text("g"), topic: text("t"), partition: 3 };
        let value = OffsetCommitValue { offset: 7, metadata: text("m"), ..OffsetCommitValue::default() };
        round_trips(&GroupRecord::OffsetCommit(key.clone(), None));
        let with_id = OffsetCommitValue { topic_id: uuid::Uuid::from_u128(9), ..value.clone() };
        round_trips(&GroupRecord::OffsetCommit(key.clone(), Some(with_id)));
        // Version 1 has no leader epoch.
        let expires = OffsetCommitValue { expire_timestamp: 5, ..value };
        round_trips(&GroupRecord::OffsetCommit(key, Some(expires)));
        let member =
            MemberMetadata { member_id: text("m"), rebalance_timeout: 5, ..MemberMetadata::default() };
        let value = GroupMetadataValue { members: vec![member], ..GroupMetadataValue::default() };
        round_trips(&GroupRecord::GroupMetadata(GroupMetadataKey { group: text("g") }, Some(value)));
    }

    #[test]
    fn a_key_of_an_unknown_type_is_passed_over_and_a_damaged_one_is_malformed() {
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0, 99, 1]), None), Ok(None));
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0]), None), Err(Malformed));
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0, 2, 0, 9, b'g']), None), Err(Malformed));
        let key = Bytes::from_static(&[0, 2, 0, 1, b'g']);
        assert_eq!(GroupRecord::decode(key, Some(Bytes::from_static(&[0, 9]))), Err(Malformed));
    }

    #[test]
    fn a_group_id_that_no_key_can_hold_is_an_error() {
        let group = StrBytes::from_string("x".repeat(40_000));
        assert_eq!(GroupRecord::GroupMetadata(GroupMetadataKey { group }, None).encode(), Err(TooLong));
    }
}
