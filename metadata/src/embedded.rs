//! The embedded metadata store: SlateDB on the same object store as everything else.
//!
//! **Order.** All transactions of a process pass one queue: compares are evaluated against everything written before,
//! durable or not, and the writes go into SlateDB's log behind it. SlateDB makes its log durable in that order, one
//! conditional PUT for all that is waiting. So a transaction is durable only if everything that its compares saw is.
//!
//! **Answers.** A transaction answers, true or false, once everything that was queued before or with it is durable.
//! Reads see only what is durable. So nothing that anybody was told can vanish, and whoever reads after an answer sees
//! at least what that answer rested on.
//!
//! **Unknown outcomes.** While the object store is out of reach, a transaction gives up waiting after [`PATIENCE`] with
//! `Unavailable`. Its write stays queued and SlateDB goes on trying; reads don't show it until it is durable, and compares
//! that come later count on it, being durable only after it. If the process dies first, it was never applied, and neither
//! was anything behind it.
//!
//! What has begun comes to its end in a task of its own, so no caller that goes away can leave a write half queued, which the
//! next transaction's compares would not see.
//!
//! **Fencing.** Opening the store writes a new writer epoch and then an empty object (a fence) at the next place of the log.
//! What the process before still has under way either lands before that, and the new one replays it, or finds the place
//! taken, and all its transactions fail with `Fenced`. Fences are never deleted. Only such a write shows that one was
//! fenced: reads, and transactions whose compares don't hold, may answer what was true before.
//!
//! **Costs.** SlateDB's defaults poll the store three times a second. Here an idle store is polled a few times an hour:
//! nobody else writes to it, so there is nothing to be learned. Compaction and garbage collection run at opening and then at
//! those intervals. So some 25 small GETs follow an opening in the background: the first looks of the compactor, of its worker,
//! and of the collector at its four directories, each with a boundary file. SlateDB has no setting to delay or to spare them.

use crate::{Compare, KeyValueStore, KvError, MAX_OPERATIONS, Transaction, Write};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use slatedb::{
    CloseReason, Db, ErrorKind, WriteBatch,
    config::{
        CompactionWorkerOptions, CompactorOptions, DurabilityLevel, FlushOptions, FlushType,
        GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ReadOptions, ScanOptions, Settings,
    },
    db_cache::moka::{MokaCache, MokaCacheOptions},
};
use std::{future::Future, sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, oneshot},
    time::timeout,
};

/// How long an operation waits for the object store before it answers `Unavailable`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long opening waits: it reads back up to a few thousand objects of the log.
pub(crate) const OPEN_PATIENCE: Duration = Duration::from_secs(60);

/// How often an idle store looks for work to compact.
const COMPACTION_POLL: Duration = Duration::from_secs(30 * 60);
/// How often an active compaction is looked after.
const COMPACTION_STEP: Duration = Duration::from_secs(15);
/// How often the manifest is read back, which shows what compaction has replaced.
const MANIFEST_POLL: Duration = Duration::from_secs(60 * 60);
/// How often garbage is collected.
const COLLECTION: Duration = Duration::from_secs(12 * 60 * 60);
/// How old garbage must be: longer than any read or manifest update can take.
const GARBAGE_AGE: Duration = Duration::from_secs(60 * 60);
/// The same where a process that was suspended for long can't be told from a living one by the store itself.
const LOCAL_GARBAGE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The log is folded into a sorted table every so many transactions, so that opening has few objects to read back.
const TRANSACTIONS_PER_TABLE: u64 = 256;
/// Bytes in memory at which that happens regardless.
const TABLE_BYTES: usize = 4 << 20;
/// Bytes that may wait in memory for the object store; writers are held there.
const UNFLUSHED_BYTES: usize = 16 << 20;
/// Tables that wait for a compaction at most. From half as many on the log grows instead, so that it takes some 70,000
/// transactions between two polls to make writers wait.
const UNCOMPACTED_TABLES: usize = 32;
/// Blocks and indexes of tables in memory.
const CACHE_BYTES: u64 = 4 << 20;

/// How to open an [`EmbeddedKv`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// The object store is a local directory, which has no compare-and-swap.
    pub local_files: bool,
}

