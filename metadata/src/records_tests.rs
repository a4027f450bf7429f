//! The bytes of every key and value, and what happens to others.

use crate::*;
use expect_test::expect;
use proptest::{collection::btree_map, prelude::*};
use thalweg_segment::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, LogId, Offset, SegmentId, WalSequence,
};
use uuid::Uuid;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const WHO: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) };
const SHAPE: ObjectShape = ObjectShape { size: 10, index_position: 11, index_size: 12 };
const SEGMENT: SegmentId = SegmentId { incarnation: WHO, number: 3 };

fn record(state: IncarnationState) -> IncarnationRecord {
    IncarnationRecord { incarnation: WHO, window: 64, commit: 5, trim: WalSequence(6), state }
}

#[test]
fn an_incarnation_has_these_bytes() {
    let bytes = |state| hex(&record(state).encode());
    expect!["01000000400000000000000005000000000000000600"].assert_eq(&bytes(IncarnationState::Open));
    let fencing = IncarnationState::Fencing { ballot: BrokerEpoch(7) };
    expect!["010000004000000000000000050000000000000006010000000000000007"].assert_eq(&bytes(fencing));
    expect!["01000000400000000000000005000000000000000602"].assert_eq(&bytes(IncarnationState::Recovered));
}

#[test]
fn a_topic_has_these_bytes() {
    let topic = TopicRecord {
        name: "t".into(),
        id: Uuid::from_u128(1),
        logs: vec![LogRun { first: LogId(2), count: 3 }],
        configs: [("a".into(), "bc".into())].into(),
    };
    let runs = "00000001".to_owned() + "0000000000000002" + "00000003";
    let settings = "00000001".to_owned() + "0000000161" + "000000026263";
    let id = "00000000000000000000000000000001";
    assert_eq!(hex(&topic.encode()), format!("01{id}{runs}{settings}"));
}

#[test]
fn the_other_records_have_these_bytes() {
    let shape = "000000000000000a000000000000000b0000000c";
    let who = "000000010000000000000002";
    let shared = SharedRecord { id: SEGMENT, shape: SHAPE, adopts: None };
    assert_eq!(hex(&shared.encode()), format!("01{shape}00"));
    let manifest = SharedRecord { adopts: Some(WHO), ..shared };
    assert_eq!(hex(&manifest.encode()), format!("01{shape}01{who}"));
    let owner = OwnerRecord { incarnation: WHO, leader_epoch: LeaderEpoch(9) };
    assert_eq!(hex(&owner.encode()), format!("01{who}00000009"));
    let segment = LogSegmentRecord {
        log: LogId(1),
        base_offset: Offset(2),
        end_offset: Offset(4),
        max_timestamp: -1,
        id: SEGMENT,
        shape: SHAPE,
        cleaned_to: Offset(0),
    };
    let expected = format!("0000000000000004ffffffffffffffff{who}0000000000000003{shape}");
    assert_eq!(hex(&segment.encode()), format!("01{expected}"));
    let cleaned = LogSegmentRecord { cleaned_to: Offset(3), ..segment };
    assert_eq!(hex(&cleaned.encode()), format!("02{expected}0000000000000003"));
    assert_eq!(hex(&encode_number(258)), "010000000000000102");
    assert_eq!(hex(&encode_offset(Offset(258))), "010000000000000102");
    assert_eq!(hex(&encode_uuid(Uuid::from_u128(1))), "0100000000000000000000000000000001");
    assert_eq!(hex(&encode_settings(&[("a".into(), String::new())].into())), "0100000001000000016100000000");
}

#[test]
fn keys_have_these_bytes() {
    let show = |key: bytes::Bytes| key.escape_ascii().to_string();
    let who = r"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02";
    assert_eq!(show(keys::incarnation(WHO)), format!("incarnation/{who}"));
    assert_eq!(show(keys::shared(SEGMENT)), format!(r"shared/{who}\x00\x00\x00\x00\x00\x00\x00\x03"));
    assert_eq!(show(keys::topic("a.b")), "topic/a.b");
    let log = r"\x00\x00\x00\x00\x00\x00\x00\x04";
    let base = r"\x80\x00\x00\x00\x00\x00\x00\x05";
    assert_eq!(show(keys::log_segment(LogId(4), Offset(5))), format!("logseg/{log}{base}"));
    assert_eq!(show(keys::log_start(LogId(4))), format!("logstart/{log}"));
    assert_eq!(show(keys::config(None)), "config/default");
    assert_eq!(show(keys::config(Some(BrokerId(1)))), r"config/broker/\x80\x00\x00\x01");
}

fn incarnations() -> impl Strategy<Value = Incarnation> {
    (any::<i32>(), any::<u64>())
        .prop_map(|(broker, epoch)| Incarnation { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) })
}

fn segments() -> impl Strategy<Value = SegmentId> {
    (incarnations(), any::<u64>()).prop_map(|(incarnation, number)| SegmentId { incarnation, number })
}

fn shapes() -> impl Strategy<Value = ObjectShape> {
    (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(size, index_position, index_size)| ObjectShape {
        size,
        index_position,
        index_size,
    })
}

