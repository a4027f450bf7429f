//! The embedded store against object stores that count, and that fail.

use crate::{
    conformance::{Backend, run, run_read_only},
    faults::runtime,
    *,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, local::LocalFileSystem, memory::InMemory,
    path::Path,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Counts requests, takes its time for a PUT, refuses everything while `down`.
#[derive(Debug)]
struct Probe {
    inner: Arc<dyn ObjectStore>,
    requests: AtomicUsize,
    gets: AtomicUsize,
    puts: AtomicUsize,
    put_ms: AtomicU64,
    down: AtomicBool,
}

impl Probe {
    fn new(inner: impl ObjectStore) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(inner),
            requests: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            put_ms: AtomicU64::new(0),
            down: AtomicBool::new(false),
        })
    }

    fn pass(&self) -> Result<()> {
        self.requests.fetch_add(1, Relaxed);
        if self.down.load(Relaxed) {
            return Err(object_store::Error::Generic { store: "probe", source: "it is down".into() });
        }
        Ok(())
    }

    fn requests(&self) -> usize {
        self.requests.swap(0, Relaxed)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Probe {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.puts.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(self.put_ms.load(Relaxed))).await;
        self.pass()?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass()?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Relaxed);
        self.pass()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.requests.fetch_add(1, Relaxed);
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.requests.fetch_add(1, Relaxed);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass()?;
        self.inner.copy_opts(from, to, options).await
    }
}

async fn open(store: &Arc<Probe>, local_files: bool) -> EmbeddedKv {
    let options = EmbeddedOptions { local_files };
    EmbeddedKv::open(runtime(0), store.clone(), Path::from("meta"), options).await.expect("it opens")
}

fn put(key: &str, value: &str) -> Transaction {
    Transaction::default()
        .put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}

struct Embedded {
    store: Arc<Probe>,
    local_files: bool,
}

#[async_trait]
impl Backend for Embedded {
    async fn open(&self) -> Arc<dyn KeyValueStore> {
        Arc::new(open(&self.store, self.local_files).await)
    }

    fn exclusive(&self) -> bool {
        true
    }

    async fn open_to_read(&self) -> Option<Arc<dyn KeyValueStore>> {
        let reader = EmbeddedReader::open(self.store.clone(), Path::from("meta")).await;
        Some(Arc::new(reader.expect("it opens for reading")))
    }
}

#[tokio::test]
async fn it_conforms_in_memory() {
    run(&Embedded { store: Probe::new(InMemory::new()), local_files: false }).await;
}

#[tokio::test]
async fn it_conforms_on_local_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = LocalFileSystem::new_with_prefix(directory.path()).expect("a store of files");
    run(&Embedded { store: Probe::new(files), local_files: true }).await;
}

#[tokio::test]
async fn it_conforms_when_opened_for_reading() {
    run_read_only(&Embedded { store: Probe::new(InMemory::new()), local_files: false }).await;
    let directory = tempfile::tempdir().expect("a directory");
    let files = LocalFileSystem::new_with_prefix(directory.path()).expect("a store of files");
    run_read_only(&Embedded { store: Probe::new(files), local_files: true }).await;
}

#[tokio::test]
async fn a_reader_writes_nothing_and_sees_what_was_folded_and_what_was_not() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    for number in 0..300 {
        assert!(kv.transact(put(&format!("key/{number:03}"), "value")).await.expect("the store answers"));
    }
    assert!(kv.tables() > 0, "some of it was folded");
    store.puts.store(0, Relaxed);
    let reader = EmbeddedReader::open(store.clone(), Path::from("meta")).await.expect("it opens");
    let rows = reader.range(b"key/", b"key0", 1000).await.expect("the store answers");
    assert_eq!(rows.len(), 300);
    assert_eq!(store.puts.load(Relaxed), 0);
    assert!(kv.transact(put("key/300", "value")).await.expect("the writer goes on"));
}

