//! What a broker takes from outside: time, randomness, tasks and computing threads.
//!
//! Nothing in Thalweg reads the wall clock, asks the system for entropy or spawns a task by itself. It uses the
//! [`Runtime`] it was given. The simulation gives it one whose clock is virtual, whose randomness comes from a seed and
//! whose tasks can be stopped at any await, so that a failing run can be repeated exactly.
//!
//! Monotonic time (timeouts, back-off, measuring) is `tokio::time`, which the simulation pauses and advances.
//! [`Clock`] is only for timestamps that are stored or shown.

mod clock;
mod cpu;
mod essential;
mod io_threads;
mod memory;
mod random;
mod task;

pub use clock::{Clock, SystemClock};
pub use cpu::{ComputePool, Inline, Threads};
pub use io_threads::IoThreads;
pub use memory::{Budget, Charge};
pub use random::Random;
pub use task::{Spawner, TaskHandle, TokioSpawner};

use essential::Failures;
use std::{future::Future, sync::Arc};
use tokio::sync::watch;

/// A broker's clock, randomness, task spawner and computing threads. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    clock: Arc<dyn Clock>,
    random: Random,
    spawner: Arc<dyn Spawner>,
    compute: Arc<dyn ComputePool>,
    failures: Failures,
}

impl Runtime {
    /// Puts a runtime together from its parts; the simulation and tests do so.
    pub fn new(
        clock: Arc<dyn Clock>,
        random: Random,
        spawner: Arc<dyn Spawner>,
        compute: Arc<dyn ComputePool>,
    ) -> Self {
        Self { clock, random, spawner, compute, failures: Failures::default() }
    }

    /// The real one: system clock, system entropy, the current tokio runtime, and `threads` threads for heavy work.
    pub fn system(threads: usize) -> Self {
        Self::new(
            Arc::new(SystemClock),
            Random::from_entropy(),
            Arc::new(TokioSpawner),
            Arc::new(Threads::new(threads)),
        )
    }

    /// Milliseconds since the Unix epoch, as Kafka's timestamps are.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The source of randomness.
    pub fn random(&self) -> &Random {
        &self.random
    }

    /// Runs `task` in the background until it ends or its handle is dropped.
    #[must_use = "dropping the handle aborts the task; call detach() to let it run"]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.spawner.spawn(Box::pin(task))
    }

    /// The same of a task that may compute for long between two awaits: it holds up none of the others.
    #[must_use = "dropping the handle aborts the task; call detach() to let it run"]
    pub fn spawn_aside(&self, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.spawner.spawn_aside(Box::pin(task))
    }

    /// The same of a task that the process can't do without: should it panic, [`Runtime::failed`] tells.
    #[must_use = "dropping the handle aborts the task; call detach() to let it run"]
    pub fn spawn_essential(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        self.spawn(self.failures.clone().watch(name, task))
    }

    /// Says that the process can't go on, and why. The first reason stays.
    pub fn fail(&self, why: impl Into<String>) {
        self.failures.report(why.into());
    }

    /// Becomes the reason once the process can't go on.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failures.subscribe()
    }

    /// Runs CPU-heavy `work` on the bounded computing pool and waits for its result.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.compute
            .run(Box::new(move || {
                // The caller may have gone away; its result is then of no use to anybody.
                let _ = sender.send(work());
            }))
            .await;
        receiver.await.expect("the pool runs every piece of work it has accepted")
    }
}
