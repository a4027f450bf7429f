//! What every key-value store must do: one suite, run against each back end.

use crate::{KeyValueStore, KvError, Transaction};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A back end under test: one store that can be opened again and again.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens the store once more.
    async fn open(&self) -> Arc<dyn KeyValueStore>;

    /// Whether an opening fences those before it.
    fn exclusive(&self) -> bool;

    /// Opens it for reading only, beside whoever has opened it to write; none where a back end needs no such thing.
    async fn open_to_read(&self) -> Option<Arc<dyn KeyValueStore>>;
}

/// Runs the whole suite on a store that is empty at first. Panics where the store doesn't conform.
pub async fn run(backend: &dyn Backend) {
    let kv = backend.open().await;
    reads_show_what_was_written(&*kv).await;
    a_refused_transaction_writes_nothing(&*kv).await;
    of_two_racing_transactions_exactly_one_is_applied(&*kv).await;
    a_deleted_key_is_absent_and_can_be_created_again(&*kv).await;
    an_empty_value_is_not_an_absent_key(&*kv).await;
    ranges_are_in_order_half_open_and_limited(&*kv).await;
    a_large_range_can_be_read_page_by_page(&*kv).await;
    transactions_side_by_side_are_all_applied(&*kv).await;
    a_later_opening_sees_everything(backend, kv).await;
    if backend.exclusive() {
        a_second_opening_fences_the_first(backend).await;
    }
}

/// Runs what applies to a back end that was opened for reading only, on a store that is empty at first.
pub async fn run_read_only(backend: &dyn Backend) {
    let writer = backend.open().await;
    apply(&*writer, put("before", "1").put(bytes("gone"), bytes("1")).put(bytes("empty"), bytes(""))).await;
    apply(&*writer, Transaction::default().delete(bytes("gone"))).await;
    ranges_are_in_order_half_open_and_limited(&*writer).await;
    let reader = read(backend).await;
    a_reader_shows_what_was_written(&*reader).await;
    a_readers_transactions_are_refused(&*reader, &*writer).await;
    a_reader_fences_nobody(backend, &*reader, &*writer).await;
    a_large_range_can_be_read_page_by_page(&*writer).await;
    pages_hold_every_row(&*read(backend).await).await;
    reader.close().await.expect("a reader closes");
    apply(&*writer, put("after/closing", "1")).await;
}

async fn read(backend: &dyn Backend) -> Arc<dyn KeyValueStore> {
    backend.open_to_read().await.expect("the back end can be opened for reading")
}

async fn a_reader_shows_what_was_written(reader: &dyn KeyValueStore) {
    assert_eq!(get(reader, "before").await, Some(bytes("1")));
    assert_eq!(get(reader, "gone").await, None);
    assert_eq!(get(reader, "empty").await, Some(bytes("")));
    ranges_hold(reader).await;
    assert_eq!(range(reader, "gone", "gonf", 10).await, []);
}

async fn a_readers_transactions_are_refused(reader: &dyn KeyValueStore, writer: &dyn KeyValueStore) {
    let refused = reader.transact(put("before", "2")).await;
    assert!(matches!(refused, Err(KvError::Closed { .. })), "{refused:?}");
    assert_eq!(get(writer, "before").await, Some(bytes("1")));
}

