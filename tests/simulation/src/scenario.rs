//! One run: brokers that write, crash, pause, come back as zombies, take one another over; then a quiet end, and the check.
//! What the clients do is one of two plays: logs, with producers and readers, or transactions.

use crate::{
    clients::Clients,
    cluster::{Cluster, Server},
    history::History,
    mutation::{self, Mutation},
    transactions::{Workers, ledger::Ledger, reader::Content, reader::visible},
    world::{Rates, World},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use thalweg_segment::Batch;
use tokio::time::{Instant, sleep, timeout};

/// Virtual time that a run may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// Virtual time within which a broker must serve, or everything be acknowledged, once the faults have ended.
const QUIET: Duration = Duration::from_secs(600);

/// What the clients of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// They produce to a few logs, and read them.
    Logs,
    /// They consume, transform and produce, in transactions and as members of groups.
    Transactions,
}

/// What a run showed.
#[derive(Debug)]
pub struct Report {
    /// Hash and number of all events.
    pub trace: (u64, u64),
    /// Batches sent and acknowledged, or transactions begun and committed.
    pub counts: (usize, usize),
    /// Objects that were replaced or removed.
    pub replaced: usize,
    /// The first broken promise.
    pub violation: Option<String>,
}

/// Runs `seed` of a play, with a deliberate fault or none. With `print`, every event goes to standard output.
pub fn run(play: Play, seed: u64, mutation: Option<Mutation>, print: bool) -> Report {
    mutation::apply(mutation);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let report = runtime.block_on(async {
        let world = World::new(seed, print);
        let run = Run::new(&world, play, mutation);
        if timeout(LIMIT, run.play()).await.is_err() {
            world.violation(format_args!("the run does not end"));
        }
        Report {
            trace: world.trace().summary(),
            counts: run.clients.counts(),
            replaced: run.cluster.replaced(),
            violation: world.first_violation(),
        }
    });
    mutation::apply(None);
    report
}

struct Run {
    world: World,
    cluster: Cluster,
    clients: Cast,
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicUsize>,
}

/// Who plays.
enum Cast {
    Logs(Clients),
    Transactions(Workers),
}

impl Cast {
    fn counts(&self) -> (usize, usize) {
        match self {
            Self::Logs(clients) => clients.history.counts(),
            Self::Transactions(workers) => workers.ledger.counts(),
        }
    }
}

/// What the logs hold in the end.
enum End {
    Logs(Vec<Vec<Batch>>),
    Transactions(Vec<Content>),
}

impl Run {
    fn new(world: &World, play: Play, mutation: Option<Mutation>) -> Self {
        let exclusive = world.one_in(2);
        let transactional = play == Play::Transactions;
        let logs = if transactional { 1 } else { world.random().range(1..5) };
        let cluster = Cluster::new(world, exclusive, logs, transactional, mutation);
        let (stop, busy) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = match play {
            Play::Logs => Cast::Logs(Clients {
                world: world.clone(),
                cluster: cluster.clone(),
                history: History::new(world),
                stop: stop.clone(),
                producing: busy.clone(),
            }),
            Play::Transactions => Cast::Transactions(Workers {
                world: world.clone(),
                cluster: cluster.clone(),
                ledger: Ledger::new(world),
                stop: stop.clone(),
                busy: busy.clone(),
            }),
        };
        Self { world: world.clone(), cluster, clients, stop, busy }
    }

    async fn play(&self) {
        self.cluster.boot();
        match &self.clients {
            Cast::Logs(clients) => self.start_clients(clients),
            Cast::Transactions(workers) => workers.start(),
        }
        for _ in 0..self.world.random().range(1..6) {
            self.world.set_rates(Rates::draw(self.world.random()), Rates::draw(self.world.random()));
            self.load().await;
            self.strike().await;
        }
        self.quiet_end().await;
    }

    fn start_clients(&self, clients: &Clients) {
        let logs = self.cluster.logs();
        let random = self.world.random();
        let any_log = || logs[random.range(0..logs.len() as u64) as usize];
        for producer in 1..=random.range(2..7) {
            clients.start_idempotent(producer, any_log(), random.range(1..5) as usize);
        }
        if self.world.one_in(2) {
            clients.start_plain(100, any_log());
        }
        logs.iter().for_each(|log| clients.start_reader(*log));
        if self.world.one_in(3) {
            clients.start_trimmer(any_log());
        }
    }

    /// Lets the clients work for a while; now and then something is flushed.
    async fn load(&self) {
        // A transaction takes several requests, and more than that once it has met a fault.
        let longest = if matches!(self.clients, Cast::Logs(_)) { 3000 } else { 8000 };
        for _ in 0..self.world.random().range(1..4) {
            sleep(self.world.millis(100, longest)).await;
            if self.world.one_in(3)
                && let Some(broker) = self.cluster.newest().and_then(|server| server.broker())
            {
                broker.request_flush();
            }
        }
    }

    /// Something happens to the newest machine, and another takes over.
    async fn strike(&self) {
        let Some(newest) = self.cluster.newest() else { return };
        match self.world.random().range(0..8) {
            0 => newest.kill(),
            1 | 2 => {
                newest.node.kill_after(self.world.random().range(1..400));
                sleep(self.world.millis(10, 3000)).await;
                newest.kill();
            }
            3..=5 => self.pause(newest),
            // Where it can't close in time it goes on beside its successor.
            6 => self.close(&newest).await,
            // Its successor does not know that it lives.
            _ => {}
        }
        let successor = self.cluster.boot();
        if self.world.one_in(4) {
            sleep(self.world.millis(0, 300)).await;
            self.cluster.boot();
        }
        if self.world.one_in(4) {
            successor.node.kill_after(self.world.random().range(1..300));
        }
    }

