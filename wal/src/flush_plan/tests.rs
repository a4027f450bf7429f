use super::*;
use proptest::prelude::*;
use thalweg_segment::{Incarnation, LeaderEpoch, ProducerId, testing::BatchBuilder};

const SIZES: Sizes = Sizes { own: 1000, log: 2000, shared: 1500 };

fn batch(offset: i64, bytes: usize) -> Batch {
    let head = *BatchBuilder::new().base_offset(offset).records(1, 0).build().head();
    Batch::assemble(head, vec![0; bytes - thalweg_segment::HEADER_LEN].into())
}

/// WAL objects with batches of one record: each given as (log, offset, bytes).
fn objects(contents: &[&[(u64, i64, usize)]]) -> Vec<Arc<Batches>> {
    let object = |content: &&[(u64, i64, usize)]| {
        let mut batches = Batches::new();
        for (log, offset, bytes) in *content {
            batches.entry(LogId(*log)).or_default().push(batch(*offset, *bytes));
        }
        Arc::new(batches)
    };
    contents.iter().map(object).collect()
}

fn empty_bases(logs: std::ops::RangeInclusive<u64>) -> BTreeMap<LogId, Arc<LogState>> {
    logs.map(|log| (LogId(log), Arc::default())).collect()
}

/// A segment's kind, and for each of its parts log, base and end offset.
type Shape = (Kind, Vec<(u64, i64, i64)>);

fn shape(segments: &[Segment]) -> Vec<Shape> {
    let part = |part: &Part| (part.log.0, part.base_offset.0, part.end_offset().0);
    segments.iter().map(|segment| (segment.kind, segment.parts.iter().map(part).collect())).collect()
}

#[test]
fn a_log_with_enough_bytes_gets_its_own_segment_and_the_others_share_one() {
    let objects = objects(&[&[(1, 0, 100), (2, 0, 600)], &[(2, 1, 400), (3, 0, 100)], &[(1, 1, 100)]]);
    let segments = plan(&objects, &empty_bases(1..=3), SIZES);
    assert_eq!(shape(&segments), [(Kind::Log, vec![(2, 0, 2)]), (Kind::Shared, vec![(1, 0, 2), (3, 0, 1)])]);
}

#[test]
fn a_very_large_log_gets_several_segments_each_with_the_state_at_its_end() {
    let objects = objects(&[&[(1, 0, 1500), (1, 1, 600)], &[(1, 2, 1500)], &[(1, 3, 100)]]);
    let segments = plan(&objects, &empty_bases(1..=1), SIZES);
    assert_eq!(shape(&segments), [(Kind::Log, vec![(1, 0, 2)]), (Kind::Log, vec![(1, 2, 4)])]);
}

#[test]
fn a_shared_segment_ends_once_it_is_large_enough() {
    let objects = objects(&[&[(1, 0, 800), (2, 0, 800), (3, 0, 800)]]);
    let segments = plan(&objects, &empty_bases(1..=3), SIZES);
    assert_eq!(
        shape(&segments),
        [(Kind::Shared, vec![(1, 0, 1), (2, 0, 1)]), (Kind::Shared, vec![(3, 0, 1)])]
    );
}

#[test]
fn deleted_logs_and_what_is_committed_already_are_left_out() {
    let objects = objects(&[&[(1, 0, 100), (2, 0, 100)], &[(2, 1, 100)]]);
    let committed = LogState { end: Offset(1), ..LogState::default() };
    let bases = BTreeMap::from([(LogId(2), Arc::new(committed))]);
    assert_eq!(shape(&plan(&objects, &bases, SIZES)), [(Kind::Shared, vec![(2, 1, 2)])]);
}

#[test]
fn nothing_makes_no_segment() {
    assert!(plan(&[], &BTreeMap::new(), SIZES).is_empty());
}

#[test]
fn a_state_block_goes_on_from_the_state_at_the_previous_flush() {
    let begin = BatchBuilder::new().base_offset(0).producer(7, 0, 0).transactional().records(2, 10);
    let abort = BatchBuilder::new().base_offset(2).producer(7, 0, -1).marker(false, 3).leader_epoch(1);
    let [first, second] = [begin, abort].map(|batch| {
        let batches = BTreeMap::from([(LogId(1), vec![batch.build()])]);
        [Arc::new(batches)]
    });
    let before = plan(&first, &empty_bases(1..=1), SIZES);
    let state = before[0].parts[0].state.clone();
    assert_eq!(state.producers[ProducerId(7)].transaction_start, Some(Offset(0)));
    assert!(before[0].parts[0].aborted.is_empty());

    let after = plan(&second, &BTreeMap::from([(LogId(1), state)]), SIZES);
    let part = &after[0].parts[0];
    assert_eq!(part.state.leader_epochs, [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(1), Offset(2))]);
    assert_eq!(part.state.producers[ProducerId(7)].transaction_start, None);
    let aborted: Vec<_> =
        part.aborted.iter().map(|aborted| (aborted.first_offset, aborted.last_offset)).collect();
    assert_eq!(aborted, [(Offset(0), Offset(2))]);
}

proptest! {
    #[test]
    fn the_segments_hold_every_batch_once_in_order_and_each_state_at_its_end(
        contents in prop::collection::vec(prop::collection::vec((1..6u64, 61..900usize), 0..8), 0..12),
    ) {
        let mut ends: BTreeMap<u64, i64> = BTreeMap::new();
        let mut place = |(log, bytes): &(u64, usize)| {
            let end = ends.entry(*log).or_default();
            *end += 1;
            (*log, *end - 1, *bytes)
        };
        let contents: Vec<Vec<_>> =
            contents.iter().map(|object| object.iter().map(&mut place).collect()).collect();
        let contents: Vec<&[_]> = contents.iter().map(Vec::as_slice).collect();

        let mut found: BTreeMap<u64, i64> = BTreeMap::new();
        let segments = plan(&objects(&contents), &empty_bases(1..=5), SIZES);
        for (number, segment) in segments.iter().enumerate() {
            let id = SegmentId { incarnation: Incarnation::default(), number: number as u64 };
            let index = segment.encode(id).index;
            for block in &index.blocks {
                let end = found.entry(block.log.0).or_default();
                prop_assert_eq!(block.base_offset.0, *end);
                prop_assert_eq!(i64::from(block.record_count), block.end_offset.0 - *end);
                *end = block.end_offset.0;
            }
            let stated: Vec<_> = index.states.iter().map(|state| (state.log, state.end)).collect();
            prop_assert_eq!(stated, segment.ends().collect::<Vec<_>>());
        }
        prop_assert_eq!(found, ends);
    }
}
