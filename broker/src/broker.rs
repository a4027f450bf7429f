//! One broker without its sockets: starts by recovering what earlier lives left, then owns logs until it is closed or fenced.

use crate::{
    api::ResponseMemory,
    coordinator::{
        GroupCoordinator, GroupsView, Means, TransactionCoordinator, groups::cluster::GroupConfigs,
    },
    fetch_sessions::FetchSessions,
    loggers::Loggers,
    partition::{Closed, Log, Logs, ProducerMemory},
    producer_ids::ProducerIds,
    settings::{BrokerSettings, DynamicSettings},
    stored::Stored,
    topics::{ResolveSettings, Topics},
    upkeep::{CleanerMetrics, compaction::Compaction, snapshot::Snapshots},
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use thalweg_cache::{BlockCacheSettings, BlockReader, LogCache};
use thalweg_metadata::{
    IncarnationRecord, IncarnationState, IndexError, KeyValueStore, Metadata, MetadataError,
    MetadataErrorKind, ObjectIndex,
};
use thalweg_object_compactor::deletion::Deletion;
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{Incarnation, LogId, ReadError, Store, StoreError};
use thalweg_wal::{OwnedLog, RecoveryError, Wal, WalError, take_over};
use tokio::sync::watch;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata store failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The object index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What an earlier life left could not be taken over.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

impl StartError {
    /// Whether another process was faster, and owns the logs now.
    pub fn is_overtaken(&self) -> bool {
        let (Self::Metadata(error)
        | Self::Index(IndexError::Metadata(error))
        | Self::Recovery(
            RecoveryError::Metadata(error) | RecoveryError::Index(IndexError::Metadata(error)),
        )) = self
        else {
            return false;
        };
        error.kind() == MetadataErrorKind::Fenced
    }

    /// Whether an object is missing.
    fn is_missing(&self) -> bool {
        let (Self::Index(IndexError::Read(ReadError::Store(error)))
        | Self::Recovery(
            RecoveryError::Store(error) | RecoveryError::Index(IndexError::Read(ReadError::Store(error))),
        )) = self
        else {
            return false;
        };
        matches!(error, StoreError::NotFound { .. })
    }
}

/// What a broker is made of. The handlers of `api` work on it.
pub struct Broker {
    /// Time, randomness, tasks.
    pub runtime: Runtime,
    /// The settings that stay.
    pub settings: BrokerSettings,
    /// The settings that can change.
    pub dynamic: RwLock<Arc<DynamicSettings>>,
    /// The cluster's id.
    pub cluster_id: String,
    /// Objects.
    pub store: Store,
    /// Incarnations that were recovered before the object index was loaded: it knows all that refers to their objects.
    pub settled: BTreeSet<Incarnation>,
    /// Deletes objects that were taken out of the object index.
    pub deletion: Deletion,
    /// Cluster state.
    pub metadata: Metadata,
    /// What administrators have stored.
    pub stored: Stored,
    /// Log levels.
    pub loggers: Loggers,
    /// Snapshots of the metadata.
    pub snapshots: Snapshots,
    /// What log compaction does.
    pub cleaning: CleanerMetrics,
    /// The topics.
    pub topics: Topics,
    /// The logs.
    pub logs: Arc<Logs>,
    /// The write-ahead log.
    pub wal: Wal,
    /// The tail of the logs.
    pub cache: LogCache,
    /// Older data.
    pub reader: BlockReader,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// Incremental fetch sessions.
    pub sessions: FetchSessions,
    /// Groups.
    pub groups: GroupCoordinator,
    /// What is set for single groups.
    pub group_configs: Arc<GroupConfigs>,
    /// Transactions.
    pub transactions: TransactionCoordinator,
    /// Bounds on memory, by class.
    pub budgets: Budgets,
    /// Charges responses.
    pub responses: ResponseMemory,
    /// Rewrites of stored data.
    pub compaction: Compaction,
    /// Held while a rewrite is committed, see [`Broker::rewrite`].
    pub rewriting: tokio::sync::Mutex<()>,
}

/// The bounds on memory that requests are charged to.
#[derive(Clone)]
pub struct Budgets {
    /// Produce requests, from the socket until their batches leave the log cache.
    pub produce: Budget,
    /// All other requests, while they are decoded and handled.
    pub requests: Budget,
    /// Those of them that are on their way in, until they are charged to `requests`.
    pub receiving: Budget,
    /// Responses that wait for their client.
    pub responses: Budget,
    /// Blocks on their way from the object store.
    pub block_reads: Budget,
    /// Blocks that are held for consumers that have not asked for them yet.
    pub read_ahead: Budget,
    /// The decompression of batches whose records must be seen. Who holds some of it waits for nothing else.
    pub unpacking: Budget,
}

impl Budgets {
    fn new(settings: &BrokerSettings) -> Self {
        let memory = settings.memory;
        Self {
            produce: Budget::keeping_some_for_small("produce", memory.produce),
            requests: Budget::keeping_some_for_small("requests", memory.requests),
            receiving: Budget::new("receiving", memory.receiving),
            responses: Budget::keeping_some_for_small("responses", memory.responses),
            block_reads: Budget::new("block_reads", memory.block_reads),
            read_ahead: Budget::new("read_ahead", memory.read_ahead),
            unpacking: Budget::new("unpacking", memory.unpacking),
        }
    }
}

/// How long a start that has failed waits for the end of its incarnation in good order.
const RETIREMENT: Duration = Duration::from_secs(5);

/// How many dead incarnations are taken over at a time.
const PARALLEL_TAKE_OVERS: usize = 8;

/// Wait before an incarnation is looked at again that another broker is taking over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Broker {
    /// Starts a new life of the broker on `store` and `kv`: registers it, takes over what earlier lives left in their WALs,
    /// becomes the owner of all logs and opens them.
    pub async fn start(
        runtime: Runtime,
        store: Store,
        kv: Arc<dyn KeyValueStore>,
        cluster_id: String,
        settings: BrokerSettings,
        resolve: ResolveSettings,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let metadata = Metadata::new(kv, runtime.clone());
        metadata.check_whole().await?;
        let record = metadata.register(settings.broker, settings.wal.window).await?;
        let (index, settled) = match recover(&runtime, &store, &metadata, &record).await {
            Ok(recovered) => recovered,
            Err(error) => return Err(cause(&metadata, &record, error).await),
        };
        let owner = metadata.take_ownership(&record).await?;
        tracing::info!(incarnation = %record.incarnation, epoch = %owner.leader_epoch, "owns all logs");

        let stored = Stored::open(&metadata).await?;
        let budgets = Budgets::new(&settings);
        let cache = LogCache::new(settings.memory.log_cache, registry);
        let logs = Arc::new(Logs::new(
            cache.clone(),
            index.clone(),
            ProducerMemory::new(settings.memory.producer_states),
        ));
        let blocks = BlockCacheSettings {
            memory: settings.memory.block_cache,
            disk: settings.cache_disk.clone(),
            cluster_id: cluster_id.clone(),
            reads: budgets.block_reads.clone(),
            read_ahead: budgets.read_ahead.clone(),
        };
        let reader = BlockReader::new(runtime.clone(), store.clone(), index.clone(), blocks, registry);
        let compaction = Compaction::new(store.clone(), index.clone(), settings.compaction.clone(), registry);
        let incarnation = record.incarnation;
        let registered = record.clone();
        let wal = Wal::start(
            runtime.clone(),
            store.clone(),
            metadata.clone(),
            record,
            settings.wal.clone(),
            logs.clone(),
            registry.sub_registry_with_prefix("thalweg"),
        );
        let snapshots = Snapshots::new(
            runtime.clone(),
            store.clone(),
            metadata.clone(),
            cluster_id.clone(),
            owner,
            settings.snapshot_interval,
        );
        let topics = Topics::open(metadata.clone(), index, wal.clone(), logs.clone(), owner, resolve).await;
        let topics = match topics {
            Ok(topics) => topics,
            Err(error) => {
                let error = cause(&metadata, &registered, error.into()).await;
                retire(&wal).await;
                return Err(error);
            }
        };
        // Whoever was paused since it became the owner may have read what its successor has written by now.
        let found = metadata.incarnation(incarnation).await?;
        if !found.as_ref().is_some_and(|found| found.state == IncarnationState::Open) {
            return Err(MetadataError::Fenced { incarnation, found }.into());
        }
        let dynamic = Arc::new(settings.dynamic.clone());
        let means = Means::new(
            runtime.clone(),
            wal.clone(),
            cache.clone(),
            budgets.produce.clone(),
            settings.memory.groups,
        );
        let group_configs = Arc::new(GroupConfigs::default());
        let (rack, configs) = (settings.rack.clone(), group_configs.clone());
        let view = Arc::new(GroupsView { topics: topics.list(), rack, configs });
        let groups = GroupCoordinator::of_groups(means.clone(), settings.groups.clone(), view);
        let transactions = TransactionCoordinator::of_transactions(means, settings.transactions.clone());
        let broker = Arc::new(Self {
            producer_ids: ProducerIds::new(metadata.clone()),
            sessions: FetchSessions::new(dynamic.fetch_sessions),
            dynamic: RwLock::new(dynamic),
            deletion: Deletion::start(&runtime, store.clone()),
            runtime,
            settings,
            cluster_id,
            store,
            settled,
            metadata,
            stored,
            loggers: Loggers::default(),
            snapshots,
            cleaning: CleanerMetrics::register(registry),
            topics,
            logs,
            wal,
            cache,
            reader,
            groups,
            group_configs,
            transactions,
            responses: ResponseMemory::new(budgets.responses.clone()),
            compaction,
            rewriting: tokio::sync::Mutex::default(),
            budgets,
        });
        broker.load_groups();
        broker.load_transactions();
        Ok(broker)
    }

    /// The settings that can change, as they are now.
    pub fn dynamic(&self) -> Arc<DynamicSettings> {
        self.dynamic.read().clone()
    }

    /// Bytes of a log from its start on: what the object index holds, and the tail behind it.
    pub fn log_bytes(&self, log: &Log) -> u64 {
        let (id, start) = (log.id(), log.view().start);
        let index = self.topics.index();
        let indexed_end = index.committed_end(id);
        let tail = self.cache.bytes_from(id, indexed_end.max(start));
        index.bytes(id, start, indexed_end).saturating_add(tail as u64)
    }

    /// Becomes the reason once another process owns this broker's logs.
    pub fn fenced(&self) -> watch::Receiver<Option<String>> {
        self.logs.fenced()
    }

    /// The orderly end, once no request is in hand: flushes everything, so that the next start has nothing to recover.
    pub async fn close(&self) -> Result<(), WalError> {
        self.logs.close_all(Closed::NotOwner);
        self.wal.close().await?;
        self.snapshots.take_last().await;
        if let Err(error) = self.metadata.close().await {
            tracing::warn!(%error, "the metadata store did not close in good order");
        }
        Ok(())
    }
}

