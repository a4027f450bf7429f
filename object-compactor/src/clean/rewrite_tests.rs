use super::{
    Filter, FilterSettings, KeyMap, LastBatches, Mapped, Mapping, Round, clean_group, first_timestamp,
    map_dirty,
    plain::{Plain, records},
};
use object_store::memory::InMemory;
use std::sync::Arc;
use thalweg_metadata::{
    LogSegmentRecord,
    testing::{Flushes, runtime},
};
use thalweg_segment::{
    AbortedTransaction, Batch, Footer, Index, LogId, LogState, Method, Offset, Purpose, SegmentId,
    read_object, segment_path, split_batches, testing::BatchBuilder,
};

const LOG: LogId = LogId(7);

/// A log in segments, and the means to clean it.
struct World {
    flushes: Flushes,
    segments: Vec<LogSegmentRecord>,
    round: Round,
}

impl World {
    async fn of(segments: impl IntoIterator<Item = Vec<Batch>>) -> Self {
        let mut flushes = Flushes::into(Arc::new(InMemory::new())).await;
        let mut written = Vec::new();
        for batches in segments {
            written.push(flushes.log(LOG, batches).await);
        }
        let (runtime, store) = (runtime(), flushes.store.clone());
        let round = Round {
            runtime,
            store,
            log: LOG,
            codec: Arc::new(Plain),
            bytes_per_second: f64::MAX,
            part_bytes: 40,
        };
        Self { flushes, segments: written, round }
    }

    async fn mapped(&self, from: Offset, aborted: &[AbortedTransaction]) -> Mapped {
        let table = KeyMap::new(1 << 16, 1_000, 0.9, from, 1);
        let mapping = Mapping::new(table, aborted, from);
        let mapping = map_dirty(&self.round, &self.segments, from, mapping).await.unwrap();
        mapping.finish(self.segments[self.segments.len() - 1].end_offset)
    }

    async fn filter(&self, from: Offset, aborted: &[AbortedTransaction]) -> Filter {
        let settings = FilterSettings { delete_retention_ms: 100, now_ms: 1_000 };
        let mapped = self.mapped(from, aborted).await;
        Filter::new(mapped, aborted, LastBatches::default(), settings, self.round.codec.clone())
    }

    async fn clean(
        &self,
        sources: &[LogSegmentRecord],
        filter: Filter,
        must: bool,
    ) -> Option<LogSegmentRecord> {
        let id = SegmentId { number: 99, ..self.segments[0].id };
        clean_group(&self.round, sources, filter, id, Offset(5), must).await.unwrap().1
    }

    /// What was written under the name of a record.
    async fn read(&self, record: &LogSegmentRecord) -> (Footer, Index, Vec<Batch>, LogState) {
        let object = self.flushes.store.get(&segment_path(record.id), Purpose::Fetch).await.unwrap();
        let (footer, index) = read_object(&object).unwrap();
        let range = |from: u64, size: u32| from as usize..from as usize + size as usize;
        let blocks = index.blocks.iter().map(|block| object.slice(range(block.position, block.size)));
        let batches = blocks.flat_map(|block| split_batches(block).unwrap()).collect();
        let state = index.state_of(LOG).unwrap();
        let state = LogState::decode(&object[range(state.position, state.size)]).unwrap();
        (footer, index, batches, state)
    }
}

