//! Retention: moves the start of logs (`retention.ms`, `retention.bytes`), then takes out of the object index what nobody can
//! read any more: what lies below the start of its logs, and what was of deleted ones. The objects are deleted later.
//!
//! What a log may lose is decided by what the index has in memory. Only where a large object may go in part are its blocks
//! looked at; what came of it is noted until the next block's time has come, so that an idle broker reads nothing.

use crate::{
    broker::Broker,
    partition::Log,
    topics::{Topic, is_internal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};
use thalweg_metadata::{
    BlockRef, Commit, DeadObject, Extent, IndexError, MetadataError, ObjectRecord, ObjectShape, SharedRecord,
};
use thalweg_object_compactor::{
    removal::{Removal, plan},
    retention::{Limits, Piece, Retention},
};
use thalweg_segment::{
    BLOCK_TARGET_BYTES, Encoded, Index, Kind, LogId, Offset, Purpose, SegmentId, SegmentWriter, StoreError,
    segment_path,
};
use thalweg_wal::{Reservation, Rewrite, RewriteError};
use tokio::time::{Instant, sleep, sleep_until};

/// The first check comes this soon after the start, as Kafka's.
const FIRST: Duration = Duration::from_secs(30);
/// Topics are often deleted many at a time.
const MORE_DELETIONS: Duration = Duration::from_secs(1);
/// Starts that are moved together.
const AT_ONCE: usize = 63;
/// An object from which at least this many bytes of a log may be taken in part.
const DIVISIBLE: u64 = 2 * BLOCK_TARGET_BYTES as u64;
/// Objects whose blocks are looked at in one check; the rest has time until the next one.
const LOOKS: usize = 256;

/// Keeps to it for as long as the broker lives.
pub fn start(broker: &Arc<Broker>) {
    let interval = broker.settings.retention_check_interval;
    let deleted = broker.topics.deleted();
    let mut next = Instant::now() + FIRST.min(interval);
    let mut keeper = Keeper::default();
    let weak = Arc::downgrade(broker);
    let task = broker.runtime.spawn_essential("retention", async move {
        loop {
            let due = tokio::select! {
                biased;
                () = sleep_until(next) => true,
                () = deleted.notified() => false,
            };
            if !due {
                sleep(MORE_DELETIONS).await;
            }
            let Some(broker) = weak.upgrade() else { return };
            if due {
                keeper.move_starts(&broker).await;
                next = Instant::now() + interval;
            }
            match keeper.remove(&broker).await {
                Ok(()) => {}
                Err(RemovalError::Ended) => return,
                Err(error) => tracing::warn!(%error, "what is not needed any more can't be removed yet"),
            }
        }
    });
    task.detach();
}

/// What is known from one check to the next.
#[derive(Debug, Default)]
pub struct Keeper {
    heads: BTreeMap<LogId, Head>,
    ageless: BTreeMap<LogId, Seen>,
    /// Shared segments that hold nothing but states.
    only_states: BTreeSet<SegmentId>,
}

/// The part of an object that a log begins with.
#[derive(Clone, Debug)]
struct Head {
    object: SegmentId,
    start: Offset,
    /// Bytes from the start on.
    bytes: u64,
    /// The first block of it.
    first: Piece,
}

/// What a log held when records without timestamps were first seen at its beginning. Kafka goes by the age of the file then.
#[derive(Clone, Copy, Debug)]
struct Seen {
    end: Offset,
    at_ms: i64,
}

/// Why objects stay in the index.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The index or a state could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The segment with states could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker can't commit any more.
    #[error("the write-ahead log has ended")]
    Ended,
}

impl Keeper {
    /// Moves the starts of all logs as their topics say.
    pub async fn move_starts(&mut self, broker: &Broker) {
        let mut check = Check {
            broker,
            now_ms: broker.runtime.now_ms(),
            looks: LOOKS,
            known: mem::take(&mut self.heads),
            heads: BTreeMap::new(),
            ageless: mem::take(&mut self.ageless),
        };
        check.ageless.retain(|id, _| broker.logs.get(*id).is_some());
        let mut moved = Vec::new();
        for topic in broker.topics.all().iter().filter(|topic| is_to_be_checked(topic)) {
            for log in &topic.logs {
                match check.start_of(log, topic.settings.retention).await {
                    Ok(start) if start > log.view().start => moved.push((log.clone(), start)),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(log = %log.id(), %error, "retention could not be checked"),
                }
                if moved.len() == AT_ONCE {
                    raise(broker, mem::take(&mut moved)).await;
                }
            }
            tokio::task::yield_now().await;
        }
        raise(broker, moved).await;
        self.heads = check.heads;
        self.ageless = check.ageless;
    }

