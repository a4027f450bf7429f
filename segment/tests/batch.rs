//! Record batches as they come from the network and from storage.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use thalweg_segment::testing::{BatchBuilder, Record};
use thalweg_segment::*;

/// Three records: a plain one, a tombstone, one with headers. Their bytes are spelled out by the layout of KIP-98.
fn batch() -> BatchBuilder {
    let headers = vec![("h".to_owned(), Some(Bytes::from("1"))), ("h".to_owned(), None)];
    let key = Some(Bytes::from("k"));
    BatchBuilder::new()
        .producer(5, 1, 40)
        .timestamp(1000)
        .record("k", "v")
        .push(Record { key: key.clone(), timestamp: Some(1064), ..Record::default() })
        .push(Record { key, value: Some(Bytes::new()), timestamp: Some(999), headers })
}

fn damaged(at: usize, bytes: &[u8]) -> Bytes {
    let mut damaged = batch().bytes().to_vec();
    damaged[at..at + bytes.len()].copy_from_slice(bytes);
    damaged.into()
}

fn split(mut bytes: Bytes) -> Result<Batch, BatchError> {
    Batch::split_from(&mut bytes)
}

#[test]
fn the_builder_writes_records_in_the_layout_of_the_protocol() {
    let expected = [
        &[16, 0, 0, 0, 2, b'k', 2, b'v', 0][..],
        &[16, 0, 0x80, 1, 2, 2, b'k', 1, 0],
        &[28, 0, 1, 4, 2, b'k', 0, 4, 2, b'h', 2, b'1', 2, b'h', 1],
    ];
    let records = batch().build().records().to_vec();
    assert_eq!(records, expected.concat());
}

#[test]
fn the_header_is_read_field_by_field() {
    let batch = split(batch().base_offset(7).leader_epoch(2).transactional().bytes()).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_eq!(
        (batch.base_offset(), batch.end_offset(), batch.last_offset_delta()),
        (Offset(7), Offset(10), 2)
    );
    assert_eq!((batch.leader_epoch(), batch.attributes()), (LeaderEpoch(2), Attributes::TRANSACTIONAL));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1000, 1064));
    assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (ProducerId(5), 1, 40));
    assert_eq!((batch.record_count(), batch.len()), (3, HEADER_LEN + batch.records().len()));
    assert_eq!(batch.entry().last_sequence(), 42);
}

#[test]
fn batches_are_taken_off_the_front_one_by_one() {
    let two = BatchBuilder::new().base_offset(3).records(1, 10);
    let mut bytes = Bytes::from([batch().bytes(), two.bytes()].concat());
    assert_eq!(Batch::split_from(&mut bytes).unwrap().base_offset(), Offset(0));
    let start = bytes.as_ptr();
    let last = Batch::split_from(&mut bytes).unwrap();
    assert_eq!(last.base_offset(), Offset(3));
    assert_eq!(last.records().as_ptr(), start.wrapping_add(HEADER_LEN), "records are a slice, not a copy");
    assert!(bytes.is_empty());
}

#[test]
fn what_is_no_batch_is_refused() {
    let whole = batch().bytes();
    let need = whole.len();
    for have in [0, 11, 16] {
        assert_eq!(split(whole.slice(..have)).unwrap_err(), BatchError::Truncated { have, need: HEADER_LEN });
    }
    assert_eq!(split(whole.slice(..60)).unwrap_err(), BatchError::Truncated { have: 60, need });
    assert_eq!(split(whole.slice(..need - 1)).unwrap_err(), BatchError::Truncated { have: need - 1, need });
    assert_eq!(split(damaged(8, &(-1i32).to_be_bytes())).unwrap_err(), BatchError::BadLength(-1));
    assert_eq!(split(damaged(8, &48i32.to_be_bytes())).unwrap_err(), BatchError::BadLength(48));
    // What is wrong already in the first bytes is told, however few there are.
    let short = damaged(8, &13i32.to_be_bytes()).slice(..12);
    assert_eq!(split(short).unwrap_err(), BatchError::BadLength(13));
    assert_eq!(split(damaged(16, &[9]).slice(..17)).unwrap_err(), BatchError::BadMagic(9));
    assert_eq!(split(damaged(16, &[1])).unwrap_err(), BatchError::BadMagic(1));
    let (base, delta) = (i64::MAX, 2i32);
    assert_eq!(split(damaged(0, &base.to_be_bytes())).unwrap_err(), BatchError::BadOffsets { base, delta });
    let (base, delta) = (0, -1i32);
    assert_eq!(split(damaged(23, &delta.to_be_bytes())).unwrap_err(), BatchError::BadOffsets { base, delta });
}

