//! What Thalweg needs of an object store, as a suite that every kind of store is put to: memory, file, MinIO, the simulation's.

use super::{ErrorKind, Patience, Purpose, Store};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use object_store::{ObjectStore, PutPayload, path::Path};
use std::{sync::Arc, time::Duration};
use thalweg_runtime::{Inline, Random, Runtime, SystemClock, TokioSpawner};

/// Puts `objects` to the suite. It writes below `conformance/`, where nothing else may be, and cleans up behind it.
///
/// # Panics
/// Where the store does not behave as it must.
pub async fn check_store(objects: Arc<dyn ObjectStore>) {
    let store = &Store::new(objects, runtime(), patience());
    an_object_is_created_once(store).await;
    of_many_creations_of_a_key_one_wins(store).await;
    a_write_is_seen_at_once_and_replaces_the_last(store).await;
    a_payload_of_many_chunks_is_one_object(store).await;
    ranges_are_read_exactly(store).await;
    a_suffix_is_read_with_the_size(store).await;
    a_missing_object_is_told_apart(store).await;
    listings_are_in_order_and_of_the_prefix(store).await;
    listings_and_deletions_have_more_than_one_page(store).await;
    a_multipart_upload_appears_as_a_whole(store).await;
    let left = list(store, "", None).await;
    assert_eq!(left, Vec::<String>::new(), "the suite has deleted what it wrote");
}

fn runtime() -> Runtime {
    Runtime::new(Arc::new(SystemClock), Random::from_seed(1), Arc::new(TokioSpawner), Arc::new(Inline))
}

fn patience() -> Patience {
    Patience {
        attempt: Duration::from_secs(10),
        total: Duration::from_secs(30),
        backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
    }
}

fn path(key: &str) -> Path {
    Path::from(format!("conformance/{key}"))
}

async fn create(store: &Store, key: &str, content: &'static str) -> Result<(), ErrorKind> {
    let created = store.create_once(&path(key), content.into(), Purpose::Check).await;
    created.map_err(|error| error.kind())
}

async fn put(store: &Store, key: &str, content: impl Into<PutPayload>) {
    store.put(&path(key), content.into(), Purpose::Check).await.expect("an object can be written");
}

async fn get(store: &Store, key: &str) -> Bytes {
    store.get(&path(key), Purpose::Check).await.expect("a written object can be read")
}

async fn list(store: &Store, prefix: &str, from: Option<&str>) -> Vec<String> {
    let from = from.map(path);
    let objects =
        store.list(&path(prefix), from.as_ref(), Purpose::Check).await.expect("a prefix can be listed");
    objects.into_iter().map(|object| object.location.to_string().replacen("conformance/", "", 1)).collect()
}

async fn delete(store: &Store, keys: &[&str]) {
    let paths = keys.iter().map(|key| path(key)).collect();
    store.delete(paths, Purpose::Check).await.expect("objects can be deleted");
}

async fn an_object_is_created_once(store: &Store) {
    assert_eq!(create(store, "once", "first").await, Ok(()));
    assert_eq!(create(store, "once", "second").await, Err(ErrorKind::Conflict));
    assert_eq!(get(store, "once").await, "first");
    delete(store, &["once"]).await;
    assert_eq!(create(store, "once", "third").await, Ok(()), "a deleted key can be created again");
    assert_eq!(get(store, "once").await, "third");
    delete(store, &["once"]).await;
}

async fn of_many_creations_of_a_key_one_wins(store: &Store) {
    let contents = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let results = join_all(contents.map(|content| create(store, "race", content))).await;
    let winners: Vec<_> = contents.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "of {results:?}");
    assert_eq!(get(store, "race").await, *winners[0].0);
    delete(store, &["race"]).await;
}

async fn a_write_is_seen_at_once_and_replaces_the_last(store: &Store) {
    put(store, "replaced", "a longer first content").await;
    assert_eq!(get(store, "replaced").await, "a longer first content");
    put(store, "replaced", "short").await;
    assert_eq!(get(store, "replaced").await, "short");
    put(store, "replaced", "").await;
    assert_eq!(get(store, "replaced").await, "");
    delete(store, &["replaced"]).await;
}

async fn a_payload_of_many_chunks_is_one_object(store: &Store) {
    let chunks: Vec<Bytes> = (0..2000_usize).map(|i| Bytes::from(vec![i as u8; 1 + i % 7 * 500])).collect();
    put(store, "chunks", chunks.iter().cloned().collect::<PutPayload>()).await;
    assert!(get(store, "chunks").await == chunks.concat(), "what was read differs from what was written");
    delete(store, &["chunks"]).await;
}

