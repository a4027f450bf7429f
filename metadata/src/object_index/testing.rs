//! Real objects and their records for tests: what a broker's flushes and take-overs leave behind.

use crate::{
    Commit, IncarnationRecord, LogSegmentRecord, MemoryKv, Metadata, ObjectIndex, ObjectShape, SharedRecord,
};
use object_store::{ObjectStore, path::Path};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thalweg_runtime::{Inline, Random, Runtime, SystemClock, TokioSpawner};
use thalweg_segment::{
    AbortedTransaction, Batch, BlockEntry, BrokerEpoch, BrokerId, Encoded, Incarnation, Index, Kind, LogId,
    LogState, Offset, Patience, Purpose, SegmentId, SegmentWriter, Store, WalSequence, segment_path,
    wal_path,
};

/// Batches of logs, in rising order of both.
pub type Content = [(LogId, Vec<Batch>)];

/// One incarnation's flushes into a store and the metadata, and what the logs' states are by them.
pub struct Flushes {
    /// Where the objects are.
    pub store: Store,
    /// Where the records are.
    pub metadata: Metadata,
    record: IncarnationRecord,
    segments: u64,
    sequence: u64,
    states: BTreeMap<LogId, LogState>,
}

impl Flushes {
    /// Begins with nothing, in `objects`.
    pub async fn into(objects: Arc<dyn ObjectStore>) -> Self {
        let metadata = Metadata::new(MemoryKv::new().open(), runtime());
        let record = metadata.register(BrokerId(1), 8).await.expect("memory does not fail");
        let store = Store::new(objects, runtime(), patience());
        Self { store, metadata, record, segments: 0, sequence: 0, states: BTreeMap::new() }
    }

    /// The index as it is loaded now.
    pub async fn load(&self) -> ObjectIndex {
        ObjectIndex::load(&self.metadata, self.store.clone()).await.expect("what was written can be read")
    }

    /// The state of a log after all that was written of it.
    pub fn state(&self, log: LogId) -> LogState {
        self.states.get(&log).cloned().unwrap_or_default()
    }

    /// Writes a shared segment.
    pub async fn shared(&mut self, content: &Content) -> (SharedRecord, Arc<Index>) {
        let (id, encoded) = self.flushed(Kind::Shared, content).await;
        (SharedRecord { id, shape: shape(&encoded), adopts: None }, Arc::new(encoded.index))
    }

    /// Writes a log segment of at least one batch.
    pub async fn log(&mut self, log: LogId, batches: Vec<Batch>) -> LogSegmentRecord {
        let (id, encoded) = self.flushed(Kind::Log, &[(log, batches)]).await;
        let blocks = &encoded.index.blocks;
        LogSegmentRecord {
            log,
            base_offset: blocks[0].base_offset,
            end_offset: blocks[blocks.len() - 1].end_offset,
            max_timestamp: blocks.iter().map(|block| block.max_timestamp).max().expect("not empty"),
            id,
            shape: shape(&encoded),
            cleaned_to: Offset(0),
        }
    }

    /// Commits a flush to the metadata.
    pub async fn commit(&mut self, commit: &Commit) {
        self.record = self.metadata.commit(&self.record, commit.clone()).await.expect("memory does not fail");
    }

    /// Writes each of `objects` as a WAL object of a dead incarnation, and the manifest that a take-over makes of them.
    pub async fn adopted(&mut self, objects: &[&Content]) -> (SharedRecord, Arc<Index>) {
        let dead = Incarnation { broker: BrokerId(9), epoch: BrokerEpoch(9) };
        let (blocks, _) = self.wal(dead, objects).await;
        let index = Index { blocks, ..Index::default() };
        let id = self.next_id();
        let encoded = SegmentWriter::index_only(Kind::Manifest, id.incarnation, id.number, index);
        self.put(&segment_path(id), &encoded).await;
        (SharedRecord { id, shape: shape(&encoded), adopts: Some(dead) }, Arc::new(encoded.index))
    }

