use futures::future::BoxFuture;
use std::{io, sync::OnceLock};
use tokio::runtime::Handle;

/// Where background tasks run.
pub trait Spawner: Send + Sync {
    /// Starts `task`. Dropping the handle aborts it.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle;

    /// Starts a task that may compute for long between two awaits, where it holds up none of the others.
    fn spawn_aside(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.spawn(task)
    }
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

/// Spawns on the current tokio runtime; tasks aside on one of a single thread, which begins with the first of them and is the
/// process's only one.
pub struct TokioSpawner;

impl Spawner for TokioSpawner {
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(tokio::spawn(task))
    }

    fn spawn_aside(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        static ASIDE: OnceLock<Option<Handle>> = OnceLock::new();
        match ASIDE.get_or_init(|| begin_aside().ok()) {
            Some(aside) => TaskHandle::new(aside.spawn(task)),
            None => self.spawn(task),
        }
    }
}

/// A runtime on a thread of its own, for as long as the process lives.
fn begin_aside() -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("aside".to_owned());
    thread.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_task_aside_that_computes_for_ever_holds_nobody_up() {
        let (end, ended) = mpsc::channel::<()>();
        let (done, finished) = tokio::sync::oneshot::channel();
        let aside = TokioSpawner.spawn_aside(Box::pin(async move {
            // Blocks its thread until a task on the test's only thread has run.
            let _ = ended.recv();
            let _ = done.send(());
        }));
        assert!(TokioSpawner.spawn(Box::pin(async move { end.send(()).expect("it waits") })).join().await);
        finished.await.expect("it has come to its end");
        assert!(aside.join().await);
    }
}