    /// Takes out of the index what nobody can read any more.
    pub async fn remove(&mut self, broker: &Broker) -> Result<(), RemovalError> {
        let index = broker.topics.index();
        self.only_states.retain(|id| index.has_object(*id));
        let start_of = |log| broker.logs.get(log).map(|log| log.view().start);
        let mut dead = Vec::new();
        for object in index.dead_objects(start_of) {
            if object.newest_states_of.is_empty() || self.has_batches(broker, &object).await? {
                dead.push(object);
            }
        }
        for removal in plan(dead) {
            self.remove_some(broker, removal).await?;
        }
        Ok(())
    }

    /// Whether there is more in it than states, which would only be moved about.
    async fn has_batches(&mut self, broker: &Broker, object: &DeadObject) -> Result<bool, IndexError> {
        let id = object.record.id();
        if matches!(object.record, ObjectRecord::Log(_)) {
            return Ok(true);
        }
        if self.only_states.contains(&id) {
            return Ok(false);
        }
        let has_batches = !broker.topics.index().block_index(&object.record).await?.blocks.is_empty();
        if !has_batches {
            self.only_states.insert(id);
        }
        Ok(has_batches)
    }

    async fn remove_some(&mut self, broker: &Broker, removal: Removal) -> Result<(), RemovalError> {
        let objects = removal.objects.len();
        let mut rewrite = Rewrite {
            commit: Commit { removed: removal.objects, ..Commit::default() },
            shared: None,
            reservations: Vec::new(),
        };
        if !removal.states_of.is_empty() {
            let (record, index, name) = write_states(broker, removal.states_of).await?;
            self.only_states.insert(record.id);
            rewrite.commit.shared = Some(record);
            rewrite.shared = Some(index);
            rewrite.reservations.push(name);
        }
        match broker.rewrite(rewrite).await {
            Ok(()) => tracing::debug!(objects, "removed what nobody can read any more"),
            // Something else was rewritten meanwhile; the next check begins anew.
            Err(RewriteError::Stale) => {}
            Err(RewriteError::Ended(_)) => return Err(RemovalError::Ended),
        }
        Ok(())
    }
}

fn is_to_be_checked(topic: &Topic) -> bool {
    !is_internal(topic.name()) && topic.settings.retention.any()
}

async fn raise(broker: &Broker, moved: Vec<(Arc<Log>, Offset)>) {
    if moved.is_empty() {
        return;
    }
    let raised: Result<(), MetadataError> = broker.topics.raise_starts(&moved).await;
    match raised {
        Ok(()) => tracing::debug!(logs = moved.len(), "retention moved the start of logs"),
        Err(error) => {
            tracing::warn!(%error, logs = moved.len(), "retention can't move the start of logs yet")
        }
    }
}

/// One check of all logs.
struct Check<'a> {
    broker: &'a Broker,
    now_ms: i64,
    looks: usize,
    known: BTreeMap<LogId, Head>,
    heads: BTreeMap<LogId, Head>,
    ageless: BTreeMap<LogId, Seen>,
}

