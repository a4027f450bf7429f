//! Log compaction: cleans the dirtiest of all compacted logs, then the next, and waits where none is dirty enough. What cleaning is
//! stands in [`thalweg_object_compactor::clean`].
//!
//! A round's commits go through the write-ahead log, as every commit does. So a round that was planned before something replaced one
//! of its segments, or by a broker that is fenced, changes nothing from there on; what it had committed before is in order, since
//! segments are replaced from the log's start on.

use super::BatchRecords;
use crate::{broker::Broker, partition::Log};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thalweg_metadata::{Commit, IndexError, LogSegmentRecord, ObjectRecord};
use thalweg_object_compactor::clean::{
    CleanError, CleanSettings, Cleanable, Filter, FilterSettings, KeyMap, LastBatches, LogToClean, Mapping,
    Round, Tally, clean_group, first_timestamp, groups, map_dirty,
};
use thalweg_object_compactor::execute::PART_BYTES;
use thalweg_segment::{LogId, Offset};
use thalweg_wal::{Rewrite, RewriteError};

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The object index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A segment could not be read or written.
    #[error(transparent)]
    Clean(#[from] CleanError),
    /// A segment could not be replaced.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
}

/// What a round has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// To which log.
    pub log: LogId,
    /// How far it was clean before.
    pub from: Offset,
    /// How far it is clean now.
    pub to: Offset,
    /// What was read and kept.
    pub tally: Tally,
}

/// Cleans logs for as long as the broker lives and can commit.
pub fn start(broker: &Arc<Broker>) {
    let weak = Arc::downgrade(broker);
    let task = broker.runtime.spawn_essential("the log cleaner", async move {
        let mut cleaner = Cleaner::default();
        loop {
            let Some(broker) = weak.upgrade() else { return };
            let settings = broker.dynamic().cleaner;
            let busy = settings.enabled && cleaner.clean_next(&broker).await;
            if broker.wal.has_ended() {
                return;
            }
            drop(broker);
            if !busy {
                tokio::time::sleep(settings.backoff).await;
            }
        }
    });
    task.detach();
}

/// Cleans one log after another.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// Logs that hold something that can't be read, until the next start.
    uncleanable: BTreeSet<LogId>,
    /// Logs of which a round has failed, until all others had theirs.
    later: BTreeSet<LogId>,
    /// When what is dirty from an offset on was first written, where that was looked for.
    first_dirty: BTreeMap<LogId, (Offset, Option<i64>)>,
}

impl Cleaner {
    /// Makes a round of the dirtiest log. False where there is nothing to do, or it can't be done now.
    pub async fn clean_next(&mut self, broker: &Broker) -> bool {
        let now_ms = broker.runtime.now_ms();
        let logs = self.candidates(broker, now_ms).await;
        broker.cleaning.looked(self.uncleanable.len(), LogToClean::highest_ratio(&logs, now_ms));
        let Some((log, cleanable)) = LogToClean::dirtiest(&logs, now_ms) else {
            self.later.clear();
            return false;
        };
        match clean_log(broker, log, &cleanable, now_ms).await {
            Ok(report) => {
                broker.cleaning.cleaned(&report.tally);
                let Report { log, from, to, tally } = report;
                tracing::info!(
                    %log, %from, %to, bytes = tally.bytes_read, bytes_left = tally.bytes_kept,
                    records = tally.records_read, records_left = tally.records_kept, "cleaned a log"
                );
            }
            Err(error) => self.put_aside(broker, log, &error),
        }
        true
    }

    /// Leaves a log alone of which a round has failed.
    fn put_aside(&mut self, broker: &Broker, log: &LogToClean, error: &RoundError) {
        let index = broker.topics.index();
        let replaced = log.segments.iter().any(|segment| !index.has_object(segment.id));
        let log = log.log;
        match error {
            RoundError::Rewrite(_) => tracing::debug!(%log, %error, "a log can't be cleaned now"),
            _ if replaced => tracing::debug!(%log, %error, "a log was rewritten while it was cleaned"),
            RoundError::Clean(error) if error.is_lasting() => {
                tracing::error!(%log, %error, "a log can't be cleaned, and is left alone until the next start");
                self.uncleanable.insert(log);
            }
            error => tracing::warn!(%log, %error, "a log can't be cleaned now"),
        }
        self.later.insert(log);
        broker.cleaning.failed();
    }

    /// Compacted logs, with what of them may be cleaned.
    async fn candidates(&mut self, broker: &Broker, now_ms: i64) -> Vec<LogToClean> {
        let mut logs = Vec::new();
        let mut first_dirty = BTreeMap::new();
        for topic in broker.topics.all().into_iter().filter(|topic| topic.settings.compact) {
            for open in &topic.logs {
                let id = open.id();
                if self.uncleanable.contains(&id) || self.later.contains(&id) {
                    continue;
                }
                let Some(mut log) = candidate(broker, open, topic.settings.cleaning) else { continue };
                let Some(cleanable) = log.cleanable(now_ms) else { continue };
                if log.settings.max_lag_ms < i64::MAX && !log.is_due(&cleanable) {
                    let known = self.first_dirty.get(&id).filter(|(from, _)| *from == cleanable.from);
                    let known = match known {
                        Some(known) => *known,
                        None => (cleanable.from, first_dirty_ms(broker, &log, cleanable.from).await),
                    };
                    log.first_dirty_ms = known.1;
                    first_dirty.insert(id, known);
                }
                logs.push(log);
            }
        }
        self.first_dirty = first_dirty;
        logs
    }
}

