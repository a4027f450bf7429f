//! Snapshots of the metadata in the bucket: all that can't be told from segments. Everything but the object index, that is.
//!
//! ```text
//! magic u32 "Tsnp" | version u16 | zero u16 | leader epoch i32 | broker i32 | broker epoch u64 | number u64 |
//! taken at i64, ms | cluster id: length u8, text | rows u32 | row … | CRC-32C of all before u32
//! row: key length u32 | key | value length u32 | value
//! ```
//! All numbers are big-endian. The rows are those of the key-value store as they are, in the order of their keys: what keys and values
//! are stands in `keys` and with each record, and each value begins with the version of its layout.
//!
//! **Which one is the newest.** Snapshots are written by the owner of the logs. The order of owners is that of their leader epochs, so
//! the one with the highest (leader epoch, number) is the newest, whatever clocks say and whenever its PUT arrived. One that an owner
//! writes after it has lost the logs can't pass for newer than its successor's, and deletes none but older ones.

use crate::{
    KvError, MemoryKv, Metadata, MetadataError,
    codec::{Reader, Writer},
    keys,
};
use bytes::Bytes;
use object_store::path::Path;
use std::collections::BTreeMap;
use thalweg_runtime::Runtime;
use thalweg_segment::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Purpose, Store, StoreError, snapshot_id, snapshot_path,
    snapshots_prefix,
};

const MAGIC: u32 = u32::from_be_bytes(*b"Tsnp");
const VERSION: u16 = 1;
/// What stands around the text and the rows.
const CRC_BYTES: usize = 4;

/// The metadata of a cluster at one time, without the object index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub cluster_id: String,
    /// Who has taken it.
    pub taken_by: Incarnation,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The number of the snapshot, from 0 in each life of a broker.
    pub number: u64,
    /// When, in ms since 1970, by the clock of who has taken it. For people.
    pub taken_at_ms: i64,
    /// The rows.
    pub rows: BTreeMap<Bytes, Bytes>,
}

/// Why a snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its content is not that of a snapshot.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: Path,
        /// What is wrong with it.
        source: KvError,
    },
}

impl Snapshot {
    /// Its key in the bucket.
    pub fn path(&self) -> Path {
        snapshot_path(self.leader_epoch, self.number)
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let id_length = u8::try_from(self.cluster_id.len()).expect("a cluster id has at most 64 characters");
        let head = Writer::bare().u32(MAGIC).u16(VERSION).u16(0).i32(self.leader_epoch.0);
        let head = head.i32(self.taken_by.broker.0).u64(self.taken_by.epoch.0).u64(self.number);
        let head = head.i64(self.taken_at_ms).u8(id_length).raw(self.cluster_id.as_bytes());
        let head = head.length(self.rows.len());
        let all = self.rows.iter().fold(head, |all, (key, value)| all.bytes(key).bytes(value)).finish();
        let crc = crc32c::crc32c(&all);
        [&all[..], &crc.to_be_bytes()].concat().into()
    }

    /// Reads a snapshot's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::bare("snapshot", bytes);
        if reader.u32()? != MAGIC {
            return Err(reader.corrupt("it does not begin as one".into()));
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(reader.corrupt(format!("version {version}, this build knows {VERSION}")));
        }
        let (content, crc) = bytes.split_at(bytes.len().saturating_sub(CRC_BYTES));
        if crc != crc32c::crc32c(content).to_be_bytes() {
            return Err(reader.corrupt("its CRC-32C does not match".into()));
        }
        let mut reader = Reader::bare("snapshot", content);
        let _magic_version_zero = reader.u64()?;
        let leader_epoch = LeaderEpoch(reader.i32()?);
        let taken_by = Incarnation { broker: BrokerId(reader.i32()?), epoch: BrokerEpoch(reader.u64()?) };
        let (number, taken_at_ms) = (reader.u64()?, reader.i64()?);
        let id_length = reader.u8()?;
        let cluster_id = reader.text(id_length.into())?;
        let rows = read_rows(&mut reader)?;
        reader.finish()?;
        Ok(Self { cluster_id, taken_by, leader_epoch, number, taken_at_ms, rows })
    }

    /// The typed view of its rows.
    pub fn metadata(&self, runtime: Runtime) -> Metadata {
        Metadata::new(MemoryKv::of_rows(self.rows.clone()).open(), runtime)
    }
}

