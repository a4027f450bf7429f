//! How a writer lays an object out, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use thalweg_segment::testing::BatchBuilder;
use thalweg_segment::*;

const WRITER: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) };

fn batch(base_offset: i64, records: usize, size: usize) -> Batch {
    BatchBuilder::new().base_offset(base_offset).records(records, size).build()
}

fn writer(kind: Kind) -> SegmentWriter {
    SegmentWriter::new(kind, WRITER, 0)
}

#[test]
fn a_block_is_cut_once_it_has_reached_its_target() {
    let mut writer = writer(Kind::Wal);
    for offset in 0..5 {
        writer.batch(LogId(1), &batch(offset, 1, BLOCK_TARGET_BYTES / 2));
    }
    let index = writer.finish().index;
    let offsets: Vec<_> =
        index.blocks.iter().map(|block| (block.base_offset.0, block.end_offset.0)).collect();
    assert_eq!(offsets, [(0, 2), (2, 4), (4, 5)]);
}

#[test]
fn a_block_holds_batches_of_one_log() {
    let mut writer = writer(Kind::Shared);
    writer.batch(LogId(1), &batch(0, 1, 1));
    writer.batch(LogId(1), &batch(1, 1, 1));
    writer.batch(LogId(2), &batch(0, 1, 1));
    let index = writer.finish().index;
    let batches: Vec<_> = index.blocks.iter().map(|block| (block.log.0, block.batches.len())).collect();
    assert_eq!(batches, [(1, 2), (2, 1)]);
}

#[test]
fn a_log_segment_indexes_blocks_alone() {
    let mut writer = writer(Kind::Log);
    writer.batch(LogId(1), &batch(0, 3, 1));
    writer.batch(LogId(1), &batch(9, 1, 1));
    let block = &writer.finish().index.blocks[0];
    assert_eq!((block.end_offset, block.record_count, block.batches.len()), (Offset(10), 4, 0));
}

#[test]
fn long_records_are_shared_with_the_object() {
    let batch = batch(0, 1, 10_000);
    let mut writer = writer(Kind::Wal);
    writer.batch(LogId(1), &batch);
    assert_eq!(writer.data_size(), batch.len() as u64);
    let payload = writer.finish().payload;
    assert!(payload.iter().any(|piece| piece.as_ptr() == batch.records().as_ptr()));
}

#[test]
fn a_run_that_is_not_whole_batches_adds_nothing() {
    let run =
        [BatchBuilder::new().records(1, 5).bytes(), BatchBuilder::new().base_offset(1).records(1, 5).bytes()];
    let run = bytes::Bytes::from(run.concat());
    let mut writer = writer(Kind::Shared);
    let cut = writer.batches(LogId(1), run.slice(..run.len() - 1));
    assert!(matches!(cut, Err(BatchError::Truncated { .. })));
    assert_eq!(writer.data_size(), 0);
    writer.batches(LogId(1), run).unwrap();
    assert_eq!(writer.finish().index.blocks[0].batches.len(), 2);
}

#[test]
fn a_fence_is_an_object_without_content() {
    let fence = SegmentWriter::new(Kind::Fence, WRITER, 77).finish();
    assert_eq!((fence.footer.kind, fence.footer.number, fence.footer.writer), (Kind::Fence, 77, WRITER));
    assert_eq!(fence.index, Index::default());
    assert!(fence.size < 100);
}

#[test]
#[should_panic(expected = "batch at 0 of log 1 is out of order")]
fn logs_out_of_order_are_refused() {
    let mut writer = writer(Kind::Wal);
    writer.batch(LogId(2), &batch(0, 1, 1));
    writer.batch(LogId(1), &batch(0, 1, 1));
}

#[test]
#[should_panic(expected = "batch at 2 of log 1 is out of order")]
fn offsets_that_overlap_are_refused() {
    let mut writer = writer(Kind::Wal);
    writer.batch(LogId(1), &batch(0, 3, 1));
    writer.batch(LogId(1), &batch(2, 1, 1));
}

#[test]
#[should_panic(expected = "a log segment holds one log")]
fn a_second_log_in_a_log_segment_is_refused() {
    let mut writer = writer(Kind::Log);
    writer.batch(LogId(1), &batch(0, 1, 1));
    writer.batch(LogId(2), &batch(0, 1, 1));
}

#[test]
#[should_panic(expected = "Wal holds no states")]
fn a_state_in_a_wal_object_is_refused() {
    writer(Kind::Wal).state(LogId(1), &LogState::default());
}

#[test]
#[should_panic(expected = "state of log 1 is not at its end")]
fn a_state_from_before_the_end_is_refused() {
    let mut writer = writer(Kind::Shared);
    writer.batch(LogId(1), &batch(0, 3, 1));
    writer.state(LogId(1), &LogState { end: Offset(2), ..LogState::default() });
    writer.finish();
}
