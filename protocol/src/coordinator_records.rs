//! The records that coordinators keep in `__consumer_offsets` and `__transaction_state`, in Kafka's schemas.
//!
//! ```text
//! key:   type of the record i16 | the key's fields
//! value: version i16            | the value's fields in that version; null deletes
//! ```

use crate::codec::{Malformed, Message, TooLong};
use bytes::{Buf, Bytes, BytesMut};

pub use crate::generated_messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataKey,
    GroupMetadataValue, OffsetCommitKey, OffsetCommitValue, TransactionLogKey, TransactionLogValue,
    consumer_group_current_member_assignment_value::TopicPartitions,
    consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol},
    consumer_group_target_assignment_member_value::TopicPartition,
    group_metadata_value::MemberMetadata,
    transaction_log_value::PartitionsSchema,
};

/// Type number of offset commits before Kafka 4.0's, with the same key.
const LEGACY_OFFSET_COMMIT: i16 = 0;

/// A record of any coordinator.
pub trait CoordinatorRecord: Sized {
    /// Key and value as bytes; no value deletes.
    fn encode(&self) -> Result<(Bytes, Option<Bytes>), TooLong>;

    /// Reads a record. None of a type that nobody knows, which Kafka passes over too.
    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, Malformed>;
}

macro_rules! records {
    (
        $(#[$enum_doc:meta])* $records:ident, numbers $numbers:expr,
        $($(#[$doc:meta])* $name:ident($key:ident, $value:ident, $version:expr),)*
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $records {
            $($(#[$doc])* $name($key, Option<$value>),)*
        }

        impl CoordinatorRecord for $records {
            fn encode(&self) -> Result<(Bytes, Option<Bytes>), TooLong> {
                match self {
                    $(Self::$name(key, value) => {
                        let version = |value: &$value| -> i16 { ($version)(value) };
                        let value = value.as_ref().map(|value| with_number(version(value), value, version(value)));
                        Ok((with_number($key::RECORD_TYPE, key, 0)?, value.transpose()?))
                    })*
                }
            }

            fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, Malformed> {
                let number = key.try_get_i16().map_err(|_| Malformed)?;
                let number: i16 = ($numbers)(number);
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
    /// A record of a group coordinator: what it is about, and its value; none deletes it.
    GroupRecord,
    numbers |number| if number == LEGACY_OFFSET_COMMIT { OffsetCommitKey::RECORD_TYPE } else { number },
    /// A group's committed offset of a partition. Version 1 alone has a time of expiry.
    OffsetCommit(
        OffsetCommitKey,
        OffsetCommitValue,
        |value: &OffsetCommitValue| if value.expire_timestamp == -1 { 4 } else { 1 }
    ),
    /// A classic group, in version 3, as Kafka 4.3.1 writes it.
    GroupMetadata(GroupMetadataKey, GroupMetadataValue, |_: &GroupMetadataValue| 3),
    /// A consumer group's epoch (KIP-848), and the hash of the topics that it subscribes to (KIP-1101).
    ConsumerGroup(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, |_: &ConsumerGroupMetadataValue| 0),
    /// The topics of a consumer group, as Kafka before 4.1 kept them. Only ever deleted now.
    ConsumerPartitions(
        ConsumerGroupPartitionMetadataKey,
        ConsumerGroupPartitionMetadataValue,
        |_: &ConsumerGroupPartitionMetadataValue| 0
    ),
    /// What a member of a consumer group has said of itself.
    ConsumerMember(
        ConsumerGroupMemberMetadataKey,
        ConsumerGroupMemberMetadataValue,
        |_: &ConsumerGroupMemberMetadataValue| 0
    ),
    /// The epoch of a consumer group's target assignment.
    ConsumerTarget(
        ConsumerGroupTargetAssignmentMetadataKey,
        ConsumerGroupTargetAssignmentMetadataValue,
        |_: &ConsumerGroupTargetAssignmentMetadataValue| 0
    ),
    /// What a member is to have.
    ConsumerTargetMember(
        ConsumerGroupTargetAssignmentMemberKey,
        ConsumerGroupTargetAssignmentMemberValue,
        |_: &ConsumerGroupTargetAssignmentMemberValue| 0
    ),
    /// What a member has, and its epoch.
    ConsumerCurrentMember(
        ConsumerGroupCurrentMemberAssignmentKey,
        ConsumerGroupCurrentMemberAssignmentValue,
        |_: &ConsumerGroupCurrentMemberAssignmentValue| 0
    ),
    /// The topics that a regular expression stands for.
    ConsumerRegex(
        ConsumerGroupRegularExpressionKey,
        ConsumerGroupRegularExpressionValue,
        |_: &ConsumerGroupRegularExpressionValue| 0
    ),
}

records! {
    /// A record of a transaction coordinator.
    TransactionRecord,
    numbers std::convert::identity,
    /// All that is known of a transactional id, in version 1, as Kafka writes it where `transaction.version` is 2.
    Transaction(TransactionLogKey, TransactionLogValue, |_: &TransactionLogValue| 1),
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

    /// What Apache Kafka 4.3.1 wrote for a group of one kcat that read ten records of topic "t1", left, had its offset reset
    /// to 5, and was deleted: key and value in hexadecimal.
    const KAFKAS: [(&str, Option<&str>); 7] = [
        ("00020006676f6c64656e", Some("0003000000000000ffffffff000001a1feb0cee700000000")),
        (
            "00020006676f6c64656e",
            Some(concat!(
                "00030008636f6e73756d657200000001000572616e6765002c72646b61666b612d33373335636532302d653266382d34",
                "6635382d396266352d336663343630623637663565000001a1feb0cf3000000001002c72646b61666b612d3337333563",
                "6532302d653266382d346635382d396266352d336663343630623637663565ffff000772646b61666b61000a2f313237",
                "2e302e302e31000493e00000afc800000012000100000001000274310000000000000000000000160000000000010002",
                "7431000000010000000000000000",
            )),
        ),
        (
            "00010006676f6c64656e0002743100000000",
            Some("0004000000000000000affffffff01000001a1feb0d212010010c910e3237b32407b8185239af7e985bd"),
        ),
        ("00020006676f6c64656e", Some("00030008636f6e73756d657200000002ffffffff000001a1feb0d22500000000")),
        (
            "00010006676f6c64656e0002743100000000",
            Some("00040000000000000005ffffffff01000001a1feb0d76d010010c910e3237b32407b8185239af7e985bd"),
        ),
        ("00010006676f6c64656e0002743100000000", None),
        ("00020006676f6c64656e", None),
    ];

    fn of_hex(hex: &str) -> Bytes {
        let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("ASCII"));
        digits.map(|two| u8::from_str_radix(two, 16).expect("hexadecimal")).collect()
    }

    #[test]
    fn records_have_the_bytes_that_kafka_writes() {
        let mut read = Vec::new();
        for (key, value) in KAFKAS {
            let (key, value) = (of_hex(key), value.map(of_hex));
            let record = GroupRecord::decode(key.clone(), value.clone()).expect("Kafka's own");
            let record = record.expect("a known type");
            assert_eq!(record.encode(), Ok((key, value)));
            read.push(record);
        }
        let GroupRecord::GroupMetadata(key, Some(stable)) = &read[1] else { panic!("a group: {read:?}") };
        assert_eq!((&*key.group, stable.generation, stable.members.len()), ("golden", 1, 1));
        assert_eq!(
            (&*stable.members[0].client_host, stable.members[0].rebalance_timeout),
            ("/127.0.0.1", 300_000)
        );
        let GroupRecord::OffsetCommit(key, Some(commit)) = &read[2] else { panic!("an offset: {read:?}") };
        assert_eq!((&*key.topic, key.partition, commit.offset, commit.leader_epoch), ("t1", 0, 10, -1));
        assert!(!commit.topic_id.is_nil());
    }

    /// What the classes of Apache Kafka 4.3.1 make of records of consumer groups: key and value in hexadecimal.
    const OF_CONSUMERS: [(&str, &str); 9] = [
        ("0003000167", "000000000005010008fffffffffffffff7"),
        ("0003000167", "00000000000100"),
        ("0004000167", "00000200000000000000010000000000000002027400000003010000"),
        ("000500016700016d", "00000002720263032f68030274027501000493e00001000100"),
        (
            "000500016700016d",
            concat!(
                "00000269000263032f6802027404782e2a000000010672616e6765010012010000afc8020672616e67650400",
                "01020000",
            ),
        ),
        ("0006000167", "0000000000070100080000018bcfe56800"),
        ("000700016700016d", "0000020000000000000001000000000000000203000000000000012c0000"),
        (
            "000800016700016d",
            concat!(
                "000000000007000000060202000000000000000100000000000000020300000000000000010100090300000005",
                "000000070100",
            ),
        ),
        ("00100001670003782e2a", "00000303786103786200000000000000090000018bcfe5680000"),
    ];

    #[test]
    fn records_of_consumer_groups_have_the_bytes_that_kafka_writes() {
        let mut read = Vec::new();
        for (key, value) in OF_CONSUMERS {
            let (key, value) = (of_hex(key), Some(of_hex(value)));
            let record = GroupRecord::decode(key.clone(), value.clone()).expect("Kafka's own");
            let record = record.expect("a known type");
            assert_eq!(record.encode(), Ok((key, value)));
            read.push(record);
        }
        let GroupRecord::ConsumerGroup(_, Some(group)) = &read[0] else { panic!("a group: {read:?}") };
        assert_eq!((group.epoch, group.metadata_hash), (5, -9));
        let GroupRecord::ConsumerMember(_, Some(new)) = &read[3] else { panic!("a member: {read:?}") };
        assert_eq!((new.rack_id.as_deref(), &new.classic_member_metadata), (Some("r"), &None));
        let GroupRecord::ConsumerMember(_, Some(classic)) = &read[4] else { panic!("a member: {read:?}") };
        let metadata = classic.classic_member_metadata.as_ref().expect("it is classic");
        assert_eq!((metadata.session_timeout_ms, &*metadata.supported_protocols[0].name), (45_000, "range"));
        let GroupRecord::ConsumerCurrentMember(_, Some(current)) = &read[7] else {
            panic!("what a member has: {read:?}")
        };
        assert_eq!(current.assigned_partitions[0].assignment_epochs, Some(vec![5, 7]));
        let GroupRecord::ConsumerRegex(key, Some(regex)) = &read[8] else { panic!("a regex: {read:?}") };
        assert_eq!((&*key.regular_expression, regex.topics.len(), regex.version), ("x.*", 2, 9));
    }

    #[test]
    fn a_key_of_an_unknown_type_is_passed_over_and_a_damaged_one_is_malformed() {
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0, 99, 1]), None), Ok(None));
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0]), None), Err(Malformed));
        assert_eq!(GroupRecord::decode(Bytes::from_static(&[0, 2, 0, 9, b'g']), None), Err(Malformed));
        let key = Bytes::from_static(&[0, 2, 0, 1, b'g']);
        assert_eq!(GroupRecord::decode(key, Some(Bytes::from_static(&[0, 9]))), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn damaged_records_never_panic(
            which in 0..KAFKAS.len(),
            at in proptest::arbitrary::any::<proptest::sample::Index>(),
            byte in proptest::arbitrary::any::<u8>(),
            cut in proptest::arbitrary::any::<proptest::sample::Index>(),
        ) {
            let (key, value) = KAFKAS[which];
            let mut value = value.map_or(vec![0], |value| of_hex(value).to_vec());
            let at = at.index(value.len());
            value[at] = byte;
            let value = Bytes::from(value);
            let _ = GroupRecord::decode(of_hex(key), Some(value.clone()));
            let _ = GroupRecord::decode(of_hex(key), Some(value.slice(..cut.index(value.len()))));
            let _ = GroupRecord::decode(value, None);
        }
    }

    #[test]
    fn a_group_id_that_no_key_can_hold_is_an_error() {
        let group = StrBytes::from_string("x".repeat(40_000));
        assert_eq!(GroupRecord::GroupMetadata(GroupMetadataKey { group }, None).encode(), Err(TooLong));
    }
}
