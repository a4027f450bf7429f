use futures::future::BoxFuture;

/// Where background tasks run.
pub trait Spawner: Send + Sync {
    /// Starts `task`. Dropping the handle aborts it.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle;
}

/// A running task, aborted when this is dropped.
pub struct TaskHandle(Option<tokio::task::JoinHandle<()>>);

impl TaskHandle {
    /// A handle on a tokio task.
    pub fn new(task: tokio::task::JoinHandle<()>) -> Self {
        Self(Some(task))
    }

    /// Lets the task run on by itself.
    pub fn detach(mut self) {
        self.0 = None;
    }

    /// Waits for the end of the task. Returns false where it was aborted or panicked.
    pub async fn join(mut self) -> bool {
        match self.0.take() {
            Some(task) => task.await.is_ok(),
            None => true,
        }
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Spawns on the current tokio runtime.
pub struct TokioSpawner;

impl Spawner for TokioSpawner {
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(tokio::spawn(task))
    }
}
