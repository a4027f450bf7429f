//! Ids for idempotent producers, taken from the metadata store a block at a time.

use thalweg_metadata::{Metadata, MetadataError};
use thalweg_segment::ProducerId;
use tokio::sync::Mutex;

/// Ids taken at a time, as Kafka does.
const BLOCK: u32 = 1_000;

/// Gives out producer ids that nobody else gives out.
pub struct ProducerIds {
    metadata: Metadata,
    /// The rest of the current block: next id, and how many are left.
    left: Mutex<(i64, u32)>,
}

impl ProducerIds {
    /// No block yet.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata, left: Mutex::new((0, 0)) }
    }

    /// The next id.
    pub async fn next(&self) -> Result<ProducerId, MetadataError> {
        let mut left = self.left.lock().await;
        if left.1 == 0 {
            *left = (self.metadata.allocate_producer_ids(BLOCK).await?.0, BLOCK);
        }
        let id = ProducerId(left.0);
        *left = (left.0 + 1, left.1 - 1);
        Ok(id)
    }
}
