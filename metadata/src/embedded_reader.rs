//! The embedded store opened for reading beside the process that writes to it. It writes nothing, so it fences nobody.
//!
//! What it shows is what was durable when it was opened: one consistent state, which stays the same (SlateDB could follow the
//! writer, but a check wants to compare two states that it knows apart). Open it again to see more. It is not protected from the
//! writer's garbage collection, so it is good for as long as that lets garbage lie, an hour at least.

use crate::{
    KeyValueStore, KvError, Transaction,
    embedded::{OPEN_PATIENCE, PATIENCE, within},
};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use slatedb::{
    DbReader, DbReaderMode,
    config::{DbReaderOptions, ReadOptions, ScanOptions},
};
use std::{sync::Arc, time::Duration};

/// How often SlateDB may look for something newer: hardly ever within a reader's life.
const POLL: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of the log that are put into one table in memory.
const TABLE_BYTES: u64 = 4 << 20;

/// A state of an [`EmbeddedKv`](crate::EmbeddedKv)'s rows, for reading. Its transactions fail with `Closed`.
pub struct EmbeddedReader {
    db: DbReader,
}

impl EmbeddedReader {
    /// Opens what is durable below `path` at this moment.
    ///
    /// `Unavailable` where the object store doesn't answer, `Corrupt` where there is no store or it can't be read.
    pub async fn open(object_store: Arc<dyn ObjectStore>, path: Path) -> Result<Self, KvError> {
        let options = DbReaderOptions {
            manifest_poll_interval: POLL,
            max_memtable_bytes: TABLE_BYTES,
            ..DbReaderOptions::default()
        };
        let builder = DbReader::builder(path, object_store)
            .with_reader_mode(DbReaderMode::FollowLatest)
            .with_options(options)
            .with_db_cache_disabled();
        Ok(Self { db: within(OPEN_PATIENCE, builder.build()).await? })
    }

    async fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, slatedb::Error> {
        let options = ScanOptions { read_ahead_bytes: 256 << 10, ..ScanOptions::default() };
        let mut found = self.db.scan_with_options(from.to_vec()..to.to_vec(), &options).await?;
        let mut rows = Vec::new();
        while rows.len() < limit {
            let Some(row) = found.next().await? else { break };
            rows.push((row.key, row.value));
        }
        Ok(rows)
    }
}

#[async_trait]
impl KeyValueStore for EmbeddedReader {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        within(PATIENCE, self.db.get_with_options(key, &ReadOptions::new())).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        if from >= to {
            return Ok(Vec::new());
        }
        within(PATIENCE, self.scan(from, to, limit)).await
    }

    async fn transact(&self, _: Transaction) -> Result<bool, KvError> {
        Err(read_only())
    }

    async fn close(&self) -> Result<(), KvError> {
        within(PATIENCE, self.db.close()).await
    }
}

/// What a transaction gets that can't be made.
pub(crate) fn read_only() -> KvError {
    KvError::Closed { reason: "it was opened for reading only".into() }
}
