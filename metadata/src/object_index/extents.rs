//! What the index has of one log: extents that never overlap, whatever the objects do.

use super::{BlockRef, ObjectRef};
use std::{collections::BTreeSet, sync::Arc};
use thalweg_segment::{BatchEntry, BlockEntry, Index, Kind, LogId, Offset, SegmentId};

/// Offsets of one log that lie in one object.
#[derive(Clone, Debug)]
pub struct Extent {
    /// First offset.
    pub base: Offset,
    /// Offset after the last.
    pub end: Offset,
    /// Highest timestamp of its records; no lower than that, where another object's extent hides a part of it.
    pub max_timestamp: i64,
    /// Bytes that it takes in its object; an estimate by the number of offsets, where another object's extent hides a part of it.
    pub bytes: u64,
    /// The object whose index block describes it.
    pub object: Arc<ObjectRef>,
}

impl Extent {
    /// The part of it in `base..end`, if there is one.
    pub(super) fn clip(&self, base: Offset, end: Offset) -> Option<Self> {
        let (base, end) = (self.base.max(base), self.end.min(end));
        let bytes = || {
            let (part, whole) = (end.0.abs_diff(base.0), self.end.0.abs_diff(self.base.0));
            u64::try_from(u128::from(self.bytes) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
        };
        (base < end).then(|| Self { base, end, bytes: bytes(), ..self.clone() })
    }

    fn rank(&self) -> u8 {
        rank(self.object.kind)
    }

    /// Its blocks, as its object's `index` lists them.
    pub(super) fn blocks_in<'a>(&self, index: &'a Index, log: LogId) -> impl Iterator<Item = &'a BlockEntry> {
        let (base, end) = (self.base, self.end);
        let blocks = index.blocks_of(log);
        let first = blocks.partition_point(|block| block.end_offset <= base);
        blocks[first..].iter().take_while(move |block| block.base_offset < end)
    }

    /// One of its blocks as readers see it: its offsets within the extent, and `batches` in place of its batch entries.
    pub(super) fn block_ref(&self, block: &BlockEntry, batches: Vec<BatchEntry>) -> BlockRef {
        let entry = BlockEntry {
            log: block.log,
            base_offset: block.base_offset.max(self.base),
            end_offset: block.end_offset.min(self.end),
            record_count: block.record_count,
            object: block.object,
            position: block.position,
            size: block.size,
            crc: block.crc,
            max_timestamp: block.max_timestamp,
            batches,
        };
        BlockRef { path: self.object.path_of(block), entry, object: self.object.clone() }
    }
}

/// Which of two objects with the same batches readers see, by their kinds: the higher. A log segment has the largest blocks and
/// survives compaction, a manifest's blocks are small and lie in many objects.
pub fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Log => 3,
        Kind::Shared => 2,
        Kind::FlushManifest => 1,
        Kind::Manifest | Kind::Wal | Kind::Fence => 0,
    }
}

/// The extents of one log, and where its newest state lies.
#[derive(Default)]
pub(super) struct LogExtents {
    sorted: Vec<Extent>,
    state: Option<(Offset, Arc<ObjectRef>)>,
    rewrites: u64,
}

impl LogExtents {
    /// Adds an extent; where it overlaps others, the better object's part stays, of two equal ones the one that was first.
    pub(super) fn insert(&mut self, new: Extent) {
        let from = self.sorted.partition_point(|extent| extent.end <= new.base);
        let to = from + self.sorted[from..].partition_point(|extent| extent.base < new.end);
        let mut merged = Vec::with_capacity(to - from + 1);
        let mut rest = new.base;
        for old in &self.sorted[from..to] {
            if old.rank() >= new.rank() {
                merged.extend(new.clip(rest, old.base));
                merged.push(old.clone());
                rest = rest.max(old.end);
            } else {
                merged.extend(old.clip(old.base, new.base));
            }
        }
        merged.extend(new.clip(rest, new.end));
        if let Some(last) = self.sorted[from..to].last().filter(|last| last.rank() < new.rank()) {
            merged.extend(last.clip(new.end, last.end));
        }
        self.sorted.splice(from..to, merged);
    }

    /// Notes that `object` has the state of the log at `end`. Of two that have the same, that of the better object counts.
    pub(super) fn note_state(&mut self, end: Offset, object: Arc<ObjectRef>) {
        let known = self.state.as_ref().map(|(newest, object)| (*newest, rank(object.kind)));
        if known.is_none_or(|known| known < (end, rank(object.kind))) {
            self.state = Some((end, object));
        }
    }

