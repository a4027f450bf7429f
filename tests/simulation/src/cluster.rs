//! The machines of a run, and the network between them and the clients.

use crate::{
    broker::{Broker, Fetched, LiveStates, Means, Refusal, StartError},
    metadata_store::{SimKv, Unguarded},
    mini_broker,
    mutation::Mutation,
    node::Node,
    object_store::SimStore,
    real_broker,
    stored::{self, Referred},
    world::World,
};
use object_store::memory::InMemory;
use parking_lot::Mutex;
use std::{future::Future, sync::Arc, time::Duration};
use thalweg_metadata::MemoryKv;
use thalweg_protocol::{Request, Response};
use thalweg_segment::{Batch, BrokerId, LogId, Offset};
use thalweg_wal::WalConfig;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// A machine and the broker on it, once that has started.
pub struct Server {
    /// The machine.
    pub node: Node,
    broker: Mutex<Option<Arc<dyn Broker>>>,
}

impl Server {
    /// The broker, if it has started.
    pub fn broker(&self) -> Option<Arc<dyn Broker>> {
        self.broker.lock().clone()
    }

    /// Whether it has started, and knows of no fencing.
    pub fn is_serving(&self) -> bool {
        !self.node.is_dead() && self.broker().is_some_and(|broker| !broker.is_fenced())
    }

    /// Ends the machine now.
    pub fn kill(&self) {
        self.node.kill();
        *self.broker.lock() = None;
    }
}

/// All machines. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    world: World,
    bucket: Arc<InMemory>,
    kv: MemoryKv,
    referred: Referred,
    logs: Vec<LogId>,
    transactional: bool,
    mutation: Option<Mutation>,
    live_states: LiveStates,
    servers: Mutex<Vec<Arc<Server>>>,
}

impl Cluster {
    /// No machines, and empty stores.
    pub fn new(
        world: &World,
        exclusive: bool,
        logs: u64,
        transactional: bool,
        mutation: Option<Mutation>,
    ) -> Self {
        Self(Arc::new(Inner {
            world: world.clone(),
            bucket: Arc::new(InMemory::new()),
            kv: if exclusive { MemoryKv::exclusive() } else { MemoryKv::new() },
            referred: Referred::new(world),
            logs: (0..logs).map(LogId).collect(),
            transactional,
            mutation,
            live_states: LiveStates::default(),
            servers: Mutex::default(),
        }))
    }

    /// The logs.
    pub fn logs(&self) -> &[LogId] {
        &self.0.logs
    }

    /// Switches a new machine on.
    pub fn boot(&self) -> Arc<Server> {
        let world = &self.0.world;
        let number = self.0.servers.lock().len();
        let node = Node::new(world, format!("node-{number}"));
        let server = Arc::new(Server { node: node.clone(), broker: Mutex::new(None) });
        self.0.servers.lock().push(server.clone());
        let skew_ms = world.random().range(0..20_000) as i64 - 10_000;
        let (runtime, config) = (node.runtime(skew_ms), draw_config(world));
        let broker = BrokerId(i32::try_from(number % 3).expect("small"));
        world.event(format_args!("{} starts with {config:?}", node.name()));
        let (this, booted) = (self.clone(), server.clone());
        let task = async move {
            let started = this.start(&booted.node, &runtime, broker, &config).await;
            *booted.broker.lock() = started;
        };
        thalweg_runtime::Spawner::spawn(&node, Box::pin(task)).detach();
        server
    }

    /// Starts a broker, however often that takes.
    async fn start(
        &self,
        node: &Node,
        runtime: &thalweg_runtime::Runtime,
        broker: BrokerId,
        config: &WalConfig,
    ) -> Option<Arc<dyn Broker>> {
        let Inner { world, bucket, kv, referred, logs, transactional, mutation, live_states, .. } = &*self.0;
        let unguarded = match mutation {
            Some(Mutation::NoCommitGuard) => Unguarded::Commits,
            Some(Mutation::RewriteFromOldPlan) => Unguarded::Rewrites,
            _ => Unguarded::Nothing,
        };
        let kv = Arc::new(SimKv::new(world, kv.open(), referred, unguarded));
        loop {
            let means = Means {
                world: world.clone(),
                runtime: runtime.clone(),
                store: Arc::new(SimStore::new(world, bucket, referred, node.name())),
                kv: kv.clone(),
                broker,
                config: config.clone(),
                logs: logs.clone(),
                transactional: *transactional,
                mutation: *mutation,
                live_states: live_states.clone(),
            };
            let started = match mutation {
                Some(mutation) if mutation.is_of_the_small_broker() => mini_broker::start(means).await,
                _ => real_broker::start(means).await,
            };
            match started {
                Ok(broker) => {
                    world.event(format_args!("{} serves as {}", node.name(), broker.incarnation()));
                    return Some(broker);
                }
                Err(StartError::Again(why)) => {
                    world.event(format_args!("{} could not start yet: {why}", node.name()));
                    sleep(Duration::from_millis(500)).await;
                }
                Err(StartError::Fenced(why)) => {
                    world.event(format_args!("{} gives up: {why}", node.name()));
                    return None;
                }
                Err(StartError::Broken(why)) => {
                    world.violation(format_args!("{} can't start: {why}", node.name()));
                    return None;
                }
            }
        }
    }

