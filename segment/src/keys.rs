//! Where objects lie in the bucket. Two spread-out characters stand early in a key, so that the store can partition by
//! prefix: those of a WAL come from its incarnation alone, so that one LIST finds it.
//!
//! ```text
//! thalweg                                                    marker: cluster id and format level
//! wal/<spread>/<broker>/<epoch, 20 digits>/<sequence, 20 digits>     WAL objects and fences
//! seg/<spread>/<broker>/<epoch, 20 digits>/<number, 20 digits>       flushed segments and recovery manifests
//! snapshot/<leader epoch, 10 digits>/<number, 20 digits>     what the metadata say that segments don't, see `metadata`
//! meta/…                                                     embedded metadata (SlateDB)
//! ```

use crate::{BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, SegmentId, WalSequence};
use object_store::path::Path;

/// The marker object.
pub fn marker_path() -> Path {
    Path::from("thalweg")
}

/// Where the embedded metadata store lies.
pub fn metadata_path() -> Path {
    Path::from("meta")
}

/// The prefix of all WAL objects of one incarnation.
pub fn wal_prefix(incarnation: Incarnation) -> Path {
    let Incarnation { broker, epoch } = incarnation;
    Path::from(format!("wal/{}/{broker}/{:020}", spread(incarnation, 0), epoch.0))
}

/// One WAL object.
pub fn wal_path(incarnation: Incarnation, sequence: WalSequence) -> Path {
    Path::from(format!("{}/{:020}", wal_prefix(incarnation), sequence.0))
}

/// Reads the sequence off a WAL object's key.
pub fn wal_sequence(path: &Path) -> Option<WalSequence> {
    padded(path.filename()?).map(WalSequence)
}

/// Reads whose it is and its sequence off a WAL object's key.
pub fn wal_object(path: &Path) -> Option<(Incarnation, WalSequence)> {
    let parts: Vec<_> = path.parts().collect();
    let [.., broker, epoch, sequence] = &parts[..] else { return None };
    let incarnation = parse_incarnation(broker.as_ref(), epoch.as_ref())?;
    let sequence = WalSequence(padded(sequence.as_ref())?);
    (wal_path(incarnation, sequence) == *path).then_some((incarnation, sequence))
}

/// One flushed segment or manifest.
pub fn segment_path(id: SegmentId) -> Path {
    let Incarnation { broker, epoch } = id.incarnation;
    Path::from(format!(
        "seg/{}/{broker}/{:020}/{:020}",
        spread(id.incarnation, id.number),
        epoch.0,
        id.number
    ))
}

/// Reads the name off a segment's or manifest's key.
pub fn segment_id(path: &Path) -> Option<SegmentId> {
    let parts: Vec<_> = path.parts().collect();
    let [.., broker, epoch, number] = &parts[..] else { return None };
    let incarnation = parse_incarnation(broker.as_ref(), epoch.as_ref())?;
    let id = SegmentId { incarnation, number: padded(number.as_ref())? };
    (segment_path(id) == *path).then_some(id)
}

/// The number of the manifest that a recoverer writes for `dead`: no flush gets as far. `attempt` tells repetitions with
/// another outcome apart (a topic was deleted in between), so that a late PUT of the first can't replace the second.
pub fn manifest_number(dead: Incarnation, attempt: u64) -> u64 {
    assert!(dead.epoch.0 < 1 << 48 && attempt < 1 << 15, "epochs and attempts are small counters");
    1 << 63 | attempt << 48 | dead.epoch.0
}

/// The prefix of all snapshots of the metadata.
pub fn snapshots_prefix() -> Path {
    Path::from("snapshot")
}

/// One snapshot of the metadata: the `number`th of the owner with `epoch`. Keys order as snapshots do: by owner, then number.
pub fn snapshot_path(epoch: LeaderEpoch, number: u64) -> Path {
    Path::from(format!("snapshot/{:010}/{number:020}", epoch.0))
}

