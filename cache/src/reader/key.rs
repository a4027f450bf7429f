//! The name of a block.

use object_store::path::Path;
use thalweg_metadata::BlockRef;

/// Where a block lies. Objects never change and their keys are never used again, so this stands for its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    /// The object.
    pub path: Path,
    /// Where it begins in the object.
    pub position: u64,
}

impl BlockKey {
    pub(super) fn of(block: &BlockRef) -> Self {
        Self { path: block.path.clone(), position: block.entry.position }
    }
}
