//! The object store as the rest of Thalweg sees it: attempts that are counted, bounded in time and told apart by outcome.
//!
//! ```text
//! Store        repeats reads and idempotent writes; maps errors to what can be done about them   (this file, error)
//!   Counted    counts, times and bounds each request, by purpose                                 (counted, multipart, metrics)
//!     client   S3, local directory or memory, its own retries off                                (open, credentials)
//! ```
//!
//! A conditional creation is never repeated here: after an attempt whose outcome is unknown, only the caller can tell its own
//! object from another's. Time is `tokio::time`'s throughout.

mod check;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod counted;
mod credentials;
mod error;
mod link;
mod marker;
mod metrics;
mod multipart;
mod open;
mod part_retries;
mod sweep;
mod upload;

pub use check::{CheckError, Operation, check};
pub use counted::transfer_time;
pub use error::{ErrorKind, Outcome, StoreError};
pub use marker::{FORMAT_LEVEL, MarkerError, open_marker, read_marker};
pub use metrics::{Method, RequestCounts};
pub use open::{ObjectStoreConfig, OpenError, open};
pub use sweep::sweep_staged;
pub use upload::Upload;

use bytes::{Bytes, BytesMut};
use counted::{Counted, Meter, within};
use error::{Fault, may_be_of_empty_object};
use futures::{StreamExt, TryStreamExt, stream};
use link::{Class, OnTheWay, SharedLink};
use metrics::Metrics;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore, PutMode, PutOptions,
    PutPayload, path::Path,
};
use std::{future::Future, ops::Range, sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use tokio::time::{Instant, sleep};

/// What a request was for: the label by which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// WAL objects.
    Wal,
    /// A second PUT of the same WAL object, because the first is slow.
    Hedge,
    /// Fences and manifests, and reads of a recovery.
    Recovery,
    /// Flushed segments.
    Flush,
    /// Reads for consumers.
    Fetch,
    /// Rewriting of stored data: reads and writes.
    Compaction,
    /// Metadata (SlateDB).
    Metadata,
    /// Deletion of what is no longer needed.
    Cleanup,
    /// The check at start-up.
    Check,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Wal,
        Self::Hedge,
        Self::Recovery,
        Self::Flush,
        Self::Fetch,
        Self::Compaction,
        Self::Metadata,
        Self::Cleanup,
        Self::Check,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Hedge => "hedge",
            Self::Recovery => "recovery",
            Self::Flush => "flush",
            Self::Fetch => "fetch",
            Self::Compaction => "compaction",
            Self::Metadata => "metadata",
            Self::Cleanup => "cleanup",
            Self::Check => "check",
        }
    }
}

/// How long a request may take, and how often it is repeated.
#[derive(Clone, Debug)]
pub struct Patience {
    /// One attempt ends after this long (an upload after as much longer as [`transfer_time`] gives its bytes); its outcome is
    /// then unknown.
    pub attempt: Duration,
    /// No new attempt begins after this long.
    pub total: Duration,
    /// Wait before the first repetition; doubles, with jitter, up to `max_backoff`.
    pub backoff: Duration,
    /// Longest wait between two attempts.
    pub max_backoff: Duration,
}

/// An object store below one prefix. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    runtime: Runtime,
    patience: Patience,
    metrics: Metrics,
    link: SharedLink,
}

impl Store {
    /// Wraps a client whose own retries are off.
    pub fn new(objects: Arc<dyn ObjectStore>, runtime: Runtime, patience: Patience) -> Self {
        Self::with_bandwidth(objects, runtime, patience, None)
    }

    /// The same, where the way to the store has so many bytes a second, if that is known. Uploads take what they need of it;
    /// reads of old data for consumers ([`Purpose::Fetch`]) get the rest.
    pub fn with_bandwidth(
        objects: Arc<dyn ObjectStore>,
        runtime: Runtime,
        patience: Patience,
        bytes_per_second: Option<u64>,
    ) -> Self {
        let link = SharedLink::new(bytes_per_second);
        Self(Arc::new(Inner { objects, runtime, patience, metrics: Metrics::new(), link }))
    }

    /// Shows the counts and times of all requests, of clones too, in `registry`. Once per registry.
    pub fn with_metrics(self, registry: &mut prometheus_client::registry::Registry) -> Self {
        self.0.metrics.register(registry);
        self
    }

    /// How many requests were made until now.
    pub fn requests(&self) -> RequestCounts {
        self.0.metrics.counts()
    }

    /// The counted client underneath, for SlateDB. Its attempts are bounded in time, and not repeated.
    pub fn client(&self, purpose: Purpose) -> Arc<dyn ObjectStore> {
        Arc::new(self.counted(purpose))
    }

