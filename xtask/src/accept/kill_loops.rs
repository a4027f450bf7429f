//! Line 4: 200 times kill -9 under an idempotent load, on MinIO, with answers that get lost.

use super::{Report, runtime};
use crate::simulate;
use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use thalweg_end_to_end::{
    kafka::{self, IdempotentProducer},
    proxy::{Faults, Latency, Proxy},
    servers::{MinIo, Options, Thalweg},
    wait,
};
use tokio::{sync::watch, task::JoinHandle};

const KILLS: u32 = 200;
const PRODUCERS: i32 = 4;
const PARTITIONS_EACH: i32 = 4;
const TOPIC: &str = "kill-loops";
const SEEDS: u64 = 20_000;
/// Share of writes whose answers are lost.
const LOST_ANSWERS: f64 = 0.05;
/// How long a life may take to acknowledge something.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn check(report: &mut Report) -> Result<()> {
    kill(report)?;
    report.must_succeed(&format!("{SEEDS} simulation seeds are clean"), simulate::run_seeds(SEEDS, 0, &[]));
    report.must_succeed("every mutation is caught by the simulation", simulate::run_mutations(&[]));
    Ok(())
}

type Load = JoinHandle<Result<IdempotentProducer>>;

fn kill(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    minio.bucket(TOPIC)?;
    let proxy = Proxy::start(minio.address(), Latency::NONE, 1)?;
    proxy.set_faults(Faults { lose_write_answers: LOST_ANSWERS, ..Faults::default() });
    let mut broker = Options::on_s3(proxy.address(), TOPIC)?.start()?;
    let runtime = runtime()?;
    runtime.block_on(kafka::create_topic(broker.address(), TOPIC, PRODUCERS * PARTITIONS_EACH))?;
    let (stop, stopped) = watch::channel(false);
    let mut loads = Vec::new();
    let mut progress = Vec::new();
    for number in 0..PRODUCERS {
        let partitions = number * PARTITIONS_EACH..(number + 1) * PARTITIONS_EACH;
        let producer =
            runtime.block_on(IdempotentProducer::new(broker.address(), TOPIC, partitions, 10, 100))?;
        progress.push(producer.progress());
        loads.push(runtime.spawn(load(producer, stopped.clone())));
    }
    let killed = kill_often(&mut broker, &progress, &loads);
    stop.send_replace(true);
    report.must_succeed(&format!("{KILLS} lives, each acknowledging something, each killed"), killed);
    runtime.block_on(compare(report, loads))
}

async fn load(
    mut producer: IdempotentProducer,
    stopped: watch::Receiver<bool>,
) -> Result<IdempotentProducer> {
    producer.run(|_| *stopped.borrow()).await?;
    Ok(producer)
}

/// Kills the broker at a random moment of each life, once every producer has got something acknowledged in it.
fn kill_often(broker: &mut Thalweg, progress: &[Arc<AtomicU64>], loads: &[Load]) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(1);
    for life in 1..=KILLS {
        let before: Vec<_> = progress.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all_moved =
            || progress.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) > *before);
        wait::until("every producer gets acknowledgements", PATIENCE, || {
            let failed = loads.iter().any(JoinHandle::is_finished);
            Ok((all_moved() || failed).then_some(()))
        })
        .with_context(|| format!("life {life}\n{}", broker.process().output_tail()))?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..1000)));
        broker.kill()?;
        broker.start_again().with_context(|| format!("life {life}"))?;
        if life % 20 == 0 {
            eprintln!("  {life} kills");
        }
    }
    Ok(())
}

/// Reads back with a reader of our own what each producer wrote.
async fn compare(report: &mut Report, loads: Vec<Load>) -> Result<()> {
    let (mut records, mut duplicates, mut resends) = (0, 0, 0);
    for (number, load) in loads.into_iter().enumerate() {
        let what = format!("producer {number}: nothing lost, duplicated or reordered");
        match load.await? {
            Ok(producer) => {
                let acknowledged = producer.acknowledged();
                records += acknowledged.records.values().sum::<u64>();
                duplicates += acknowledged.duplicates;
                resends += acknowledged.resends;
                report.must_succeed(&what, producer.check_all().await);
            }
            Err(error) => report.failed(&what, &error),
        }
    }
    report.note("records acknowledged", records);
    report.note("times that all that waited was sent again", resends);
    report.note("answers that said: a duplicate", duplicates);
    Ok(())
}