async fn ranges_are_read_exactly(store: &Store) {
    put(store, "range", "0123456789").await;
    let read = async |range| store.get_range(&path("range"), range, Purpose::Check).await;
    for (range, content) in [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (4..4, "")] {
        assert_eq!(read(range.clone()).await.expect("within the object"), content, "{range:?}");
    }
    for range in [0..11, 9..11, 10..11, 50..60] {
        let failed = read(range.clone()).await.expect_err("beyond the end");
        assert_eq!(failed.kind(), ErrorKind::Rejected, "{range:?}: {failed}");
    }
    delete(store, &["range"]).await;
}

async fn a_suffix_is_read_with_the_size(store: &Store) {
    put(store, "suffix", "0123456789").await;
    put(store, "empty", "").await;
    let read = async |key, bytes| {
        let read = store.get_suffix(&path(key), bytes, Purpose::Check).await;
        read.expect("an object has a suffix of any length")
    };
    for (bytes, content) in
        [(3, "789"), (10, "0123456789"), (11, "0123456789"), (1 << 20, "0123456789"), (0, "")]
    {
        assert_eq!(read("suffix", bytes).await, (Bytes::from_static(content.as_bytes()), 10), "of {bytes}");
    }
    assert_eq!(read("empty", 5).await, (Bytes::new(), 0));
    delete(store, &["suffix", "empty"]).await;
}

async fn a_missing_object_is_told_apart(store: &Store) {
    let missing = path("missing/object");
    let get = store.get(&missing, Purpose::Check).await.map(drop);
    let range = store.get_range(&missing, 0..5, Purpose::Check).await.map(drop);
    let suffix = store.get_suffix(&missing, 5, Purpose::Check).await.map(drop);
    for read in [get, range, suffix] {
        assert_eq!(read.expect_err("there is nothing to read").kind(), ErrorKind::NotFound);
    }
    put(store, "present", "x").await;
    delete(store, &["missing/object", "present", "missing/other"]).await;
    assert_eq!(
        list(store, "", None).await,
        Vec::<String>::new(),
        "missing ones keep none from being deleted"
    );
}

async fn listings_are_in_order_and_of_the_prefix(store: &Store) {
    let keys = ["p/0001", "p/0002", "p/0010", "p/a/1", "p/b", "p-other/1", "p.x", "pq/1"];
    for key in keys.iter().rev() {
        put(store, key, *key).await;
    }
    assert_eq!(list(store, "p", None).await, keys[..5]);
    assert_eq!(list(store, "p", Some("p/0001")).await, keys[..5]);
    assert_eq!(list(store, "p", Some("p/0002")).await, keys[1..5]);
    assert_eq!(list(store, "p", Some("p/0003")).await, keys[2..5]);
    assert_eq!(list(store, "p", Some("p/b")).await, keys[4..5]);
    assert_eq!(list(store, "p", Some("p/c")).await, Vec::<String>::new());
    assert_eq!(list(store, "nothing", None).await, Vec::<String>::new());
    let sized = store.list(&path("p/a"), None, Purpose::Check).await.expect("a prefix can be listed");
    assert_eq!(sized[0].size, 5);
    delete(store, &keys).await;
}

async fn listings_and_deletions_have_more_than_one_page(store: &Store) {
    let keys: Vec<String> = (0..1050).map(|number| format!("many/{number:020}")).collect();
    stream::iter(&keys).map(|key| put(store, key, "x")).buffer_unordered(32).collect::<()>().await;
    assert_eq!(list(store, "many", None).await, keys);
    assert_eq!(list(store, "many", Some(&keys[1044])).await, keys[1044..]);
    delete(store, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(list(store, "many", None).await, Vec::<String>::new());
}

async fn a_multipart_upload_appears_as_a_whole(store: &Store) {
    let client = store.client(Purpose::Check);
    let key = path("multipart");
    let upload = client.put_multipart_opts(&key, Default::default()).await;
    let mut upload = upload.expect("an upload can be begun");
    // All parts but the last have S3's smallest size.
    let parts = [Bytes::from(vec![1; 5 << 20]), Bytes::from(vec![2; 1000])];
    let sent: Vec<_> = parts.iter().map(|part| upload.put_part(part.clone().into())).collect();
    stream::iter(sent).buffered(2).try_collect::<()>().await.expect("parts can be written");
    let before = store.get(&key, Purpose::Check).await.map(drop);
    assert_eq!(before.expect_err("it isn't complete").kind(), ErrorKind::NotFound);
    upload.complete().await.expect("an upload can be completed");
    assert!(get(store, "multipart").await == parts.concat(), "what was read differs from what was written");
    delete(store, &["multipart"]).await;
}
