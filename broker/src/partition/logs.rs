//! All logs that this broker owns, by id: where the WAL's news is delivered.

use super::{Closed, Log, ProducerMemory};
use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_cache::LogCache;
use thalweg_metadata::{Commit, ObjectIndex};
use thalweg_segment::{Index, LogId, Offset};
use thalweg_wal::Observer;
use tokio::sync::watch;

/// The logs of this broker. Told by the WAL what is durable, flushed or fenced.
pub struct Logs {
    open: RwLock<BTreeMap<LogId, Arc<Log>>>,
    cache: LogCache,
    index: ObjectIndex,
    producer_memory: ProducerMemory,
    fenced: watch::Sender<Option<String>>,
}

impl Logs {
    /// No logs yet.
    pub fn new(cache: LogCache, index: ObjectIndex, producer_memory: ProducerMemory) -> Self {
        Self { open: RwLock::default(), cache, index, producer_memory, fenced: watch::Sender::new(None) }
    }

    /// What the producer states of all logs take.
    pub fn producer_memory(&self) -> &ProducerMemory {
        &self.producer_memory
    }

    /// Adds opened logs.
    pub fn add(&self, logs: impl IntoIterator<Item = Arc<Log>>) {
        self.open.write().extend(logs.into_iter().map(|log| (log.id(), log)));
    }

    /// Takes a log out, closed.
    pub fn remove(&self, id: LogId, why: Closed) {
        let removed = self.open.write().remove(&id);
        if let Some(log) = removed {
            log.close(why);
        }
        self.cache.remove(id);
        self.index.remove(id);
    }

    /// One log.
    pub fn get(&self, id: LogId) -> Option<Arc<Log>> {
        self.open.read().get(&id).cloned()
    }

    /// Every log, in order of id.
    pub fn all(&self) -> Vec<Arc<Log>> {
        self.open.read().values().cloned().collect()
    }

    /// Closes every log.
    pub fn close_all(&self, why: Closed) {
        for log in self.all() {
            log.close(why);
        }
    }

    /// Becomes the reason once this broker is fenced.
    pub fn fenced(&self) -> watch::Receiver<Option<String>> {
        self.fenced.subscribe()
    }
}

impl Observer for Logs {
    fn durable(&self, advanced: &[(LogId, Offset)]) {
        let open = self.open.read();
        for (id, end) in advanced {
            if let Some(log) = open.get(id) {
                log.advance(*end);
            }
        }
    }

    fn flushed(&self, commit: &Commit, shared: Option<Arc<Index>>, flushed: &[(LogId, Offset)]) {
        // The index first: a reader must find a batch in one of the two at any time.
        self.index.add(commit, shared);
        for (id, end) in flushed {
            self.cache.flushed(*id, *end);
            if let Some(log) = self.get(*id) {
                log.flushed(*end);
            }
        }
    }

    fn rewritten(&self, commit: &Commit, shared: Option<Arc<Index>>) {
        self.index.rewrite(commit, shared);
    }

    fn fenced(&self, why: &str) {
        tracing::error!(why, "fenced: another process owns this broker's logs now");
        self.close_all(Closed::NotOwner);
        self.fenced.send_replace(Some(why.to_owned()));
    }
}
