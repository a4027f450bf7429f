//! The metadata store of a run, with faults: answers that are late or lost, transactions that are applied after their sender
//! was told of a failure.

use crate::world::{Fate, World};
use async_trait::async_trait;
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};
use thalweg_metadata::{KeyValueStore, KvError, Transaction};
use tokio::{sync::oneshot, time::sleep};

/// One broker's access to the metadata store.
pub struct SimKv {
    world: World,
    inner: Arc<dyn KeyValueStore>,
    /// Deliberate fault: commits don't compare their incarnation's record.
    without_guard: bool,
}

impl SimKv {
    /// An access through `inner`.
    pub fn new(world: &World, inner: Arc<dyn KeyValueStore>, without_guard: bool) -> Self {
        Self { world: world.clone(), inner, without_guard }
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

    /// Where the deliberate fault is on: a commit (which adds segments) without its compare.
    fn mutate(&self, transaction: &mut Transaction) {
        let is = |key: &Bytes, prefix: &str| key.starts_with(prefix.as_bytes());
        let adds = |write: &thalweg_metadata::Write| match write {
            thalweg_metadata::Write::Put(key, _) => is(key, "shared/") || is(key, "logseg/"),
            thalweg_metadata::Write::Delete(_) => false,
        };
        if self.without_guard && transaction.writes.iter().any(adds) {
            transaction.compares.retain(|compare| !is(&compare.key, "incarnation/"));
        }
    }
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
        let (world, inner) = (self.world.clone(), self.inner.clone());
        let request = async move {
            let key = transaction.writes.first().map(|write| match write {
                thalweg_metadata::Write::Put(key, _) | thalweg_metadata::Write::Delete(key) => key.clone(),
            });
            let applied = inner.transact(transaction).await;
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