#[test]
fn a_damaged_record_is_noticed() {
    let batch = split(damaged(HEADER_LEN, &[99])).unwrap();
    assert!(matches!(batch.verify_crc(), Err(BatchError::BadCrc { .. })));
}

#[test]
fn placing_a_batch_leaves_its_checksum_right() {
    let mut batch = batch().build();
    batch.place(Offset(1 << 40), LeaderEpoch(12));
    assert_eq!((batch.base_offset(), batch.leader_epoch()), (Offset(1 << 40), LeaderEpoch(12)));
    assert_eq!(batch.verify_crc(), Ok(()));
}

#[test]
fn append_time_is_stamped_inside_the_checksum() {
    let mut batch = batch().build();
    batch.stamp_append_time(77);
    assert_eq!((batch.max_timestamp(), batch.attributes()), (77, Attributes::APPEND_TIME));
    assert_eq!(batch.verify_crc(), Ok(()));
    batch.set_max_timestamp(78);
    assert_eq!((batch.max_timestamp(), batch.verify_crc()), (78, Ok(())));
}

#[test]
fn a_marker_is_read_off_its_control_batch() {
    for committed in [true, false] {
        let entry = BatchBuilder::new().producer(1, 0, -1).marker(committed, 300).build().entry();
        assert_eq!(entry.marker, Some(Marker { committed, coordinator_epoch: 300 }));
        assert!(entry.is_control() && entry.is_transactional());
    }
}

#[test]
fn control_batches_that_end_no_transaction_have_no_marker() {
    let control = BatchBuilder::new().attributes(Attributes::CONTROL);
    let leader_change = control.clone().record(&[0, 0, 0, 2][..], &[0, 0, 0, 0, 0, 0][..]);
    let short_value = control.clone().record(&[0, 0, 0, 1][..], &[0, 0, 0][..]);
    let short_key = control.clone().record(&[0][..], &[0; 6][..]);
    let compressed = BatchBuilder::new().marker(true, 1).attributes(4);
    for batch in [control, leader_change, short_value, short_key, compressed] {
        assert_eq!(batch.build().entry().marker, None);
    }
}

#[test]
fn data_that_looks_like_a_marker_is_none() {
    let data = BatchBuilder::new().record(&[0, 0, 0, 1][..], &[0; 6][..]);
    assert_eq!(data.build().entry().marker, None);
}

proptest! {
    #[test]
    fn arbitrary_records_of_a_control_batch_do_not_panic(records in vec(any::<u8>(), 0..40)) {
        let head = *BatchBuilder::new().marker(true, 1).build().head();
        let batch = Batch::assemble(head, records.into());
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        let _ = batch.entry();
    }

    #[test]
    fn arbitrary_bytes_are_split_without_a_panic(mut bytes in vec(any::<u8>(), 61..90), length in -1i32..90) {
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        if let Ok(batch) = split(bytes.into()) {
            prop_assert_eq!(batch.end_offset(), batch.base_offset().plus(i64::from(batch.last_offset_delta()) + 1));
            let _ = batch.entry().last_sequence();
        }
    }
}
