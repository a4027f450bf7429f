//! A store that answers late or not at all, for the tests of the typed layer.

use crate::{KeyValueStore, KvError, Transaction};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};
use thalweg_runtime::{Inline, Random, Runtime, SystemClock, TokioSpawner};

/// What happens to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is applied, the answer is lost.
    LostAnswer,
    /// It never arrives.
    LostRequest,
    /// It arrives after the caller has given up on it.
    Late,
}

impl Fault {
    pub const ALL: [Fault; 4] = [Self::None, Self::LostAnswer, Self::LostRequest, Self::Late];
}

/// Everything that is sent passes here.
#[derive(Clone)]
pub struct Faulty(Arc<Inner>);

struct Inner {
    kv: Arc<dyn KeyValueStore>,
    runtime: Runtime,
    /// The fate of the next transactions, in order; then none.
    plan: Mutex<VecDeque<Fault>>,
    /// Reads that fail next.
    failing_reads: Mutex<usize>,
    /// Draws a fate and delays at random where there is no plan.
    random: bool,
}

pub fn runtime(seed: u64) -> Runtime {
    Runtime::new(Arc::new(SystemClock), Random::from_seed(seed), Arc::new(TokioSpawner), Arc::new(Inline))
}

impl Faulty {
    /// Behaves well until told otherwise.
    pub fn planned(kv: Arc<dyn KeyValueStore>) -> Self {
        Self::new(kv, runtime(0), false)
    }

    /// Every operation takes its time, and some are lost; all from the runtime's randomness.
    pub fn random(kv: Arc<dyn KeyValueStore>, runtime: Runtime) -> Self {
        Self::new(kv, runtime, true)
    }

    fn new(kv: Arc<dyn KeyValueStore>, runtime: Runtime, random: bool) -> Self {
        let (plan, failing_reads) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { kv, runtime, plan, failing_reads, random }))
    }

    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.plan.lock().extend(faults);
    }

    pub fn clear(&self) {
        self.0.plan.lock().clear();
    }

    pub fn fail_reads(&self, count: usize) {
        *self.0.failing_reads.lock() = count;
    }

    fn fate(&self) -> Fault {
        if self.0.random {
            // Half of them go well.
            let draw = self.0.runtime.random().range(0..6) as usize;
            return Fault::ALL.get(draw).copied().unwrap_or(Fault::None);
        }
        self.0.plan.lock().pop_front().unwrap_or(Fault::None)
    }

    async fn delay(&self) {
        if self.0.random {
            tokio::time::sleep(self.moment(300)).await;
        }
    }

    fn moment(&self, max_ms: u64) -> Duration {
        Duration::from_millis(self.0.runtime.random().range(0..max_ms))
    }

    fn read_fails(&self) -> bool {
        if self.0.random {
            return self.0.runtime.random().range(0..8) == 0;
        }
        let mut failing = self.0.failing_reads.lock();
        let fails = *failing > 0;
        *failing = failing.saturating_sub(1);
        fails
    }

    async fn read<T>(&self, answer: impl Future<Output = Result<T, KvError>> + Send) -> Result<T, KvError> {
        self.delay().await;
        if self.read_fails() {
            return Err(no_answer());
        }
        let answer = answer.await;
        self.delay().await;
        answer
    }

    /// Lets `transaction` arrive when it is no longer waited for: by plan, in the pause before the caller's next step; at
    /// random, up to a minute later.
    fn arrive_late(&self, transaction: Transaction) {
        let (kv, random) = (self.0.kv.clone(), self.0.random);
        let moment = if random { self.moment(60_000) } else { Duration::from_millis(1) };
        let task = self.0.runtime.spawn(async move {
            tokio::time::sleep(moment).await;
            kv.transact(transaction).await.expect("the store in memory answers");
        });
        task.detach();
    }
}

fn no_answer() -> KvError {
    KvError::Unavailable { reason: "a fault".into() }
}

#[async_trait]
impl KeyValueStore for Faulty {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.read(self.0.kv.get(key)).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.read(self.0.kv.range(from, to, limit)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError> {
        self.delay().await;
        match self.fate() {
            Fault::None => {
                let answer = self.0.kv.transact(transaction).await;
                self.delay().await;
                answer
            }
            Fault::LostAnswer => {
                self.0.kv.transact(transaction).await?;
                Err(no_answer())
            }
            Fault::LostRequest => Err(no_answer()),
            Fault::Late => {
                self.arrive_late(transaction);
                Err(no_answer())
            }
        }
    }

    async fn close(&self) -> Result<(), KvError> {
        self.0.kv.close().await
    }
}
