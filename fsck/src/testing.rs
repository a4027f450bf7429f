//! Names and objects for tests.

use object_store::{ObjectMeta, path::Path};
use thalweg_segment::{BrokerEpoch, BrokerId, Incarnation, SegmentId};

/// An incarnation.
pub(crate) const DEAD: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(7) };

/// One of its segments.
pub(crate) fn id(number: u64) -> SegmentId {
    SegmentId { incarnation: DEAD, number }
}

/// An object as a store lists it, last modified so many seconds after 1970.
pub(crate) fn listed_at(path: &Path, size: u64, seconds: u64) -> ObjectMeta {
    let last_modified = (std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).into();
    ObjectMeta { location: path.clone(), last_modified, size, e_tag: None, version: None }
}
