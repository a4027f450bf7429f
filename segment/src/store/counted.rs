//! A client that counts, times and bounds every request.

use super::{
    Outcome, Purpose,
    error::Fault,
    metrics::{Method, Metrics},
    multipart::CountedUpload,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Keys in one page of a listing, and in one bulk deletion, of S3.
const PAGE: u64 = 1000;

/// The slowest link on which uploads succeed, in bytes a second for each. With one bound for all sizes, a large segment would
/// begin anew for ever where the way to the store is narrow.
const SLOWEST_UPLOAD: u64 = 1 << 20;

/// How much longer than an empty request one that sends `bytes` may take.
pub fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST_UPLOAD)
}

/// Counts the requests of one purpose. Each ends, as an error, after `bound`: a PUT (and the time that its bytes take on a slow
/// link), and a GET with its body, as a whole; a listing or a bulk deletion page by page.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) meter: Meter,
}

/// What is counted in, and how long a request may take.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) metrics: Metrics,
    pub(super) purpose: Purpose,
    pub(super) bound: Duration,
}

impl Meter {
    pub(super) fn begin(&self, method: Method) -> Request {
        let (started, count) = (Instant::now(), 1);
        Request { meter: self.clone(), method, started, count, outcome: Outcome::Cancelled }
    }

    /// One request, bounded.
    pub(super) async fn measure<T>(
        &self,
        method: Method,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.measure_upload(method, 0, answer).await
    }

    /// One request that sends `bytes`, bounded.
    pub(super) async fn measure_upload<T>(
        &self,
        method: Method,
        bytes: u64,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let request = self.begin(method);
        let answer = within(request.deadline_with(bytes), answer).await;
        request.end(&answer);
        answer
    }
}

/// A request under way. It is recorded when dropped; until told otherwise, as one whose caller stopped waiting.
pub(super) struct Request {
    meter: Meter,
    method: Method,
    started: Instant,
    count: u64,
    outcome: Outcome,
}

impl Request {
    fn deadline(&self) -> Instant {
        self.started + self.meter.bound
    }

    /// The deadline of a request that sends `bytes`.
    fn deadline_with(&self, bytes: u64) -> Instant {
        self.deadline() + transfer_time(bytes)
    }

    fn end<T>(mut self, answer: &Result<T>) {
        self.outcome = outcome(answer);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Self { meter, method, started, count, outcome } = self;
        meter.metrics.ended(meter.purpose, *method, *outcome, *count, started.elapsed());
    }
}

fn outcome<T>(answer: &Result<T>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Ok,
        Err(error) => Outcome::of(error),
    }
}

/// `answer`, or a timeout at `deadline`.
pub(super) async fn within<T>(deadline: Instant, answer: impl Future<Output = Result<T>>) -> Result<T> {
    timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(Fault::TimedOut.into()))
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({}, {})", self.meter.purpose.as_str(), self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = self.inner.put_opts(path, payload, options);
        let put = self.meter.measure_upload(Method::Put, bytes, put).await?;
        self.meter.metrics.sent(self.meter.purpose, bytes);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(path, options);
        let upload = self.meter.measure(Method::Multipart, upload).await?;
        Ok(Box::new(CountedUpload { inner: upload, meter: self.meter.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.meter.measure(Method::Head, self.inner.get_opts(path, options)).await;
        }
        let request = self.meter.begin(Method::Get);
        match within(request.deadline(), self.inner.get_opts(path, options)).await {
            Ok(answer) => Ok(watch_body(answer, request)),
            Err(error) => {
                let answer = Err(error);
                request.end(&answer);
                answer
            }
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        watch_pages(self.inner.delete_stream(paths), self.meter.begin(Method::Delete))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        watch_pages(self.inner.list(prefix), self.meter.begin(Method::List))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        watch_pages(self.inner.list_with_offset(prefix, offset), self.meter.begin(Method::List))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meter.measure(Method::List, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meter.measure(Method::Copy, self.inner.copy_opts(from, to, options)).await
    }
}

/// Ends `request` with the body of its answer. A local file has no body yet: whoever reads it does so by itself.
fn watch_body(answer: GetResult, mut request: Request) -> GetResult {
    let payload = match answer.payload {
        GetResultPayload::Stream(body) => {
            GetResultPayload::Stream(watch(body, request, Bounds::Whole, |request, chunk: &Bytes| {
                request.meter.metrics.received(request.meter.purpose, chunk.len() as u64);
            }))
        }
        file => {
            request.outcome = Outcome::Ok;
            let bytes = answer.range.end - answer.range.start;
            request.meter.metrics.received(request.meter.purpose, bytes);
            file
        }
    };
    GetResult { payload, ..answer }
}

/// Ends `request` with the last of its items, and counts it once per page of them.
fn watch_pages<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    request: Request,
) -> BoxStream<'static, Result<T>> {
    let mut seen = 0;
    watch(items, request, Bounds::Item, move |request, _| {
        seen += 1;
        request.count = u64::div_ceil(seen, PAGE);
        if request.method == Method::List {
            // Who stops here has seen enough. An error that follows is recorded.
            request.outcome = Outcome::Ok;
        }
    })
}

/// What the bound on a request's time applies to.
#[derive(Clone, Copy)]
enum Bounds {
    Whole,
    Item,
}

/// Passes `items` on, tells `observe` of each and records what became of the request.
fn watch<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    request: Request,
    bounds: Bounds,
    observe: impl FnMut(&mut Request, &T) + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let watched = Watched { items, request, bounds, observe, failed: false, over: false };
    // Fused: some callers ask once more after the end.
    into_stream(watched).fuse().boxed()
}

struct Watched<T, F> {
    items: BoxStream<'static, Result<T>>,
    request: Request,
    bounds: Bounds,
    observe: F,
    failed: bool,
    over: bool,
}

fn into_stream<T, F: FnMut(&mut Request, &T)>(watched: Watched<T, F>) -> impl Stream<Item = Result<T>> {
    stream::unfold(watched, |mut watched| async move {
        let item = watched.next().await?;
        Some((item, watched))
    })
}

impl<T, F: FnMut(&mut Request, &T)> Watched<T, F> {
    async fn next(&mut self) -> Option<Result<T>> {
        if self.over {
            return None;
        }
        let deadline = match self.bounds {
            Bounds::Whole => self.request.deadline(),
            Bounds::Item => Instant::now() + self.request.meter.bound,
        };
        let item = match timeout_at(deadline, self.items.next()).await {
            Ok(item) => item,
            Err(_) => {
                self.over = true;
                Some(Err(Fault::TimedOut.into()))
            }
        };
        self.record(item.as_ref());
        item
    }

    fn record(&mut self, item: Option<&Result<T>>) {
        match item {
            Some(Ok(item)) => (self.observe)(&mut self.request, item),
            // Of several keys to delete, some may be missing; that is no failure of the request.
            Some(Err(object_store::Error::NotFound { .. })) if self.request.method == Method::Delete => {}
            Some(Err(error)) => {
                self.failed = true;
                self.request.outcome = Outcome::of(error);
            }
            None if !self.failed => self.request.outcome = Outcome::Ok,
            None => {}
        }
    }
}
