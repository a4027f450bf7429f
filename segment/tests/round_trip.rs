//! Whatever is written reads back the same; whatever is damaged is noticed.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use thalweg_segment::testing::BatchBuilder;
use thalweg_segment::*;

const WRITER: Incarnation = Incarnation { broker: BrokerId(3), epoch: BrokerEpoch(17) };

/// One batch of a generated log.
#[derive(Clone, Debug)]
struct Spec {
    hole: i64,
    records: usize,
    size: usize,
    producer: i64,
    leader_epoch_rises: bool,
    marker: Option<bool>,
    timestamp: i64,
}

fn spec() -> impl Strategy<Value = Spec> {
    let sizes = prop_oneof![4 => 0usize..40, 2 => 400usize..1200, 1 => Just(300_000)];
    let hole = prop_oneof![5 => Just(0), 1 => 1i64..5_000_000_000];
    (
        hole,
        1usize..4,
        sizes,
        -1i64..4,
        prop::bool::weighted(0.1),
        option::weighted(0.2, any::<bool>()),
        any::<i32>(),
    )
        .prop_map(|(hole, records, size, producer, leader_epoch_rises, marker, timestamp)| Spec {
            hole,
            records,
            size,
            producer,
            leader_epoch_rises,
            marker,
            timestamp: timestamp.into(),
        })
}

/// Logs in rising order of their ids, each with a few batches.
fn logs() -> impl Strategy<Value = Vec<(LogId, Vec<Batch>)>> {
    vec((1u64..1000, vec(spec(), 1..8)), 0..6).prop_map(|logs| {
        let mut id = 0;
        logs.into_iter()
            .map(|(step, specs)| {
                id += step;
                (LogId(id), batches(&specs))
            })
            .collect()
    })
}

fn batches(specs: &[Spec]) -> Vec<Batch> {
    let (mut end, mut epoch) = (0, 0);
    specs
        .iter()
        .map(|spec| {
            epoch += i32::from(spec.leader_epoch_rises);
            let batch = build(spec, end + spec.hole, epoch);
            end = batch.end_offset().0;
            batch
        })
        .collect()
}

fn build(spec: &Spec, base_offset: i64, leader_epoch: i32) -> Batch {
    let batch =
        BatchBuilder::new().base_offset(base_offset).leader_epoch(leader_epoch).timestamp(spec.timestamp);
    match (spec.producer, spec.marker) {
        (0.., Some(committed)) => batch.producer(spec.producer, 0, -1).marker(committed, 1),
        (0.., None) => batch.producer(spec.producer, 0, 5).transactional().records(spec.records, spec.size),
        _ => batch.records(spec.records, spec.size),
    }
    .build()
}

/// A whole segment with blocks, states and aborted transactions as a flush writes it (no states for other kinds).
fn write(kind: Kind, logs: &[(LogId, Vec<Batch>)]) -> Encoded {
    let mut writer = SegmentWriter::new(kind, WRITER, 42);
    for (log, batches) in logs {
        let mut state = LogState::default();
        for batch in batches {
            writer.batch(*log, batch);
            if let Some(aborted) = state.apply(&batch.entry()) {
                writer.aborted(*log, aborted);
            }
        }
        if kind != Kind::Wal {
            writer.state(*log, &state);
        }
    }
    writer.finish()
}

fn bytes(encoded: &Encoded) -> Bytes {
    let pieces: Vec<&[u8]> = encoded.payload.iter().map(|piece| &piece[..]).collect();
    let bytes = Bytes::from(pieces.concat());
    assert_eq!(bytes.len() as u64, encoded.size);
    bytes
}

fn block_bytes(object: &Bytes, block: &BlockEntry) -> Bytes {
    object.slice(block.position as usize..block.end_position() as usize)
}

