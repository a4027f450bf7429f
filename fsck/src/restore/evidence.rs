//! What is left when the metadata are lost: the newest snapshot, and what every object says of itself.

use crate::{
    contents::{Contents, PARALLEL_READS},
    listing::Listing,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{
    IncarnationRecord, ObjectShape, Snapshot, SnapshotError, TopicRecord, list_snapshots, read_snapshot,
};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    BatchEntry, Footer, Incarnation, Index, Kind, LeaderEpoch, LogId, Offset, ProducerId, ReadError,
    SegmentId, Store, StoreError, WalSequence, manifest_of, read_index, segment_path, wal_path,
};

/// A segment or manifest.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub id: SegmentId,
    pub kind: Kind,
    pub shape: ObjectShape,
    pub contents: Contents,
    /// Highest timestamp of its records.
    pub max_timestamp: i64,
}

/// A WAL object of an incarnation that may not be recovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalData {
    /// Its batches' ends, by log.
    pub ends: BTreeMap<LogId, Offset>,
    /// The highest leader epoch in it.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What the newest readable snapshot says.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub snapshot: Snapshot,
    pub topics: Vec<TopicRecord>,
    pub log_starts: BTreeMap<LogId, Offset>,
    pub incarnations: BTreeMap<Incarnation, IncarnationRecord>,
    /// Ids below it were given to logs before.
    pub next_log: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub remembered: Option<Remembered>,
    /// Snapshots that can't be read.
    pub unreadable_snapshots: Vec<String>,
    pub listing: Listing,
    pub segments: Vec<Segment>,
    /// WAL objects that hold batches, of incarnations that nothing proves to be recovered.
    pub wal: BTreeMap<Incarnation, BTreeMap<WalSequence, WalData>>,
    /// Objects that can't be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// The highest leader epoch of any batch.
    pub leader_epoch: LeaderEpoch,
    /// The highest producer id of any batch.
    pub producer: Option<ProducerId>,
}

/// Reads everything. `cluster_id` is the bucket's: another cluster's snapshots don't count.
pub(crate) async fn gather(
    runtime: &Runtime,
    store: &Store,
    cluster_id: &str,
) -> Result<Evidence, StoreError> {
    let mut evidence = Evidence { listing: Listing::read(store).await?, ..Evidence::default() };
    newest_snapshot(runtime, store, cluster_id, &mut evidence).await?;
    let ids: Vec<_> = evidence.listing.segments.keys().copied().collect();
    let reads: Vec<_> = ids.into_iter().map(|id| read_segment(store, id)).collect();
    let mut reads = stream::iter(reads).buffer_unordered(PARALLEL_READS);
    while let Some(read) = reads.try_next().await? {
        match read {
            Read::Sound((segment, marks)) => {
                evidence.note(marks);
                evidence.segments.push(segment);
            }
            Read::Unreadable(path, why) => evidence.unreadable.push((path, why)),
            Read::Gone => {}
        }
    }
    drop(reads);
    evidence.segments.sort_by_key(|segment| segment.id);
    read_wal(store, &mut evidence).await?;
    Ok(evidence)
}

async fn newest_snapshot(
    runtime: &Runtime,
    store: &Store,
    cluster_id: &str,
    evidence: &mut Evidence,
) -> Result<(), StoreError> {
    for id in list_snapshots(store).await? {
        let why = match read_snapshot(store, id).await {
            Ok(snapshot) if snapshot.cluster_id != cluster_id => "it is another cluster's".to_owned(),
            Ok(snapshot) => match remember(runtime, snapshot).await {
                Ok(remembered) => {
                    evidence.remembered = Some(remembered);
                    return Ok(());
                }
                Err(error) => error.to_string(),
            },
            Err(SnapshotError::Store(StoreError::NotFound { .. })) => continue,
            Err(SnapshotError::Store(error)) => return Err(error),
            Err(error @ SnapshotError::Unreadable { .. }) => error.to_string(),
        };
        evidence.unreadable_snapshots.push(format!("{}: {why}", thalweg_segment::snapshot_path(id.0, id.1)));
    }
    Ok(())
}

async fn remember(
    runtime: &Runtime,
    snapshot: Snapshot,
) -> Result<Remembered, thalweg_metadata::MetadataError> {
    let metadata = snapshot.metadata(runtime.clone());
    let incarnations = metadata.incarnations().await?;
    Ok(Remembered {
        topics: metadata.topics().await?,
        log_starts: metadata.log_starts().await?,
        incarnations: incarnations.into_iter().map(|record| (record.incarnation, record)).collect(),
        next_log: metadata.next_log_id().await?.0,
        snapshot,
    })
}

/// What an object was found to be.
enum Read<T> {
    Sound(T),
    Unreadable(String, String),
    Gone,
}

/// The highest numbers of an object's batches.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    leader_epoch: Option<LeaderEpoch>,
    producer: Option<ProducerId>,
}

impl Marks {
    fn of(index: &Index) -> Self {
        let batches = || index.blocks.iter().flat_map(|block| &block.batches);
        Self {
            leader_epoch: batches().map(|batch: &BatchEntry| batch.leader_epoch).max(),
            producer: batches().map(|batch| batch.producer_id).filter(|id| id.is_some()).max(),
        }
    }
}

impl Evidence {
    fn note(&mut self, marks: Marks) {
        self.leader_epoch = self.leader_epoch.max(marks.leader_epoch.unwrap_or_default());
        self.producer = self.producer.max(marks.producer);
    }

