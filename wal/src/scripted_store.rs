//! An object store in memory whose PUTs behave as a test says.

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use thalweg_runtime::{Inline, Random, Runtime, SystemClock, TokioSpawner};
use thalweg_segment::{Patience, Store};
use tokio::time::{Instant, sleep};

/// What becomes of a PUT.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is done and answered after this long.
    Done(Duration),
    /// It is done at once, and an error is the answer.
    AnswerLost,
    /// It is done at once and never answered.
    Unanswered,
    /// It is neither done nor answered.
    Lost,
    /// It is not done; 503.
    Failed,
    /// It is not done; 409, as if another were in progress.
    Conflict,
    /// It is not done; 403.
    Denied,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ScriptedStore {
    pub inner: InMemory,
    /// The fates of the next PUTs; those after them are done at once.
    script: Mutex<VecDeque<Fate>>,
    /// Whether deletions are refused.
    pub keeps_all: AtomicBool,
    /// When PUTs were begun, and of what.
    puts: Mutex<Vec<(Instant, Path)>>,
}

impl ScriptedStore {
    /// A store whose first PUTs have these fates.
    pub fn new(script: impl IntoIterator<Item = Fate>) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script.into_iter().collect()), ..Self::default() })
    }

    /// The same as Thalweg sees it.
    pub fn store(self: &Arc<Self>, runtime: &Runtime) -> Store {
        let patience = Patience {
            attempt: Duration::from_secs(60),
            total: Duration::from_secs(60),
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_secs(1),
        };
        Store::new(self.clone(), runtime.clone(), patience)
    }

    /// Gives the next PUTs these fates.
    pub fn then(&self, script: impl IntoIterator<Item = Fate>) {
        self.script.lock().extend(script);
    }

    /// How long after `start` each PUT began, in milliseconds.
    pub fn puts_since(&self, start: Instant) -> Vec<u128> {
        self.puts.lock().iter().map(|(at, _)| (*at - start).as_millis()).collect()
    }

    /// Keys that PUTs were sent to, in order.
    pub fn put_paths(&self) -> Vec<Path> {
        self.puts.lock().iter().map(|(_, path)| path.clone()).collect()
    }

    fn error(text: &'static str) -> Error {
        Error::Generic { store: "scripted", source: text.into() }
    }
}

/// A runtime with a fixed seed, on tokio's paused clock.
pub(crate) fn test_runtime() -> Runtime {
    Runtime::new(Arc::new(SystemClock), Random::from_seed(1), Arc::new(TokioSpawner), Arc::new(Inline))
}

impl fmt::Display for ScriptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted")
    }
}

#[async_trait]
impl ObjectStore for ScriptedStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.puts.lock().push((Instant::now(), path.clone()));
        let fate = self.script.lock().pop_front().unwrap_or(Fate::Done(Duration::ZERO));
        let put = self.inner.put_opts(path, payload, options);
        match fate {
            Fate::Done(after) => {
                sleep(after).await;
                put.await
            }
            Fate::AnswerLost => {
                put.await?;
                Err(Self::error("connection reset"))
            }
            Fate::Unanswered => {
                put.await?;
                std::future::pending().await
            }
            Fate::Lost => std::future::pending().await,
            Fate::Failed => Err(Self::error("503 Slow Down")),
            Fate::Conflict => {
                Err(Error::AlreadyExists { path: path.to_string(), source: "409 Conflict".into() })
            }
            Fate::Denied => Err(Error::PermissionDenied { path: path.to_string(), source: "403".into() }),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.keeps_all.load(Ordering::Relaxed) {
            return Box::pin(paths.map(|_| Err(Self::error("503 Slow Down"))));
        }
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