/// The small segment that damage is done to: every kind of entry stands in it.
fn small_segment() -> Bytes {
    let spec = |producer, marker| Spec {
        hole: 0,
        records: 1,
        size: 3,
        producer,
        leader_epoch_rises: false,
        marker,
        timestamp: 1_700_000_000_000,
    };
    let one = batches(&[spec(1, None), spec(2, None), spec(1, Some(false))]);
    let two = batches(&[spec(-1, None)]);
    bytes(&write(Kind::Shared, &[(LogId(1), one), (LogId(900), two)]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_segment_reads_back_as_it_was_written(logs in logs(), kind in prop_oneof![Just(Kind::Wal), Just(Kind::Shared)]) {
        let encoded = write(kind, &logs);
        let object = bytes(&encoded);
        let (footer, index) = read_object(&object).unwrap();
        prop_assert_eq!(footer, encoded.footer);
        prop_assert_eq!(&index, &encoded.index);
        for (log, batches) in &logs {
            let blocks = index.blocks_of(*log);
            let entries: Vec<_> = blocks.iter().flat_map(|block| block.batches.clone()).collect();
            prop_assert_eq!(entries, batches.iter().map(Batch::entry).collect::<Vec<_>>());
            let read = blocks.iter().flat_map(|block| split_batches(block_bytes(&object, block)).unwrap());
            prop_assert!(read.map(|batch| whole(&batch)).eq(batches.iter().map(whole)));
            prop_assert!(blocks[..blocks.len() - 1].iter().all(|block| block.size as usize >= BLOCK_TARGET_BYTES));
            prop_assert_eq!(index.state_of(*log).is_some(), kind == Kind::Shared);
        }
    }

    #[test]
    fn a_run_copied_from_another_object_equals_its_batches(logs in logs()) {
        let object = bytes(&write(Kind::Wal, &logs));
        let (_, index) = read_object(&object).unwrap();
        let mut copy = SegmentWriter::new(Kind::Wal, WRITER, 42);
        for block in &index.blocks {
            copy.batches(block.log, block_bytes(&object, block)).unwrap();
        }
        for (log, aborted) in &index.aborted {
            copy.aborted(*log, *aborted);
        }
        prop_assert_eq!(bytes(&copy.finish()), object);
    }

    #[test]
    fn a_state_reads_back_as_it_was_written(specs in vec(spec(), 0..40)) {
        let state = fold(LogState::default(), &batches(&specs));
        prop_assert_eq!(LogState::decode(&state.encode()), Ok(state));
    }

    #[test]
    fn folding_in_two_pieces_with_a_state_block_between_equals_folding_at_once(specs in vec(spec(), 0..40), cut: prop::sample::Index) {
        let batches = batches(&specs);
        let (before, behind) = batches.split_at(cut.index(batches.len() + 1));
        let state = LogState::decode(&fold(LogState::default(), before).encode()).unwrap();
        prop_assert_eq!(fold(state, behind), fold(LogState::default(), &batches));
    }

    #[test]
    fn a_footer_reads_back_as_it_was_written(broker: i32, epoch: u64, number: u64, states in 8u64..1 << 40, gap in 0u64..1 << 40, size: u32, crc: u32) {
        let footer = Footer {
            kind: Kind::Log,
            writer: Incarnation { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) },
            number,
            states_position: states,
            index_position: states + gap,
            index_size: size,
            index_crc: crc,
        };
        prop_assert_eq!(Footer::decode(&footer.encode()), Ok(footer));
    }

    #[test]
    fn an_index_with_any_values_reads_back_as_it_was_written(index in any_index()) {
        prop_assert_eq!(Index::decode(index.encode()), Ok(index));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        // With the version in place the decoders get further.
        for version in [false, true] {
            if version && bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&[0, 1]);
            }
            let _ = Index::decode(bytes.clone().into());
            let _ = LogState::decode(&bytes);
            let _ = split_batches(bytes.clone().into());
        }
        prop_assert!(Footer::decode(&bytes).is_err());
        prop_assert!(read_object(&bytes.into()).is_err());
    }

    #[test]
    fn small_numbers_for_an_index_or_a_state_do_not_panic(bytes in vec(0u8..6, 0..120)) {
        let bytes = [&[0, 1][..], &bytes].concat();
        if let Ok(index) = Index::decode(bytes.clone().into()) {
            prop_assert_eq!(Index::decode(index.encode()), Ok(index));
        }
        if let Ok(state) = LogState::decode(&bytes) {
            prop_assert_eq!(LogState::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn an_index_or_a_state_that_no_checksum_covers_is_damaged_without_a_panic(at: prop::sample::Index, byte: u8) {
        let object = small_segment();
        let (footer, index) = read_object(&object).unwrap();
        let block = footer.index_position as usize..footer.index_position as usize + footer.index_size as usize;
        let state = index.states[0].position as usize..index.states[0].end_position() as usize;
        let damage = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        };
        if let Ok(index) = Index::decode(damage(object[block].to_vec()).into()) {
            prop_assert_eq!(Index::decode(index.encode()), Ok(index));
        }
        if let Ok(state) = LogState::decode(&damage(object[state].to_vec())) {
            prop_assert_eq!(LogState::decode(&state.encode()), Ok(state));
        }
    }
}

#[test]
fn every_damaged_byte_of_an_object_is_noticed() {
    let object = small_segment();
    assert!(read_object(&object).is_ok());
    for at in 0..object.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = object.to_vec();
            damaged[at] ^= flip;
            assert!(read_object(&damaged.into()).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_truncation_of_an_object_is_noticed() {
    let object = small_segment();
    for length in 0..object.len() {
        assert!(read_object(&object.slice(..length)).is_err(), "the first {length} bytes");
        assert!(read_object(&object.slice(object.len() - length..)).is_err(), "the last {length} bytes");
    }
}

fn whole(batch: &Batch) -> Vec<u8> {
    [&batch.head()[..], batch.records()].concat()
}

fn fold(mut state: LogState, batches: &[Batch]) -> LogState {
    for batch in batches {
        state.apply(&batch.entry());
    }
    state
}

prop_compose! {
    fn any_batch()(
        hole in 0i64..1 << 40, last_offset_delta in 0i32.., record_count: i32, size in 61u32.., leader_epoch: i32,
        attributes: i16, max_timestamp: i64, producer_id: i64, producer_epoch: i16, base_sequence: i32,
        marker in option::of(any::<(bool, i32)>()),
    ) -> BatchEntry {
        BatchEntry {
            base_offset: Offset(hole),
            last_offset_delta,
            record_count,
            size,
            leader_epoch: LeaderEpoch(leader_epoch),
            attributes,
            max_timestamp,
            producer_id: ProducerId(producer_id),
            producer_epoch,
            base_sequence,
            marker: marker.map(|(committed, coordinator_epoch)| Marker { committed, coordinator_epoch }),
        }
    }
}

prop_compose! {
    /// A block as a manifest may have it: not at its batches' sum in any respect.
    fn any_block()(
        log in 0u64..3, hole in 0i64..1 << 40, behind in 1i64..1 << 40, record_count: u32, object: u64,
        position in 0..u64::MAX >> 1, size: u32, crc: u32, max_timestamp: i64, batches in vec(any_batch(), 0..4),
    ) -> BlockEntry {
        let (base_offset, end_offset) = (Offset(hole), Offset(behind));
        let log = LogId(log);
        BlockEntry { log, base_offset, end_offset, record_count, object, position, size, crc, max_timestamp, batches }
    }
}

prop_compose! {
    fn any_index()(
        mut blocks in vec(any_block(), 0..6),
        states in vec((1u64..1 << 60, 0i64.., 0..u64::MAX >> 1, any::<u32>(), any::<u32>()), 0..4),
        aborted in vec((0u64..3, any::<i64>(), 1i64..1 << 40, 0i64..1 << 40, 0i64..), 0..4),
    ) -> Index {
        place(&mut blocks);
        let mut log = 0;
        let states = states.into_iter().map(|(step, end, position, size, crc)| {
            log += step;
            StateEntry { log: LogId(log), end: Offset(end), position, size, crc }
        }).collect();
        let (mut log, mut offset) = (0, 0);
        let aborted = aborted.into_iter().map(|(step, producer, forward, back, last_stable_offset)| {
            log += step;
            offset += forward;
            (LogId(log), AbortedTransaction {
                producer_id: ProducerId(producer),
                first_offset: Offset((offset - back).max(0)),
                last_offset: Offset(offset),
                last_stable_offset: Offset(last_stable_offset),
            })
        }).collect();
        Index { blocks, states, aborted }
    }
}

/// Makes differences of the generated numbers into offsets and ids in order.
fn place(blocks: &mut [BlockEntry]) {
    let (mut log, mut end) = (0, 0);
    for block in blocks {
        log += block.log.0;
        end += block.base_offset.0;
        (block.log, block.base_offset) = (LogId(log), Offset(end));
        for batch in &mut block.batches {
            batch.base_offset = Offset(end + batch.base_offset.0);
            end = batch.end_offset().0;
        }
        end += block.end_offset.0;
        block.end_offset = Offset(end);
    }
}
