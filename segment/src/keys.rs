//! Where objects lie in the bucket. Two spread-out characters stand early in a key, so that the store can partition by
//! prefix: those of a WAL come from its incarnation alone, so that one LIST finds it.
//!
//! ```text
//! thalweg                                                    marker: cluster id and format level
//! wal/<spread>/<broker>/<epoch, 20 digits>/<sequence, 20 digits>     WAL objects and fences
//! seg/<spread>/<broker>/<epoch, 20 digits>/<number, 20 digits>       flushed segments and recovery manifests
//! meta/…                                                     embedded metadata (SlateDB)
//! ```

use crate::{BrokerEpoch, BrokerId, Incarnation, SegmentId, WalSequence};
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
    let incarnation = Incarnation {
        broker: BrokerId(broker.as_ref().parse().ok()?),
        epoch: BrokerEpoch(padded(epoch.as_ref())?),
    };
    let id = SegmentId { incarnation, number: padded(number.as_ref())? };
    (segment_path(id) == *path).then_some(id)
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
