//! Kafka's perf producer, `org.apache.kafka.tools.ProducerPerformance`, and what the broker does meanwhile.

use crate::Subject;
use anyhow::{Context, Result};
use std::time::Instant;
use thalweg_end_to_end::{clients, kafka, proxy::Counts, wait};

const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";

/// Bytes of a record, in all runs.
pub(crate) const RECORD_BYTES: u64 = 1024;

/// How a perf producer is set.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Records of 1 KiB to send.
    pub records: u64,
    /// Records a second at most; -1 for no limit.
    pub rate: i64,
    /// The producer's properties.
    pub properties: &'static [&'static str],
}

impl Load {
    /// The tuned client: acks=all, 64 KiB, linger 5.
    pub fn tuned(records: u64) -> Self {
        Self { records, rate: -1, properties: &["acks=all", "batch.size=65536", "linger.ms=5"] }
    }

    /// A client with nothing set.
    pub fn default_client(records: u64) -> Self {
        Self { records, rate: -1, properties: &[] }
    }

    /// The same with a limit, in records a second.
    pub fn at(self, rate: i64) -> Self {
        Self { rate, ..self }
    }
}

/// What the broker did during a run.
#[derive(Clone, Debug)]
pub struct Run<T> {
    /// What the client says.
    pub client: T,
    /// Payload bytes.
    pub bytes: u64,
    /// The broker's processor time, in seconds.
    pub cpu_s: f64,
    /// The broker's largest resident memory so far, in bytes.
    pub resident_peak: u64,
    /// Its requests to S3.
    pub requests: Counts,
    /// The whole run, the client's start included, in seconds.
    pub took_s: f64,
}

/// What a perf producer says at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Produced {
    /// Megabytes (10^6) of values a second.
    pub mb_per_s: f64,
    /// Average latency in milliseconds.
    pub average_ms: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile in milliseconds.
    pub p999_ms: f64,
}

impl<T> Run<T> {
    /// The broker's processor seconds per GiB of payload.
    pub fn cpu_per_gib(&self) -> f64 {
        self.cpu_s / self.gib()
    }

    /// Requests to S3 per GiB of payload.
    pub fn requests_per_gib(&self) -> f64 {
        self.requests.total().requests as f64 / self.gib()
    }

    /// What these requests cost in dollars per GiB of payload.
    pub fn dollars_per_gib(&self) -> f64 {
        self.requests.dollars() / self.gib()
    }

    fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }
}

/// Runs one perf producer.
pub fn produce(subject: &Subject, topic: &str, load: Load) -> Result<Run<Produced>> {
    let mut command = subject.tools()?.java(PRODUCER);
    command
        .args(["--topic", topic, "--num-records", &load.records.to_string()])
        .args(["--record-size", &RECORD_BYTES.to_string(), "--throughput", &load.rate.to_string()])
        .args(["--producer-props", &format!("bootstrap.servers={}", subject.address())])
        .args(load.properties);
    measure(subject, load.records * RECORD_BYTES, || {
        let finished = clients::run(&mut command, None)?.expect_success()?;
        last_line(&finished.stdout, read_produced)
    })
}

/// Runs `client`, which moves `bytes` bytes of payload, and looks at the broker before and after.
pub(crate) fn measure<T>(
    subject: &Subject,
    bytes: u64,
    client: impl FnOnce() -> Result<T>,
) -> Result<Run<T>> {
    let (before, requests_before, started) = (subject.usage()?, subject.counts(), Instant::now());
    let client = client().with_context(|| format!("a perf client on {}", subject.name()))?;
    let took_s = started.elapsed().as_secs_f64();
    let (after, requests) = (subject.usage()?, &subject.counts() - &requests_before);
    Ok(Run {
        client,
        bytes,
        cpu_s: after.cpu_s - before.cpu_s,
        resident_peak: after.resident_peak,
        requests,
        took_s,
    })
}

/// Creates a topic for a run.
pub(crate) fn create_topic(subject: &Subject, topic: &str, partitions: i32) -> Result<()> {
    wait::block_on(kafka::create_topic(subject.address(), topic, partitions))
}

pub(crate) fn last_line<T>(output: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    output.lines().rev().find_map(read).with_context(|| format!("a perf client's summary, not\n{output}"))
}

/// `N records sent, R records/sec (M MB/sec), A ms avg latency, X ms max latency, P ms 50th, Q ms 95th, …`. Its MB are
/// 2^20 bytes.
fn read_produced(line: &str) -> Option<Produced> {
    let before = |unit: &str| line.split(unit).next()?.rsplit([' ', '(']).next()?.parse::<f64>().ok();
    Some(Produced {
        p50_ms: before(" ms 50th")?,
        p99_ms: before(" ms 99th")?,
        p999_ms: before(" ms 99.9th")?,
        average_ms: before(" ms avg latency")?,
        mb_per_s: before(" records/sec")? * RECORD_BYTES as f64 / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producers_last_line_is_read() {
        let line = "1000000 records sent, 150000.0 records/sec (146.48 MB/sec), 10.20 ms avg latency, \
                    300.00 ms max latency, 3 ms 50th, 20 ms 95th, 77 ms 99th, 99 ms 99.9th.";
        let read = read_produced(line).unwrap();
        assert_eq!((read.p50_ms, read.p99_ms, read.p999_ms, read.average_ms), (3.0, 77.0, 99.0, 10.2));
        assert_eq!(read.mb_per_s, 153.6);
    }

    #[test]
    fn an_interim_line_of_the_producer_is_not_its_last() {
        let line =
            "100 records sent, 20.0 records/sec (0.02 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.";
        assert_eq!(read_produced(line), None);
    }
}
