use std::{future::Future, io};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of their own for a device that may hang: what waits for it takes none of the threads that everything else runs on.
/// Real ones, so nothing that a simulation plays may begin any.
pub struct IoThreads(Option<Runtime>);

impl IoThreads {
    /// Begins threads called `name`: two for tasks, and up to `blocking` that wait for the device.
    pub fn begin(name: &str, blocking: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(blocking.max(1))
            .thread_name(name)
            .enable_time()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// What spawns tasks there.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("the runtime is there until this is dropped").handle().clone()
    }

    /// Runs `task` there and waits for it; none where it panicked. It goes on where the caller stops waiting.
    pub async fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.handle().spawn(task).await.ok()
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        // Whoever hangs must not keep the process from going on, or ending.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_task_that_blocks_its_thread_for_ever_holds_up_neither_its_caller_nor_the_end() {
        let threads = IoThreads::begin("test-io", 1).expect("a thread or two");
        assert_eq!(threads.run(async { 7 }).await, Some(7));
        assert_eq!(threads.run(async { panic!("as a test") }).await, None::<()>);
        let (keep, blocked) = mpsc::channel::<()>();
        let mut hanging = std::pin::pin!(threads.run(async move { blocked.recv().is_err() }));
        assert!(futures::poll!(&mut hanging).is_pending());
        drop(keep);
        assert_eq!(hanging.await, Some(true));
    }
}
