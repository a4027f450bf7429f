//! Life and death of the real binary: kill -9, SIGTERM, a second broker on the same store, bad command lines.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use std::{process::ExitStatus, sync::atomic::Ordering, time::Duration};
use thalweg_end_to_end::{
    kafka::{self, Connection, IdempotentProducer},
    proxy::{Faults, Latency, Proxy},
    servers::{MinIo, Options, Thalweg},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Kills and restarts the broker under an idempotent load; then everything acknowledged must be there once, in order.
async fn survives_kills(mut broker: Thalweg, kills: u32) {
    kafka::create_topic(broker.address(), "kills", 4).await.unwrap();
    let mut producer = IdempotentProducer::new(broker.address(), "kills", 0..4, 10, 100).await.unwrap();
    let progress = producer.progress();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        producer.run(|_| *stopped.borrow()).await?;
        Ok::<_, anyhow::Error>(producer)
    });
    for _ in 0..kills {
        let before = progress.load(Ordering::Relaxed);
        wait::until("records are acknowledged", PATIENCE, || {
            Ok((progress.load(Ordering::Relaxed) > before + 100 || load.is_finished()).then_some(()))
        })
        .unwrap();
        broker.kill().unwrap();
        broker.start_again().unwrap();
    }
    stop.send(true).unwrap();
    load.await.unwrap().unwrap().check_all().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_on_files() {
    survives_kills(Options::new().unwrap().start().unwrap(), 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_broker_with_status_0_and_loses_nothing() {
    let mut broker = Options::new().unwrap().start().unwrap();
    kafka::create_topic(broker.address(), "stopped", 2).await.unwrap();
    let mut producer = IdempotentProducer::new(broker.address(), "stopped", 0..2, 10, 100).await.unwrap();
    let mut requests = 0..20;
    producer.run(|_| requests.next().is_none()).await.unwrap();
    let status = broker.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", broker.process().output_tail());
    broker.start_again().unwrap();
    producer.check_all().await.unwrap();
}

/// Starts brokers on one store at once; gives what those said and how they ended that were overtaken before they listened.
fn overtaken_in_start() -> Vec<(String, ExitStatus)> {
    let store = tempfile::tempdir().unwrap();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let options = Options::new().unwrap().set("listeners", "PLAINTEXT://127.0.0.1:0");
    let options = options.set("object.store.url", format!("file:{}", store.path().join("data").display()));
    let mut brokers: Vec<_> = folders.iter().map(|folder| options.spawn_in(folder.path()).unwrap()).collect();
    let mut overtaken = Vec::new();
    for broker in &mut brokers {
        let listens = |said: &str| said.contains("listening on").then_some(());
        // It ended before.
        if broker.wait_for_output("it listens", PATIENCE, listens).is_err() {
            overtaken.push((broker.output(), broker.wait_for_exit(PATIENCE).unwrap()));
        } else {
            broker.kill().unwrap();
        }
    }
    assert!(overtaken.len() < brokers.len(), "one is the last to open the store");
    overtaken
}

#[test]
fn who_is_overtaken_in_its_start_ends_with_status_3() {
    // How they run into one another is chance.
    let overtaken = (0..20).map(|_| overtaken_in_start()).find(|overtaken| !overtaken.is_empty());
    for (said, status) in overtaken.expect("of 80 brokers one is overtaken") {
        assert_eq!(status.code(), Some(3), "{said}");
    }
}

#[test]
fn an_unknown_key_ends_the_program_with_status_2_and_the_nearest_known_key() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().unwrap().set("wal.putt.rate", 20);
    let output = options.run_in(folder.path()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("wal.put.rate"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was started");
}

#[test]
fn a_bad_value_ends_the_program_with_status_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = Options::new().unwrap().set("memory.bytes", "plenty").run_in(folder.path()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("memory.bytes") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn every_key_is_listed_with_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let output = Options::new().unwrap().argument("config").run_in(folder.path()).unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{listed}");
    for key in ["listeners", "object.store.url", "wal.put.rate", "memory.bytes"] {
        assert!(listed.contains(key), "{key} is not in\n{listed}");
    }
}

mod on_minio {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_acknowledged_survives_kill_9_on_s3_with_lost_answers() {
        let minio = MinIo::start().unwrap();
        minio.bucket("kills").unwrap();
        let proxy = Proxy::start(minio.address(), Latency::NONE, 1).unwrap();
        proxy.set_faults(Faults { lose_write_answers: 0.05, ..Faults::default() });
        let broker = Options::on_s3(proxy.address(), "kills").unwrap().start().unwrap();
        survives_kills(broker, 5).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_with_an_empty_disk_has_every_acknowledged_record() {
        let minio = MinIo::start().unwrap();
        let broker = Options::on_minio(&minio, "moved").unwrap().start().unwrap();
        kafka::create_topic(broker.address(), "moved", 2).await.unwrap();
        let mut producer = IdempotentProducer::new(broker.address(), "moved", 0..2, 10, 100).await.unwrap();
        let mut requests = 0..50;
        producer.run(|_| requests.next().is_none()).await.unwrap();
        let _broker = broker.start_again_with_empty_disk().unwrap();
        producer.check_all().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_newer_broker_on_the_same_bucket_fences_the_older_which_says_why_and_ends() {
        let minio = MinIo::start().unwrap();
        let mut older = Options::on_minio(&minio, "shared").unwrap().start().unwrap();
        kafka::create_topic(older.address(), "shared", 1).await.unwrap();
        let older_address = older.address();
        let mut producer = IdempotentProducer::new(older_address, "shared", 0..1, 10, 100).await.unwrap();
        let mut requests = 0..20;
        producer.run(|_| requests.next().is_none()).await.unwrap();
        let newer = Options::on_minio(&minio, "shared").unwrap().start().unwrap();

        // The older learns of it at the latest when it tries to make a record durable.
        let refused = async {
            let batch = kafka::Batch::plain(vec!["late".into()]).encode();
            let request = kafka::ProduceRequest { topic: "shared", acks: -1, partitions: &[(0, batch)] };
            Connection::open(older_address).await?.produce(&request).await
        };
        if let Ok(answers) = refused.await {
            assert!(
                answers.iter().all(|answer| answer.error != kafka::code::NONE),
                "a fenced broker acknowledged"
            );
        }
        let status = older.wait_for_exit(PATIENCE).unwrap();
        assert!(!status.success(), "it ended with {status}");
        let said = older.process().output();
        assert!(said.contains("another process has taken over"), "{said}");

        let read = kafka::read_all(newer.address(), "shared", 0).await.unwrap();
        assert_eq!(read.len(), 200, "the newer broker has what the older acknowledged and nothing else");
    }
}
