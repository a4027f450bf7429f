use super::*;
use async_trait::async_trait;
use object_store::{
    CopyOptions, Error, ListResult, MultipartUpload, PutMultipartOptions, PutResult, Result as ClientResult,
    memory::InMemory,
};
use parking_lot::Mutex;
use std::{collections::VecDeque, fmt, io};

/// What the next request meets.
enum Step {
    Fail(Error),
    Hang,
}

/// A store in memory that meets its script's steps first.
#[derive(Debug)]
struct Scripted {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<VecDeque<Step>>>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("step")
    }
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    async fn step(&self) -> ClientResult<()> {
        let step = self.script.lock().pop_front();
        match step {
            None => Ok(()),
            Some(Step::Fail(error)) => Err(error),
            Some(Step::Hang) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> ClientResult<PutResult> {
        self.step().await?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> ClientResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> ClientResult<GetResult> {
        self.step().await?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: stream::BoxStream<'static, ClientResult<Path>>,
    ) -> stream::BoxStream<'static, ClientResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> stream::BoxStream<'static, ClientResult<ObjectMeta>> {
        let listing = self.inner.list(prefix);
        let step = self.script.lock().pop_front();
        match step {
            None => listing,
            Some(Step::Fail(error)) => stream::iter([Err(error)]).chain(listing).boxed(),
            Some(Step::Hang) => listing.chain(stream::pending()).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ClientResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ClientResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn broken() -> Step {
    let source = Box::new(io::Error::from(io::ErrorKind::ConnectionReset));
    Step::Fail(Error::Generic { store: "S3", source })
}

fn refused() -> Step {
    Step::Fail(Error::PermissionDenied { path: "a".into(), source: "403".into() })
}

pub(super) fn patience() -> Patience {
    Patience {
        attempt: Duration::from_secs(2),
        total: Duration::from_secs(20),
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
    }
}

pub(super) fn runtime() -> Runtime {
    Runtime::new(
        Arc::new(thalweg_runtime::SystemClock),
        thalweg_runtime::Random::from_seed(1),
        Arc::new(thalweg_runtime::TokioSpawner),
        Arc::new(thalweg_runtime::Inline),
    )
}

fn scripted(script: impl IntoIterator<Item = Step>) -> Store {
    let script = Arc::new(Mutex::new(script.into_iter().collect()));
    Store::new(Arc::new(Scripted { inner: Arc::new(InMemory::new()), script }), runtime(), patience())
}

fn path(key: &str) -> Path {
    Path::from(key)
}

async fn stored(store: &Store, key: &str, content: &'static str) {
    store.put(&path(key), content.into(), Purpose::Flush).await.expect("the store works");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_creation_is_one_put_whatever_comes_of_it() {
    let store = scripted([broken()]);
    let failed = store.create_once(&path("a"), "1".into(), Purpose::Wal).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Retry);
    store.create_once(&path("a"), "1".into(), Purpose::Wal).await.unwrap();
    let lost = store.create_once(&path("a"), "2".into(), Purpose::Wal).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Conflict);

    let counts = store.requests();
    assert_eq!(counts.total(), 3);
    assert_eq!(counts.with_outcome(Purpose::Wal, Method::Put, Outcome::Ok), 1);
    assert_eq!(counts.with_outcome(Purpose::Wal, Method::Put, Outcome::Unavailable), 1);
    assert_eq!(counts.with_outcome(Purpose::Wal, Method::Put, Outcome::Conflict), 1);
    assert_eq!(store.get(&path("a"), Purpose::Wal).await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_creation_that_hangs_ends_with_the_attempt() {
    let store = scripted([Step::Hang]);
    let begun = Instant::now();
    let failed = store.create_once(&path("a"), "1".into(), Purpose::Wal).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(begun.elapsed(), patience().attempt);
    assert_eq!(store.requests().with_outcome(Purpose::Wal, Method::Put, Outcome::Timeout), 1);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_request_is_counted_as_cancelled() {
    let store = scripted([Step::Hang]);
    let key = path("a");
    let put = store.create_once(&key, "1".into(), Purpose::Hedge);
    assert!(tokio::time::timeout(Duration::from_millis(1), put).await.is_err());
    assert_eq!(store.requests().with_outcome(Purpose::Hedge, Method::Put, Outcome::Cancelled), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_and_idempotent_writes_are_repeated_until_they_succeed() {
    let store = scripted([broken(), Step::Hang, broken()]);
    store.put(&path("a"), "1".into(), Purpose::Flush).await.unwrap();
    assert_eq!(store.requests().of(Purpose::Flush, Method::Put), 4);

    let conflict = Step::Fail(Error::AlreadyExists { path: "a".into(), source: "409".into() });
    let store = scripted([conflict]);
    store.put(&path("a"), "1".into(), Purpose::Flush).await.unwrap();
    assert_eq!(store.requests().of(Purpose::Flush, Method::Put), 2);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_when_the_patience_is_at_its_end() {
    let store = scripted((0..1000).map(|_| broken()));
    let begun = Instant::now();
    let failed = store.get(&path("a"), Purpose::Fetch).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Retry);
    assert!(begun.elapsed() <= patience().total);
    // The waits double from 100 ms to 1 s, each ± 50 %: about 22 attempts in 20 s.
    let attempts = store.requests().of(Purpose::Fetch, Method::Get);
    assert!((15..60).contains(&attempts), "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn what_repeating_cannot_mend_is_not_repeated() {
    let store = scripted([refused()]);
    let failed = store.get(&path("a"), Purpose::Fetch).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Rejected);
    let missing = store.get(&path("a"), Purpose::Fetch).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.requests().total(), 2);
}

#[tokio::test(start_paused = true)]
async fn reads_of_old_data_wait_for_bandwidth_and_nothing_else_does() {
    const RATE: u64 = 1 << 20;
    let store = Store::with_bandwidth(Arc::new(InMemory::new()), runtime(), patience(), Some(RATE));
    let began = Instant::now();
    let data = vec![7; 4 << 20];
    store.create_once(&path("wal"), data.clone().into(), Purpose::Wal).await.expect("created");
    store.put(&path("segment"), data.into(), Purpose::Flush).await.expect("written");
    store.get(&path("wal"), Purpose::Recovery).await.expect("there");
    assert_eq!(began.elapsed(), Duration::ZERO);
    store.get_range(&path("segment"), 0..100, Purpose::Fetch).await.expect("there");
    let waited = began.elapsed().as_secs_f64();
    assert!((11.0..=12.1).contains(&waited), "{waited} s for 12 MiB before it");
}

#[tokio::test(start_paused = true)]
async fn a_range_beyond_the_end_is_an_error_and_not_a_short_read() {
    let store = scripted([]);
    stored(&store, "a", "0123456789").await;
    assert_eq!(store.get_range(&path("a"), 3..6, Purpose::Fetch).await.unwrap(), "345");
    for range in [8..11, 10..12, 100..101] {
        let failed = store.get_range(&path("a"), range, Purpose::Fetch).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Rejected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_or_hangs_begins_anew() {
    let script = Arc::new(Mutex::new(VecDeque::new()));
    let objects = Scripted { inner: Arc::new(InMemory::new()), script: script.clone() };
    let store = Store::new(Arc::new(objects), runtime(), patience());
    for key in ["p/2", "p/1", "p/3", "q/1"] {
        stored(&store, key, "x").await;
    }
    script.lock().extend([broken(), Step::Hang]);
    let listed = store.list(&path("p"), None, Purpose::Recovery).await.unwrap();
    let keys: Vec<_> = listed.into_iter().map(|object| object.location.to_string()).collect();
    assert_eq!(keys, ["p/1", "p/2", "p/3"]);
    let counts = store.requests();
    let ended = |outcome| counts.with_outcome(Purpose::Recovery, Method::List, outcome);
    assert_eq!([Outcome::Unavailable, Outcome::Timeout, Outcome::Ok].map(ended), [1, 1, 1]);
}

#[tokio::test]
async fn a_listing_goes_on_behind_its_last_key_and_costs_one_request_a_page() {
    let store = Store::new(Arc::new(InMemory::new()), runtime(), patience());
    for n in 0..1500 {
        stored(&store, &format!("p/{n:04}"), "x").await;
    }
    let mut after = None;
    for (first, last) in [(0, 999), (1000, 1499)] {
        let page = store.list_some(&path("p"), after.as_ref(), 1000, Purpose::Cleanup).await.unwrap();
        let ends = [page.first(), page.last()].map(|end| end.expect("there are some").location.clone());
        assert_eq!(ends, [first, last].map(|n| path(&format!("p/{n:04}"))));
        after = Some(path(&format!("p/{last:04}")));
    }
    assert!(store.list_some(&path("p"), after.as_ref(), 1000, Purpose::Cleanup).await.unwrap().is_empty());
    assert_eq!(store.requests().with_outcome(Purpose::Cleanup, Method::List, Outcome::Ok), 3);
    assert_eq!(store.requests().of(Purpose::Cleanup, Method::List), 3);
}

#[tokio::test(start_paused = true)]
async fn metrics_have_stable_names_and_labels() {
    let mut registry = prometheus_client::registry::Registry::default();
    let store = scripted([]).with_metrics(&mut registry);
    store.create_once(&path("a"), "12345".into(), Purpose::Wal).await.unwrap();
    store.get(&path("a"), Purpose::Fetch).await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"thalweg_object_store_requests_total{purpose="wal",method="put",outcome="ok"} 1"#,
        r#"thalweg_object_store_requests_total{purpose="fetch",method="get",outcome="ok"} 1"#,
        r#"thalweg_object_store_transferred_bytes_total{purpose="wal",direction="sent"} 5"#,
        r#"thalweg_object_store_transferred_bytes_total{purpose="fetch",direction="received"} 5"#,
        r#"thalweg_object_store_request_duration_seconds_count{purpose="wal",method="put"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::check_store(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn a_local_directory_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        ObjectStoreConfig { url: format!("file:{}", directory.path().display()), ..Default::default() };
    conformance::check_store(open(&config, &runtime()).await.expect("it can be opened")).await;
}

#[tokio::test]
async fn the_check_costs_five_requests_and_leaves_nothing() {
    let store = Store::new(Arc::new(InMemory::new()), runtime(), patience());
    check(&store).await.expect("memory is a good store");
    assert_eq!(store.requests().total(), 5);
    assert!(store.list(&path("check"), None, Purpose::Check).await.unwrap().is_empty());
}

/// Ignores `If-None-Match`, as stores do that don't know it.
#[derive(Debug)]
struct Unconditional(InMemory);

impl fmt::Display for Unconditional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unconditional")
    }
}

#[async_trait]
impl ObjectStore for Unconditional {
    async fn put_opts(&self, path: &Path, payload: PutPayload, _: PutOptions) -> ClientResult<PutResult> {
        self.0.put_opts(path, payload, PutOptions::default()).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> ClientResult<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> ClientResult<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: stream::BoxStream<'static, ClientResult<Path>>,
    ) -> stream::BoxStream<'static, ClientResult<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> stream::BoxStream<'static, ClientResult<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ClientResult<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ClientResult<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused() {
    let store = Store::new(Arc::new(Unconditional(InMemory::new())), runtime(), patience());
    let error = check(&store).await.expect_err("it must be refused");
    assert!(matches!(error, CheckError::NotConditional { .. }), "{error}");
    assert!(store.list(&path("check"), None, Purpose::Check).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_check_names_the_request_that_failed() {
    let store = scripted([refused()]);
    let error = check(&store).await.expect_err("no permission").to_string();
    assert!(error.contains("conditional PUT") && error.contains("s3:PutObject"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_check_goes_on_at_another_key_when_a_creation_is_not_answered() {
    let store = scripted([broken(), Step::Hang]);
    check(&store).await.expect("the second key is created");
    assert!(store.list(&path("check"), None, Purpose::Check).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_brokers_of_a_new_bucket_agree_on_its_cluster_id() {
    let store = scripted([]);
    let ids = ["a", "b", "c"];
    let opened = futures::future::join_all(ids.map(|id| open_marker(&store, id))).await;
    let opened: Vec<_> = opened.into_iter().map(|id| id.unwrap()).collect();
    assert!(opened.iter().all(|id| *id == opened[0]), "{opened:?}");
    assert_eq!(open_marker(&store, "d").await.unwrap(), opened[0]);
}

#[tokio::test(start_paused = true)]
async fn a_marker_whose_creation_was_not_answered_is_opened() {
    // The first GET finds nothing, the PUT after it is not answered.
    let missing = || Step::Fail(Error::NotFound { path: "thalweg".into(), source: "404".into() });
    let store = scripted([missing(), Step::Hang, missing(), broken()]);
    assert_eq!(open_marker(&store, "a").await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_of_something_else_is_refused() {
    let store = scripted([]);
    stored(&store, "thalweg", "a river").await;
    assert!(matches!(open_marker(&store, "a").await, Err(MarkerError::Foreign)));
}