fn batch(base: i64, keys: &[&'static str]) -> Batch {
    let builder = BatchBuilder::new().base_offset(base).producer(base, 0, 0);
    keys.iter().fold(builder, |builder, key| builder.record(*key, "value")).build()
}

fn offsets(batches: &[Batch]) -> Vec<i64> {
    batches.iter().flat_map(records).map(|record| record.offset).collect()
}

#[tokio::test]
async fn segments_become_one_that_covers_the_offsets_of_all() {
    let world = World::of([
        vec![batch(10, &["a", "b"]), batch(12, &["c"])],
        vec![batch(13, &["b"])],
        vec![batch(14, &["c"])],
    ])
    .await;
    let filter = world.filter(Offset(10), &[]).await;
    let cleaned = world.clean(&world.segments, filter, false).await.unwrap();
    assert_eq!((cleaned.base_offset, cleaned.end_offset), (Offset(10), Offset(15)));
    assert_eq!((cleaned.log, cleaned.cleaned_to), (LOG, Offset(5)));
    let (footer, index, batches, state) = world.read(&cleaned).await;
    assert_eq!(offsets(&batches), [10, 13, 14]);
    assert_eq!(state, world.flushes.state(LOG), "the state is that of the last segment");
    assert_eq!(cleaned.shape.index_position, footer.index_position);
    assert_eq!(index.blocks[0].max_timestamp, cleaned.max_timestamp);
}

#[tokio::test]
async fn a_segment_of_which_all_goes_keeps_the_headers_of_its_first_and_last_batch() {
    let all = vec![batch(0, &["a"]), batch(1, &["b"]), batch(2, &["c", "c"])];
    let world = World::of([all, vec![batch(4, &["a", "b", "c"])]]).await;
    let filter = world.filter(Offset(0), &[]).await;
    let cleaned = world.clean(&world.segments[..1], filter, false).await.unwrap();
    let (_, index, batches, state) = world.read(&cleaned).await;
    let offsets = |batch: &Batch| (batch.base_offset().0, batch.end_offset().0, batch.record_count());
    assert_eq!(batches.iter().map(offsets).collect::<Vec<_>>(), [(0, 1, 0), (2, 4, 0)]);
    let block = &index.blocks[0];
    assert_eq!((block.base_offset, block.end_offset), (cleaned.base_offset, cleaned.end_offset));
    assert_eq!((cleaned.base_offset, state.end), (Offset(0), Offset(4)));
}

#[tokio::test]
async fn a_segment_of_which_everything_stays_is_written_only_where_it_must() {
    let world = World::of([vec![batch(0, &["a", "b"])], vec![batch(2, &["c"])]]).await;
    let filter = world.filter(Offset(0), &[]).await;
    assert_eq!(world.clean(&world.segments[..1], filter, false).await, None);
    let filter = world.filter(Offset(0), &[]).await;
    let cleaned = world.clean(&world.segments[..1], filter, true).await.unwrap();
    let (.., batches, _) = world.read(&cleaned).await;
    assert_eq!(offsets(&batches), [0, 1]);
}

#[tokio::test]
async fn an_aborted_transaction_is_told_of_where_its_marker_stays() {
    let transactional = |base, key: &'static str| {
        BatchBuilder::new()
            .base_offset(base)
            .producer(1, 0, base as i32)
            .transactional()
            .record(key, "v")
            .build()
    };
    let marker = BatchBuilder::new().base_offset(2).producer(1, 0, -1).marker(false, 0).build();
    let world = World::of([vec![transactional(0, "a")], vec![batch(1, &["b"]), marker]]).await;
    let aborted = AbortedTransaction {
        producer_id: thalweg_segment::ProducerId(1),
        first_offset: Offset(0),
        last_offset: Offset(2),
        last_stable_offset: Offset(3),
    };
    let filter = world.filter(Offset(0), &[aborted]).await;
    let cleaned = world.clean(&world.segments, filter, false).await.unwrap();
    let (_, index, batches, _) = world.read(&cleaned).await;
    assert_eq!(offsets(&batches), [1, 2], "the data is gone, the marker is not");
    assert_eq!(index.aborted, [(LOG, aborted)]);
}

#[tokio::test]
async fn a_segment_larger_than_a_part_is_uploaded_in_parts_unless_nothing_of_it_changes() {
    let requests = |world: &World| world.flushes.store.requests().of(Purpose::Compaction, Method::Multipart);
    let keys = ["a", "b", "c", "d", "e", "f"];
    let world = World::of([vec![batch(0, &keys), batch(6, &["a"])], vec![batch(7, &keys)]]).await;
    let filter = world.filter(Offset(0), &[]).await;
    assert_eq!(world.clean(&world.segments[1..], filter, false).await, None);
    assert_eq!(requests(&world), 0);
    let filter = world.filter(Offset(0), &[]).await;
    let cleaned = world.clean(&world.segments, filter, false).await.unwrap();
    assert!(requests(&world) > 3, "begun, parts, completed");
    let (.., batches, _) = world.read(&cleaned).await;
    assert_eq!(offsets(&batches), [7, 8, 9, 10, 11, 12]);
}

#[tokio::test]
async fn only_what_is_dirty_is_mapped_and_read_for_that() {
    let world = World::of([vec![batch(0, &["a"])], vec![batch(1, &["b", "c"])]]).await;
    let mapped = world.mapped(Offset(2), &[]).await;
    assert_eq!((mapped.len(), mapped.end()), (1, Offset(3)));
}

#[tokio::test]
async fn what_is_dirty_was_first_written_when_its_first_batch_with_a_time_was() {
    let at = |base: i64, ms: i64| {
        let builder = BatchBuilder::new().base_offset(base).timestamp(ms);
        builder.record("key", "value").build()
    };
    let world = World::of([vec![at(0, 500), at(1, -1), at(2, 700)], vec![at(3, 100)]]).await;
    for (from, expected) in [(0, Some(500)), (1, Some(700)), (3, Some(100)), (4, None)] {
        let first = first_timestamp(&world.round, &world.segments, Offset(from)).await.unwrap();
        assert_eq!(first, expected, "from {from}");
    }
}

#[tokio::test]
async fn another_objects_record_is_an_error_that_lasts() {
    let world = World::of([vec![batch(0, &["a"])], vec![batch(1, &["b"])]]).await;
    let other = LogSegmentRecord { log: LogId(8), ..world.segments[0] };
    for (round, record) in [
        (world.round.clone(), LogSegmentRecord { end_offset: Offset(3), ..world.segments[0] }),
        (Round { log: LogId(8), ..world.round.clone() }, other),
    ] {
        let filter = world.filter(Offset(0), &[]).await;
        let cleaned = clean_group(&round, &[record], filter, world.segments[0].id, Offset(0), true).await;
        assert!(cleaned.err().is_some_and(|error| error.is_lasting()));
    }
}