/// Reads owner and number off a snapshot's key.
pub fn snapshot_id(path: &Path) -> Option<(LeaderEpoch, u64)> {
    let parts: Vec<_> = path.parts().collect();
    let [_, epoch, number] = &parts[..] else { return None };
    let (epoch, number) = (LeaderEpoch(epoch.as_ref().parse().ok()?), padded(number.as_ref())?);
    (snapshot_path(epoch, number) == *path).then_some((epoch, number))
}

/// Of a number that [`manifest_number`] made: the epoch of the dead incarnation. Epochs are of one incarnation each.
pub fn manifest_of(number: u64) -> Option<BrokerEpoch> {
    (number >> 63 == 1).then_some(BrokerEpoch(number & ((1 << 48) - 1)))
}

/// What all keys of WAL objects, or of segments and manifests, begin with. Both are divided into [`SPREADS`] parts.
pub fn area_prefix(area: Area) -> Path {
    Path::from(match area {
        Area::Wal => "wal",
        Area::Segments => "seg",
    })
}

/// One of the parts.
pub fn spread_prefix(area: Area, spread: u8) -> Path {
    Path::from(format!("{}/{spread:02x}", area_prefix(area)))
}

/// Into how many parts keys are spread.
pub const SPREADS: usize = 256;

/// What lies together in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// WAL objects and fences.
    Wal,
    /// Segments and manifests.
    Segments,
}

fn parse_incarnation(broker: &str, epoch: &str) -> Option<Incarnation> {
    Some(Incarnation { broker: BrokerId(broker.parse().ok()?), epoch: BrokerEpoch(padded(epoch)?) })
}

/// Reads a number of 20 digits.
fn padded(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

/// Two hexadecimal digits that look random.
fn spread(incarnation: Incarnation, number: u64) -> String {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&incarnation.broker.0.to_be_bytes());
    bytes[4..12].copy_from_slice(&incarnation.epoch.0.to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    format!("{:02x}", crc32c::crc32c(&bytes) & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_lie_in_their_area(broker: i32, epoch: u64, number: u64) {
            let incarnation = Incarnation { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) };
            let id = SegmentId { incarnation, number };
            let (segment, wal) = (segment_path(id), wal_path(incarnation, WalSequence(number)));
            prop_assert_eq!(segment_id(&segment), Some(id));
            prop_assert_eq!(wal_object(&wal), Some((incarnation, WalSequence(number))));
            prop_assert_eq!(segment_id(&wal), None);
            prop_assert_eq!(wal_object(&segment), None);
            for (area, path) in [(Area::Segments, &segment), (Area::Wal, &wal)] {
                prop_assert!(path.prefix_matches(&area_prefix(area)));
                let of_spreads = (0..SPREADS).filter(|at| path.prefix_matches(&spread_prefix(area, *at as u8)));
                prop_assert_eq!(of_spreads.count(), 1);
            }
        }

        #[test]
        fn the_number_of_a_manifest_tells_whose_it_is(epoch in 0u64..1 << 48, attempt in 0u64..1 << 15, flushed in 0u64..1 << 63) {
            let dead = Incarnation { broker: BrokerId(7), epoch: BrokerEpoch(epoch) };
            prop_assert_eq!(manifest_of(manifest_number(dead, attempt)), Some(dead.epoch));
            prop_assert_eq!(manifest_of(flushed), None);
        }
    }

    proptest! {
        #[test]
        fn a_snapshots_key_is_read_back(epoch in 0..i32::MAX, number: u64) {
            let path = snapshot_path(LeaderEpoch(epoch), number);
            prop_assert_eq!(snapshot_id(&path), Some((LeaderEpoch(epoch), number)));
            prop_assert_eq!((segment_id(&path), wal_object(&path)), (None, None));
        }
    }

    #[test]
    fn snapshots_have_this_key() {
        assert_eq!(snapshot_path(LeaderEpoch(7), 12).as_ref(), "snapshot/0000000007/00000000000000000012");
        for other in ["snapshot/7/12", "snapshot/0000000007", "seg/x/y"] {
            assert_eq!(snapshot_id(&Path::from(other)), None, "{other}");
        }
    }
}
