//! Garbage collection: finds objects that nothing refers to and nothing will, and deletes them.
//!
//! Garbage is what a process that died had written and not committed, WAL objects that were not deleted in time, late uploads,
//! and what a crash made the deferred deletion forget. No clock tells what it is, since every clock may be wrong and every
//! process may have slept; two facts do:
//! - *Nothing is committed in the name of an incarnation that is recovered.* What the object index refers to of its objects only
//!   becomes less from then on. So an index that was loaded after the recovery judges those objects rightly for ever, also in a process
//!   that has lost its logs since and knows nothing of it. Incarnations that were not recovered when the index was loaded are left to
//!   a later life (`settled` has the others).
//! - *What this incarnation will commit is reserved* (or a WAL object at or above its trim point) until the index knows it.
//!
//! A manifest is adopted by the transaction that makes another incarnation recovered, not by its writer's: so that one must be settled too.
//! Fences are never deleted, however old: a writer that wakes up could create the object in their place, and acknowledge.
//!
//! Listing comes first, then the facts: what was written since is not in the listing. An object is deleted when it was garbage at
//! two looks, at least the deletion delay apart on the monotonic clock, so that who looked it up in the index before can read it to the end.

mod pace;
mod sweep;

pub use pace::Pace;
pub use sweep::{Listing, ListingOrder, Sweep};

use crate::deletion::Deletion;
use object_store::{ObjectMeta, path::Path};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use thalweg_metadata::{IndexError, ObjectIndex};
use thalweg_segment::{
    Footer, Incarnation, Index, Kind, Purpose, SegmentId, SegmentWriter, Store, StoreError, WalSequence,
    manifest_of, segment_id, wal_object,
};
use tokio::time::Instant;

/// What is known of the objects in a listing. To be put together after the listing.
pub struct View<'a> {
    /// The incarnation that collects.
    pub own: Incarnation,
    /// Its trim point. To be read before `adopted`: a manifest is in the index before the trim point passes its WAL objects.
    pub trim: WalSequence,
    /// Incarnations that were recovered when the object index was loaded.
    pub settled: &'a BTreeSet<Incarnation>,
    /// The WAL objects that manifests of the index refer to, of each incarnation whose WAL is judged.
    pub adopted: &'a BTreeMap<Incarnation, BTreeSet<WalSequence>>,
    /// Whether a segment is reserved, or in the object index; asked in this order.
    pub is_needed: &'a (dyn Fn(SegmentId) -> bool + Sync),
    /// Size of a fence.
    pub fence: u64,
}

impl View<'_> {
    /// Whose WAL object this is, where it is garbage unless a manifest refers to it.
    fn judges_wal(&self, object: &ObjectMeta) -> Option<(Incarnation, WalSequence)> {
        let (writer, sequence) = wal_object(&object.location)?;
        let trimmed = writer == self.own && sequence < self.trim;
        // As small as a fence: it is one, or as good as nothing.
        let is_data = object.size > self.fence;
        (is_data && (trimmed || self.settled.contains(&writer))).then_some((writer, sequence))
    }

    /// Whether the object is garbage. Keys that are nobody's are not.
    fn is_garbage(&self, object: &ObjectMeta) -> bool {
        if let Some((writer, sequence)) = self.judges_wal(object) {
            return self.adopted.get(&writer).is_some_and(|adopted| !adopted.contains(&sequence));
        }
        segment_id(&object.location).is_some_and(|id| self.is_settled(id) && !(self.is_needed)(id))
    }

    /// Whether all that may refer to this segment is known here.
    fn is_settled(&self, id: SegmentId) -> bool {
        let writer = id.incarnation;
        let manifest = manifest_of(id.number);
        let adopts_settled = manifest.is_none_or(|dead| self.settled.iter().any(|known| known.epoch == dead));
        adopts_settled && (writer == self.own || self.settled.contains(&writer))
    }
}

/// What of `listing` is garbage.
pub fn garbage(listing: &[ObjectMeta], view: &View<'_>) -> BTreeSet<Path> {
    listing.iter().filter(|object| view.is_garbage(object)).map(|object| object.location.clone()).collect()
}

/// What the collector asks of the incarnation that it is a part of.
pub trait Own: Send + Sync {
    /// Which it is.
    fn incarnation(&self) -> Incarnation;
    /// WAL objects at or above this are needed.
    fn trim_point(&self) -> WalSequence;
    /// Whether the segment may yet be committed.
    fn is_reserved(&self, id: SegmentId) -> bool;
    /// Whether this incarnation has ended. From then on its reservations say nothing.
    fn has_ended(&self) -> bool;
}