fn candidate(broker: &Broker, open: &Log, settings: CleanSettings) -> Option<LogToClean> {
    let segments = broker.topics.index().log_segments(open.id());
    if segments.is_empty() || open.closed().is_some() {
        return None;
    }
    let view = open.view();
    let (start, last_stable) = (view.start, view.last_stable);
    Some(LogToClean { log: open.id(), segments, start, last_stable, first_dirty_ms: None, settings })
}

/// When the first dirty record was written.
async fn first_dirty_ms(broker: &Broker, log: &LogToClean, from: Offset) -> Option<i64> {
    match first_timestamp(&round(broker, log.log), &log.segments, from).await {
        Ok(first) => first,
        Err(error) => {
            tracing::debug!(log = %log.log, %error, "since when a log is dirty can't be told now");
            None
        }
    }
}

/// What a round of `log` works with.
fn round(broker: &Broker, log: LogId) -> Round {
    Round {
        runtime: broker.runtime.clone(),
        store: broker.store.clone(),
        log,
        codec: Arc::new(BatchRecords),
        bytes_per_second: broker.dynamic().cleaner.io_bytes_per_second,
        part_bytes: PART_BYTES,
    }
}

/// Makes a round of one log.
async fn clean_log(
    broker: &Broker,
    log: &LogToClean,
    cleanable: &Cleanable,
    now_ms: i64,
) -> Result<Report, RoundError> {
    let open = broker.logs.get(log.log);
    let Some(open) = open else { return Err(RewriteError::Stale.into()) };
    let segments = &log.segments[..cleanable.segments];
    let round = round(broker, log.log);
    let aborted = broker.aborted(&open, segments[0].base_offset, cleanable.end).await?;
    let table = table(broker, cleanable);
    let mapping = Mapping::new(table, &aborted, cleanable.from);
    let mapped = map_dirty(&round, segments, cleanable.from, mapping).await?.finish(cleanable.end);
    let filter = FilterSettings { delete_retention_ms: log.settings.delete_retention_ms, now_ms };
    let last = open.with_producers(LastBatches::of);
    let filter = Filter::new(mapped, &aborted, last, filter, round.codec.clone());
    replace(broker, &round, log, segments, filter).await
}

/// The table of keys: no larger than the dirty part may need, and no more than a part of the broker's memory.
fn table(broker: &Broker, cleanable: &Cleanable) -> KeyMap {
    let settings = broker.dynamic().cleaner;
    let bytes = settings.table_bytes.min(broker.settings.memory.cleaner);
    let keys = cleanable.end.0.abs_diff(cleanable.from.0);
    KeyMap::new(bytes, keys, settings.load_factor, cleanable.from, broker.runtime.random().u64())
}

/// Replaces the segments of a log, group by group, by what `filter` leaves of them.
async fn replace(
    broker: &Broker,
    round: &Round,
    log: &LogToClean,
    segments: &[LogSegmentRecord],
    mut filter: Filter,
) -> Result<Report, RoundError> {
    let (from, to) = (log.cleaned_to(), filter.end());
    // What begins behind the end of the table is left for the next round.
    let segments = &segments[..segments.partition_point(|segment| segment.base_offset < to)];
    let groups = groups(segments, broker.compaction.log_segment_bytes());
    for (at, group) in groups.iter().enumerate() {
        let (sources, last) = (&segments[group.clone()], at + 1 == groups.len());
        // Only the last commit of the round may say that all before it is clean.
        let before = sources.iter().map(|source| source.cleaned_to).max().unwrap_or_default();
        let cleaned_to = if last { to } else { before };
        let name = broker.wal.reserve();
        let (rest, cleaned) = clean_group(round, sources, filter, name.id(), cleaned_to, last).await?;
        filter = rest;
        let Some(cleaned) = cleaned else { continue };
        let commit = Commit {
            logs: vec![cleaned],
            removed: sources.iter().copied().map(ObjectRecord::Log).collect(),
            ..Commit::default()
        };
        // Batches and aborted transactions of a read come from the same side of the rewrite: none of it stays in the log cache,
        // where aborted records would be found that the index no longer tells of.
        if let Some(end) = sources.last().map(|source| source.end_offset) {
            broker.cache.replaced(log.log, end);
        }
        broker.rewrite(Rewrite { commit, shared: None, reservations: vec![name] }).await?;
    }
    Ok(Report { log: log.log, from, to, tally: filter.tally() })
}