    fn counted(&self, purpose: Purpose) -> Counted {
        let meter = Meter { metrics: self.0.metrics.clone(), purpose, bound: self.0.patience.attempt };
        Counted { inner: self.0.objects.clone(), meter }
    }

    /// One attempt to create `path` (`If-None-Match: *`), not repeated. After `Unavailable` the object may exist or come
    /// to exist at any later time.
    pub async fn create_once(
        &self,
        path: &Path,
        payload: PutPayload,
        purpose: Purpose,
    ) -> Result<(), StoreError> {
        let _on_the_way = self.0.link.upload(payload.content_length() as u64);
        match self.counted(purpose).put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::of_create(path, error)),
        }
    }

    /// Writes `path`, whose content is the same each time it is written. Repeated within the patience.
    pub async fn put(&self, path: &Path, payload: PutPayload, purpose: Purpose) -> Result<(), StoreError> {
        let client = self.counted(purpose);
        self.repeat(|| async {
            let _on_the_way = self.outward(purpose, payload.content_length() as u64).await;
            match client.put_opts(path, payload.clone(), PutOptions::default()).await {
                Ok(_) => Ok(()),
                Err(error) => Err(StoreError::of_overwrite(path, error)),
            }
        })
        .await
    }

    /// Waits until `bytes` bytes may be sent, where what has this purpose waits at all.
    async fn outward(&self, purpose: Purpose, bytes: u64) -> OnTheWay {
        match self.0.link.turn(Class::of(purpose), bytes).await {
            Some(turn) => turn,
            None => self.0.link.upload(bytes),
        }
    }

    /// Reads a whole object. Repeated within the patience, as all reads are.
    pub async fn get(&self, path: &Path, purpose: Purpose) -> Result<Bytes, StoreError> {
        let read = self.read(path, None, purpose).await?;
        Ok(read.bytes)
    }

    /// Reads a half-open range of bytes. One that does not lie within the object is `Rejected`; an empty one is not asked for.
    pub async fn get_range(
        &self,
        path: &Path,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = self.read(path, Some(GetRange::Bounded(range.clone())), purpose).await?;
        if read.range != range {
            let fault = Fault::BeyondEnd { asked: range, size: read.size };
            return Err(StoreError::of_read(path, fault.into()));
        }
        Ok(read.bytes)
    }

    /// Reads the last `bytes` bytes (the whole object where it is smaller), and the object's size.
    pub async fn get_suffix(
        &self,
        path: &Path,
        bytes: u64,
        purpose: Purpose,
    ) -> Result<(Bytes, u64), StoreError> {
        let read = self.read(path, Some(GetRange::Suffix(bytes)), purpose).await?;
        Ok((read.bytes, read.size))
    }

    /// Lists all objects below `prefix` whose key is at or after `from`, in key order. The whole answer is held in memory, about
    /// 200 bytes for each object; the time for one attempt applies to each page of 1,000 keys.
    pub async fn list(
        &self,
        prefix: &Path,
        from: Option<&Path>,
        purpose: Purpose,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let client = self.counted(purpose);
        let mut objects = self
            .repeat(|| async {
                let listing = match from.and_then(just_before) {
                    Some(offset) => client.list_with_offset(Some(prefix), &offset),
                    None => client.list(Some(prefix)),
                };
                listing.try_collect::<Vec<_>>().await.map_err(|error| StoreError::of_read(prefix, error))
            })
            .await?;
        objects.retain(|object| from.is_none_or(|from| object.location >= *from));
        // Local directories and S3 Express list in no order.
        objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// At most `limit` objects below `prefix` whose keys come after `after`, for stores that list in key order: as many requests
    /// as there are pages of 1,000 keys in the answer, at least one.
    pub async fn list_some(
        &self,
        prefix: &Path,
        after: Option<&Path>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let client = self.counted(purpose);
        self.repeat(|| async {
            let listing = match after {
                Some(after) => client.list_with_offset(Some(prefix), after),
                None => client.list(Some(prefix)),
            };
            let some = listing.take(limit).try_collect::<Vec<_>>().await;
            some.map_err(|error| StoreError::of_read(prefix, error))
        })
        .await
    }

    /// Deletes objects; one that doesn't exist is no error. Repeated within the patience for each 1,000 of them.
    pub async fn delete(&self, paths: Vec<Path>, purpose: Purpose) -> Result<(), StoreError> {
        let client = self.counted(purpose);
        for paths in paths.chunks(DELETED_AT_ONCE) {
            self.repeat(|| delete_all(&client, paths)).await?;
        }
        Ok(())
    }

    async fn read(&self, path: &Path, range: Option<GetRange>, purpose: Purpose) -> Result<Read, StoreError> {
        let client = self.counted(purpose);
        self.repeat(|| async {
            let expected = match &range {
                Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
                Some(GetRange::Suffix(bytes)) => *bytes,
                _ => 0,
            };
            let on_the_way = self.0.link.turn(Class::of(purpose), expected).await;
            // The client bounds the answer and its body; this also bounds the reading of a local file.
            let deadline = Instant::now() + self.0.patience.attempt;
            let read = within(deadline, read(&client, path, range.clone())).await;
            let read = read.map_err(|error| StoreError::of_read(path, error))?;
            // What was not known before, or is never waited for.
            let counted = on_the_way.as_ref().map_or(0, |_| expected);
            self.0.link.read((read.bytes.len() as u64).saturating_sub(counted));
            Ok(read)
        })
        .await
    }

    /// Repeats what is unavailable, until the patience is at its end.
    async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let Patience { total, mut backoff, max_backoff, .. } = self.0.patience;
        let deadline = Instant::now() + total;
        loop {
            let error = match attempt().await {
                Err(error) if error.kind() == ErrorKind::Retry => error,
                ended => return ended,
            };
            let wait = self.0.runtime.random().jitter(backoff);
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::warn!(%error, wait_ms = wait.as_millis(), "a request to the object store is repeated");
            sleep(wait).await;
            backoff = (backoff * 2).min(max_backoff);
        }
    }
}

