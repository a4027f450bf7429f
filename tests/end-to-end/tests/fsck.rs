//! `thalweg fsck` beside a running broker, and `thalweg restore` after its metadata are gone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use bytes::Bytes;
use std::{
    fs,
    net::SocketAddr,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, ProduceRequest},
    servers::{Options, Thalweg},
    wait,
};

/// Flushes often, so that objects are committed and deleted while it is looked at them.
fn options() -> Options {
    Options::new().unwrap().set("flush.interval.ms", 100).set("metadata.snapshot.interval.ms", 200)
}

fn run(broker: &Thalweg, arguments: &[&str]) -> Output {
    let folder = broker.folder();
    let command = Options::new().unwrap();
    arguments.iter().fold(command, |command, argument| command.argument(argument)).run_in(folder).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn produce(address: SocketAddr, topic: &str, partition: i32, value: Bytes) {
    let batch = Batch::plain(vec![value]).encode();
    let partitions = [(partition, batch)];
    let request = ProduceRequest { topic, acks: -1, partitions: &partitions };
    let answers = Connection::open(address).await.unwrap().produce(&request).await.unwrap();
    assert!(answers.iter().all(|answer| answer.error == 0), "{answers:?}");
}

#[test]
fn a_broker_goes_on_while_it_is_checked_and_all_is_clean() {
    let mut broker = options().start().unwrap();
    let address = broker.address();
    wait::block_on(kafka::create_topic(address, "busy", 2)).unwrap();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let producing = {
        let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
        thread::spawn(move || {
            wait::block_on(async {
                while !stop.load(SeqCst) {
                    produce(address, "busy", 0, Bytes::from_static(&[7; 1000])).await;
                    acknowledged.fetch_add(1, SeqCst);
                }
            });
        })
    };
    for arguments in [&["fsck"][..], &["fsck", "--deep"], &["fsck", "--deep", "--json"], &["fsck", "--json"]]
    {
        let before = acknowledged.load(SeqCst);
        let output = run(&broker, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
        // What is acknowledged after the check has begun was acknowledged by a broker that nobody has fenced.
        let patience = std::time::Duration::from_secs(20);
        let went_on = || async {
            let now = acknowledged.load(SeqCst);
            if now > before { Ok(()) } else { Err(anyhow::anyhow!("{now} acknowledged")) }
        };
        wait::block_on(wait::until_ok("the producer goes on", patience, went_on)).unwrap();
    }
    stop.store(true, SeqCst);
    producing.join().unwrap();
    assert!(broker.is_running());
    let records = wait::block_on(kafka::read_all(address, "busy", 0)).unwrap();
    assert_eq!(records.len() as u64, acknowledged.load(SeqCst));
    assert_eq!(broker.terminate().unwrap().code(), Some(0));
    let output = run(&broker, &["fsck", "--deep", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("\"result\": \"clean\""), "{}", text(&output));
}

#[test]
fn damage_is_found_and_what_cannot_be_checked_is_told_from_it() {
    let mut broker = options().start().unwrap();
    wait::block_on(kafka::create_topic(broker.address(), "kept", 1)).unwrap();
    wait::block_on(produce(broker.address(), "kept", 0, Bytes::from_static(&[7; 1000])));
    assert_eq!(broker.terminate().unwrap().code(), Some(0));
    let data = broker.folder().join("thalweg-data");
    fs::remove_dir_all(data.join("seg")).unwrap();
    let output = run(&broker, &["fsck"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("PROBLEM: missing object"), "{}", text(&output));
    fs::remove_dir_all(data.join("meta")).unwrap();
    let output = run(&broker, &["fsck"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let output = run(&broker, &["fsck", "--set", "object.store.url=file:nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(!broker.folder().join("nowhere").exists(), "a check creates nothing");
}

#[test]
fn lost_metadata_are_restored_with_what_was_flushed_and_what_is_in_the_wal() {
    let mut broker = options().start().unwrap();
    let address = broker.address();
    wait::block_on(kafka::create_topic(address, "kept", 2)).unwrap();
    let value = |number: u64| Bytes::from(format!("record {number}"));
    wait::block_on(async {
        for number in 0..20 {
            produce(address, "kept", (number % 2) as i32, value(number)).await;
        }
    });
    let data = broker.folder().join("thalweg-data");
    let has_snapshot = || async {
        // Names of topics stand in snapshots as they are.
        let found = files(&data.join("snapshot"))
            .iter()
            .any(|bytes| bytes.windows(10).any(|ten| ten == b"topic/kept"));
        if found { Ok(()) } else { Err(anyhow::anyhow!("no snapshot has the topic")) }
    };
    wait::block_on(wait::until_ok("a snapshot", std::time::Duration::from_secs(20), has_snapshot)).unwrap();
    wait::block_on(produce(address, "kept", 0, value(20)));
    broker.kill().unwrap();
    fs::remove_dir_all(data.join("meta")).unwrap();
    let output = run(&broker, &["restore"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let again = run(&broker, &["restore"]);
    assert_eq!(again.status.code(), Some(2), "there are metadata now: {}", text(&again));
    let checked = run(&broker, &["fsck", "--deep"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    broker.start_again().unwrap();
    for partition in 0..2 {
        let records = wait::block_on(kafka::read_all(broker.address(), "kept", partition)).unwrap();
        let expected: Vec<_> = (0..=20).filter(|number| number % 2 == partition as u64).map(value).collect();
        let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..expected.len() as i64).collect::<Vec<_>>());
        assert_eq!(records.into_iter().map(|record| record.value).collect::<Vec<_>>(), expected);
    }
    wait::block_on(produce(broker.address(), "kept", 0, value(22)));
    let checked = run(&broker, &["fsck", "--deep"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
}

/// The content of every file below a folder.
fn files(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let content = |path: std::path::PathBuf| {
        if path.is_dir() { files(&path) } else { fs::read(path).into_iter().collect() }
    };
    entries.flatten().flat_map(|entry| content(entry.path())).collect()
}