fn read_rows(reader: &mut Reader<'_>) -> Result<BTreeMap<Bytes, Bytes>, KvError> {
    const TWO_LENGTHS: usize = 8;
    let length = reader.length(TWO_LENGTHS)?;
    let mut rows: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for _ in 0..length {
        let (key, value) = (reader.bytes()?, reader.bytes()?);
        if rows.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(reader.corrupt("rows out of order".into()));
        }
        rows.insert(key, value);
    }
    Ok(rows)
}

impl Metadata {
    /// All rows but those of the object index.
    pub async fn rows_for_snapshot(&self) -> Result<BTreeMap<Bytes, Bytes>, MetadataError> {
        let mut from = Bytes::new();
        let mut rows = BTreeMap::new();
        // In the order of keys.
        for prefix in [keys::LOG_SEGMENT, keys::RESTORING, keys::SHARED] {
            rows.extend(self.call().range(from, Bytes::from_static(prefix.as_bytes())).await?);
            from = keys::end_of(prefix);
        }
        rows.extend(self.call().range(from, Bytes::from_static(keys::END)).await?);
        Ok(rows)
    }
}

/// Every snapshot of the bucket, the newest first.
pub async fn list_snapshots(store: &Store) -> Result<Vec<(LeaderEpoch, u64)>, StoreError> {
    let objects = store.list(&snapshots_prefix(), None, Purpose::Metadata).await?;
    let mut found: Vec<_> = objects.iter().filter_map(|object| snapshot_id(&object.location)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Reads one.
pub async fn read_snapshot(
    store: &Store,
    (epoch, number): (LeaderEpoch, u64),
) -> Result<Snapshot, SnapshotError> {
    let path = snapshot_path(epoch, number);
    let bytes = store.get(&path, Purpose::Metadata).await?;
    let unreadable = |source| SnapshotError::Unreadable { path: path.clone(), source };
    let snapshot = Snapshot::decode(&bytes).map_err(unreadable)?;
    if (snapshot.leader_epoch, snapshot.number) != (epoch, number) {
        return Err(unreadable(KvError::Corrupt { reason: "snapshot: another one's content".into() }));
    }
    Ok(snapshot)
}

/// Writes `snapshot`, then deletes those older than it but for the newest `kept` (itself included).
pub async fn write_snapshot(store: &Store, snapshot: &Snapshot, kept: usize) -> Result<(), StoreError> {
    store.put(&snapshot.path(), snapshot.encode().into(), Purpose::Metadata).await?;
    let mut older = list_snapshots(store).await?;
    older.retain(|other| *other <= (snapshot.leader_epoch, snapshot.number));
    let surplus = older.iter().skip(kept.max(1)).map(|(epoch, number)| snapshot_path(*epoch, *number));
    store.delete(surplus.collect(), Purpose::Metadata).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ResourceKind, testing};
    use expect_test::expect_file;
    use object_store::memory::InMemory;
    use proptest::{collection::btree_map, prelude::*};
    use std::sync::Arc;

    fn snapshot(epoch: i32, number: u64) -> Snapshot {
        let row = |key: &'static str, value: &'static str| (Bytes::from(key), Bytes::from(value));
        Snapshot {
            cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
            taken_by: Incarnation { broker: BrokerId(3), epoch: BrokerEpoch(17) },
            leader_epoch: LeaderEpoch(epoch),
            number,
            taken_at_ms: 1_700_000_000_000,
            rows: [row("counter/log", "\u{1}"), row("topic/orders", "a topic")].into(),
        }
    }

    #[test]
    fn version_1_has_these_bytes() {
        let bytes = snapshot(18, 2).encode();
        let lines: Vec<String> =
            bytes.chunks(16).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
        expect_file!["../tests/golden/snapshot.v1.hex"].assert_eq(&(lines.join("\n") + "\n"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            cluster_id in "[a-zA-Z0-9_-]{1,64}",
            (broker, epoch, leader, number, taken_at_ms) in any::<(i32, u64, i32, u64, i64)>(),
            rows in btree_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..8),
            flipped in any::<prop::sample::Index>(),
        ) {
            let snapshot = Snapshot {
                cluster_id,
                taken_by: Incarnation { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) },
                leader_epoch: LeaderEpoch(leader),
                number,
                taken_at_ms,
                rows: rows.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            };
            let bytes = snapshot.encode();
            prop_assert_eq!(Snapshot::decode(&bytes).expect("it decodes"), snapshot);
            let mut damaged = bytes.to_vec();
            damaged[flipped.index(bytes.len())] ^= 1;
            prop_assert!(Snapshot::decode(&damaged).is_err());
            prop_assert!(Snapshot::decode(&bytes[..flipped.index(bytes.len())]).is_err());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Snapshot::decode(&bytes);
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let mut bytes = snapshot(1, 0).encode().to_vec();
        bytes[5] = 9;
        let refused = Snapshot::decode(&bytes).expect_err("it is newer");
        assert!(refused.to_string().contains("version 9, this build knows 1"), "{refused}");
    }

    #[tokio::test]
    async fn the_rows_are_all_but_the_index_and_can_be_read_as_metadata() {
        let mut flushes = testing::Flushes::into(Arc::new(InMemory::new())).await;
        let metadata = flushes.metadata.clone();
        let topic = metadata.create_topic("orders", 2, BTreeMap::new()).await.expect("created");
        let configs = [("x".to_owned(), "y".to_owned())].into();
        metadata
            .set_resource_configs(ResourceKind::Group, "g", &BTreeMap::new(), &configs)
            .await
            .expect("stored");
        metadata.allocate_producer_ids(5).await.expect("drawn");
        let log = topic.log_ids().next().expect("there are two");
        let batch = thalweg_segment::testing::BatchBuilder::new().records(1, 1).build();
        let (shared, _) = flushes.shared(&[(log, vec![batch.clone()])]).await;
        let segment = flushes.log(log, vec![batch]).await;
        let commit = crate::Commit { shared: Some(shared), logs: vec![segment], ..crate::Commit::default() };
        flushes.commit(&commit).await;
        let rows = metadata.rows_for_snapshot().await.expect("memory does not fail");
        let read = Snapshot { rows, ..snapshot(1, 0) }.metadata(testing::runtime());
        assert_eq!(read.topics().await.expect("read"), [topic]);
        assert_eq!(read.resource_configs(ResourceKind::Group).await.expect("read")["g"], configs);
        assert_eq!(
            read.incarnations().await.expect("read"),
            metadata.incarnations().await.expect("memory does not fail")
        );
        assert_eq!(read.shared_records().await.expect("read"), []);
        assert_eq!(read.log_segment_records().await.expect("read"), []);
        assert_eq!(read.allocate_producer_ids(1).await.expect("drawn").0, 5);
    }

    #[tokio::test]
    async fn the_newest_is_that_of_the_newest_owner_and_a_zombie_deletes_none_of_its() {
        let store = testing::Flushes::into(Arc::new(InMemory::new())).await.store;
        let write = async |epoch, number| {
            write_snapshot(&store, &snapshot(epoch, number), 2).await.expect("memory does not fail");
            list_snapshots(&store).await.expect("memory does not fail")
        };
        let ids =
            |of: &[(i32, u64)]| of.iter().map(|(epoch, n)| (LeaderEpoch(*epoch), *n)).collect::<Vec<_>>();
        assert_eq!(write(5, 0).await, ids(&[(5, 0)]));
        assert_eq!(write(5, 1).await, ids(&[(5, 1), (5, 0)]));
        assert_eq!(write(5, 2).await, ids(&[(5, 2), (5, 1)]));
        assert_eq!(write(12, 0).await, ids(&[(12, 0), (5, 2)]));
        // The owner of epoch 5 lives on.
        assert_eq!(write(5, 3).await, ids(&[(12, 0), (5, 3), (5, 2)]));
        let read = read_snapshot(&store, (LeaderEpoch(12), 0)).await.expect("it is there");
        assert_eq!(read, snapshot(12, 0));
    }
}