/// Why a look was in vain.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// This incarnation has ended. So has the collector.
    #[error("the incarnation has ended")]
    Ended,
}

/// Looks at the bucket piece by piece.
pub struct Collector<O> {
    store: Store,
    index: ObjectIndex,
    /// What waits for its deletion elsewhere, which may be longer.
    deletion: Deletion,
    own: O,
    settled: BTreeSet<Incarnation>,
    sweep: Sweep,
}

impl<O: Own> Collector<O> {
    /// `settled` are the incarnations that were recovered before `index` was loaded.
    pub fn new(
        store: Store,
        index: ObjectIndex,
        deletion: Deletion,
        own: O,
        settled: BTreeSet<Incarnation>,
        order: ListingOrder,
    ) -> Self {
        Self { store, index, deletion, own, settled, sweep: Sweep::new(order) }
    }

    /// When the next look makes sense; at once where none.
    pub fn not_before(&self) -> Option<Instant> {
        self.sweep.not_before()
    }

    /// How many times the whole bucket was looked at.
    pub fn sweeps(&self) -> u64 {
        self.sweep.sweeps()
    }

    /// Lists a piece of the bucket and deletes what is garbage there for the second time, `delay` after the first. Returns how
    /// many objects that were.
    pub async fn look(&mut self, delay: Duration) -> Result<usize, LookError> {
        let listing = self.list().await?;
        let garbage = self.judge(&listing).await?;
        let confirmed = self.sweep.looked(&listing, garbage, Instant::now(), delay);
        let confirmed = self.without_fences(confirmed).await?;
        let count = confirmed.len();
        self.store.delete(confirmed, Purpose::Cleanup).await?;
        Ok(count)
    }

    async fn list(&self) -> Result<Vec<ObjectMeta>, LookError> {
        let mut all = Vec::new();
        for Listing { prefix, after, limit } in self.sweep.wanted() {
            all.extend(match limit {
                Some(limit) => self.store.list_some(&prefix, after.as_ref(), limit, Purpose::Cleanup).await?,
                None => self.store.list(&prefix, None, Purpose::Cleanup).await?,
            });
        }
        Ok(all)
    }

    async fn judge(&self, listing: &[ObjectMeta]) -> Result<BTreeSet<Path>, LookError> {
        let is_needed = |id| self.own.is_reserved(id) || self.index.has_object(id);
        let mut adopted = BTreeMap::new();
        let view = View {
            own: self.own.incarnation(),
            trim: self.own.trim_point(),
            settled: &self.settled,
            adopted: &BTreeMap::new(),
            is_needed: &is_needed,
            fence: fence_size(),
        };
        let writers: BTreeSet<_> =
            listing.iter().filter_map(|object| Some(view.judges_wal(object)?.0)).collect();
        for writer in writers {
            adopted.insert(writer, self.index.adopted(writer).await?);
        }
        let mut garbage = garbage(listing, &View { adopted: &adopted, ..view });
        if self.own.has_ended() {
            return Err(LookError::Ended);
        }
        garbage.retain(|path| !self.deletion.is_waiting(path));
        Ok(garbage)
    }

    /// Reads what the WAL objects among `paths` are. One that isn't what its key says is left alone.
    async fn without_fences(&self, paths: BTreeSet<Path>) -> Result<Vec<Path>, LookError> {
        let mut rest = Vec::with_capacity(paths.len());
        for path in paths {
            if wal_object(&path).is_none() || self.is_data(&path).await? {
                rest.push(path);
            }
        }
        Ok(rest)
    }

    async fn is_data(&self, path: &Path) -> Result<bool, LookError> {
        let (footer, _) = match self.store.get_suffix(path, Footer::LEN as u64, Purpose::Cleanup).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            read => read?,
        };
        let footer = Footer::decode(&footer).ok();
        Ok(footer.is_some_and(|footer| {
            footer.kind == Kind::Wal && wal_object(path) == Some((footer.writer, WalSequence(footer.number)))
        }))
    }
}

/// Bytes of a fence: the same of all of this format.
fn fence_size() -> u64 {
    SegmentWriter::index_only(Kind::Fence, Incarnation::default(), 0, Index::default()).size
}

#[cfg(test)]
mod tests;
