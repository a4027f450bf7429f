//! Reads what objects say of themselves: index blocks, through a bounded cache, and batch entries.

use super::{Extent, IndexError, ObjectRef, parts::Places};
use crate::ObjectShape;
use futures::FutureExt;
use moka::future::Cache;
use object_store::path::Path;
use std::{
    hash::{BuildHasherDefault, DefaultHasher},
    mem::size_of,
    sync::{Arc, OnceLock},
};
use thalweg_segment::{
    AbortedTransaction, BatchEntry, BlockEntry, FormatError, Index, LogId, Purpose, ReadError, SegmentId,
    StateEntry, Store, StoreError, check_block, read_index_at, split_batches,
};

/// A hasher without a random seed: what the cache keeps is the same in each run.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// Objects of the store, and their index blocks as far as they are cached.
pub(super) struct Objects {
    pub(super) store: Store,
    indexes: Cache<SegmentId, Kept, Hasher>,
}

/// An index block, and once that was asked for, its blocks by place.
#[derive(Clone)]
struct Kept {
    index: Arc<Index>,
    places: Arc<OnceLock<Arc<Places>>>,
}

impl From<Arc<Index>> for Kept {
    fn from(index: Arc<Index>) -> Self {
        Self { index, places: Arc::default() }
    }
}

impl ObjectRef {
    /// Its index block: one range GET, of an object that is what its row says.
    pub async fn read_index(&self, store: &Store, purpose: Purpose) -> Result<Index, ReadError> {
        let ObjectShape { size, index_position, .. } = self.shape;
        let (footer, index) = read_index_at(store, &self.path, index_position, size, purpose).await?;
        let named = footer.check_name(self.kind, self.id.incarnation, self.id.number);
        named.map_err(|source| malformed(&self.path, source)).map(|()| index)
    }
}

impl Objects {
    pub(super) fn new(store: Store, cache_bytes: u64) -> Self {
        let indexes = Cache::builder()
            .max_capacity(cache_bytes)
            .weigher(|_, kept: &Kept| weight(&kept.index))
            .build_with_hasher(Hasher::default());
        Self { store, indexes }
    }

    /// The index block of `object`, from the cache or by one range GET that all who ask for it share.
    pub(super) async fn index(&self, object: &ObjectRef) -> Result<Arc<Index>, IndexError> {
        let kept = self.kept(object).await.map_err(|error| IndexError::for_another(&error))?;
        Ok(kept.index)
    }

    /// The same with its blocks by place.
    pub(super) async fn index_by_place(
        &self,
        object: &ObjectRef,
    ) -> Result<(Arc<Index>, Arc<Places>), Arc<ReadError>> {
        let Kept { index, places } = self.kept(object).await?;
        let places = places.get_or_init(|| Arc::new(Places::of(&index))).clone();
        Ok((index, places))
    }

    async fn kept(&self, object: &ObjectRef) -> Result<Kept, Arc<ReadError>> {
        self.indexes.try_get_with(object.id, self.read_index(object)).await
    }

    async fn read_index(&self, object: &ObjectRef) -> Result<Kept, ReadError> {
        Ok(Arc::new(object.read_index(&self.store, Purpose::Fetch).await?).into())
    }

    /// Keeps an index block that is at hand, where that can be done at once.
    pub(super) fn keep(&self, object: &ObjectRef, index: Arc<Index>) {
        let _ = self.indexes.insert(object.id, index.into()).now_or_never();
    }

    /// The entries of all batches of `log` in `extent`, whose object has `index`.
    pub(super) async fn entries(
        &self,
        index: &Index,
        log: LogId,
        extent: &Extent,
    ) -> Result<Vec<BatchEntry>, IndexError> {
        let mut entries = Vec::new();
        for block in extent.blocks_in(index, log) {
            if block.batches.is_empty() {
                entries.extend(self.entries_of_batches(&extent.object.path_of(block), block).await?);
            } else {
                entries.extend_from_slice(&block.batches);
            }
        }
        entries.retain(|entry| extent.base <= entry.base_offset && entry.base_offset < extent.end);
        Ok(entries)
    }

    async fn entries_of_batches(
        &self,
        path: &Path,
        block: &BlockEntry,
    ) -> Result<Vec<BatchEntry>, ReadError> {
        let range = block.position..block.end_position();
        let bytes = self.store.get_range(path, range, Purpose::Fetch).await?;
        let batches = check_block(&bytes, block).and_then(|()| split_batches(bytes));
        let batches = batches.map_err(|source| malformed(path, source))?;
        Ok(batches.iter().map(|batch| batch.entry()).collect())
    }
}

pub(super) fn malformed(path: &Path, source: FormatError) -> ReadError {
    ReadError::Format { path: path.clone(), source }
}

/// Bytes of memory that an index takes, with its blocks by place.
fn weight(index: &Index) -> u32 {
    let batches: usize = index.blocks.iter().map(|block| block.batches.capacity()).sum();
    let bytes = batches * size_of::<BatchEntry>()
        + index.blocks.capacity() * (size_of::<BlockEntry>() + size_of::<u32>())
        + index.states.capacity() * size_of::<StateEntry>()
        + index.aborted.capacity() * size_of::<(LogId, AbortedTransaction)>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl IndexError {
    /// The error of a read that several callers waited for, for one of them.
    pub fn for_another(error: &ReadError) -> Self {
        Self::Read(match error {
            ReadError::Store(error) => ReadError::Store(copy(error)),
            ReadError::Format { path, source } => malformed(path, source.clone()),
        })
    }
}

fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::NotFound { path } => StoreError::NotFound { path: path.clone() },
        StoreError::AlreadyExists { path } => StoreError::AlreadyExists { path: path.clone() },
        StoreError::Unavailable { path, source } => {
            StoreError::Unavailable { path: path.clone(), source: source.to_string().into() }
        }
        StoreError::Rejected { path, source } => {
            StoreError::Rejected { path: path.clone(), source: source.to_string().into() }
        }
    }
}
