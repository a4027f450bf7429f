use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Threads for CPU-heavy work (decompression, checksums of large blocks), kept away from those that serve sockets.
pub trait ComputePool: Send + Sync {
    /// Accepts `work`, waiting while the pool is full; the returned future ends once the work was handed to a thread.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// At most a fixed number of pieces of work at a time, on tokio's blocking threads.
pub struct Threads(Arc<Semaphore>);

impl Threads {
    /// A pool of `threads` threads (at least one).
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads.max(1))))
    }
}

impl ComputePool for Threads {
    #[expect(clippy::disallowed_methods, reason = "the one place that uses blocking threads, behind a bound")]
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let semaphore = self.0.clone();
        Box::pin(async move {
            let permit = semaphore.acquire_owned().await.expect("the semaphore is never closed");
            drop(tokio::task::spawn_blocking(move || {
                work();
                drop(permit);
            }));
        })
    }
}

/// Runs the work at once on the caller's thread; for the simulation.
pub struct Inline;

impl ComputePool for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}