/// A key-value store in an object store, of one process: opening it fences whoever opened it before.
pub struct EmbeddedKv {
    runtime: Runtime,
    db: Db,
    /// What transactions pass one after another: how many have begun to write.
    queue: Arc<Mutex<u64>>,
    /// How many of those are durable. Who holds it flushes.
    durable: Mutex<u64>,
}

impl EmbeddedKv {
    /// Opens the store below `path`, creating it where there is none, and fences whoever opened it before.
    ///
    /// `Unavailable` where the object store doesn't answer, `Fenced` where yet another process opened it meanwhile,
    /// `Corrupt` where it can't be read.
    pub async fn open(
        runtime: Runtime,
        object_store: Arc<dyn ObjectStore>,
        path: Path,
        options: EmbeddedOptions,
    ) -> Result<Self, KvError> {
        let opened = within(OPEN_PATIENCE, open_database(&object_store, &path, options)).await;
        let db = match opened {
            // SlateDB says the same to whoever finds another process creating the store at the same time. It is there then.
            Err(KvError::Corrupt { .. }) => {
                within(OPEN_PATIENCE, open_database(&object_store, &path, options)).await?
            }
            opened => opened?,
        };
        Ok(Self { runtime, db, queue: Arc::default(), durable: Mutex::default() })
    }

    /// Tables that reads may have to look into.
    #[cfg(test)]
    pub(crate) fn tables(&self) -> usize {
        self.db.manifest().l0().len() + self.db.manifest().compacted().len()
    }

    /// Evaluates a transaction and queues its writes. Gives whether its compares hold, and how many writes that rests on.
    ///
    /// Once it is its turn it comes to its end in a task of its own, though the caller goes away: the next one's compares must
    /// see its writes, or nothing of it must ever be written.
    async fn enqueue(&self, transaction: Transaction) -> Result<(bool, u64), KvError> {
        let turn = self.queue.clone().lock_owned().await;
        let (done, outcome) = oneshot::channel();
        let db = self.db.clone();
        let task = self.runtime.spawn(async move {
            // The caller may have given up.
            let _ = done.send(enqueue_in_turn(&db, turn, transaction).await);
        });
        task.detach();
        let lost = || KvError::Unavailable { reason: "the process is about to end".to_owned() };
        Ok(outcome.await.map_err(|_| lost())??)
    }

    /// Returns once the first `count` writes are durable.
    async fn make_durable(&self, count: u64) -> Result<(), slatedb::Error> {
        let mut durable = self.durable.lock().await;
        if *durable >= count {
            return Ok(());
        }
        // The queue is fair: whoever waits in it goes first, and shares the flush.
        let written = *self.queue.lock().await;
        self.db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await?;
        *durable = written;
        Ok(())
    }

    async fn commit(&self, transaction: Transaction) -> Result<(bool, u64), KvError> {
        let (applied, count) = self.enqueue(transaction).await?;
        self.make_durable(count).await?;
        Ok((applied, count))
    }