fn states() -> impl Strategy<Value = IncarnationState> {
    prop_oneof![
        Just(IncarnationState::Open),
        any::<u64>().prop_map(|ballot| IncarnationState::Fencing { ballot: BrokerEpoch(ballot) }),
        Just(IncarnationState::Recovered),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        who in incarnations(),
        state in states(),
        (window, commit, trim) in any::<(u32, u64, u64)>(),
        id in segments(),
        shape in shapes(),
        adopts in proptest::option::of(incarnations()),
        (log, base, end, max_timestamp, epoch) in any::<(u64, i64, i64, i64, i32)>(),
    ) {
        let trim = WalSequence(trim);
        let record = IncarnationRecord { incarnation: who, window, commit, trim, state };
        let key = keys::parse_incarnation(&keys::incarnation(who)).unwrap();
        prop_assert_eq!(IncarnationRecord::decode(key, &record.encode()).unwrap(), record);

        let shared = SharedRecord { id, shape, adopts };
        let key = keys::parse_shared(&keys::shared(id)).unwrap();
        prop_assert_eq!(SharedRecord::decode(key, &shared.encode()).unwrap(), shared);

        let (log, base_offset, end_offset) = (LogId(log), Offset(base), Offset(end));
        let cleaned_to = Offset(0);
        let segment = LogSegmentRecord { log, base_offset, end_offset, max_timestamp, id, shape, cleaned_to };
        let key = keys::parse_log_segment(&keys::log_segment(log, base_offset)).unwrap();
        for cleaned_to in [cleaned_to, Offset(max_timestamp.max(1))] {
            let segment = LogSegmentRecord { cleaned_to, ..segment };
            prop_assert_eq!(LogSegmentRecord::decode(key, &segment.encode()).unwrap(), segment);
        }

        let owner = OwnerRecord { incarnation: who, leader_epoch: LeaderEpoch(epoch) };
        prop_assert_eq!(OwnerRecord::decode(&owner.encode()).unwrap(), owner);
        prop_assert_eq!(keys::parse_log_start(&keys::log_start(log)).unwrap(), log);
        prop_assert_eq!(decode_number(&encode_number(commit)).unwrap(), commit);
        prop_assert_eq!(decode_offset(&encode_offset(end_offset)).unwrap(), end_offset);
    }

    #[test]
    fn topics_and_settings_are_read_back(
        name in ".*",
        id: u128,
        runs in proptest::collection::vec((0..u64::MAX / 2, 0..1000_u32), 0..5),
        configs in btree_map(".*", ".*", 0..5),
    ) {
        let logs = runs.into_iter().map(|(first, count)| LogRun { first: LogId(first), count }).collect();
        let topic = TopicRecord { name, id: Uuid::from_u128(id), logs, configs: configs.clone() };
        let key = keys::parse_topic(&keys::topic(&topic.name)).unwrap();
        prop_assert_eq!(TopicRecord::decode(key, &topic.encode()).unwrap(), topic);
        prop_assert_eq!(decode_settings(&encode_settings(&configs)).unwrap(), configs);
    }

    #[test]
    fn keys_are_in_the_order_of_what_they_name(a in segments(), b in segments(), x: (u64, i64), y: (u64, i64)) {
        prop_assert_eq!(keys::shared(a).cmp(&keys::shared(b)), a.cmp(&b));
        let key = |(log, base)| keys::log_segment(LogId(log), Offset(base));
        prop_assert_eq!(key(x).cmp(&key(y)), x.cmp(&y));
        prop_assert!(keys::shared(a) < keys::end_of(keys::SHARED));
        prop_assert!(keys::shared(a) >= keys::SHARED.as_bytes());
    }

    /// Whatever is read as a record is written as the same bytes: so a compare of what was read always holds.
    #[test]
    fn arbitrary_bytes_are_refused_or_read_exactly(version in 0..3_u8, rest: Vec<u8>) {
        let value = [&[version][..], &rest].concat();
        if let Ok(record) = IncarnationRecord::decode(WHO, &value) {
            prop_assert_eq!(record.encode(), value.clone());
        }
        if let Ok(record) = SharedRecord::decode(SEGMENT, &value) {
            prop_assert_eq!(record.encode(), value.clone());
        }
        if let Ok(record) = LogSegmentRecord::decode((LogId(0), Offset(0)), &value) {
            prop_assert_eq!(record.encode(), value.clone());
        }
        if let Ok(record) = OwnerRecord::decode(&value) {
            prop_assert_eq!(record.encode(), value.clone());
        }
        let _ = (TopicRecord::decode("t".into(), &value), decode_settings(&value), decode_uuid(&value));
        let _ = (decode_number(&value), decode_offset(&value), keys::parse_topic(&rest));
        let _ = (keys::parse_shared(&rest), keys::parse_incarnation(&rest), keys::parse_log_segment(&rest));
    }

    #[test]
    fn a_damaged_value_never_panics(cut in 0..60_usize, at in 0..60_usize, flip in 1..=255_u8) {
        let configs = [("name".into(), "value".into())].into();
        let logs = vec![LogRun { first: LogId(2), count: 3 }];
        let topic = TopicRecord { name: "t".into(), id: Uuid::nil(), logs, configs };
        let mut value = topic.encode().to_vec();
        let at = at % value.len();
        value[at] ^= flip;
        value.truncate(value.len().saturating_sub(cut));
        let _ = TopicRecord::decode("t".into(), &value);
    }
}

#[test]
fn an_unknown_layout_is_refused() {
    let mut value = record(IncarnationState::Open).encode().to_vec();
    value[0] = 2;
    let error = IncarnationRecord::decode(WHO, &value).unwrap_err().to_string();
    expect!["the metadata store holds something unreadable: incarnation: layout 2, this build knows 1"]
        .assert_eq(&error);
}
