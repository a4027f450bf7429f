//! The object store of a run. It belongs to the world: a request, once sent, is carried out by a task of the world at its
//! own time, whether its sender still waits, is paused, or is dead.

use crate::{
    stored::Referred,
    world::{Fate, World},
};
use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::sleep};

/// One broker's access to the bucket. Cheap to clone.
#[derive(Clone)]
pub struct SimStore {
    world: World,
    bucket: Arc<InMemory>,
    referred: Referred,
    client: String,
}

impl SimStore {
    /// The access of `client` to `bucket`. What it deletes is held against `referred`.
    pub fn new(world: &World, bucket: &Arc<InMemory>, referred: &Referred, client: &str) -> Self {
        let (world, bucket, referred) = (world.clone(), bucket.clone(), referred.clone());
        Self { world, bucket, referred, client: client.to_owned() }
    }

    fn unavailable(what: &'static str) -> Error {
        Error::Generic { store: "simulated", source: what.into() }
    }

    /// Carries `request` out as its fate will have it, and answers as that says.
    async fn carry_out<T: Send + 'static>(
        &self,
        fate: Fate,
        path: &Path,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match fate {
            Fate::Refused(after) => {
                sleep(after).await;
                Err(Self::unavailable("503 slow down"))
            }
            Fate::Done(there, back) => {
                let answer = self.send(there, request).await;
                sleep(back).await;
                answer
            }
            Fate::Unknown(there, answered) => {
                if let Some(there) = there {
                    drop(self.send(there, request));
                }
                sleep(answered).await;
                Err(Self::unavailable("connection lost"))
            }
            Fate::Conflict(there, answered) => {
                if let Some(there) = there {
                    drop(self.send(there, request));
                }
                sleep(answered).await;
                Err(Error::AlreadyExists { path: path.to_string(), source: "409 in progress".into() })
            }
        }
    }

    /// Carries `request` out after a while, in a task of the world. What is returned waits for its result.
    fn send<T: Send + 'static>(
        &self,
        after: Duration,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (sender, receiver) = oneshot::channel();
        self.world.spawn(async move {
            sleep(after).await;
            // Nobody may wait for it any more.
            let _ = sender.send(request.await);
        });
        Box::pin(async { receiver.await.expect("the world's tasks are not ended") })
    }

    /// The fate of a request that may not be answered "in conflict".
    fn fate(&self) -> Fate {
        match self.world.store_fate() {
            Fate::Conflict(there, after) => Fate::Unknown(there, after),
            fate => fate,
        }
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let conditional = options.mode == PutMode::Create;
        let fate = if conditional { self.world.store_fate() } else { self.fate() };
        let (world, bucket, path) = (self.world.clone(), self.bucket.clone(), location.clone());
        let client = self.client.clone();
        let request = async move {
            let bytes = payload.content_length();
            let result = bucket.put_opts(&path, payload, options).await;
            let outcome = if result.is_ok() { "written" } else { "lost to another" };
            world.event(format_args!("{client} PUT {path} ({bytes} bytes): {outcome}"));
            result
        };
        self.carry_out(fate, location, request).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (bucket, path) = (self.bucket.clone(), location.clone());
        let request = async move { bucket.get_opts(&path, options).await };
        self.carry_out(self.fate(), location, request).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |path| {
                let this = this.clone();
                async move {
                    let path = path?;
                    this.delete_one(path.clone()).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

impl SimStore {
    async fn delete_one(&self, path: Path) -> Result<()> {
        let (this, target) = (self.clone(), path.clone());
        let request = async move {
            this.world.event(format_args!("{} DELETE {target}", this.client));
            this.referred.deletes(&this.client, &target);
            let one = stream::iter([Ok(target)]).boxed();
            this.bucket.delete_stream(one).try_collect::<Vec<_>>().await.map(drop)
        };
        self.carry_out(self.fate(), &path, request).await
    }

    fn list_after(
        &self,
        prefix: Option<Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let page = async move {
            let bucket = this.bucket.clone();
            let request = async move {
                let listed = match &offset {
                    Some(offset) => bucket.list_with_offset(prefix.as_ref(), offset),
                    None => bucket.list(prefix.as_ref()),
                };
                listed.try_collect::<Vec<_>>().await
            };
            this.carry_out(this.fate(), &Path::default(), request).await
        };
        stream::once(page).map_ok(|found| stream::iter(found.into_iter().map(Ok))).try_flatten().boxed()
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.client)
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
