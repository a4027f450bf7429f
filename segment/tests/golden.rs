//! Objects as version 1 wrote them, byte for byte. They stay: whatever a later version writes, it reads these.
//!
//! A changed format gets a new version and files of its own beside these; `UPDATE_EXPECT=1` writes those.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::Bytes;
use expect_test::expect_file;
use std::fmt::Write;
use thalweg_segment::testing::BatchBuilder;
use thalweg_segment::*;

const WRITER: Incarnation = Incarnation { broker: BrokerId(3), epoch: BrokerEpoch(17) };

/// Two logs: an aborted transaction beside an open one and a plain producer, over two leader epochs.
fn logs() -> Vec<(LogId, Vec<Batch>)> {
    let at = |offset, epoch| BatchBuilder::new().base_offset(offset).leader_epoch(epoch);
    let one = vec![
        at(100, 4).producer(7, 1, 0).transactional().record("key", "value").build(),
        at(101, 4)
            .producer(8, 0, i32::MAX)
            .transactional()
            .records(2, 5)
            .timestamp(1_700_000_000_250)
            .build(),
        at(103, 6).producer(7, 1, -1).marker(false, 9).timestamp(1_700_000_000_500).build(),
    ];
    let two = vec![at(0, 6).records(3, 1).build()];
    vec![(LogId(1), one), (LogId(300), two)]
}

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

fn manifest() -> Encoded {
    let mut index = write(Kind::Wal, &logs()).index;
    for block in &mut index.blocks {
        block.object = 5;
    }
    // The recovery has left out the last batch of the first log.
    let block = &mut index.blocks[0];
    block.batches.pop();
    (block.end_offset, block.record_count) = (Offset(103), 3);
    index.aborted.clear();
    SegmentWriter::index_only(Kind::Manifest, WRITER, 42, index)
}

fn flush_manifest() -> Encoded {
    let mut blocks = write(Kind::Wal, &logs()).index.blocks;
    blocks.iter_mut().for_each(|block| block.object = 5);
    let mut writer = SegmentWriter::manifest(WRITER, 42, blocks);
    for (log, batches) in logs() {
        let mut state = LogState::default();
        for aborted in batches.iter().filter_map(|batch| state.apply(&batch.entry())) {
            writer.aborted(log, aborted);
        }
        writer.state(log, &state);
    }
    writer.finish()
}

fn bytes(encoded: &Encoded) -> Bytes {
    encoded.payload.iter().map(|piece| &piece[..]).collect::<Vec<_>>().concat().into()
}

/// Lines of 32 bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The file of version 1 reads as `encoded`, and is what this version writes.
fn check(file: &expect_test::ExpectFile, encoded: &Encoded) {
    file.assert_eq(&hex(&bytes(encoded)));
    let (footer, index) = read_object(&unhex(&file.data())).unwrap();
    assert_eq!(footer, encoded.footer);
    assert_eq!(index, encoded.index);
}

#[test]
fn a_wal_object_of_version_1_is_read() {
    check(&expect_file!["golden/wal.v1.hex"], &write(Kind::Wal, &logs()));
}

#[test]
fn segments_with_state_blocks_of_version_2_are_read() {
    check(&expect_file!["golden/shared.v1.state2.hex"], &write(Kind::Shared, &logs()));
    check(&expect_file!["golden/log.v1.state2.hex"], &write(Kind::Log, &logs()[..1]));
}

/// The file reads as `encoded`, but for the state blocks, which were of version 1, and what lies behind them.
fn check_with_old_states(file: &expect_test::ExpectFile, encoded: &Encoded) {
    let (footer, index) = read_object(&unhex(&file.data())).unwrap();
    assert_eq!((footer.kind, footer.writer, footer.number), (encoded.footer.kind, WRITER, 42));
    assert_eq!((index.blocks, index.aborted), (encoded.index.blocks.clone(), encoded.index.aborted.clone()));
    let ends = |states: &[StateEntry]| states.iter().map(|state| (state.log, state.end)).collect::<Vec<_>>();
    assert_eq!(ends(&index.states), ends(&encoded.index.states));
}

