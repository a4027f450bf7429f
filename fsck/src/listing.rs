//! What lies in the bucket, by its keys.

use object_store::{ObjectMeta, path::Path};
use std::{collections::BTreeMap, time::Duration};
use thalweg_segment::{
    Incarnation, Purpose, SegmentId, Store, StoreError, WalSequence, marker_path, metadata_path, segment_id,
    snapshot_id, wal_object,
};

/// An object as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Bytes.
    pub size: u64,
    /// How much older it is than the newest object of the bucket, by the store's own clock.
    pub age: Duration,
}

/// WAL objects of one incarnation.
pub(crate) type WalObjects = BTreeMap<WalSequence, Listed>;

/// Every object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub segments: BTreeMap<SegmentId, Listed>,
    pub wal: BTreeMap<Incarnation, WalObjects>,
    pub snapshots: usize,
    /// Objects of the embedded metadata store.
    pub metadata: usize,
    /// What nobody of us has written.
    pub foreign: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
}

impl Listing {
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        Ok(Self::of(store.list(&Path::default(), None, Purpose::Check).await?))
    }

    fn of(objects: Vec<ObjectMeta>) -> Self {
        let newest = objects.iter().map(|object| object.last_modified).max().unwrap_or_default();
        let mut listing = Self::default();
        for object in objects {
            let age = (newest - object.last_modified).to_std().unwrap_or_default();
            listing.add(&object.location, Listed { size: object.size, age });
        }
        listing
    }

    fn add(&mut self, path: &Path, listed: Listed) {
        self.objects += 1;
        self.bytes += listed.size;
        if let Some((incarnation, sequence)) = wal_object(path) {
            self.wal.entry(incarnation).or_default().insert(sequence, listed);
        } else if let Some(id) = segment_id(path) {
            self.segments.insert(id, listed);
        } else if snapshot_id(path).is_some() {
            self.snapshots += 1;
        } else if path.prefix_matches(&metadata_path()) {
            self.metadata += 1;
        } else if *path != marker_path() && !path.prefix_matches(&Path::from("check")) {
            self.foreign.push(path.to_string());
        }
    }

    pub fn wal_object(&self, incarnation: Incarnation, sequence: WalSequence) -> Option<Listed> {
        self.wal.get(&incarnation)?.get(&sequence).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEAD, id, listed_at};
    use thalweg_segment::{LeaderEpoch, segment_path, snapshot_path, wal_path};

    #[test]
    fn objects_are_told_apart_by_their_keys_and_their_age_is_that_behind_the_newest() {
        let objects = vec![
            listed_at(&segment_path(id(3)), 10, 100),
            listed_at(&wal_path(DEAD, WalSequence(7)), 20, 160),
            listed_at(&snapshot_path(LeaderEpoch(1), 0), 1, 0),
            listed_at(&Path::from("meta/manifest/1"), 1, 0),
            listed_at(&Path::from("thalweg"), 1, 0),
            listed_at(&Path::from("check/5"), 1, 0),
            listed_at(&Path::from("holiday.jpg"), 1, 0),
        ];
        let listing = Listing::of(objects);
        assert_eq!(listing.segments, [(id(3), Listed { size: 10, age: Duration::from_secs(60) })].into());
        let wal = listing.wal_object(DEAD, WalSequence(7));
        assert_eq!(wal, Some(Listed { size: 20, age: Duration::ZERO }));
        assert_eq!(listing.wal_object(DEAD, WalSequence(8)), None);
        assert_eq!((listing.snapshots, listing.metadata), (1, 1));
        assert_eq!(listing.foreign, ["holiday.jpg"]);
        assert_eq!((listing.objects, listing.bytes), (7, 35));
    }
}
