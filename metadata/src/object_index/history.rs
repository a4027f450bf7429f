//! The past of logs as objects tell it: their state at the committed end, and aborted transactions.

use super::{Extent, IndexError, ObjectIndex, ObjectRef, PARALLEL_READS, objects::malformed};
use futures::{StreamExt, TryStreamExt, stream};
use std::{collections::BTreeMap, sync::Arc};
use thalweg_segment::{
    AbortedTransaction, BatchEntry, FormatError, Kind, LogId, LogState, Offset, SegmentId, read_states,
};

/// Work to be done with one object.
type ByObject<T> = BTreeMap<SegmentId, (Arc<ObjectRef>, Vec<T>)>;

impl ObjectIndex {
    /// The state of each log at its committed end: its newest state block and the batch entries behind it. Reads each object
    /// once, however many of the logs it holds. A log that the index holds nothing of has the default state.
    pub async fn states(&self, logs: &[LogId]) -> Result<Vec<(LogId, LogState)>, IndexError> {
        let (blocks, behind) = self.sources(logs);
        let states = self.folded(blocks, behind).await?;
        Ok(logs.iter().map(|log| (*log, states.get(log).cloned().unwrap_or_default())).collect())
    }

    /// The state of each log at an offset, no log twice, where the batches that end there do. As [`ObjectIndex::states`], but
    /// for the past: by what objects say that readers see before. Of batches that are gone nothing is known but what is in
    /// state blocks.
    pub async fn states_at(&self, wanted: &[(LogId, Offset)]) -> Result<Vec<LogState>, IndexError> {
        let (mut blocks, mut behind) = (ByObject::new(), ByObject::new());
        for (log, at) in wanted {
            let before = self.extents_before(*log, *at);
            let state = self.state_block_before(*log, *at, &before).await?;
            let from = state.as_ref().map_or(Offset(0), |(end, _)| *end);
            if let Some((_, object)) = state {
                add(&mut blocks, &object, *log);
            }
            for extent in before.iter().filter_map(|extent| extent.clip(from, *at)) {
                add(&mut behind, &extent.object, (*log, extent.clone()));
            }
        }
        let mut states = self.folded(blocks, behind).await?;
        Ok(wanted.iter().map(|(log, _)| states.remove(log).unwrap_or_default()).collect())
    }

    async fn folded(
        &self,
        blocks: ByObject<LogId>,
        behind: ByObject<(LogId, Extent)>,
    ) -> Result<BTreeMap<LogId, LogState>, IndexError> {
        let mut states = self.state_blocks(blocks).await?;
        for ((log, _), entries) in self.entries_behind(behind).await? {
            fold(states.entry(log).or_default(), &entries);
        }
        Ok(states)
    }

    fn extents_before(&self, log: LogId, at: Offset) -> Vec<Extent> {
        let mut before = self.extents(log);
        before.retain(|extent| extent.base < at);
        before
    }

    /// The newest state block of `log` that is not behind `at`, of those that the extents `before` and the newest of all are.
    async fn state_block_before(
        &self,
        log: LogId,
        at: Offset,
        before: &[Extent],
    ) -> Result<Option<(Offset, Arc<ObjectRef>)>, IndexError> {
        let newest = self.0.logs.read().extents.get(&log).and_then(|extents| extents.state().cloned());
        if let Some(newest) = newest.filter(|(end, _)| *end <= at) {
            return Ok(Some(newest));
        }
        for extent in before.iter().rev().filter(|extent| extent.object.kind != Kind::Manifest) {
            let index = self.0.objects.index(&extent.object).await?;
            if let Some(entry) = index.state_of(log).filter(|entry| entry.end <= at) {
                return Ok(Some((entry.end, extent.object.clone())));
            }
        }
        Ok(None)
    }

    /// Which objects have the newest states of `logs`, and which extents lie behind those.
    fn sources(&self, logs: &[LogId]) -> (ByObject<LogId>, ByObject<(LogId, Extent)>) {
        let (mut blocks, mut behind) = (ByObject::new(), ByObject::new());
        let all = self.0.logs.read();
        for (log, extents) in logs.iter().filter_map(|log| Some((*log, all.extents.get(log)?))) {
            let mut from = Offset(0);
            if let Some((end, object)) = extents.state() {
                from = *end;
                add(&mut blocks, object, log);
            }
            for extent in extents.from(from) {
                add(&mut behind, &extent.object, (log, extent.clone()));
            }
        }
        (blocks, behind)
    }

    async fn state_blocks(&self, wanted: ByObject<LogId>) -> Result<BTreeMap<LogId, LogState>, IndexError> {
        let states: Vec<_> = stream::iter(wanted.into_values())
            .map(|(object, logs)| self.states_in(object, logs))
            .buffered(PARALLEL_READS)
            .try_collect()
            .await?;
        Ok(states.into_iter().flatten().collect())
    }