    /// Whose WAL a manifest adopts: a flush's that of its writer, a recovery's says so by its number.
    pub fn adopts(&self, segment: &Segment) -> Option<Incarnation> {
        let epoch = match segment.kind {
            Kind::FlushManifest => return Some(segment.id.incarnation),
            Kind::Manifest => manifest_of(segment.id.number)?,
            _ => return None,
        };
        let remembered = self.remembered.iter().flat_map(|remembered| remembered.incarnations.keys());
        let known = self
            .listing
            .wal
            .keys()
            .chain(remembered)
            .chain(self.listing.segments.keys().map(|id| &id.incarnation));
        known.copied().find(|incarnation| incarnation.epoch == epoch)
    }

    /// Whether a manifest shows that the WAL of an incarnation was fenced and taken over. (Whether that came to its end makes no
    /// difference: nothing can have become durable in it afterwards.)
    pub fn is_taken_over(&self, incarnation: Incarnation) -> bool {
        let manifests = self.segments.iter().filter(|segment| segment.kind == Kind::Manifest);
        let mut epochs = manifests.filter_map(|segment| manifest_of(segment.id.number));
        epochs.any(|epoch| epoch == incarnation.epoch)
    }

    /// Whether nothing is left to be recovered of an incarnation, as far as anything says so.
    pub fn is_recovered(&self, incarnation: Incarnation) -> bool {
        use thalweg_metadata::IncarnationState::Recovered;
        let record = self.remembered.as_ref().and_then(|all| all.incarnations.get(&incarnation));
        record.is_some_and(|record| record.state == Recovered) || self.is_taken_over(incarnation)
    }
}

async fn read_segment(store: &Store, id: SegmentId) -> Result<Read<(Segment, Marks)>, StoreError> {
    let path = segment_path(id);
    let (footer, index) = match read(read_index(store, &path).await)? {
        Read::Sound(read) => read,
        Read::Unreadable(path, why) => return Ok(Read::Unreadable(path, why)),
        Read::Gone => return Ok(Read::Gone),
    };
    let is_segment = !matches!(footer.kind, Kind::Wal | Kind::Fence);
    if !is_segment || (footer.writer, footer.number) != (id.incarnation, id.number) {
        return Ok(Read::Unreadable(path.to_string(), "it is not what its key says".into()));
    }
    let shape = ObjectShape {
        size: footer.object_size(),
        index_position: footer.index_position,
        index_size: footer.index_size,
    };
    let max_timestamp = index.blocks.iter().map(|block| block.max_timestamp).fold(i64::MIN, i64::max);
    let contents = Contents::of(&index, footer.kind);
    Ok(Read::Sound((Segment { id, kind: footer.kind, shape, contents, max_timestamp }, Marks::of(&index))))
}

async fn read_wal(store: &Store, evidence: &mut Evidence) -> Result<(), StoreError> {
    let undecided =
        evidence.listing.wal.iter().filter(|(incarnation, _)| !evidence.is_recovered(**incarnation));
    let wanted = undecided.flat_map(|(incarnation, objects)| objects.keys().map(|at| (*incarnation, *at)));
    let reads: Vec<_> = wanted.map(|(incarnation, at)| read_wal_object(store, incarnation, at)).collect();
    let mut reads = stream::iter(reads).buffer_unordered(PARALLEL_READS);
    while let Some(read) = reads.try_next().await? {
        match read {
            Read::Sound((_, _, None)) | Read::Gone => {}
            Read::Sound((incarnation, sequence, Some((data, marks)))) => {
                evidence.note(marks);
                evidence.wal.entry(incarnation).or_default().insert(sequence, data);
            }
            Read::Unreadable(path, why) => evidence.unreadable.push((path, why)),
        }
    }
    Ok(())
}

type WalRead = (Incarnation, WalSequence, Option<(WalData, Marks)>);

/// Of a fence there are no data.
async fn read_wal_object(
    store: &Store,
    incarnation: Incarnation,
    sequence: WalSequence,
) -> Result<Read<WalRead>, StoreError> {
    let path = wal_path(incarnation, sequence);
    let (footer, index) = match read(read_index(store, &path).await)? {
        Read::Sound(read) => read,
        Read::Unreadable(path, why) => return Ok(Read::Unreadable(path, why)),
        Read::Gone => return Ok(Read::Gone),
    };
    match footer.kind {
        Kind::Fence => Ok(Read::Sound((incarnation, sequence, None))),
        Kind::Wal if (footer.writer, footer.number) == (incarnation, sequence.0) => {
            let marks = Marks::of(&index);
            let ends = index.blocks.iter().map(|block| (block.log, block.end_offset)).collect();
            let data = WalData { ends, leader_epoch: marks.leader_epoch };
            Ok(Read::Sound((incarnation, sequence, Some((data, marks)))))
        }
        _ => Ok(Read::Unreadable(path.to_string(), "it is not what its key says".into())),
    }
}

fn read(read: Result<(Footer, Index), ReadError>) -> Result<Read<(Footer, Arc<Index>)>, StoreError> {
    match read {
        Ok((footer, index)) => Ok(Read::Sound((footer, Arc::new(index)))),
        Err(ReadError::Store(StoreError::NotFound { .. })) => Ok(Read::Gone),
        Err(ReadError::Store(error)) => Err(error),
        Err(ReadError::Format { path, source }) => Ok(Read::Unreadable(path.to_string(), source.to_string())),
    }
}