    /// Folds the log into a table. A failure costs nothing but a longer log.
    async fn fold(&self) {
        if self.db.manifest().l0().len() >= UNCOMPACTED_TABLES / 2 {
            return;
        }
        let folded = self.db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable });
        if let Err(error) = within(PATIENCE, folded).await {
            tracing::debug!(%error, "the metadata log was not folded");
        }
    }

    async fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, slatedb::Error> {
        let options = ScanOptions {
            durability_filter: DurabilityLevel::Remote,
            read_ahead_bytes: 256 << 10,
            ..ScanOptions::default()
        };
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
impl KeyValueStore for EmbeddedKv {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        within(PATIENCE, self.db.get_with_options(key, &read_at(DurabilityLevel::Remote))).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        if from >= to {
            return Ok(Vec::new());
        }
        within(PATIENCE, self.scan(from, to, limit)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError> {
        assert!(transaction.operations() <= MAX_OPERATIONS, "a transaction is split before it is too large");
        let (applied, count) = within(PATIENCE, self.commit(transaction)).await?;
        if applied && count % TRANSACTIONS_PER_TABLE == 0 {
            self.fold().await;
        }
        Ok(applied)
    }

    async fn close(&self) -> Result<(), KvError> {
        within(PATIENCE, self.db.close()).await
    }
}

async fn open_database(
    object_store: &Arc<dyn ObjectStore>,
    path: &Path,
    options: EmbeddedOptions,
) -> Result<Db, slatedb::Error> {
    let cache = MokaCacheOptions { max_capacity: CACHE_BYTES, ..MokaCacheOptions::default() };
    let builder = Db::builder(path.clone(), object_store.clone())
        .with_settings(settings(options))
        .with_db_cache(Arc::new(MokaCache::new_with_opts(cache)), 0);
    builder.build().await
}

/// Ends the turn with the write.
async fn enqueue_in_turn(
    db: &Db,
    mut written: OwnedMutexGuard<u64>,
    transaction: Transaction,
) -> Result<(bool, u64), slatedb::Error> {
    let applied = all_hold(db, &transaction.compares).await?;
    if applied && !transaction.writes.is_empty() {
        *written += 1;
        db.write(batch(transaction.writes)).await?;
    }
    Ok((applied, *written))
}

async fn all_hold(db: &Db, compares: &[Compare]) -> Result<bool, slatedb::Error> {
    for compare in compares {
        if db.get_with_options(&compare.key, &read_at(DurabilityLevel::Memory)).await? != compare.value {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_at(durability: DurabilityLevel) -> ReadOptions {
    ReadOptions::new().with_durability_filter(durability)
}

fn batch(writes: Vec<Write>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for write in writes {
        match write {
            Write::Put(key, value) => batch.put_bytes(key, value),
            Write::Delete(key) => batch.delete(&key),
        }
    }
    batch
}

/// Waits no longer than `patience` for SlateDB, which itself repeats requests for ever.
pub(crate) async fn within<T, E: Into<KvError>>(
    patience: Duration,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, KvError> {
    match timeout(patience, operation).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(KvError::Unavailable { reason: format!("no answer for {} s", patience.as_secs()) }),
    }
}

impl From<slatedb::Error> for KvError {
    fn from(error: slatedb::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => Self::Fenced { reason },
            // By us, or by a fault of one of its tasks.
            ErrorKind::Closed(_) => Self::Closed { reason },
            // The one request of ours that SlateDB finds invalid is a write while the wall clock is behind its newest one.
            ErrorKind::Unavailable | ErrorKind::Transaction | ErrorKind::Invalid => {
                Self::Unavailable { reason }
            }
            _ => Self::Corrupt { reason },
        }
    }
}

fn settings(options: EmbeddedOptions) -> Settings {
    Settings {
        // Every transaction asks for a flush; this one is for a caller that went away before it could.
        flush_interval: Some(Duration::from_secs(1)),
        manifest_poll_interval: MANIFEST_POLL,
        l0_sst_size_bytes: TABLE_BYTES,
        max_unflushed_bytes: UNFLUSHED_BYTES,
        l0_max_ssts: UNCOMPACTED_TABLES,
        l0_max_ssts_per_key: UNCOMPACTED_TABLES,
        l0_flush_parallelism: 1,
        compactor_options: Some(compaction()),
        garbage_collector_options: Some(collection(options)),
        ..Settings::default()
    }
}

/// One compaction at a time, of which each input holds one small read-ahead.
fn compaction() -> CompactorOptions {
    CompactorOptions {
        poll_interval: COMPACTION_POLL,
        commit_compacted_interval: COMPACTION_STEP,
        max_concurrent_compactions: 1,
        worker: Some(CompactionWorkerOptions {
            compactions_poll_interval: COMPACTION_POLL,
            max_concurrent_compactions: 1,
            max_sst_size: 16 << 20,
            max_fetch_tasks: 1,
            bytes_to_fetch: 256 << 10,
            max_subcompactions: 1,
            ..CompactionWorkerOptions::default()
        }),
        ..CompactorOptions::default()
    }
}

fn collection(options: EmbeddedOptions) -> GarbageCollectorOptions {
    let min_age = if options.local_files { LOCAL_GARBAGE_AGE } else { GARBAGE_AGE };
    let rule = GarbageCollectorDirectoryOptions { interval: Some(COLLECTION), min_age, dry_run: false };
    GarbageCollectorOptions {
        manifest_options: Some(rule),
        wal_options: Some(rule),
        // A fence that is gone would let a zombie's write in.
        wal_fence_options: None,
        compacted_options: Some(rule),
        compactions_options: Some(rule),
        detach_options: None,
        boundary_files_enabled: !options.local_files,
        ..GarbageCollectorOptions::default()
    }
}
