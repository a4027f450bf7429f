//! Objects read through a store: how many requests that takes, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::Bytes;
use object_store::{PutPayload, memory::InMemory, path::Path};
use std::{sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use thalweg_segment::testing::BatchBuilder;
use thalweg_segment::*;

const WRITER: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) };

fn store() -> Store {
    let patience = Patience {
        attempt: Duration::from_secs(1),
        total: Duration::from_secs(1),
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
    };
    Store::new(Arc::new(InMemory::new()), Runtime::system(1), patience)
}

fn path() -> Path {
    Path::from("object")
}

async fn put(store: &Store, payload: impl Into<PutPayload>) {
    store.put(&path(), payload.into(), Purpose::Flush).await.unwrap();
}

/// A shared segment with `logs` logs of `batches` batches each, and their states.
fn segment(logs: u64, batches: i64) -> Encoded {
    let mut writer = SegmentWriter::new(Kind::Shared, WRITER, 3);
    for log in (0..logs).map(LogId) {
        let mut state = LogState::default();
        for offset in 0..batches {
            let builder = BatchBuilder::new().base_offset(offset).producer(log.0 as i64, 0, offset as i32);
            let batch = builder.records(1, 1).build();
            state.apply(&batch.entry());
            writer.batch(log, &batch);
        }
        writer.state(log, &state);
    }
    writer.finish()
}

fn bytes(encoded: &Encoded) -> Vec<u8> {
    encoded.payload.iter().flat_map(|piece| piece.to_vec()).collect()
}

/// GETs until now.
fn gets(store: &Store) -> u64 {
    store.requests().of(Purpose::Fetch, Method::Get)
}

#[tokio::test]
async fn a_small_index_is_read_with_one_request() {
    let (store, encoded) = (store(), segment(3, 2));
    put(&store, encoded.payload).await;
    assert_eq!(read_index(&store, &path()).await.unwrap(), (encoded.footer, encoded.index));
    assert_eq!(gets(&store), 1);
}

#[tokio::test]
async fn a_large_index_is_read_with_two_requests() {
    let (store, encoded) = (store(), segment(1, 10_000));
    assert!(encoded.footer.index_size > 64 * 1024);
    put(&store, encoded.payload).await;
    assert_eq!(read_index(&store, &path()).await.unwrap(), (encoded.footer, encoded.index));
    assert_eq!(gets(&store), 2);
}

#[tokio::test]
async fn an_index_whose_place_is_known_is_read_with_one_request() {
    let (store, encoded) = (store(), segment(1, 10_000));
    put(&store, encoded.payload).await;
    let read =
        read_index_at(&store, &path(), encoded.footer.index_position, encoded.size, Purpose::Fetch).await;
    assert_eq!(read.unwrap(), (encoded.footer, encoded.index));
    assert_eq!(gets(&store), 1);
}

#[tokio::test]
async fn an_index_at_another_place_than_said_is_refused() {
    let (store, encoded) = (store(), segment(3, 2));
    put(&store, encoded.payload).await;
    let index_position = encoded.footer.index_position;
    for (position, size) in [(index_position - 1, encoded.size), (index_position, encoded.size - 1)] {
        let read = read_index_at(&store, &path(), position, size, Purpose::Fetch).await;
        assert!(matches!(read, Err(ReadError::Format { .. })), "{read:?}");
    }
}

#[tokio::test]
async fn a_footer_is_read_alone() {
    let (store, encoded) = (store(), segment(3, 2));
    put(&store, encoded.payload).await;
    assert_eq!(read_footer(&store, &path()).await.unwrap(), encoded.footer);
}

#[tokio::test]
async fn states_come_in_the_order_asked_for_with_one_request() {
    let (store, encoded) = (store(), segment(50, 2));
    put(&store, encoded.payload.clone()).await;
    let mut entries = encoded.index.states.clone();
    entries.reverse();
    let states = read_states(&store, &path(), &entries).await.unwrap();
    let producers: Vec<_> = states.iter().map(|state| state.producers.iter().next().unwrap().0.0).collect();
    assert_eq!(producers, (0..50).rev().collect::<Vec<_>>());
    assert_eq!(gets(&store), 1);
    assert_eq!(read_states(&store, &path(), &[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_state_is_refused() {
    let (store, encoded) = (store(), segment(2, 2));
    let mut bytes = bytes(&encoded);
    bytes[encoded.footer.states_position as usize + 3] ^= 1;
    put(&store, bytes).await;
    let read = read_states(&store, &path(), &encoded.index.states).await.unwrap_err();
    let source = FormatError::BadCrc { what: "state block" };
    assert!(matches!(read, ReadError::Format { source: found, .. } if found == source));
}

#[tokio::test]
async fn what_is_no_object_of_ours_is_refused() {
    let store = store();
    for foreign in [vec![], vec![1; 10], vec![1; 100]] {
        put(&store, foreign).await;
        let footer = read_footer(&store, &path()).await;
        assert!(matches!(footer, Err(ReadError::Format { .. })), "{footer:?}");
        let index = read_index(&store, &path()).await;
        assert!(matches!(index, Err(ReadError::Format { .. })), "{index:?}");
    }
}

#[tokio::test]
async fn a_truncated_object_is_refused() {
    let (store, encoded) = (store(), segment(3, 2));
    put(&store, bytes(&encoded)[1..].to_vec()).await;
    let read = read_index(&store, &path()).await.unwrap_err();
    let source = FormatError::Malformed { what: "footer" };
    assert!(matches!(read, ReadError::Format { source: found, .. } if found == source));
}

#[tokio::test]
async fn an_object_that_is_not_there_is_told_apart() {
    let read = read_index(&store(), &path()).await.unwrap_err();
    assert!(matches!(read, ReadError::Store(StoreError::NotFound { .. })));
}

#[test]
fn a_block_is_checked_against_its_entry() {
    let encoded = segment(1, 3);
    let block = &encoded.index.blocks[0];
    let object = Bytes::from(bytes(&encoded));
    let mut right = object.slice(block.position as usize..block.end_position() as usize).to_vec();
    assert_eq!(check_block(&right.clone().into(), block), Ok(()));
    right[70] ^= 1;
    assert_eq!(check_block(&right.clone().into(), block), Err(FormatError::BadCrc { what: "data block" }));
    right.pop();
    assert_eq!(check_block(&right.into(), block), Err(FormatError::Malformed { what: "data block" }));
}