#[tokio::test]
async fn there_is_nothing_to_read_where_there_is_no_store() {
    let store = Probe::new(InMemory::new());
    let opened = EmbeddedReader::open(store.clone(), Path::from("meta")).await;
    assert!(matches!(opened.err(), Some(KvError::Corrupt { .. })));
    assert_eq!(store.puts.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_store_costs_next_to_nothing() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    for number in 0..300 {
        assert!(kv.transact(put(&format!("key/{number}"), "value")).await.expect("the store answers"));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let busy = store.requests();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    let idle = store.requests();
    println!("{busy} requests for opening and 300 transactions, {idle} in an idle day");
    assert!(idle < 24 * 30, "{idle} requests in an idle day");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_costs_one_put_and_many_together_cost_few() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    kv.transact(put("first", "value")).await.expect("the store answers");
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.puts.store(0, Relaxed);
    kv.transact(put("second", "value")).await.expect("the store answers");
    assert_eq!(store.puts.swap(0, Relaxed), 1);
    store.requests();
    let refused = put("second", "other").compare(Bytes::from_static(b"second"), None);
    assert!(!kv.transact(refused).await.expect("the store answers"));
    assert_eq!(store.requests(), 0, "what is in memory is not asked for");
    store.put_ms.store(20, Relaxed);
    let many = (0..100).map(|number| kv.transact(put(&format!("many/{number}"), "value")));
    futures::future::join_all(many).await.into_iter().for_each(|answer| assert!(answer.expect("an answer")));
    let puts = store.puts.load(Relaxed);
    assert!(puts <= 5, "{puts} PUTs for 100 transactions side by side");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_write_is_not_read_and_what_comes_after_it_rests_on_it() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    let key = Bytes::from_static(b"key");
    let create = |value: &str| put("key", value).compare(key.clone(), None);
    store.down.store(true, Relaxed);
    for value in ["first", "second"] {
        // The second is refused because of the first, and must not say so before the first is durable.
        let answer = kv.transact(create(value)).await;
        assert!(matches!(answer, Err(KvError::Unavailable { .. })), "{value}: {answer:?}");
        let read = kv.get(&key).await;
        assert!(matches!(read, Ok(None) | Err(KvError::Unavailable { .. })), "{read:?}");
    }
    store.down.store(false, Relaxed);
    assert!(!kv.transact(create("third")).await.expect("the store is back"));
    assert_eq!(kv.get(&key).await.expect("the store is back"), Some(Bytes::from_static(b"first")));
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_write_of_a_dead_process_does_not_appear_later() {
    let store = Probe::new(InMemory::new());
    let first = open(&store, false).await;
    store.down.store(true, Relaxed);
    first.transact(put("key", "value")).await.expect_err("the store is down");
    drop(first);
    store.down.store(false, Relaxed);
    let second = open(&store, false).await;
    let read = second.get(b"key").await.expect("the store is back");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(second.transact(put("other", "value")).await.expect("the store is back"));
    assert_eq!(second.get(b"key").await.expect("the store is back"), read);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_caller_goes_away_is_seen_by_the_next_or_never_written() {
    for polls in 0..60 {
        let kv = open(&Probe::new(InMemory::new()), false).await;
        let (key, trace) = (Bytes::from_static(b"key"), Bytes::from_static(b"trace"));
        let first = put("key", "first").put(trace.clone(), key.clone()).compare(key.clone(), None);
        let mut first = Box::pin(kv.transact(first));
        for _ in 0..polls {
            if futures::poll!(&mut first).is_ready() {
                break;
            }
            if polls % 2 == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        let second = kv.transact(put("key", "second").compare(key, None)).await.expect("the store answers");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let first = kv.get(&trace).await.expect("the store answers").is_some();
        assert!(first != second, "after {polls} polls: first {first}, second {second}");
    }
}

#[tokio::test]
async fn a_store_that_was_closed_is_not_taken_for_fenced() {
    let kv = open(&Probe::new(InMemory::new()), false).await;
    kv.close().await.expect("it closes");
    let after = kv.transact(put("key", "value")).await;
    assert!(matches!(after, Err(KvError::Closed { .. })), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn opening_an_unreachable_store_ends() {
    let store = Probe::new(InMemory::new());
    store.down.store(true, Relaxed);
    let opened = EmbeddedKv::open(runtime(0), store, Path::from("meta"), EmbeddedOptions::default()).await;
    assert!(matches!(opened.err(), Some(KvError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn of_processes_that_create_the_store_at_once_each_opens_it_or_is_fenced() {
    let store = Probe::new(InMemory::new());
    store.put_ms.store(20, Relaxed);
    let openings = (0..4).map(|seed| {
        EmbeddedKv::open(runtime(seed), store.clone(), Path::from("meta"), EmbeddedOptions::default())
    });
    let opened = futures::future::join_all(openings).await;
    for (number, opened) in opened.iter().enumerate() {
        let error = opened.as_ref().err();
        assert!(matches!(error, None | Some(KvError::Fenced { .. })), "opening {number}: {error:?}");
    }
    let mut written = 0;
    for kv in opened.iter().flatten() {
        written += usize::from(kv.transact(put("key", "value")).await.is_ok());
    }
    assert_eq!(written, 1, "the last to open it writes, whoever opened it before is fenced");
}

#[tokio::test(start_paused = true)]
async fn garbage_is_collected_while_it_is_used() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    let objects = async || futures::StreamExt::count(store.inner.list(None)).await;
    let mut sizes = Vec::new();
    for day in 0..6 {
        for number in 0..700 {
            let key = format!("key/{}", number % 100);
            assert!(kv.transact(put(&key, &format!("{day}/{number}"))).await.expect("the store answers"));
        }
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        sizes.push(objects().await);
    }
    println!("objects at the end of each day: {sizes:?}, tables: {}", kv.tables());
    // The object store's own clock is the system's, so under virtual time all objects look old.
    assert!(sizes[5] < 700, "{sizes:?}");
    assert!(kv.tables() < 16, "{} tables were not compacted", kv.tables());
    assert_eq!(kv.get(b"key/99").await.expect("the store answers"), Some(Bytes::from_static(b"5/699")));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_again_is_cached() {
    let store = Probe::new(InMemory::new());
    let kv = open(&store, false).await;
    for number in 0..3000 {
        kv.transact(put(&format!("key/{number:04}"), "value")).await.expect("the store answers");
    }
    drop(kv);
    let kv = open(&store, false).await;
    let read_all = async || {
        store.gets.store(0, Relaxed);
        for number in 0..3000 {
            let value = kv.get(format!("key/{number:04}").as_bytes()).await.expect("the store answers");
            assert_eq!(value, Some(Bytes::from_static(b"value")));
            assert_eq!(kv.get(b"key/absent").await.expect("the store answers"), None);
        }
        store.gets.load(Relaxed)
    };
    let (first, second) = (read_all().await, read_all().await);
    println!("{} tables, {first} GETs for 3000 keys, then {second}", kv.tables());
    assert!(second < 10, "{second} GETs for what was just read");
}

/// Prints figures; what they must be is asserted loosely, since the machine may be busy.
#[tokio::test]
async fn on_local_files_it_opens_and_commits_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = LocalFileSystem::new_with_prefix(directory.path()).expect("a store of files");
    let store = Probe::new(files);
    let began = tokio::time::Instant::now();
    let kv = open(&store, true).await;
    let opened = began.elapsed();
    kv.transact(put("first", "value")).await.expect("the store answers");
    let first = began.elapsed();
    let mut times = Vec::new();
    for number in 0..200 {
        let began = tokio::time::Instant::now();
        kv.transact(put(&format!("key/{number}"), "value")).await.expect("the store answers");
        times.push(began.elapsed());
    }
    times.sort();
    println!("open {opened:?}, first transaction {first:?}, median {:?}, p99 {:?}", times[100], times[198]);
    assert!(
        times[100] < Duration::from_millis(50),
        "a transaction waits for more than a PUT: {:?}",
        times[100]
    );
}