    /// Checks everything that is stored. No store may fail meanwhile.
    pub async fn check_stored(&self) {
        let Inner { world, bucket, kv, .. } = &*self.0;
        stored::check(world, bucket, kv, real_broker::CLUSTER).await;
    }

    /// How many objects were replaced or removed until now.
    pub fn replaced(&self) -> usize {
        self.0.referred.replaced()
    }

    /// The machine that was switched on last and lives.
    pub fn newest(&self) -> Option<Arc<Server>> {
        self.0.servers.lock().iter().rev().find(|server| !server.node.is_dead()).cloned()
    }

    /// Ends every machine.
    pub fn kill_all(&self) {
        let servers = self.0.servers.lock().clone();
        servers.iter().for_each(|server| server.kill());
    }

    /// Takes back every crash that is still to come.
    pub fn spare_all(&self) {
        self.0.servers.lock().iter().for_each(|server| server.node.spare());
    }

    /// The machine that a client turns to: mostly the newest that serves, sometimes any that has ever served.
    pub fn pick(&self) -> Option<Arc<Server>> {
        let servers = self.0.servers.lock();
        let mut alive =
            servers.iter().rev().filter(|server| !server.node.is_dead() && server.broker().is_some());
        let stray = self.0.world.one_in(4);
        let skip = if stray { self.0.world.random().range(0..3) as usize } else { 0 };
        alive.nth(skip).or_else(|| servers.iter().rev().find(|server| server.is_serving())).cloned()
    }

    /// Sends `batches` of one producer to `server`, in order; the answers, none where there was none in time.
    pub async fn produce(
        &self,
        server: &Server,
        log: LogId,
        batches: Vec<Batch>,
        patience: Duration,
    ) -> Vec<Option<Result<Offset, Refusal>>> {
        sleep(self.0.world.millis(0, 3)).await;
        let Some(broker) = server.broker() else { return vec![None; batches.len()] };
        let mut answers = Vec::new();
        for batch in batches {
            let broker = broker.clone();
            answers.push(call(&server.node, async move { broker.produce(log, batch).await }));
        }
        let deadline = tokio::time::Instant::now() + patience;
        let mut received = Vec::new();
        for answer in answers {
            let answer = tokio::time::timeout_at(deadline, answer).await;
            received.push(answer.ok().and_then(Result::ok));
        }
        received
    }

    /// Reads from `server`; none where there was no answer in time.
    pub async fn fetch(&self, server: &Server, log: LogId, from: Offset) -> Option<Result<Fetched, Refusal>> {
        sleep(self.0.world.millis(0, 3)).await;
        let broker = server.broker()?;
        let answer = call(&server.node, async move { broker.fetch(log, from).await });
        timeout(Duration::from_secs(30), answer).await.ok()?.ok()
    }

    /// Has `server` delete the records before an offset; none where there was no answer in time.
    pub async fn delete_before(
        &self,
        server: &Server,
        log: LogId,
        before: Offset,
    ) -> Option<Result<Offset, Refusal>> {
        sleep(self.0.world.millis(0, 3)).await;
        let broker = server.broker()?;
        let answer = call(&server.node, async move { broker.delete_before(log, before).await });
        timeout(Duration::from_secs(30), answer).await.ok()?.ok()
    }

    /// Sends any request to `server`; none where there was no answer in time.
    pub async fn ask(
        &self,
        server: &Server,
        version: i16,
        request: Request,
        patience: Duration,
    ) -> Option<Response> {
        sleep(self.0.world.millis(0, 3)).await;
        let broker = server.broker()?;
        let answer = call(&server.node, async move { broker.ask(version, request).await });
        timeout(patience, answer).await.ok()?.ok()?
    }

    /// Has the broker on `server` end in good order; true where it did in time.
    pub async fn close(&self, server: &Server, patience: Duration) -> bool {
        let Some(broker) = server.broker() else { return false };
        let closed = call(&server.node, async move { broker.close().await });
        matches!(timeout(patience, closed).await, Ok(Ok(true)))
    }
}

/// Runs a request on `node`. Its answer is lost with the node.
fn call<T: Send + 'static>(
    node: &Node,
    request: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let task = async move {
        // The client may have given up.
        let _ = sender.send(request.await);
    };
    thalweg_runtime::Spawner::spawn(node, Box::pin(task)).detach();
    receiver
}

fn draw_config(world: &World) -> WalConfig {
    let random = world.random();
    let pick = |choices: &[u64]| choices[random.range(0..choices.len() as u64) as usize];
    WalConfig {
        put_rate: (!world.one_in(3)).then(|| pick(&[5, 20, 100]) as f64),
        put_burst: pick(&[1, 3, 10]) as u32,
        object_bytes: pick(&[150, 300, 1000, 5000]) as usize,
        window: pick(&[1, 2, 3, 4, 8]) as u32,
        inflight_bytes: pick(&[500, 5000, 100_000]) as usize,
        hedge_max: world.millis(100, 1000),
        hedge_min: Duration::from_millis(20),
        attempt_timeout: world.millis(500, 8000),
        backoff: (Duration::from_millis(20), world.millis(100, 2000)),
        flush_bytes: pick(&[500, 3000, 100_000]) as usize,
        flush_interval: world.millis(500, 20_000),
        flush_log_bytes: pick(&[400, 1500, 100_000]) as usize,
        flush_adopt_block_bytes: pick(&[1, 300, 100_000]) as usize,
    }
}