    async fn states_in(
        &self,
        object: Arc<ObjectRef>,
        mut logs: Vec<LogId>,
    ) -> Result<Vec<(LogId, LogState)>, IndexError> {
        logs.sort();
        logs.dedup();
        let index = self.0.objects.index(&object).await?;
        let entries: Option<Vec<_>> = logs.iter().map(|log| index.state_of(*log).copied()).collect();
        let missing = FormatError::Malformed { what: "index block: a log has no state" };
        let entries = entries.ok_or_else(|| malformed(&object.path, missing))?;
        let states = read_states(&self.0.objects.store, &object.path, &entries).await?;
        Ok(logs.into_iter().zip(states).collect())
    }

    /// The batch entries of extents, by log and offset.
    async fn entries_behind(
        &self,
        wanted: ByObject<(LogId, Extent)>,
    ) -> Result<BTreeMap<(LogId, Offset), Vec<BatchEntry>>, IndexError> {
        let entries: Vec<_> = stream::iter(wanted.into_values())
            .map(|(object, extents)| self.entries_in(object, extents))
            .buffered(PARALLEL_READS)
            .try_collect()
            .await?;
        Ok(entries.into_iter().flatten().collect())
    }

    async fn entries_in(
        &self,
        object: Arc<ObjectRef>,
        extents: Vec<(LogId, Extent)>,
    ) -> Result<Vec<((LogId, Offset), Vec<BatchEntry>)>, IndexError> {
        let index = self.0.objects.index(&object).await?;
        let mut all = Vec::with_capacity(extents.len());
        for (log, extent) in extents {
            all.push(((log, extent.base), self.0.objects.entries(&index, log, &extent).await?));
        }
        Ok(all)
    }

    /// Aborted transactions that a reader of `[from, to)` needs: those that began before `to`, with a marker at or behind
    /// `from`, until one's last stable offset is at or behind `to`.
    ///
    /// May have to read the index blocks of all objects that hold a part of the range, and of some behind it; so ask only
    /// where the batches to be returned are part of a transaction.
    pub async fn aborted(
        &self,
        log: LogId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, IndexError> {
        let mut needed = Vec::new();
        for extent in self.extents_from(log, from) {
            for aborted in self.aborted_in(log, &extent).await? {
                if aborted.last_offset >= from && aborted.first_offset < to {
                    needed.push(aborted);
                }
                if aborted.last_stable_offset >= to {
                    return Ok(needed);
                }
            }
            // Once is enough: a transaction that is open here is closed by a marker behind.
            if extent.base < to && to <= extent.end && !self.may_be_open(log, &extent, to).await? {
                break;
            }
        }
        Ok(needed)
    }

    /// Whether a transaction that began before `to` may be open where `extent` ends.
    async fn may_be_open(&self, log: LogId, extent: &Extent, to: Offset) -> Result<bool, IndexError> {
        let index = self.0.objects.index(&extent.object).await?;
        let Some(entry) = index.state_of(log).filter(|entry| entry.end == extent.end) else {
            return Ok(true);
        };
        let states = read_states(&self.0.objects.store, &extent.object.path, &[*entry]).await?;
        Ok(states.iter().any(|state| state.first_open_offset().is_some_and(|first| first < to)))
    }

    /// Transactions whose abort marker is in `extent`, in order of the marker.
    pub async fn aborted_in(
        &self,
        log: LogId,
        extent: &Extent,
    ) -> Result<Vec<AbortedTransaction>, IndexError> {
        let index = self.0.objects.index(&extent.object).await?;
        let of_log = index.aborted.iter().filter(|(of, _)| *of == log).map(|(_, aborted)| *aborted);
        let mut aborted: Vec<_> = of_log.collect();
        if extent.object.kind == Kind::Manifest && aborted.is_empty() {
            let entries = self.0.objects.entries(&index, log, extent).await?;
            aborted = self.aborted_by(log, extent.base, &entries).await?;
        }
        aborted.retain(|one| extent.base <= one.last_offset && one.last_offset < extent.end);
        Ok(aborted)
    }

    /// What `entries`, which begin at `base`, abort. A WAL object doesn't say when an aborted transaction began: that is in
    /// the state before it.
    async fn aborted_by(
        &self,
        log: LogId,
        base: Offset,
        entries: &[BatchEntry],
    ) -> Result<Vec<AbortedTransaction>, IndexError> {
        if !entries.iter().any(|entry| entry.marker.is_some_and(|marker| !marker.committed)) {
            return Ok(Vec::new());
        }
        let mut state = self.state_before(log, base).await?;
        Ok(fold(&mut state, entries))
    }

    /// The state of `log` where the extent at `base` begins.
    async fn state_before(&self, log: LogId, base: Offset) -> Result<LogState, IndexError> {
        let mut state = self.states_at(&[(log, base)]).await?;
        Ok(state.pop().unwrap_or_default())
    }
}

fn add<T>(groups: &mut ByObject<T>, object: &Arc<ObjectRef>, item: T) {
    groups.entry(object.id).or_insert_with(|| (object.clone(), Vec::new())).1.push(item);
}

/// Takes the batches in that are behind the state's end. Returns the transactions that they abort.
fn fold(state: &mut LogState, entries: &[BatchEntry]) -> Vec<AbortedTransaction> {
    let mut aborted = Vec::new();
    for entry in entries {
        if entry.base_offset >= state.end {
            aborted.extend(state.apply(entry));
        }
    }
    aborted
}
