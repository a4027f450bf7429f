//! Deletes, after a delay, the objects that rewrites have taken out of the object index.
//!
//! Who looked an object up before may still read it: the delay (`file.delete.delay.ms`, on the process' monotonic clock) lets
//! those end. What waits here is forgotten in a crash, and beyond a bound; then the garbage collection finds it.

use object_store::path::Path;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use thalweg_runtime::{Runtime, TaskHandle};
use thalweg_segment::{Purpose, Store};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

/// Objects that may wait at a time; about 20 MiB. The garbage collection deletes what doesn't find room.
const WAITING: usize = 100_000;
/// S3 deletes this many objects with one request.
const AT_ONCE: usize = 1000;
/// First and longest wait before a deletion is tried again, which the store client has repeated for its own patience by then.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Objects that wait for their deletion. Cheap to clone; with the last clone it ends.
#[derive(Clone)]
pub struct Deletion {
    shared: Arc<Shared>,
    _task: Arc<TaskHandle>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    added: Notify,
}

/// Each path twice: by itself, and by the time when it is due.
#[derive(Default)]
struct Waiting {
    paths: BTreeMap<Path, Instant>,
    due: BTreeSet<(Instant, Path)>,
}

impl Waiting {
    fn add(&mut self, path: Path, at: Instant) {
        if self.paths.len() < WAITING && !self.paths.contains_key(&path) {
            self.due.insert((at, path.clone()));
            self.paths.insert(path, at);
        }
    }

    fn due(&self, now: Instant) -> Vec<Path> {
        self.due.iter().take_while(|(at, _)| *at <= now).take(AT_ONCE).map(|(_, path)| path.clone()).collect()
    }

    fn remove(&mut self, paths: &[Path]) {
        for path in paths {
            if let Some(at) = self.paths.remove(path) {
                self.due.remove(&(at, path.clone()));
            }
        }
    }
}

impl Deletion {
    /// Starts the task that deletes what is due, however long the store refuses.
    pub fn start(runtime: &Runtime, store: Store) -> Self {
        let shared = Arc::new(Shared::default());
        let run = shared.clone().run(runtime.clone(), store);
        let task = runtime.spawn_essential("the deletion of replaced objects", run);
        Self { shared, _task: Arc::new(task) }
    }

    /// Has `paths` deleted after `delay`. Returns at once.
    pub fn after(&self, delay: Duration, paths: impl IntoIterator<Item = Path>) {
        let at = Instant::now() + delay;
        let mut waiting = self.shared.waiting.lock();
        paths.into_iter().for_each(|path| waiting.add(path, at));
        drop(waiting);
        self.shared.added.notify_one();
    }

    /// Whether `path` waits here.
    pub fn is_waiting(&self, path: &Path) -> bool {
        self.shared.waiting.lock().paths.contains_key(path)
    }

    /// How many objects wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.lock().paths.len()
    }
}

impl Shared {
    async fn run(self: Arc<Self>, runtime: Runtime, store: Store) {
        loop {
            self.wait().await;
            let due = self.waiting.lock().due(Instant::now());
            if !due.is_empty() {
                delete(&runtime, &store, &due).await;
                self.waiting.lock().remove(&due);
            }
        }
    }

    /// Until something is due, or something else was added.
    async fn wait(&self) {
        let next = self.waiting.lock().due.first().map(|(at, _)| *at);
        tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = self.added.notified() => {}
        }
    }
}

async fn delete(runtime: &Runtime, store: &Store, paths: &[Path]) {
    let mut wait = BACKOFF.0;
    while let Err(error) = store.delete(paths.to_vec(), Purpose::Cleanup).await {
        match wait == BACKOFF.0 {
            true => tracing::warn!(%error, "objects that were replaced can't be deleted yet"),
            false => tracing::debug!(%error, "objects that were replaced can't be deleted yet"),
        }
        sleep(runtime.random().jitter(wait)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use thalweg_metadata::testing::runtime;
    use thalweg_segment::Patience;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn objects_are_deleted_when_their_delay_is_over_and_not_before() {
        let runtime = runtime();
        let patience =
            Patience { attempt: SECOND, total: SECOND, backoff: SECOND / 10, max_backoff: SECOND / 10 };
        let store = Store::new(Arc::new(InMemory::new()), runtime.clone(), patience);
        let paths = ["a", "b", "c"].map(Path::from);
        for path in &paths {
            store.put(path, "x".into(), Purpose::Flush).await.expect("memory takes it");
        }
        let deletion = Deletion::start(&runtime, store.clone());
        deletion.after(60 * SECOND, [paths[0].clone()]);
        sleep(10 * SECOND).await;
        deletion.after(20 * SECOND, [paths[1].clone(), Path::from("never was")]);
        let left = async || store.list(&Path::default(), None, Purpose::Check).await.expect("readable").len();
        let start = Instant::now() - 10 * SECOND;
        for (seconds, expected) in [(29, 3), (31, 2), (59, 2), (61, 1)] {
            sleep_until(start + seconds * SECOND).await;
            assert_eq!(left().await, expected, "after {seconds} s");
        }
        assert_eq!((deletion.waiting(), deletion.is_waiting(&paths[0])), (0, false));
    }

    #[test]
    fn a_path_waits_once_and_no_more_wait_than_there_is_room_for() {
        let mut waiting = Waiting::default();
        let start = Instant::now();
        waiting.add(Path::from("0"), start);
        waiting.add(Path::from("0"), start + SECOND);
        (1..WAITING + 10).for_each(|n| waiting.add(Path::from(n.to_string()), start + SECOND));
        assert_eq!((waiting.paths.len(), waiting.due.len()), (WAITING, WAITING));
        assert_eq!(waiting.due(start), [Path::from("0")]);
        assert_eq!(waiting.due(start + SECOND).len(), AT_ONCE);
        waiting.remove(&[Path::from("0"), Path::from("1")]);
        assert_eq!((waiting.paths.len(), waiting.due.len()), (WAITING - 2, WAITING - 2));
    }
}