    /// Writes each of `objects` as a WAL object, and the manifest that a flush makes of them.
    pub async fn adopted_by_flush(&mut self, objects: &[&Content]) -> (SharedRecord, Arc<Index>) {
        let own = self.record.incarnation;
        let (blocks, mut aborted) = self.wal(own, objects).await;
        aborted.sort_by_key(|(log, one)| (*log, one.last_offset));
        let mut logs: Vec<_> = blocks.iter().map(|block| block.log).collect();
        logs.dedup();
        let id = self.next_id();
        let mut writer = SegmentWriter::manifest(id.incarnation, id.number, blocks);
        aborted.into_iter().for_each(|(log, one)| writer.aborted(log, one));
        logs.into_iter().for_each(|log| writer.state(log, &self.state(log)));
        let encoded = writer.finish();
        self.put(&segment_path(id), &encoded).await;
        (SharedRecord { id, shape: shape(&encoded), adopts: Some(own) }, Arc::new(encoded.index))
    }

    /// Writes WAL objects. Returns their blocks, by log, and what they abort.
    async fn wal(
        &mut self,
        writer: Incarnation,
        objects: &[&Content],
    ) -> (Vec<BlockEntry>, Vec<(LogId, AbortedTransaction)>) {
        let (mut blocks, mut aborted) = (Vec::new(), Vec::new());
        for content in objects {
            let sequence = self.sequence;
            self.sequence += 1;
            let mut object = SegmentWriter::new(Kind::Wal, writer, sequence);
            aborted.extend(self.write(&mut object, content));
            let encoded = object.finish();
            self.put(&wal_path(writer, WalSequence(sequence)), &encoded).await;
            let of_object = encoded.index.blocks.into_iter();
            blocks.extend(of_object.map(|block| BlockEntry { object: sequence, ..block }));
        }
        blocks.sort_by_key(|block| (block.log, block.base_offset));
        (blocks, aborted)
    }

    async fn flushed(&mut self, kind: Kind, content: &Content) -> (SegmentId, Encoded) {
        let id = self.next_id();
        let mut writer = SegmentWriter::new(kind, id.incarnation, id.number);
        for (log, aborted) in self.write(&mut writer, content) {
            writer.aborted(log, aborted);
        }
        for (log, _) in content {
            writer.state(*log, &self.state(*log));
        }
        let encoded = writer.finish();
        self.put(&segment_path(id), &encoded).await;
        (id, encoded)
    }

    /// Writes batches, folds those that are new into the states, and returns what they abort.
    fn write(&mut self, writer: &mut SegmentWriter, content: &Content) -> Vec<(LogId, AbortedTransaction)> {
        let mut aborted = Vec::new();
        for (log, batches) in content {
            let state = self.states.entry(*log).or_default();
            for batch in batches {
                writer.batch(*log, batch);
                if batch.base_offset() >= state.end {
                    aborted.extend(state.apply(&batch.entry()).map(|one| (*log, one)));
                }
            }
        }
        aborted
    }

    async fn put(&self, path: &Path, encoded: &Encoded) {
        let put = self.store.put(path, encoded.payload.clone(), Purpose::Flush).await;
        put.expect("the store takes it");
    }

    /// The next name of a segment.
    pub fn next_id(&mut self) -> SegmentId {
        self.segments += 1;
        SegmentId { incarnation: self.record.incarnation, number: self.segments - 1 }
    }
}

fn shape(encoded: &Encoded) -> ObjectShape {
    let &Encoded { size, footer, .. } = encoded;
    ObjectShape { size, index_position: footer.index_position, index_size: footer.index_size }
}

/// A runtime whose randomness has a seed and which computes in place.
pub fn runtime() -> Runtime {
    let spawner = Arc::new(TokioSpawner);
    Runtime::new(Arc::new(SystemClock), Random::from_seed(1), spawner, Arc::new(Inline))
}

/// One attempt of a minute.
fn patience() -> Patience {
    let (attempt, total) = (Duration::from_secs(60), Duration::from_secs(1));
    Patience { attempt, total, backoff: Duration::from_millis(1), max_backoff: Duration::from_millis(1) }
}
