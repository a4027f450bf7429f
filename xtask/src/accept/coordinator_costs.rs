//! Kafka's semantics: what commits and transactions cost where a PUT takes as long as on S3.

use super::{Report, runtime, steady_client};
use anyhow::{Context, Result, ensure};
use std::{net::SocketAddr, time::Duration};
use thalweg_benches::{Subject, raw_put};
use thalweg_end_to_end::{
    clients,
    kafka::{self, Connection, Latencies},
    proxy::{Counts, Kind, Latency, Operation},
    s3::Bucket,
    servers::MinIo,
    wait,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

const GROUPS: u32 = 1000;
/// How often each group commits.
const PERIOD: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(10);
/// PUTs a second that the broker may make; what it is for a store that bills them.
const BUDGET: f64 = 20.0;
const TOPIC: &str = "costs";
/// "Sequential PUT times" of a transaction.
const PUT_TIMES: f64 = 4.0;
const TRANSACTIONS: u32 = 200;
const PAUSE_MS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    commits(report, &minio)?;
    transactions(report, &minio)
}

fn commits(report: &mut Report, minio: &MinIo) -> Result<()> {
    let runtime = runtime()?;
    let budget = BUDGET.to_string();
    let subject = Subject::on_minio(minio, "commits", Latency::S3, &[("wal.put.rate", &budget)])?;
    runtime.block_on(kafka::create_topic(subject.address(), TOPIC, 1))?;
    let (latencies, produced, cost, elapsed) = runtime.block_on(async {
        // The coordinators, and their topic, come with the first commit.
        wait::until_ok("a first commit", PATIENCE, || commit_once(subject.address())).await?;
        // What the budget lets through at once is spent before anything is counted.
        commit_from_all(subject.address(), WARM_UP).await?;
        let (before, began) = (subject.counts(), Instant::now());
        let period = Duration::from_millis(10);
        let (committed, produced) = tokio::try_join!(
            commit_from_all(subject.address(), DURATION),
            steady_client::produce_steadily(subject.address(), TOPIC, period, DURATION),
        )?;
        Ok::<(Latencies, Latencies, Counts, Duration), anyhow::Error>((
            committed,
            produced,
            &subject.counts() - &before,
            began.elapsed(),
        ))
    })?;
    let puts = [Kind::Wal, Kind::WalAgain].map(|kind| cost.of(Operation::Put, kind).requests);
    let per_second = puts.iter().sum::<u64>() as f64 / elapsed.as_secs_f64();
    report.note("commits of 1,000 groups, one a second each", &latencies);
    report.equals("of them acknowledged", latencies.count() as u64, u64::from(GROUPS) * DURATION.as_secs());
    report.note("produces beside them", &produced);
    report.at_most("PUTs a second of all of it (the budget)", per_second, BUDGET);
    report.note("all requests of that minute", &cost);
    Ok(())
}

async fn commit_once(address: SocketAddr) -> Result<()> {
    Connection::open(address).await?.commit_first_offset("group-0", TOPIC, 0).await
}

/// Every group commits at a steady rate over a connection of its own, none at the same moment as another.
async fn commit_from_all(address: SocketAddr, duration: Duration) -> Result<Latencies> {
    let begin = Instant::now() + Duration::from_secs(1);
    let mut groups = JoinSet::new();
    for group in 0..GROUPS {
        groups.spawn(commit_at(address, group, begin + PERIOD * group / GROUPS, duration));
    }
    let mut all = Latencies::default();
    while let Some(of_one) = groups.join_next().await {
        all.extend(of_one??);
    }
    Ok(all)
}

async fn commit_at(address: SocketAddr, group: u32, begin: Instant, duration: Duration) -> Result<Latencies> {
    let group = format!("group-{group}");
    let mut connection = Connection::open(address).await?;
    let mut ticks = interval_at(begin, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut latencies = Latencies::default();
    for offset in 0..duration.as_secs() {
        let due = ticks.tick().await;
        let error = connection.commit_offset(&group, TOPIC, i64::try_from(offset)?).await?;
        ensure!(error == 0, "OffsetCommit: error {error}");
        latencies.add(Instant::now() - due);
    }
    Ok(latencies)
}

fn transactions(report: &mut Report, minio: &MinIo) -> Result<()> {
    let fast = [("wal.put.rate", "400")];
    let subject = Subject::on_minio(minio, "fast", Latency::S3, &fast)?;
    let store = subject.store_address().context("it stores into a proxy")?;
    let raw = runtime()?.block_on(raw_put(&Bucket::new(store, "fast"), 4 << 10, 1000, 4))?.latencies;
    report.note("raw PUT of 4 KiB with S3's latency", &raw);
    let of_thalweg = transaction_latencies(&subject)?;
    report.note("a transaction of one record, wal.put.rate=400", &of_thalweg);
    let put_times = of_thalweg.percentile_ms(0.5) / raw.percentile_ms(0.5);
    report.at_most("its P50 in PUT times", put_times, PUT_TIMES);
    drop(subject);
    let standard = Subject::on_minio(minio, "standard", Latency::S3, &[])?;
    report.note("the same at the default rate", transaction_latencies(&standard)?);
    drop(standard);
    report.note("the same on Kafka, on its own disk", transaction_latencies(&Subject::kafka()?)?);
    Ok(())
}

/// Transactions of one record by Kafka's own producer.
fn transaction_latencies(subject: &Subject) -> Result<Latencies> {
    wait::block_on(kafka::create_topic(subject.address(), TOPIC, 1))?;
    let mut command = subject.tools()?.own_program("TransactionLatency.java");
    command.args([&subject.address().to_string(), TOPIC, &TRANSACTIONS.to_string(), &PAUSE_MS.to_string()]);
    clients::latencies(&mut command, TRANSACTIONS)
}
