//! Tasks that a process can't do without. tokio keeps a panic to the task that it ends; whoever waits for that task's work would
//! wait for ever. So the first failure of an essential task is kept, for the program to end with it.

use futures::FutureExt;
use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc};
use tokio::sync::watch;

/// The first failure, if there was one. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Failures(Arc<watch::Sender<Option<String>>>);

impl Failures {
    pub(crate) fn report(&self, why: String) {
        self.0.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(why);
            }
            first
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    /// `task`, whose panic is a failure. It ends as it would without.
    pub(crate) async fn watch(self, name: &'static str, task: impl Future<Output = ()> + Send) {
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            self.report(format!("{name} panicked: {}", text_of(&*panic)));
            std::panic::resume_unwind(panic);
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use crate::Runtime;

    #[tokio::test]
    async fn the_panic_of_an_essential_task_is_told_and_an_end_or_an_abort_is_not() {
        let runtime = Runtime::system(1);
        let mut failed = runtime.failed();
        assert!(runtime.spawn_essential("one that ends", async {}).join().await);
        drop(runtime.spawn_essential("one that is aborted", std::future::pending()));
        assert!(!runtime.spawn(async { panic!("not essential") }).join().await);
        assert_eq!(*failed.borrow(), None);
        let offset = 7;
        assert!(
            !runtime.spawn_essential("the flusher", async move { panic!("offset {offset}") }).join().await
        );
        runtime.fail("a later one");
        let why = failed.wait_for(Option::is_some).await.expect("the runtime lives").clone();
        assert_eq!(why.as_deref(), Some("the flusher panicked: offset 7"));
    }
}
