//! Keys of objects.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use object_store::path::Path;
use thalweg_segment::*;

const WRITER: Incarnation = Incarnation { broker: BrokerId(3), epoch: BrokerEpoch(17) };

fn segment(number: u64) -> SegmentId {
    SegmentId { incarnation: WRITER, number }
}

#[test]
fn keys_are_what_buckets_already_hold() {
    let wal = wal_path(WRITER, WalSequence(5));
    assert_eq!(wal.as_ref(), "wal/48/3/00000000000000000017/00000000000000000005");
    assert_eq!(segment_path(segment(5)).as_ref(), "seg/54/3/00000000000000000017/00000000000000000005");
    assert_eq!(marker_path().as_ref(), "thalweg");
}

#[test]
fn all_of_a_wal_lies_below_its_prefix_in_order_of_the_sequence() {
    let prefix = wal_prefix(WRITER);
    let paths = [0, 9, 10, u64::MAX].map(|sequence| wal_path(WRITER, WalSequence(sequence)));
    assert!(paths.is_sorted());
    assert!(paths.iter().all(|path| path.prefix_matches(&prefix)));
}

#[test]
fn a_sequence_is_read_off_its_key() {
    for sequence in [0, 12, u64::MAX].map(WalSequence) {
        assert_eq!(wal_sequence(&wal_path(WRITER, sequence)), Some(sequence));
    }
    for name in ["wal/00/1/2/12", "wal/x/+0000000000000000001", "wal/x/99999999999999999999", ""] {
        assert_eq!(wal_sequence(&Path::from(name)), None, "{name}");
    }
}

#[test]
fn a_segment_is_named_by_its_key() {
    for number in [0, 12, u64::MAX] {
        assert_eq!(segment_id(&segment_path(segment(number))), Some(segment(number)));
    }
    let other_spread = "seg/00/3/00000000000000000017/00000000000000000005";
    for name in [other_spread, "seg/3/5", "thalweg", wal_path(WRITER, WalSequence(5)).as_ref()] {
        assert_eq!(segment_id(&Path::from(name)), None, "{name}");
    }
}

#[test]
fn segments_of_one_writer_are_spread_over_the_key_space() {
    let spreads: std::collections::BTreeSet<String> =
        (0..1000).map(|number| segment_path(segment(number)).as_ref()[4..6].to_owned()).collect();
    assert!(spreads.len() > 200, "{}", spreads.len());
}
