//! Line 5: the store goes away, then throttles.

use super::{Report, runtime};
use anyhow::{Context, Result, ensure};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use thalweg_end_to_end::{
    kafka::{self, Connection, FetchRequest, IdempotentProducer, Latencies},
    proxy::{Faults, Latency, Proxy},
    servers::{MinIo, Options, Thalweg},
    wait,
};
use tokio::{
    runtime::Runtime,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const OUTAGE: Duration = Duration::from_secs(60);
const RECOVERY_TARGET_S: f64 = 2.0;
/// Enough to fill the budget many times over, were it not one: 64 × 5 requests of 1 MiB.
const PRODUCERS: i32 = 64;
const RECORDS_PER_BATCH: u64 = 1024;
const RECORD_BYTES: usize = 1000;
const MEMORY: u64 = 256 << 20;
const TOPIC: &str = "outage";
/// How long an answer may take that needs no store.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
const PROBE_PERIOD: Duration = Duration::from_millis(200);

pub fn check(report: &mut Report) -> Result<()> {
    let mut minio = MinIo::start()?;
    minio.bucket(TOPIC)?;
    let proxy = Proxy::start(minio.address(), Latency::NONE, 1)?;
    let mut broker = Options::on_s3(proxy.address(), TOPIC)?.set("memory.bytes", MEMORY).start()?;
    let process = broker.process().id();
    let runtime = runtime()?;
    runtime.block_on(kafka::create_topic(broker.address(), TOPIC, PRODUCERS))?;
    let load = Load::start(&runtime, broker.address())?;
    load.wait_for_progress()?;

    outage(report, &runtime, &load, &broker, "stopped", || minio.stop())?;
    let back = resumes(&load, || minio.start_again())?;
    report.at_most(
        "stopped: first acknowledgement after its return, s",
        back.as_secs_f64(),
        RECOVERY_TARGET_S,
    );

    load.wait_for_progress()?;
    let throttle = |slow_down| proxy.set_faults(Faults { slow_down, ..Faults::default() });
    outage(report, &runtime, &load, &broker, "503", || {
        throttle(true);
        Ok(())
    })?;
    let back = resumes(&load, || {
        throttle(false);
        Ok(())
    })?;
    report.at_most("503: first acknowledgement after its end, s", back.as_secs_f64(), RECOVERY_TARGET_S);

    report.must("the broker is the same process", broker.is_running() && broker.process().id() == process);
    let peak = broker.process().usage()?.resident_peak;
    report.at_most("largest resident memory, MiB", mebibytes(peak), mebibytes(MEMORY));
    report.must_succeed(
        "producers saw retriable errors or none, and every record is there once",
        load.finish(&runtime),
    );
    Ok(())
}

/// Begins an outage and watches for its whole length what must go on.
fn outage(
    report: &mut Report,
    runtime: &Runtime,
    load: &Load,
    broker: &Thalweg,
    what: &str,
    begin: impl FnOnce() -> Result<()>,
) -> Result<()> {
    begin()?;
    let (metadata, fetches) = runtime.block_on(probe(broker.address()))?;
    let expected = (OUTAGE.as_secs_f64() / PROBE_PERIOD.as_secs_f64() / 2.0).floor();
    report.at_least(&format!("{what}: Metadata answered, times"), metadata.count() as f64, expected);
    report.note(&format!("{what}: Metadata"), metadata);
    report.at_least(&format!("{what}: tail fetches answered, times"), fetches.count() as f64, expected);
    report.note(&format!("{what}: tail fetches"), fetches);
    report.must(&format!("{what}: no producer gave up"), !load.has_failed());
    Ok(())
}

/// Metadata and a fetch of the tail, again and again while the store is away; each must answer in time.
async fn probe(address: SocketAddr) -> Result<(Latencies, Latencies)> {
    let (mut metadata, mut fetches) = (Latencies::default(), Latencies::default());
    let mut connection = Connection::open(address).await?;
    // The newest batch that was durable before: it's in the log cache.
    let tail = connection.list_offset(TOPIC, 0, -1).await? - 1;
    let until = Instant::now() + OUTAGE;
    while Instant::now() < until {
        let started = Instant::now();
        let answer = timeout(ANSWER_PATIENCE, connection.metadata(TOPIC)).await.context("Metadata")??;
        ensure!(answer.error == 0, "Metadata: error {}", answer.error);
        metadata.add(started.elapsed());
        let started = Instant::now();
        let fetch = FetchRequest {
            topic: TOPIC,
            partitions: &[(0, tail)],
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partition_max_bytes: 1 << 20,
        };
        let fetched =
            timeout(ANSWER_PATIENCE, connection.fetch(&fetch)).await.context("a fetch of the tail")??;
        ensure!(
            fetched.iter().all(|part| part.error == 0 && !part.records.is_empty()),
            "the tail is not there"
        );
        fetches.add(started.elapsed());
        sleep(PROBE_PERIOD).await;
    }
    Ok((metadata, fetches))
}

/// Ends an outage; how long after its end the first acknowledgement comes.
fn resumes(load: &Load, end: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let before = load.acknowledged();
    end()?;
    let started = Instant::now();
    wait::until("producing goes on", OUTAGE, || {
        Ok((load.acknowledged() > before || load.has_failed()).then_some(()))
    })?;
    ensure!(!load.has_failed(), "a producer gave up");
    Ok(started.elapsed())
}

/// The producers.
struct Load {
    stop: watch::Sender<bool>,
    producers: Vec<JoinHandle<Result<IdempotentProducer>>>,
    progress: Vec<Arc<AtomicU64>>,
}

impl Load {
    fn start(runtime: &Runtime, address: SocketAddr) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut load = Self { stop, producers: Vec::new(), progress: Vec::new() };
        for partition in 0..PRODUCERS {
            let partitions = partition..=partition;
            let new = IdempotentProducer::new(address, TOPIC, partitions, RECORDS_PER_BATCH, RECORD_BYTES);
            let mut producer = runtime.block_on(new)?;
            load.progress.push(producer.progress());
            let stopped = stopped.clone();
            load.producers.push(runtime.spawn(async move {
                producer.run(|_| *stopped.borrow()).await?;
                Ok(producer)
            }));
        }
        Ok(load)
    }

    fn acknowledged(&self) -> u64 {
        self.progress.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn has_failed(&self) -> bool {
        self.producers.iter().any(JoinHandle::is_finished)
    }

    /// Waits until every producer has got another acknowledgement: each log's newest batch is then a new one.
    fn wait_for_progress(&self) -> Result<()> {
        let counts = || self.progress.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<u64> = counts().collect();
        let all = || counts().zip(&before).all(|(count, before)| count > *before);
        wait::until("every producer gets an acknowledgement", OUTAGE, || Ok(all().then_some(())))
    }

    fn finish(self, runtime: &Runtime) -> Result<()> {
        self.stop.send_replace(true);
        for producer in self.producers {
            runtime.block_on(async { producer.await??.check_all().await })?;
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