async fn a_reader_fences_nobody(
    backend: &dyn Backend,
    reader: &dyn KeyValueStore,
    writer: &dyn KeyValueStore,
) {
    apply(writer, put("after", "1").compare(bytes("before"), Some(bytes("1")))).await;
    assert_eq!(get(reader, "after").await, None, "a reader shows one state");
    assert_eq!(
        get(&*read(backend).await, "after").await,
        Some(bytes("1")),
        "a later one shows a later state"
    );
    apply(writer, put("after", "2")).await;
    assert_eq!(get(&*read(backend).await, "after").await, Some(bytes("2")));
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Transaction {
    Transaction::default().put(bytes(key), bytes(value))
}

async fn apply(kv: &dyn KeyValueStore, transaction: Transaction) {
    assert!(transact(kv, transaction).await, "a transaction whose compares hold is applied");
}

async fn transact(kv: &dyn KeyValueStore, transaction: Transaction) -> bool {
    kv.transact(transaction).await.expect("the store answers")
}

async fn get(kv: &dyn KeyValueStore, key: &str) -> Option<Bytes> {
    kv.get(key.as_bytes()).await.expect("the store answers")
}

async fn range(kv: &dyn KeyValueStore, from: &str, to: &str, limit: usize) -> Vec<(Bytes, Bytes)> {
    kv.range(from.as_bytes(), to.as_bytes(), limit).await.expect("the store answers")
}

async fn reads_show_what_was_written(kv: &dyn KeyValueStore) {
    assert_eq!(get(kv, "read/a").await, None);
    apply(kv, put("read/a", "1").put(bytes("read/b"), bytes("2"))).await;
    assert_eq!(get(kv, "read/a").await, Some(bytes("1")));
    assert_eq!(get(kv, "read/b").await, Some(bytes("2")));
    apply(kv, put("read/a", "3")).await;
    assert_eq!(get(kv, "read/a").await, Some(bytes("3")));
}

async fn a_refused_transaction_writes_nothing(kv: &dyn KeyValueStore) {
    apply(kv, put("refuse/a", "1").compare(bytes("refuse/a"), None)).await;
    for wrong in [None, Some(bytes("2")), Some(bytes("")), Some(bytes("11"))] {
        let transaction = put("refuse/b", "x").delete(bytes("refuse/a"));
        let transaction =
            transaction.compare(bytes("refuse/c"), None).compare(bytes("refuse/a"), wrong.clone());
        assert!(!transact(kv, transaction).await, "{wrong:?} is not the value of refuse/a");
    }
    assert!(!transact(kv, put("refuse/b", "x").compare(bytes("refuse/c"), Some(bytes("")))).await);
    assert_eq!(get(kv, "refuse/a").await, Some(bytes("1")));
    assert_eq!(get(kv, "refuse/b").await, None);
    apply(kv, put("refuse/b", "x").compare(bytes("refuse/a"), Some(bytes("1")))).await;
    assert_eq!(get(kv, "refuse/b").await, Some(bytes("x")));
}

async fn of_two_racing_transactions_exactly_one_is_applied(kv: &dyn KeyValueStore) {
    for round in 0..20 {
        let key = bytes(&format!("race/{round}"));
        let attempt = |value: &str| {
            kv.transact(Transaction::default().compare(key.clone(), None).put(key.clone(), bytes(value)))
        };
        let (first, second) = futures::join!(attempt("first"), attempt("second"));
        let (first, second) = (first.expect("the store answers"), second.expect("the store answers"));
        assert_ne!(first, second, "exactly one of two transactions on the same absent key is applied");
        let winner = if first { "first" } else { "second" };
        assert_eq!(kv.get(&key).await.expect("the store answers"), Some(bytes(winner)));
    }
}

async fn a_deleted_key_is_absent_and_can_be_created_again(kv: &dyn KeyValueStore) {
    apply(kv, put("delete/a", "1")).await;
    apply(kv, Transaction::default().compare(bytes("delete/a"), Some(bytes("1"))).delete(bytes("delete/a")))
        .await;
    assert_eq!(get(kv, "delete/a").await, None);
    assert_eq!(range(kv, "delete/", "delete0", 10).await, []);
    apply(kv, Transaction::default().delete(bytes("delete/never"))).await;
    apply(kv, put("delete/a", "2").compare(bytes("delete/a"), None)).await;
    assert_eq!(get(kv, "delete/a").await, Some(bytes("2")));
}

async fn an_empty_value_is_not_an_absent_key(kv: &dyn KeyValueStore) {
    apply(kv, put("empty", "")).await;
    assert_eq!(get(kv, "empty").await, Some(Bytes::new()));
    assert!(!transact(kv, put("empty", "1").compare(bytes("empty"), None)).await);
    apply(kv, put("empty", "1").compare(bytes("empty"), Some(Bytes::new()))).await;
}

async fn ranges_are_in_order_half_open_and_limited(kv: &dyn KeyValueStore) {
    let high = Bytes::from_static(b"range/\xff");
    apply(kv, put("range/b", "2").put(bytes("range/a"), bytes("1")).put(high, bytes("3"))).await;
    ranges_hold(kv).await;
}

async fn ranges_hold(kv: &dyn KeyValueStore) {
    let high = Bytes::from_static(b"range/\xff");
    let (a, b) = ((bytes("range/a"), bytes("1")), (bytes("range/b"), bytes("2")));
    let all = vec![a.clone(), b.clone(), (high, bytes("3"))];
    assert_eq!(range(kv, "range/", "range0", 10).await, all);
    assert_eq!(range(kv, "range/", "range0", 2).await, all[..2]);
    assert_eq!(range(kv, "range/a", "range/b", 10).await, [a]);
    assert_eq!(range(kv, "range/a\0", "range/c", 10).await, [b]);
    assert_eq!(range(kv, "range/a", "range/a", 10).await, []);
    assert_eq!(range(kv, "range/b", "range/a", 10).await, []);
    assert_eq!(range(kv, "range/", "range0", 0).await, []);
}

async fn a_large_range_can_be_read_page_by_page(kv: &dyn KeyValueStore) {
    for chunk in 0..10 {
        let numbers = chunk * 100..(chunk + 1) * 100;
        apply(
            kv,
            numbers.fold(Transaction::default(), |transaction, number| {
                transaction.put(page_key(number), Bytes::from(vec![7; number]))
            }),
        )
        .await;
    }
    pages_hold_every_row(kv).await;
}

async fn pages_hold_every_row(kv: &dyn KeyValueStore) {
    let (mut from, mut seen) = (bytes("page/"), 0);
    loop {
        let page = kv.range(&from, b"page0", 73).await.expect("the store answers");
        for (found, value) in &page {
            assert_eq!((found, value.len()), (&page_key(seen), seen));
            seen += 1;
        }
        let Some((last, _)) = page.last() else { break };
        from = [last, &b"\0"[..]].concat().into();
    }
    assert_eq!(seen, 1000);
}

fn page_key(number: usize) -> Bytes {
    bytes(&format!("page/{number:05}"))
}

async fn transactions_side_by_side_are_all_applied(kv: &dyn KeyValueStore) {
    let puts = (0..50).map(|number| kv.transact(put(&format!("many/{number}"), "x")));
    for applied in futures::future::join_all(puts).await {
        assert!(applied.expect("the store answers"));
    }
    assert_eq!(range(kv, "many/", "many0", 100).await.len(), 50);
}

async fn a_later_opening_sees_everything(backend: &dyn Backend, kv: Arc<dyn KeyValueStore>) {
    let before = range(&*kv, "", "zzz", 10_000).await;
    kv.close().await.expect("the store closes");
    drop(kv);
    let again = backend.open().await;
    assert_eq!(range(&*again, "", "zzz", 10_000).await, before);
    apply(&*again, put("reopened", "1").compare(bytes("range/a"), Some(bytes("1")))).await;
}

async fn a_second_opening_fences_the_first(backend: &dyn Backend) {
    let first = backend.open().await;
    apply(&*first, put("fence", "first")).await;
    let second = backend.open().await;
    assert_eq!(get(&*second, "fence").await, Some(bytes("first")));
    for _ in 0..2 {
        let refused = first.transact(put("fence", "late").put(bytes("fence/late"), bytes("1"))).await;
        assert!(matches!(refused, Err(KvError::Fenced { .. })), "the first opening gets {refused:?}");
    }
    apply(&*second, put("fence/second", "1").compare(bytes("fence"), Some(bytes("first")))).await;
    assert_eq!(get(&*second, "fence/late").await, None);
    second.close().await.expect("the store closes");
    let third = backend.open().await;
    assert_eq!(get(&*third, "fence").await, Some(bytes("first")));
    assert_eq!(get(&*third, "fence/late").await, None);
    assert_eq!(get(&*third, "fence/second").await, Some(bytes("1")));
}
