//! Kafka's semantics: how long a group keeps its consumers waiting, beside Kafka, with both protocols.

use super::Report;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use thalweg_end_to_end::{
    clients::{self, KafkaTools},
    kafka::{self, Batch, Connection, Latencies, ProduceRequest},
    servers::{Kafka, MinIo, Options},
    wait,
};

const PROTOCOLS: [(&str, &str); 2] = [("classic", "classic"), ("consumer", "KIP-848")];
const FIRST: &str = "first";
const FIRST_ROUNDS: u32 = 20;
/// By how much later than on Kafka the first record may come.
const FIRST_LATER_MS: f64 = 200.0;
const JOIN: &str = "join";
const JOIN_ROUNDS: u32 = 5;
const MEMBERS: u32 = 50;
const PARTITIONS: i32 = 1000;
const JOIN_SLOWER: f64 = 1.2;

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let broker = Options::on_minio(&minio, "groups")?.set("group.initial.rebalance.delay.ms", 0).start()?;
    let kafka = Kafka::start(&[])?;
    for address in [kafka.address(), broker.address()] {
        wait::block_on(prepare(address))?;
    }
    for (protocol, name) in PROTOCOLS {
        let measured = first(report, kafka.address(), broker.address(), protocol, name);
        check_offered(report, &format!("{name}: first record"), measured);
        let measured = join(report, kafka.address(), broker.address(), protocol, name);
        check_offered(report, &format!("{name}: {MEMBERS} members"), measured);
    }
    Ok(())
}

/// What could not be measured is a target missed.
fn check_offered(report: &mut Report, what: &str, measured: Result<()>) {
    match measured {
        Ok(()) => {}
        Err(error) if format!("{error:#}").contains("UnsupportedVersionException") => {
            report.failed(what, &anyhow::anyhow!("the broker doesn't offer this protocol"));
        }
        Err(error) => report.failed(what, &error),
    }
}

async fn prepare(address: SocketAddr) -> Result<()> {
    kafka::create_topic(address, FIRST, 1).await?;
    kafka::create_topic(address, JOIN, PARTITIONS).await?;
    let batch = Batch::plain(vec!["a record".into()]).encode();
    let request = ProduceRequest { topic: FIRST, acks: -1, partitions: &[(0, batch)] };
    let answers = Connection::open(address).await?.produce(&request).await?;
    ensure!(answers.iter().all(|answer| answer.error == 0), "{answers:?}");
    Ok(())
}

fn first(
    report: &mut Report,
    kafka: SocketAddr,
    broker: SocketAddr,
    protocol: &str,
    name: &str,
) -> Result<()> {
    let of = |address| latencies(address, "first", FIRST, protocol, FIRST_ROUNDS, &[]);
    let (of_kafka, of_thalweg) = (of(kafka).context("Kafka")?, of(broker).context("Thalweg")?);
    report.note(&format!("{name}: first record of a new group, Kafka"), &of_kafka);
    report.note(&format!("{name}: first record of a new group, Thalweg"), &of_thalweg);
    report.at_most(
        &format!("{name}: its P50, ms"),
        of_thalweg.percentile_ms(0.5),
        of_kafka.percentile_ms(0.5) + FIRST_LATER_MS,
    );
    Ok(())
}

fn join(
    report: &mut Report,
    kafka: SocketAddr,
    broker: SocketAddr,
    protocol: &str,
    name: &str,
) -> Result<()> {
    let group = [MEMBERS.to_string(), PARTITIONS.to_string()];
    let of = |address| latencies(address, "join", JOIN, protocol, JOIN_ROUNDS, &group);
    let (of_kafka, of_thalweg) = (of(kafka).context("Kafka")?, of(broker).context("Thalweg")?);
    let what = format!("{name}: member {MEMBERS} joins, {PARTITIONS} partitions");
    report.note(&format!("{what}, Kafka"), &of_kafka);
    report.note(&format!("{what}, Thalweg"), &of_thalweg);
    let target = of_kafka.percentile_ms(0.5) * JOIN_SLOWER;
    report.at_most(&format!("{what}: its P50, ms"), of_thalweg.percentile_ms(0.5), target);
    Ok(())
}

fn latencies(
    address: SocketAddr,
    what: &str,
    topic: &str,
    protocol: &str,
    rounds: u32,
    more: &[String],
) -> Result<Latencies> {
    let mut command = KafkaTools::new(address)?.own_program("GroupLatency.java");
    command.args([what, &address.to_string(), topic, protocol, &rounds.to_string()]).args(more);
    clients::latencies(&mut command, rounds)
}
