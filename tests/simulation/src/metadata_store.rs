//! The metadata store of a run, with faults: answers that are late or lost, transactions that are applied after their sender
//! was told of a failure.

use crate::{
    stored::Referred,
    world::{Fate, World},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};
use thalweg_metadata::{KeyValueStore, KvError, Transaction, Write};
use tokio::{sync::oneshot, time::sleep};

/// One broker's access to the metadata store.
pub struct SimKv {
    world: World,
    inner: Arc<dyn KeyValueStore>,
    referred: Referred,
    /// Deliberate fault: commits of these don't compare what they should.
    unguarded: Unguarded,
}

/// Which commits don't compare what they rest on. All of them do, but for deliberate faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unguarded {
    /// None.
    Nothing,
    /// What adds segments does not compare its incarnation's record.
    Commits,
    /// What replaces segments compares neither that nor the rows that it removes.
    Rewrites,
}

impl SimKv {
    /// An access through `inner`.
    pub fn new(
        world: &World,
        inner: Arc<dyn KeyValueStore>,
        referred: &Referred,
        unguarded: Unguarded,
    ) -> Self {
        Self { world: world.clone(), inner, referred: referred.clone(), unguarded }
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, KvError>> + Send + 'static,
    ) -> Result<T, KvError> {
        let unavailable = || KvError::Unavailable { reason: "simulated".into() };
        match self.world.metadata_fate() {
            Fate::Done(there, back) => {
                let answer = self.send(there, request).await.expect("the world's tasks are not ended");
                sleep(back).await;
                answer
            }
            Fate::Refused(after) => {
                sleep(after).await;
                Err(unavailable())
            }
            Fate::Unknown(there, answered) | Fate::Conflict(there, answered) => {
                if let Some(there) = there {
                    drop(self.send(there, request));
                }
                sleep(answered).await;
                Err(unavailable())
            }
        }
    }

    fn send<T: Send + 'static>(
        &self,
        after: Duration,
        request: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.world.spawn(async move {
            sleep(after).await;
            // Nobody may wait for it any more.
            let _ = sender.send(request.await);
        });
        receiver
    }

    /// Where a deliberate fault is on: a commit without its compares.
    fn mutate(&self, transaction: &mut Transaction) {
        let is =
            |key: &Bytes, prefixes: &[&str]| prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
        let segment = |write: &Write, added: bool| match write {
            Write::Put(key, _) => added && is(key, SEGMENTS),
            Write::Delete(key) => !added && is(key, SEGMENTS),
        };
        let (added, without): (bool, &[&str]) = match self.unguarded {
            Unguarded::Nothing => return,
            Unguarded::Commits => (true, &[INCARNATION]),
            Unguarded::Rewrites => (false, &[INCARNATION, SEGMENTS[0], SEGMENTS[1]]),
        };
        if transaction.writes.iter().any(|write| segment(write, added)) {
            transaction.compares.retain(|compare| !is(&compare.key, without));
        }
    }
}

const INCARNATION: &str = "incarnation/";
const SEGMENTS: &[&str] = &["shared/", "logseg/"];

/// The rows that `writes` replace or delete, as they are now.
async fn replaced(inner: &dyn KeyValueStore, writes: &[Write]) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    for write in writes {
        let (Write::Put(key, _) | Write::Delete(key)) = write;
        // A store in memory answers at once.
        if let Ok(Some(value)) = inner.get(key).await {
            rows.push((key.clone(), value));
        }
    }
    rows
}

#[async_trait]
impl KeyValueStore for SimKv {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.carry_out(async move { inner.get(&key).await }).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let (inner, from, to) = (self.inner.clone(), from.to_vec(), to.to_vec());
        self.carry_out(async move { inner.range(&from, &to, limit).await }).await
    }

    async fn transact(&self, mut transaction: Transaction) -> Result<bool, KvError> {
        self.mutate(&mut transaction);
        let (world, inner, referred) = (self.world.clone(), self.inner.clone(), self.referred.clone());
        let request = async move {
            let writes = transaction.writes.clone();
            let replaced = replaced(&*inner, &writes).await;
            let applied = inner.transact(transaction).await;
            if let Ok(true) = applied {
                referred.follow(&replaced, &writes);
            }
            let key = writes.first().map(|(Write::Put(key, _) | Write::Delete(key))| key.clone());
            let key = key.unwrap_or_default();
            world.event(format_args!("transaction on {}: {applied:?}", key.escape_ascii()));
            applied
        };
        self.carry_out(request).await
    }

    async fn close(&self) -> Result<(), KvError> {
        self.inner.close().await
    }
}
