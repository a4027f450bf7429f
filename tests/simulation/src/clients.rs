//! Producers and readers.

use crate::{
    broker::Refusal,
    cluster::Cluster,
    history::{History, SentId},
    world::World,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use thalweg_segment::{Batch, LeaderEpoch, LogId, Offset, testing::BatchBuilder};
use tokio::time::sleep;

/// What the clients of a run share. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    /// The world.
    pub world: World,
    /// Whom they talk to.
    pub cluster: Cluster,
    /// Where they write what they see.
    pub history: History,
    /// Producers send nothing new any more; readers end.
    pub stop: Arc<AtomicBool>,
    /// Producers that still have something unacknowledged, or go on.
    pub producing: Arc<AtomicUsize>,
}

/// A batch that is not acknowledged yet.
struct Unacknowledged {
    id: SentId,
    batch: Batch,
}

impl Clients {
    /// Starts an idempotent producer that keeps up to `depth` batches in flight.
    pub fn start_idempotent(&self, producer: u64, log: LogId, depth: usize) {
        self.producing.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        self.world.spawn(async move {
            this.produce_idempotently(producer, log, depth).await;
            this.producing.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Starts a producer that sends every batch once.
    pub fn start_plain(&self, producer: u64, log: LogId) {
        let this = self.clone();
        self.world.spawn(async move { this.produce_plainly(producer, log).await });
    }

    /// Starts a reader that reads `log` again and again.
    pub fn start_reader(&self, log: LogId) {
        let this = self.clone();
        self.world.spawn(async move { this.read(log).await });
    }

    /// Starts an administrator who deletes the oldest records of `log` now and then, never all of them.
    pub fn start_trimmer(&self, log: LogId) {
        let this = self.clone();
        self.world.spawn(async move { this.trim(log).await });
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn produce_idempotently(&self, producer: u64, log: LogId, depth: usize) {
        let mut unacknowledged = VecDeque::new();
        let (mut number, mut sequence) = (0, 0);
        let mut leader = LeaderEpoch::default();
        let pause = self.world.random().range(5..600);
        loop {
            while !self.stopped() && unacknowledged.len() < depth {
                let (batch, records) = self.batch(producer, number, Some(sequence));
                let id = self.history.sends(log, producer, number, true, &batch);
                unacknowledged.push_back(Unacknowledged { id, batch });
                (number, sequence) = (number + 1, sequence + records);
            }
            if unacknowledged.is_empty() {
                return;
            }
            if !self.send_all(log, &mut unacknowledged, &mut leader).await {
                sleep(self.world.millis(50, 1000)).await;
            }
            sleep(self.world.millis(1, pause)).await;
        }
    }

    /// One attempt of everything that is not acknowledged. False where nothing was.
    ///
    /// `newest` is the newest leader epoch in which something was acknowledged. What an older leader says of sequence numbers
    /// does not count: a zombie may not know the producer's last batches.
    async fn send_all(
        &self,
        log: LogId,
        unacknowledged: &mut VecDeque<Unacknowledged>,
        newest: &mut LeaderEpoch,
    ) -> bool {
        let Some(server) = self.cluster.pick() else { return false };
        let Some(epoch) = server.broker().map(|broker| broker.leader_epoch()) else { return false };
        let batches = unacknowledged.iter().map(|sent| sent.batch.clone()).collect();
        let patience = self.world.millis(1000, 15_000);
        let answers = self.cluster.produce(&server, log, batches, patience).await;
        if answers[0] == Some(Err(Refusal::OutOfOrder)) && epoch >= *newest {
            let name = server.node.name();
            self.history.violation(format_args!("{name} has forgotten a producer's last batch in log {log}"));
        }
        let before = unacknowledged.len();
        let mut answers = answers.into_iter();
        unacknowledged.retain(|sent| match answers.next().flatten() {
            Some(Ok(offset)) => {
                self.history.acknowledged(sent.id, offset);
                false
            }
            _ => true,
        });
        let acknowledged = unacknowledged.len() < before;
        if acknowledged {
            *newest = epoch.max(*newest);
        }
        acknowledged
    }

    async fn produce_plainly(&self, producer: u64, log: LogId) {
        let mut number = 0;
        while !self.stopped() {
            if let Some(server) = self.cluster.pick() {
                let (batch, _) = self.batch(producer, number, None);
                let id = self.history.sends(log, producer, number, false, &batch);
                let patience = self.world.millis(500, 5000);
                let answers = self.cluster.produce(&server, log, vec![batch], patience).await;
                if let Some(Ok(offset)) = answers[0] {
                    self.history.acknowledged(id, offset);
                }
                number += 1;
            }
            sleep(self.world.millis(5, 500)).await;
        }
    }

    /// A batch with a payload like no other, and the number of its records.
    fn batch(&self, producer: u64, number: u64, sequence: Option<i32>) -> (Batch, i32) {
        let records = self.world.random().range(1..4);
        let padding = "x".repeat(self.world.random().range(0..60) as usize);
        let mut builder = BatchBuilder::new();
        if let Some(sequence) = sequence {
            builder = builder.producer(i64::try_from(producer).expect("small"), 0, sequence);
        }
        for record in 0..records {
            builder = builder.record(format!("{producer}/{number}/{record}"), padding.clone());
        }
        (builder.build(), i32::try_from(records).expect("small"))
    }

    async fn read(&self, log: LogId) {
        let mut from = Offset(0);
        while !self.stopped() {
            sleep(self.world.millis(5, 1500)).await;
            if self.world.one_in(20) {
                from = Offset(0);
            }
            let Some(server) = self.cluster.pick() else { continue };
            let Some(epoch) = server.broker().map(|broker| broker.leader_epoch()) else { continue };
            let before = self.history.highest(log, epoch);
            let fetched = match self.cluster.fetch(&server, log, from).await {
                Some(Ok(fetched)) => fetched,
                answer => {
                    if let (Some(Err(_)), Some(broker)) = (answer, server.broker()) {
                        from = from.max(broker.start(log));
                    }
                    continue;
                }
            };
            self.history.high_watermark(log, epoch, fetched.high_watermark, before);
            self.history.fetched(log, &fetched.batches);
            from = fetched.batches.last().map_or(from, Batch::end_offset);
        }
    }

    async fn trim(&self, log: LogId) {
        while !self.stopped() {
            sleep(self.world.millis(200, 5000)).await;
            let Some(server) = self.cluster.pick() else { continue };
            let Some(start) = server.broker().map(|broker| broker.start(log)) else { continue };
            let Some(Ok(fetched)) = self.cluster.fetch(&server, log, start).await else { continue };
            let Some(last) = fetched.batches.last() else { continue };
            // Within a batch, too: readers get that one as a whole.
            let before = Offset(last.base_offset().0 + i64::from(self.world.one_in(2)));
            let before = before.min(Offset(last.end_offset().0 - 1));
            self.history.deletes(log, before);
            if let Some(Ok(start)) = self.cluster.delete_before(&server, log, before).await {
                self.history.deleted(log, start);
            }
        }
    }

    /// Reads all of `log` from the newest broker; none where it can't be read in good time.
    pub async fn read_all(&self, log: LogId, patience: Duration) -> Option<Vec<Batch>> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut content: Vec<Batch> = Vec::new();
        while tokio::time::Instant::now() < deadline {
            let server = self.cluster.newest()?;
            let Some(start) = server.broker().map(|broker| broker.start(log)) else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let from = content.last().map_or(start, Batch::end_offset);
            let Some(Ok(fetched)) = self.cluster.fetch(&server, log, from).await else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            if from >= fetched.high_watermark {
                return Some(content);
            }
            content.extend(fetched.batches);
        }
        None
    }
}
