//! Readers of the output: some while it is written, and one in the end.

use super::{OUTPUT, OUTPUT_PARTITIONS, Workers, caller::Caller, session::committed_offset, text};
use crate::cluster::Server;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use thalweg_protocol::{Response, messages::*};
use thalweg_segment::{Batch, Offset, split_batches};
use tokio::time::{Instant, sleep};

use fetch_request::{FetchPartition, FetchTopic as WantedTopic};

/// Last version that names topics by their names.
const FETCH_VERSION: i16 = 12;
const FETCH_BYTES: i32 = 4000;
const FETCH_PATIENCE: Duration = Duration::from_secs(30);
/// Virtual time within which everything must be read, and every transaction end, once the faults have ended.
const QUIET: Duration = Duration::from_secs(600);

/// What was read of a partition.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Whole batches, markers among them.
    pub batches: Vec<Batch>,
    /// Aborted transactions: producer and first offset.
    pub aborted: BTreeSet<(Offset, i64)>,
    /// As of the last answer.
    pub high_watermark: Offset,
    /// As of the last answer.
    pub last_stable: Offset,
}

/// Batches of data that the list of aborted transactions leaves, found as clients do it: who has aborted is skipped from the
/// first offset of its transaction to its marker.
pub fn visible(content: &Content) -> impl Iterator<Item = &Batch> {
    let mut aborted = content.aborted.iter().peekable();
    let mut aborting = BTreeSet::new();
    content.batches.iter().filter(move |batch| {
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first < batch.end_offset()) {
            aborting.insert(*producer);
        }
        let producer = batch.producer_id().0;
        match batch.entry().marker {
            None => !aborting.contains(&producer),
            Some(marker) => {
                if !marker.committed {
                    aborting.remove(&producer);
                }
                false
            }
        }
    })
}

impl Workers {
    /// Reads what is committed in a partition, again and again.
    pub(super) async fn read_committed(&self, partition: i32) {
        let mut from = Offset(0);
        while !self.stopped() {
            sleep(self.world.millis(5, 1000)).await;
            if self.world.one_in(20) {
                from = Offset(0);
            }
            let Some(server) = self.cluster.pick() else { continue };
            let Some(epoch) = server.broker().map(|broker| broker.leader_epoch()) else { continue };
            let before = self.ledger.highest_stable(partition, epoch);
            let Some(content) = self.fetch(&server, partition, from, true).await else { continue };
            self.ledger.fetched(partition, epoch, &content, before);
            from = content.batches.last().map_or(from, Batch::end_offset);
        }
    }

    async fn fetch(&self, server: &Server, partition: i32, from: Offset, committed: bool) -> Option<Content> {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from.0)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(FETCH_BYTES);
        let topic = WantedTopic::default().with_topic(TopicName(text(OUTPUT)));
        let request = FetchRequest::default()
            .with_max_bytes(FETCH_BYTES)
            .with_session_epoch(-1)
            .with_isolation_level(committed.into())
            .with_topics(vec![topic.with_partitions(vec![wanted])]);
        let answer = self.cluster.ask(server, FETCH_VERSION, request.into(), FETCH_PATIENCE).await?;
        let Response::Fetch(mut answer) = answer else { return None };
        let partition =
            answer.topics.pop()?.partitions.pop().filter(|partition| partition.error_code == 0)?;
        let aborted = partition.aborted_transactions.unwrap_or_default();
        Some(Content {
            batches: split_batches(partition.records.concat().into()).ok()?,
            aborted: aborted.iter().map(|one| (Offset(one.first_offset), one.producer_id.0)).collect(),
            high_watermark: Offset(partition.high_watermark),
            last_stable: Offset(partition.last_stable_offset),
        })
    }

    /// Waits until every transaction has ended, and holds everything against the ledger. Returns what readers of committed data
    /// see; none where that failed.
    pub async fn check(&self) -> Option<Vec<Content>> {
        let Some(offset) = self.settled_offset().await else {
            self.world.violation(format_args!("transactions do not end"));
            return None;
        };
        let all = self.read_output(false).await?;
        let committed = self.read_output(true).await?;
        self.ledger.check(&all, &committed, offset);
        Some(committed)
    }

    /// The group's committed offset, once no transaction is open anywhere.
    async fn settled_offset(&self) -> Option<i64> {
        let deadline = Instant::now() + QUIET;
        while Instant::now() < deadline {
            sleep(Duration::from_millis(500)).await;
            let Some(server) = self.cluster.newest() else { continue };
            if self.is_settled(&server).await
                && let Ok(offset) = committed_offset(&mut Caller::new(self)).await
            {
                return Some(offset);
            }
        }
        None
    }

    async fn is_settled(&self, server: &Arc<Server>) -> bool {
        for partition in 0..OUTPUT_PARTITIONS {
            let content = self.fetch(server, partition, Offset(0), true).await;
            if content.is_none_or(|content| content.last_stable < content.high_watermark) {
                return false;
            }
        }
        true
    }

    /// Reads the whole output from the newest machine.
    pub async fn read_output(&self, committed: bool) -> Option<Vec<Content>> {
        let mut output = Vec::new();
        for partition in 0..OUTPUT_PARTITIONS {
            let Some(content) = self.read_all(partition, committed).await else {
                self.world.violation(format_args!("output {partition} can't be read"));
                return None;
            };
            output.push(content);
        }
        Some(output)
    }

    async fn read_all(&self, partition: i32, committed: bool) -> Option<Content> {
        let deadline = Instant::now() + QUIET;
        let mut all = Content::default();
        while Instant::now() < deadline {
            let from = all.batches.last().map_or(Offset(0), Batch::end_offset);
            let server = self.cluster.newest()?;
            let Some(content) = self.fetch(&server, partition, from, committed).await else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            (all.high_watermark, all.last_stable) = (content.high_watermark, content.last_stable);
            if from >= if committed { all.last_stable } else { all.high_watermark } {
                return Some(all);
            }
            all.batches.extend(content.batches);
            all.aborted.extend(content.aborted);
        }
        None
    }
}