    /// Ends a broker in good order, if that succeeds in time, and its machine with it.
    async fn close(&self, server: &Server) {
        if self.cluster.close(server, self.world.millis(100, 20_000)).await {
            server.kill();
        }
    }

    /// Pauses a machine; it goes on after a while.
    fn pause(&self, server: Arc<Server>) {
        server.node.pause();
        let after =
            if self.world.one_in(2) { self.world.millis(10, 2000) } else { self.world.millis(1000, 120_000) };
        self.world.spawn(async move {
            sleep(after).await;
            server.node.resume();
        });
    }

    /// No more faults: everything must come to a good end.
    async fn quiet_end(&self) {
        self.world.set_rates(Rates::NONE, Rates::NONE);
        self.world.event(format_args!("no more faults"));
        self.cluster.spare_all();
        if let Cast::Transactions(workers) = &self.clients {
            self.await_commit(workers).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + QUIET;
        while self.busy.load(Ordering::Relaxed) > 0 {
            if Instant::now() >= deadline {
                self.world.violation(format_args!("clients wait for ever"));
                return;
            }
            self.ensure_server().await;
            sleep(Duration::from_millis(500)).await;
        }
        self.cluster.kill_all();
        if let Some(content) = self.check().await {
            self.check_after_restart(content).await;
        }
    }

    /// Whatever the faults have left behind, workers get on.
    async fn await_commit(&self, workers: &Workers) {
        let (committed, deadline) = (workers.ledger.counts().1, Instant::now() + QUIET);
        while workers.ledger.counts().1 == committed {
            if Instant::now() >= deadline {
                return self.world.violation(format_args!("nothing is committed any more"));
            }
            self.ensure_server().await;
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until the newest machine serves; where it does not in good time, others are switched on.
    async fn ensure_server(&self) {
        for _ in 0..20 {
            for _ in 0..100 {
                match self.cluster.newest() {
                    Some(newest) if newest.is_serving() => return,
                    Some(_) => sleep(Duration::from_millis(300)).await,
                    None => break,
                }
            }
            self.cluster.boot();
        }
        self.world.violation(format_args!("no broker starts"));
    }

    /// Reads everything and holds it against what the clients saw. Returns it; none where that failed.
    async fn check(&self) -> Option<End> {
        self.ensure_server().await;
        let clients = match &self.clients {
            Cast::Logs(clients) => clients,
            Cast::Transactions(workers) => return workers.check().await.map(End::Transactions),
        };
        let content = self.read_logs(clients).await?;
        for (log, batches) in self.cluster.logs().iter().zip(&content) {
            clients.history.check(*log, batches);
        }
        Some(End::Logs(content))
    }

    async fn read_logs(&self, clients: &Clients) -> Option<Vec<Vec<Batch>>> {
        let mut content = Vec::new();
        for log in self.cluster.logs() {
            let Some(batches) = clients.read_all(*log, QUIET).await else {
                self.world.violation(format_args!("log {log} can't be read"));
                return None;
            };
            content.push(batches);
        }
        Some(content)
    }

    async fn read_again(&self) -> Option<End> {
        match &self.clients {
            Cast::Logs(clients) => self.read_logs(clients).await.map(End::Logs),
            Cast::Transactions(workers) => workers.read_output(true).await.map(End::Transactions),
        }
    }

    /// What an orderly end leaves, read by a broker that has nothing in memory, is the same.
    async fn check_after_restart(&self, before: End) {
        let Some(server) = self.cluster.newest() else { return };
        if !self.cluster.close(&server, QUIET).await {
            self.world.violation(format_args!("{} can't close", server.node.name()));
        }
        server.kill();
        self.ensure_server().await;
        let Some(after) = self.read_again().await else { return };
        if let Some(which) = difference(&before, &after) {
            self.world.violation(format_args!("log {which} reads differently after a restart"));
        }
        self.cluster.check_stored().await;
    }
}

/// Which log is not the same.
fn difference(before: &End, after: &End) -> Option<usize> {
    match (before, after) {
        (End::Logs(before), End::Logs(after)) => {
            before.iter().zip(after).position(|(before, after)| !is_same_but_for_deleted(before, after))
        }
        (End::Transactions(before), End::Transactions(after)) => {
            before.iter().zip(after).position(|(before, after)| !is_same(visible(before), visible(after)))
        }
        _ => unreachable!("a run is of one play"),
    }
}

/// A deletion that nobody waited for may come later than the first reading.
fn is_same_but_for_deleted(before: &[Batch], after: &[Batch]) -> bool {
    let begin = after.first().map(Batch::base_offset).unwrap_or_default();
    let left = before.iter().skip_while(|batch| batch.base_offset() < begin);
    is_same(left, after.iter())
}

fn is_same<'a>(before: impl Iterator<Item = &'a Batch>, after: impl Iterator<Item = &'a Batch>) -> bool {
    before.map(|batch| (batch.head(), batch.records())).eq(after.map(|batch| (batch.head(), batch.records())))
}
