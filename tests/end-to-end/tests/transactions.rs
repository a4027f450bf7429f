//! Transactions as people use them: Kafka's own copier for tests of exactly-once, and Kafka's tool, over kill -9.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use std::{collections::BTreeSet, fmt::Write as _, fs, thread, time::Duration};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{KafkaTools, Kcat},
    servers::{Options, Thalweg},
};

const RECORDS: u32 = 2_000;
const PATIENCE: Duration = Duration::from_secs(300);

fn broker() -> Thalweg {
    let options = Options::new().unwrap().set("group.initial.rebalance.delay.ms", 0);
    options.set("transaction.abort.timed.out.transaction.cleanup.interval.ms", 500).start().unwrap()
}

fn produce_numbers(broker: &Thalweg, topic: &str) {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("input");
    let text = (0..RECORDS).fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    });
    fs::write(&input, text).unwrap();
    Kcat::new(broker.address()).unwrap().produce(topic, "none", "\n", &input).unwrap();
}

#[test]
fn kafkas_copier_copies_each_record_once_though_the_broker_is_killed() {
    let mut broker = broker();
    produce_numbers(&broker, "input");
    let folder = TempDir::new().unwrap();
    let tools = KafkaTools::new(broker.address()).unwrap();
    let log = folder.path().join("copier");
    let mut copier = tools.start_copier("input", "output", 0, RECORDS as usize, &log).unwrap();
    for _ in 0..5 {
        thread::sleep(Duration::from_secs(3));
        broker.kill().unwrap();
        broker.start_again().unwrap();
    }
    let ended = copier.wait_for_exit(PATIENCE);
    assert!(
        ended.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{ended:?}\n{}",
        copier.output_tail()
    );
    let copied = tools.consume_committed("output").unwrap();
    let numbers: BTreeSet<u32> = copied.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(copied.len(), RECORDS as usize, "none twice");
    assert_eq!(numbers, (0..RECORDS).collect(), "none lost");
    let listed = tools.transactions(&["list"]).unwrap().expect_success().unwrap().stdout;
    let line = listed.lines().find(|line| line.starts_with("copier-0")).expect("the copier's id");
    assert!(line.contains("Complete"), "{listed}");
}