impl Check<'_> {
    /// Where the log is to begin.
    async fn start_of(&mut self, log: &Log, limits: Limits) -> Result<Offset, IndexError> {
        let (index, id, view) = (self.broker.topics.index(), log.id(), log.view());
        let mut start = view.start;
        let Some(first) = index.extent_at(id, start) else { return Ok(start) };
        let known = self.known.remove(&id);
        let mut head = known.filter(|head| head.object == first.object.id && head.start == start);
        if head.is_none() && first.base < start && is_divisible(&first) && limits.bytes.is_some() {
            let Some(blocks) = self.look(log, start).await? else { return Ok(start) };
            head = Head::of(&first, start, &blocks);
        }
        let mut retention =
            Retention::new(limits, self.log_bytes(log, &first, head.as_ref(), limits), self.now_ms);
        while let Some(extent) = index.extent_at(id, start).filter(|extent| extent.end <= view.high_watermark)
        {
            if extent.base >= start || !is_divisible(&extent) {
                let bytes = if extent.base >= start { extent.bytes } else { 0 };
                let max_timestamp = self.timestamp(id, start, extent.end, extent.max_timestamp);
                if retention.takes(&Piece { bytes, max_timestamp }) {
                    start = extent.end;
                    continue;
                }
            }
            if !is_divisible(&extent) {
                break;
            }
            if let Some(known) = head.take_if(|head| head.object == extent.object.id && head.start == start)
                && !retention.would_take(&known.first)
            {
                self.heads.insert(id, known);
                break;
            }
            let Some(blocks) = self.look(log, start).await? else { break };
            let rest = blocks.iter().skip_while(|(_, block)| retention.takes(block));
            let rest: Vec<_> = rest.copied().collect();
            start = match rest.first() {
                None => extent.end,
                Some(_) => blocks[..blocks.len() - rest.len()].last().map_or(start, |(end, _)| *end),
            };
            if let Some(head) = Head::of(&extent, start, &rest) {
                self.heads.insert(id, head);
                break;
            }
        }
        Ok(start)
    }

    /// Bytes of the log from its start on. What an object holds of it in part counts as far as it is known.
    fn log_bytes(&self, log: &Log, first: &Extent, head: Option<&Head>, limits: Limits) -> u64 {
        if limits.bytes.is_none() {
            return 0;
        }
        let first_bytes = match head {
            Some(head) => head.bytes,
            None if first.base >= log.view().start => first.bytes,
            None => 0,
        };
        let (index, id) = (self.broker.topics.index(), log.id());
        let end = index.committed_end(id);
        let tail = self.broker.cache.bytes_from(id, end.max(first.end)) as u64;
        first_bytes.saturating_add(index.bytes(id, first.end, end)).saturating_add(tail)
    }

    /// The blocks of the object that holds `start`, from there on, each with its end. None where there were enough looks.
    async fn look(&mut self, log: &Log, start: Offset) -> Result<Option<Vec<(Offset, Piece)>>, IndexError> {
        let Some(looks) = self.looks.checked_sub(1) else { return Ok(None) };
        self.looks = looks;
        let blocks = self.broker.topics.index().blocks_at(log.id(), start, usize::MAX).await?;
        let piece = |block: &BlockRef| {
            let block = &block.entry;
            // Of a block that is gone in part, nobody knows how many bytes are left.
            let bytes = if block.base_offset >= start { block.size.into() } else { 0 };
            let max_timestamp = self.timestamp(log.id(), start, block.end_offset, block.max_timestamp);
            (block.end_offset, Piece { bytes, max_timestamp })
        };
        Ok(Some(blocks.iter().map(piece).collect()))
    }

    /// The highest timestamp of records up to `end`; where they have none, the time since when they are known to be there.
    fn timestamp(&mut self, log: LogId, start: Offset, end: Offset, max_timestamp: i64) -> i64 {
        if max_timestamp >= 0 {
            return max_timestamp;
        }
        let now = Seen { end: self.broker.topics.index().committed_end(log), at_ms: self.now_ms };
        let seen = self.ageless.entry(log).or_insert(now);
        if seen.end <= start {
            *seen = now;
        }
        if end <= seen.end { seen.at_ms } else { now.at_ms }
    }
}

impl Head {
    fn of(extent: &Extent, start: Offset, blocks: &[(Offset, Piece)]) -> Option<Self> {
        let (_, first) = blocks.first()?;
        let bytes = blocks.iter().map(|(_, block)| block.bytes).sum();
        Some(Self { object: extent.object.id, start, bytes, first: *first })
    }
}

fn is_divisible(extent: &Extent) -> bool {
    extent.bytes >= DIVISIBLE
}

/// Writes a shared segment that holds nothing but the states of `logs`.
async fn write_states(
    broker: &Broker,
    logs: BTreeSet<LogId>,
) -> Result<(SharedRecord, Arc<Index>, Reservation), RemovalError> {
    let logs: Vec<LogId> = logs.into_iter().collect();
    let states = broker.topics.index().states(&logs).await?;
    let name = broker.wal.reserve();
    let id = name.id();
    let encode = move || {
        let mut writer = SegmentWriter::new(Kind::Shared, id.incarnation, id.number);
        states.iter().for_each(|(log, state)| writer.state(*log, state));
        writer.finish()
    };
    let Encoded { payload, size, footer, index } = broker.runtime.compute(encode).await;
    broker.store.put(&segment_path(id), payload, Purpose::Compaction).await?;
    let shape = ObjectShape { size, index_position: footer.index_position, index_size: footer.index_size };
    Ok((SharedRecord { id, shape, adopts: None }, Arc::new(index), name))
}
