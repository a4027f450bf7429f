//! An idempotent producer whose every decision can be seen: what it numbered, sent again, and saw acknowledged.

use super::{
    Answers, Batch, Connection, ProduceRequest, ProducedPartition, Producer, Record, Requests, code,
};
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Requests without an answer at a time, the most that Kafka's idempotence allows.
const IN_FLIGHT: usize = 5;

/// An answer that takes longer counts as lost; the connection is then closed and everything sent again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// How long a broker may be away.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(180);

/// Wait before everything is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes numbered records to some partitions of a topic, each of which it alone writes to.
pub struct IdempotentProducer {
    address: SocketAddr,
    topic: String,
    producer: Producer,
    records_per_batch: u64,
    record_bytes: usize,
    /// Next number of each partition.
    next: BTreeMap<i32, u64>,
    /// Numbered but not acknowledged, in order: each a request.
    waiting: VecDeque<Request>,
    acknowledged: Acknowledged,
    progress: Arc<AtomicU64>,
}

/// What an [`IdempotentProducer`] was told.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    /// Number of records by partition: numbers below have been acknowledged.
    pub records: BTreeMap<i32, u64>,
    /// Answers that said "a duplicate of what is there".
    pub duplicates: u64,
    /// Times that everything waiting was sent again.
    pub resends: u64,
}

/// One batch for each partition of the producer, less those that were acknowledged already.
#[derive(Clone, Debug)]
struct Request {
    /// (Partition, number of the first record, encoded batch).
    batches: Vec<(i32, u64, Vec<u8>)>,
}

impl IdempotentProducer {
    /// A producer with an id of its own for `partitions` of `topic`, with batches of `records_per_batch` records of
    /// `record_bytes` bytes.
    pub async fn new(
        address: SocketAddr,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        records_per_batch: u64,
        record_bytes: usize,
    ) -> Result<Self> {
        let init = || async move { Connection::open(address).await?.init_producer_id().await };
        let producer = wait::until_ok("a producer id", OUTAGE_PATIENCE, init).await?;
        Ok(Self {
            address,
            topic: topic.to_owned(),
            producer,
            records_per_batch,
            record_bytes,
            next: partitions.into_iter().map(|partition| (partition, 0)).collect(),
            waiting: VecDeque::new(),
            acknowledged: Acknowledged::default(),
            progress: Arc::default(),
        })
    }

    /// What has been acknowledged.
    pub fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// Counts acknowledged records, for who watches the progress from outside.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Reads everything back and compares: each partition has exactly the records that were acknowledged, in their order.
    /// To be called when nothing waits for an answer; the producer must be the only one of its partitions.
    pub async fn check_all(&self) -> Result<()> {
        ensure!(self.waiting.is_empty(), "{} requests have no answer", self.waiting.len());
        for (partition, count) in &self.next {
            let read = super::read_all(self.address, &self.topic, *partition).await?;
            self.check(*partition, &read).with_context(|| format!("{}-{partition}", self.topic))?;
            ensure!(
                read.len() as u64 == *count,
                "{}-{partition}: {} of {count} records",
                self.topic,
                read.len()
            );
        }
        Ok(())
    }

    fn check(&self, partition: i32, read: &[Record]) -> Result<()> {
        for (number, record) in read.iter().enumerate() {
            let expected = self.value(partition, number as u64);
            ensure!(
                record.value == expected,
                "offset {} holds {:?} in place of {:?}",
                record.offset,
                head(&record.value),
                head(&expected)
            );
        }
        Ok(())
    }

    /// The value of the record `number` of `partition`, by which a reader recognises it.
    pub fn value(&self, partition: i32, number: u64) -> Bytes {
        numbered_value(self.producer.id, partition, number, self.record_bytes)
    }

    /// Writes until `stop` says so, then until everything numbered is acknowledged. Survives any number of lost
    /// connections. Fails on an error that a correct broker has no reason for.
    pub async fn run(&mut self, mut stop: impl FnMut(&Acknowledged) -> bool) -> Result<()> {
        loop {
            match self.run_connection(&mut stop).await {
                Ok(()) => return Ok(()),
                Err(Failure::Again) => {
                    self.acknowledged.resends += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Failure::Broker(error)) => return Err(error),
            }
        }
    }