#[test]
fn segments_with_state_blocks_of_version_1_are_read() {
    check_with_old_states(&expect_file!["golden/shared.v1.hex"], &write(Kind::Shared, &logs()));
    check_with_old_states(&expect_file!["golden/log.v1.hex"], &write(Kind::Log, &logs()[..1]));
}

#[test]
fn a_fence_of_version_1_is_read() {
    check(&expect_file!["golden/fence.v1.hex"], &write(Kind::Fence, &[]));
}

#[test]
fn a_manifest_of_version_1_is_read() {
    check(&expect_file!["golden/manifest.v1.hex"], &manifest());
}

#[test]
fn a_manifest_of_a_flush_of_version_1_is_read() {
    check(&expect_file!["golden/flush_manifest.v1.hex"], &flush_manifest());
}

/// The segment that the files of a footer and of an index block were taken from.
fn old_segment() -> (Footer, Index) {
    read_object(&unhex(&expect_file!["golden/shared.v1.hex"].data())).unwrap()
}

#[test]
fn a_footer_of_version_1_is_read() {
    let file = expect_file!["golden/footer.v1.hex"];
    let footer = old_segment().0;
    file.assert_eq(&hex(&footer.encode()));
    assert_eq!(Footer::decode(&unhex(&file.data())), Ok(footer));
}

#[test]
fn an_index_block_of_version_1_is_read() {
    let file = expect_file!["golden/index.v1.hex"];
    let index = old_segment().1;
    file.assert_eq(&hex(&index.encode()));
    assert_eq!(Index::decode(unhex(&file.data())), Ok(index));
}

/// The state of the first log.
fn state() -> LogState {
    let mut state = LogState::default();
    for batch in &logs()[0].1 {
        state.apply(&batch.entry());
    }
    state
}

#[test]
fn a_state_block_of_version_1_is_read() {
    let read = LogState::decode(&unhex(&expect_file!["golden/state.v1.hex"].data())).unwrap();
    // The last producer's marker is behind its last batch, which that version doesn't tell.
    assert_eq!((read.end, &read.leader_epochs), (state().end, &state().leader_epochs));
    let told = |state: &LogState| {
        let told = |(id, producer): (ProducerId, &ProducerState)| {
            (id, ProducerState { last_offset: Offset(0), ..producer.clone() })
        };
        state.producers.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(told(&read), told(&state()));
    assert_eq!(read.producers.evicted(), None);
}

#[test]
fn a_state_block_of_version_2_is_read() {
    let file = expect_file!["golden/state.v2.hex"];
    let mut state = state();
    for producer in 2..5 {
        let batch = BatchBuilder::new().base_offset(state.end.0).leader_epoch(6).producer(producer, 0, 0);
        state.apply(&batch.records(1, 1).build().entry());
    }
    // The first producer is idle since its marker.
    state.forget_producers(&state.producers.evicting(2));
    assert_eq!(state.producers.evicted().map(|evicted| evicted.highest_id), Some(ProducerId(7)));
    file.assert_eq(&hex(&state.encode()));
    assert_eq!(LogState::decode(&unhex(&file.data())), Ok(state));
}

/// The blocks of a version with the version that stands at `at` one higher.
fn newer(file: &expect_test::ExpectFile, at: usize) -> Vec<u8> {
    let mut bytes = unhex(&file.data()).to_vec();
    bytes[at + 1] += 1;
    bytes
}

#[test]
fn what_a_newer_version_has_written_is_refused_as_that() {
    let newer_version = FormatError::NewerVersion { found: 2, supported: 1 };
    let index = newer(&expect_file!["golden/index.v1.hex"], 0);
    assert_eq!(Index::decode(index.into()), Err(newer_version.clone()));
    let state = newer(&expect_file!["golden/state.v2.hex"], 0);
    assert_eq!(LogState::decode(&state), Err(FormatError::NewerVersion { found: 3, supported: 2 }));
    let mut footer = newer(&expect_file!["golden/footer.v1.hex"], 54);
    let crc = crc32c::crc32c(&footer[..56]);
    footer[56..60].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(Footer::decode(&footer), Err(newer_version));
    assert_eq!(
        FormatError::NewerVersion { found: 2, supported: 1 }.to_string(),
        "format version 2 is newer than 1, which this program reads"
    );
}