/// Why a start failed. Whoever has overtaken this broker may have replaced, and deleted, an object that it was still reading: then
/// that is the reason, and not that the object is missing.
async fn cause(metadata: &Metadata, record: &IncarnationRecord, error: StartError) -> StartError {
    if !error.is_missing() {
        return error;
    }
    match metadata.confirm(record).await {
        Ok(()) => error,
        Err(overtaken) => overtaken.into(),
    }
}

/// Ends an incarnation whose start has failed: it has written nothing, and the next start need not fence it.
async fn retire(wal: &Wal) {
    // Where it can't, the next start recovers it as any other.
    let _ = tokio::time::timeout(RETIREMENT, wal.close()).await;
}

/// Takes over every incarnation that is not recovered, then loads the object index. Returns with it those that were recovered
/// before.
async fn recover(
    runtime: &Runtime,
    store: &Store,
    metadata: &Metadata,
    record: &IncarnationRecord,
) -> Result<(ObjectIndex, BTreeSet<Incarnation>), StartError> {
    loop {
        let mut others = metadata.incarnations().await?;
        others.retain(|other| other.incarnation != record.incarnation);
        let (settled, dead): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|other| other.state == IncarnationState::Recovered);
        if dead.is_empty() {
            let index = ObjectIndex::load(metadata, store.clone()).await?;
            return Ok((index, settled.iter().map(|other| other.incarnation).collect()));
        }
        let take_over = |other: IncarnationRecord| async move {
            let owned = Owned { store, metadata, dead: other.incarnation };
            match take_over(runtime, store, metadata, other.incarnation, record, &owned).await {
                // Another recoverer was faster, or comes after us: look again.
                Err(RecoveryError::Metadata(MetadataError::Conflict { .. })) => Ok(false),
                taken => taken.map(|_| true),
            }
        };
        let taken: Vec<bool> =
            stream::iter(dead).map(take_over).buffer_unordered(PARALLEL_TAKE_OVERS).try_collect().await?;
        if taken.contains(&false) {
            tokio::time::sleep(runtime.random().jitter(LOOK_AGAIN)).await;
        }
    }
}

/// What a dead incarnation owns: all logs, if the owner's record names it, else none.
struct Owned<'a> {
    store: &'a Store,
    metadata: &'a Metadata,
    dead: Incarnation,
}

#[async_trait]
impl thalweg_wal::Logs for Owned<'_> {
    async fn may_have_written(&self) -> Result<bool, IndexError> {
        Ok(self.metadata.owner().await?.is_some_and(|owner| owner.incarnation == self.dead))
    }

    async fn owned(&self, logs: &BTreeSet<LogId>) -> Result<BTreeMap<LogId, OwnedLog>, IndexError> {
        let owner = self.metadata.owner().await?.filter(|owner| owner.incarnation == self.dead);
        let Some(owner) = owner else { return Ok(BTreeMap::new()) };
        let index = ObjectIndex::load(self.metadata, self.store.clone()).await?;
        let log = |id: &LogId| OwnedLog {
            committed_end: index.committed_end(*id),
            leader_epoch: owner.leader_epoch,
        };
        Ok(logs.iter().map(|id| (*id, log(id))).collect())
    }
}