    /// Forgets what lies in the objects `gone`.
    pub(super) fn drop_objects(&mut self, gone: &BTreeSet<SegmentId>) {
        self.sorted.retain(|extent| !gone.contains(&extent.object.id));
        self.state.take_if(|(_, object)| gone.contains(&object.id));
        self.rewrites += 1;
    }

    /// How often a part of it was replaced.
    pub(super) fn rewrites(&self) -> u64 {
        self.rewrites
    }

    /// Whether one of `objects` holds anything of this.
    pub(super) fn any_in(&self, objects: &BTreeSet<SegmentId>) -> bool {
        self.objects().any(|object| objects.contains(&object.id))
    }

    /// Whether the log ends where it does, with a state no older than now, once `gone` are replaced by objects which have
    /// extents up to `end` and a state at `state`.
    pub(super) fn keeps_end(
        &self,
        gone: &BTreeSet<SegmentId>,
        end: Option<Offset>,
        state: Option<Offset>,
    ) -> bool {
        let stays = |object: &Arc<ObjectRef>| !gone.contains(&object.id);
        let kept_state = self.state.as_ref().filter(|(_, object)| stays(object)).map(|(end, _)| *end);
        let kept_end = self.sorted.iter().rfind(|extent| stays(&extent.object)).map(|extent| extent.end);
        let new_state = kept_state.max(state);
        new_state >= self.state.as_ref().map(|(end, _)| *end)
            && kept_end.max(end).max(new_state).unwrap_or_default() == self.end()
    }

    /// The objects that hold something of the log, some of them more than once.
    fn objects(&self) -> impl Iterator<Item = &Arc<ObjectRef>> {
        let of_state = self.state.iter().map(|(_, object)| object);
        self.sorted.iter().map(|extent| &extent.object).chain(of_state)
    }

    pub(super) fn state(&self) -> Option<&(Offset, Arc<ObjectRef>)> {
        self.state.as_ref()
    }

    /// Extents from the one that holds `offset`, or the next one behind it, on.
    pub(super) fn from(&self, offset: Offset) -> &[Extent] {
        &self.sorted[self.sorted.partition_point(|extent| extent.end <= offset)..]
    }

    pub(super) fn end(&self) -> Offset {
        let extents = self.sorted.last().map(|extent| extent.end);
        let state = self.state.as_ref().map(|(end, _)| *end);
        extents.max(state).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectShape;
    use proptest::prelude::*;
    use thalweg_segment::segment_path;

    fn extent(number: u64, kind: Kind, base: i64, length: i64) -> Extent {
        let id = SegmentId { number, ..SegmentId::default() };
        let shape = ObjectShape { size: 0, index_position: 0, index_size: 0 };
        let object = ObjectRef { id, kind, path: segment_path(id), shape, adopts: None };
        let (base, end) = (Offset(base), Offset(base + length));
        Extent { base, end, max_timestamp: 0, bytes: length as u64, object: Arc::new(object) }
    }

    fn any_extent() -> impl Strategy<Value = (Kind, i64, i64)> {
        let kind = prop_oneof![Just(Kind::Log), Just(Kind::Shared), Just(Kind::Manifest)];
        (kind, 0..40i64, 0..20i64)
    }

    /// The object that a reader of `offset` should see: the best one, of equal ones the first.
    fn best(added: &[Extent], offset: i64) -> Option<u64> {
        let holds = |extent: &&Extent| extent.base.0 <= offset && offset < extent.end.0;
        // `max_by_key` returns the last of equal ones.
        added
            .iter()
            .rev()
            .filter(holds)
            .max_by_key(|extent| extent.rank())
            .map(|extent| extent.object.id.number)
    }

    proptest! {
        #[test]
        fn readers_see_the_best_object_at_each_offset_and_no_overlap(
            added in prop::collection::vec(any_extent(), 0..12),
        ) {
            let numbered = added.into_iter().enumerate();
            let added: Vec<_> = numbered.map(|(n, (kind, base, length))| extent(n as u64, kind, base, length)).collect();
            let mut extents = LogExtents::default();
            for extent in &added {
                extents.insert(extent.clone());
            }
            for pair in extents.sorted.windows(2) {
                prop_assert!(pair[0].end <= pair[1].base);
            }
            for extent in &extents.sorted {
                prop_assert_eq!(extent.bytes, extent.end.0.abs_diff(extent.base.0), "a byte for each offset");
            }
            for offset in 0..60 {
                let seen = extents.from(Offset(offset)).first().filter(|extent| extent.base.0 <= offset);
                prop_assert_eq!(seen.map(|extent| extent.object.id.number), best(&added, offset));
            }
            let end = added.iter().filter(|extent| extent.base < extent.end).map(|extent| extent.end).max();
            prop_assert_eq!(extents.end(), end.unwrap_or_default());
        }
    }
}
