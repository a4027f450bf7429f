//! Waiting for a condition, with a deadline and a name for what did not come.

use anyhow::{Result, bail};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Polls `condition` until it gives a value, or fails with `what` after `patience`.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} in vain: {what}");
        }
        std::thread::sleep(PERIOD);
    }
}

/// Repeats `attempt` until it succeeds, or fails with its last error after `patience`.
pub async fn until_ok<T, F>(what: &str, patience: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context(format!("waited {patience:?} in vain: {what}")));
            }
            Ok(Err(_)) => tokio::time::sleep(PERIOD).await,
            Err(_) => bail!("waited {patience:?} in vain: {what}"),
        }
    }
}

/// Runs `future` to its end on a thread and runtime of its own, so that callers need not know whether they are inside one.
pub fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime needs nothing but file descriptors").block_on(future)
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
