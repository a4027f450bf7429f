use super::*;
use proptest::prelude::*;
use thalweg_segment::{Incarnation, LeaderEpoch, ProducerId, testing::BatchBuilder};

const SIZES: Sizes = Sizes { own: 1000, log: 2000, shared: 1500, adopted_block: usize::MAX };

fn batch(offset: i64, bytes: usize) -> Batch {
    let head = *BatchBuilder::new().base_offset(offset).records(1, 0).build().head();
    Batch::assemble(head, vec![0; bytes - thalweg_segment::HEADER_LEN].into())
}

/// WAL objects with batches of one record: each given as (log, offset, bytes).
fn objects(contents: &[&[(u64, i64, usize)]]) -> Vec<Object> {
    let object = |content: &&[(u64, i64, usize)]| {
        let mut batches = Batches::new();
        for (log, offset, bytes) in *content {
            batches.entry(LogId(*log)).or_default().push(batch(*offset, *bytes));
        }
        Arc::new(batches)
    };
    numbered(contents.iter().map(object).collect())
}

/// From sequence 7 on.
fn numbered(objects: Vec<Arc<Batches>>) -> Vec<Object> {
    let object = |(sequence, batches)| Object { sequence: WalSequence(sequence), batches };
    (7..).zip(objects).map(object).collect()
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
    let segments = plan(objects, &empty_bases(1..=3), SIZES);
    assert_eq!(shape(&segments), [(Kind::Log, vec![(2, 0, 2)]), (Kind::Shared, vec![(1, 0, 2), (3, 0, 1)])]);
}

#[test]
fn a_very_large_log_gets_several_segments_each_with_the_state_at_its_end() {
    let objects = objects(&[&[(1, 0, 1500), (1, 1, 600)], &[(1, 2, 1500)], &[(1, 3, 100)]]);
    let segments = plan(objects, &empty_bases(1..=1), SIZES);
    assert_eq!(shape(&segments), [(Kind::Log, vec![(1, 0, 2)]), (Kind::Log, vec![(1, 2, 4)])]);
}

#[test]
fn a_shared_segment_ends_once_it_is_large_enough() {
    let objects = objects(&[&[(1, 0, 800), (2, 0, 800), (3, 0, 800)]]);
    let segments = plan(objects, &empty_bases(1..=3), SIZES);
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
    assert_eq!(shape(&plan(objects, &bases, SIZES)), [(Kind::Shared, vec![(2, 1, 2)])]);
}

#[test]
fn nothing_makes_no_segment() {
    assert!(plan(Vec::new(), &BTreeMap::new(), SIZES).is_empty());
}

#[test]
fn a_state_block_goes_on_from_the_state_at_the_previous_flush() {
    let begin = BatchBuilder::new().base_offset(0).producer(7, 0, 0).transactional().records(2, 10);
    let abort = BatchBuilder::new().base_offset(2).producer(7, 0, -1).marker(false, 3).leader_epoch(1);
    let [first, second] = [begin, abort].map(|batch| {
        let batches = BTreeMap::from([(LogId(1), vec![batch.build()])]);
        [Arc::new(batches)]
    });
    let before = plan(numbered(first.into()), &empty_bases(1..=1), SIZES);
    let state = before[0].parts[0].state.clone();
    assert_eq!(state.producers[ProducerId(7)].transaction_start, Some(Offset(0)));
    assert!(before[0].parts[0].aborted.is_empty());

    let after = plan(numbered(second.into()), &BTreeMap::from([(LogId(1), state)]), SIZES);
    let part = &after[0].parts[0];
    assert_eq!(part.state.leader_epochs, [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(1), Offset(2))]);
    assert_eq!(part.state.producers[ProducerId(7)].transaction_start, None);
    let aborted: Vec<_> =
        part.aborted.iter().map(|aborted| (aborted.first_offset, aborted.last_offset)).collect();
    assert_eq!(aborted, [(Offset(0), Offset(2))]);
}

#[test]
fn objects_with_large_blocks_are_adopted_as_they_are() {
    let sizes = Sizes { adopted_block: 500, ..SIZES };
    let objects = objects(&[&[(1, 0, 300), (1, 1, 300), (2, 0, 400)], &[(2, 1, 900), (3, 0, 600)]]);
    // Log 3 was deleted.
    let segments = plan(objects.clone(), &empty_bases(1..=2), sizes);
    assert_eq!(shape(&segments), [(Kind::FlushManifest, vec![(1, 0, 2), (2, 0, 2)])]);
    let manifest = segments[0].encode(SegmentId::default());
    let place = |block: &BlockEntry| (block.log.0, block.base_offset.0, block.object, block.size);
    let places: Vec<_> = manifest.index.blocks.iter().map(place).collect();
    assert_eq!(places, [(1, 0, 7, 600), (2, 0, 7, 400), (2, 1, 8, 900)]);
    for block in &manifest.index.blocks {
        let object = &objects[(block.object - 7) as usize];
        let written = upload::encode(Incarnation::default(), object.sequence, &object.batches);
        let bytes = written.payload.iter().map(|piece| &piece[..]).collect::<Vec<_>>().concat();
        let (start, end) = (block.position as usize, block.end_position() as usize);
        thalweg_segment::check_block(&bytes[start..end].to_vec().into(), block).expect("it lies there");
    }
}

#[test]
fn objects_with_small_blocks_or_tiny_batches_or_something_committed_are_written_again() {
    let sizes = Sizes { adopted_block: 500, ..SIZES };
    let kinds = |objects, bases: &BTreeMap<_, _>| {
        plan(objects, bases, sizes).iter().map(|segment| segment.kind).collect::<Vec<_>>()
    };
    let small = objects(&[&[(1, 0, 600), (2, 0, 300)]]);
    assert_eq!(kinds(small, &empty_bases(1..=2)), [Kind::Shared]);
    let tiny: Vec<_> = (0..=ADOPTED_BATCHES as i64).map(|offset| (1, offset, 61)).collect();
    assert_eq!(kinds(objects(&[&tiny[1..]]), &empty_bases(1..=1)), [Kind::FlushManifest]);
    assert_eq!(kinds(objects(&[&tiny]), &empty_bases(1..=1)), [Kind::Log]);
    let committed = LogState { end: Offset(1), ..LogState::default() };
    let bases = BTreeMap::from([(LogId(1), Arc::new(committed))]);
    assert_eq!(kinds(objects(&[&[(1, 0, 600), (1, 1, 600)]]), &bases), [Kind::Shared]);
}

proptest! {
    #[test]
    fn the_segments_hold_every_batch_once_in_order_and_each_state_at_its_end(
        contents in prop::collection::vec(prop::collection::vec((1..6u64, 61..900usize), 0..8), 0..12),
        adopted_block in prop_oneof![Just(1), Just(usize::MAX)],
    ) {
        let sizes = Sizes { adopted_block, ..SIZES };
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
        let segments = plan(objects(&contents), &empty_bases(1..=5), sizes);
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