/// S3 deletes this many objects with one request.
const DELETED_AT_ONCE: usize = 1000;

/// An object, or a part of it.
struct Read {
    bytes: Bytes,
    range: Range<u64>,
    size: u64,
}

async fn read(client: &Counted, path: &Path, range: Option<GetRange>) -> object_store::Result<Read> {
    let suffix = matches!(range, Some(GetRange::Suffix(_)));
    if matches!(range, Some(GetRange::Suffix(0))) {
        return read_nothing(client, path).await;
    }
    match client.get_opts(path, GetOptions::new().with_range(range)).await {
        Ok(answer) => collect(answer).await,
        Err(error) if suffix && may_be_of_empty_object(&error) => match read_nothing(client, path).await? {
            empty @ Read { size: 0, .. } => Ok(empty),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// No bytes of the object, and its size.
async fn read_nothing(client: &Counted, path: &Path) -> object_store::Result<Read> {
    let size = client.get_opts(path, GetOptions::new().with_head(true)).await?.meta.size;
    Ok(Read { bytes: Bytes::new(), range: size..size, size })
}

async fn collect(answer: GetResult) -> object_store::Result<Read> {
    let (range, size) = (answer.range.clone(), answer.meta.size);
    let expected = range.end - range.start;
    let bytes = match answer.payload {
        GetResultPayload::Stream(body) => collect_body(body, expected).await?,
        _ => answer.bytes().await?,
    };
    let got = bytes.len() as u64;
    if got != expected {
        return Err(Fault::Truncated { expected, got }.into());
    }
    Ok(Read { bytes, range, size })
}

/// Memory that is taken for a body on the word of the store alone; the rest as it arrives.
const TRUSTED_LENGTH: u64 = 64 << 20;

/// The body as one slice, copied only where it came in several.
async fn collect_body(
    mut body: stream::BoxStream<'static, object_store::Result<Bytes>>,
    expected: u64,
) -> object_store::Result<Bytes> {
    let Some(first) = body.try_next().await? else { return Ok(Bytes::new()) };
    let Some(second) = body.try_next().await? else { return Ok(first) };
    let capacity = usize::try_from(expected.min(TRUSTED_LENGTH)).unwrap_or(0);
    let mut all = BytesMut::with_capacity(capacity.max(first.len() + second.len()));
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    while let Some(chunk) = body.try_next().await? {
        all.extend_from_slice(&chunk);
        if all.len() as u64 > expected {
            break;
        }
    }
    Ok(all.freeze())
}

async fn delete_all(client: &Counted, paths: &[Path]) -> Result<(), StoreError> {
    let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
    let Some(Ok(first)) = paths.first() else { return Ok(()) };
    let first = first.clone();
    let mut deleted = client.delete_stream(stream::iter(paths).boxed());
    let mut failed = None;
    // One that fails must not keep the others from being deleted, so the stream is read to its end.
    while let Some(result) = deleted.next().await {
        match result {
            Err(error) if Outcome::of(&error) != Outcome::NotFound => failed = failed.or(Some(error)),
            _ => {}
        }
    }
    failed.map_or(Ok(()), |error| Err(StoreError::of_overwrite(&first, error)))
}

/// A key somewhat before `from`, since the client lists what comes *after* a key. The few keys between are dropped later.
fn just_before(from: &Path) -> Option<Path> {
    let mut key = from.to_string();
    key.pop();
    let key = Path::parse(&key).ok()?;
    (!key.as_ref().is_empty()).then_some(key)
}

#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod tests;