    async fn run_connection(&mut self, stop: &mut impl FnMut(&Acknowledged) -> bool) -> Result<(), Failure> {
        let address = self.address;
        let open = || Connection::open(address);
        let connection =
            wait::until_ok("the broker is back", OUTAGE_PATIENCE, open).await.map_err(Failure::Broker)?;
        let (mut requests, mut answers) = connection.split();
        let mut sent = 0;
        loop {
            while sent < IN_FLIGHT && self.has_request(sent, stop) {
                self.send(&mut requests, sent).await.map_err(|_| Failure::Again)?;
                sent += 1;
            }
            if sent == 0 {
                return Ok(());
            }
            self.take_answer(&mut answers).await?;
            sent -= 1;
        }
    }

    /// Makes sure that there is a request at `index`, unless it's time to stop.
    fn has_request(&mut self, index: usize, stop: &mut impl FnMut(&Acknowledged) -> bool) -> bool {
        if index == self.waiting.len() && !stop(&self.acknowledged) {
            let request = self.new_request();
            self.waiting.push_back(request);
        }
        index < self.waiting.len()
    }

    fn new_request(&mut self) -> Request {
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let batches = partitions.into_iter().map(|partition| {
            let first = self.next[&partition];
            self.next.insert(partition, first + self.records_per_batch);
            (partition, first, self.encode(partition, first))
        });
        Request { batches: batches.collect() }
    }

    fn encode(&self, partition: i32, first: u64) -> Vec<u8> {
        let numbers = first..first + self.records_per_batch;
        let values = numbers.map(|number| self.value(partition, number)).collect();
        let base_sequence = i32::try_from(first & 0x7fff_ffff).expect("31 bits");
        Batch { producer: self.producer, base_sequence, ..Batch::plain(values) }.encode()
    }

    async fn send(&self, requests: &mut Requests, index: usize) -> Result<()> {
        let batches = &self.waiting[index].batches;
        let partitions: Vec<_> =
            batches.iter().map(|(partition, _, batch)| (*partition, batch.clone())).collect();
        requests.produce(&ProduceRequest { topic: &self.topic, acks: -1, partitions: &partitions }).await
    }

    /// Takes the answer to the oldest request. What must be sent again stays the oldest.
    async fn take_answer(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let received = timeout(ANSWER_PATIENCE, answers.produced()).await;
        let produced = received.map_err(|_| Failure::Again)?.map_err(|_| Failure::Again)?;
        let mut request = self.waiting.pop_front().expect("an answer belongs to a request");
        for answer in produced {
            self.settle(&mut request, answer).map_err(Failure::Broker)?;
        }
        if request.batches.is_empty() {
            return Ok(());
        }
        self.waiting.push_front(request);
        Err(Failure::Again)
    }

    /// Takes one partition's answer: acknowledged, to be sent again, or wrong.
    fn settle(&mut self, request: &mut Request, answer: ProducedPartition) -> Result<()> {
        let ProducedPartition { partition, error, .. } = answer;
        let index = request.batches.iter().position(|(of, ..)| *of == partition);
        let index =
            index.with_context(|| format!("an answer for partition {partition}, which was not asked for"))?;
        let first = request.batches[index].1;
        match error {
            code::NONE => {}
            code::DUPLICATE_SEQUENCE_NUMBER => self.acknowledged.duplicates += 1,
            error if code::is_retriable(error) => return Ok(()),
            error => {
                bail!("{}-{partition}: error {error} for the records from number {first} on", self.topic)
            }
        }
        request.batches.swap_remove(index);
        self.acknowledged.records.insert(partition, first + self.records_per_batch);
        self.progress.fetch_add(self.records_per_batch, Ordering::Relaxed);
        Ok(())
    }
}

/// Why a connection was given up.
enum Failure {
    /// It broke, or the broker asks to repeat: all that waits is sent again, in order, over a new connection. The answers
    /// to what was sent behind the failed request would say nothing that the answers to the repetition don't.
    Again,
    /// A broker that keeps its promises doesn't do this.
    Broker(anyhow::Error),
}

/// The value of record `number` that producer `producer` wrote to `partition`, `bytes` long.
fn numbered_value(producer: i64, partition: i32, number: u64, bytes: usize) -> Bytes {
    let mut value = format!("{producer}/{partition}/{number}/").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    value.into()
}

/// The part of a value that tells it from others.
fn head(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned()
}
