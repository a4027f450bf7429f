//! What administrators have stored beside topics and brokers' settings: settings of groups and of subscriptions to clients'
//! metrics, quotas, credentials, levels of features.
//!
//! All of it is in memory, as it is in the metadata store. Readers never wait; changes are made one after another, and are
//! seen once they are durable.

use crate::config::{Config, GroupConfig, Resolved, Values};
use async_trait::async_trait;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use thalweg_metadata::{
    FeaturesRecord, Metadata, MetadataError, QuotaEntity, QuotaRecord, ResourceKind, ScramRecord,
};
use thalweg_protocol::{FEATURES, Feature};

/// All of it.
pub struct Stored {
    /// Settings of groups, by id.
    pub groups: Records<Groups>,
    /// Subscriptions to clients' metrics, by name.
    pub client_metrics: Records<ClientMetrics>,
    /// Quotas of users, clients and addresses.
    pub quotas: Records<Quotas>,
    /// Credentials by the number of their mechanism (1 SCRAM-SHA-256, 2 SCRAM-SHA-512) and the user's name.
    pub scram: Records<Scram>,
    /// Levels of features.
    pub features: Records<Features>,
}

impl Stored {
    /// Reads it from the metadata store.
    pub async fn open(metadata: &Metadata) -> Result<Self, MetadataError> {
        let (groups, client_metrics, quotas, scram, features) = tokio::try_join!(
            Records::open(metadata),
            Records::open(metadata),
            Records::open(metadata),
            Records::open(metadata),
            Records::open(metadata),
        )?;
        Ok(Self { groups, client_metrics, quotas, scram, features })
    }

    /// What holds for the group called `id`.
    pub fn group_config(&self, config: &Config, resolved: &Resolved, id: &str) -> GroupConfig {
        GroupConfig::resolve(config, resolved, &self.groups.get(&id.to_owned()).unwrap_or_default())
    }

    /// Whether the cluster has the feature of eligible leader replicas (KIP-966).
    pub fn has_eligible_replicas(&self) -> bool {
        let (features, _) = self.feature_levels();
        features
            .iter()
            .any(|feature| feature.name == "eligible.leader.replicas.version" && feature.finalized > 0)
    }

    /// The features at the levels that are in force, and the epoch of those.
    pub fn feature_levels(&self) -> (Vec<Feature>, i64) {
        let stored = self.features.get(&()).unwrap_or_default();
        let level = |feature: &Feature| stored.levels.get(feature.name).copied().unwrap_or(feature.finalized);
        let features = FEATURES.iter().map(|feature| Feature { finalized: level(feature), ..*feature });
        (features.collect(), stored.epoch)
    }
}

/// Records of one kind in the metadata store.
#[async_trait]
pub trait RecordKind: Send + Sync + 'static {
    /// What names one.
    type Key: Ord + Clone + Send + Sync;
    /// What it says. A record that says nothing is none.
    type Record: Clone + PartialEq + Send + Sync;

    /// Reads all of them.
    async fn read(metadata: &Metadata) -> Result<BTreeMap<Self::Key, Self::Record>, MetadataError>;

    /// Replaces one, or with none takes it away; `Conflict` where it is no longer `held`.
    async fn replace(
        metadata: &Metadata,
        key: &Self::Key,
        held: Option<&Self::Record>,
        new: Option<&Self::Record>,
    ) -> Result<(), MetadataError>;
}

/// Why a record was not changed.
#[derive(Debug)]
pub enum ChangeError<E> {
    /// Whoever wanted the change does not want it to what is there.
    Refused(E),
    /// The metadata store did not take it, or it isn't known whether it did.
    Store(MetadataError),
}

/// The records of one kind, as they are stored.
pub struct Records<K: RecordKind> {
    metadata: Metadata,
    known: RwLock<BTreeMap<K::Key, K::Record>>,
    /// Changes are made one after another, so that what is stored and what is known stay the same.
    changing: tokio::sync::Mutex<()>,
}

impl<K: RecordKind> Records<K> {
    async fn open(metadata: &Metadata) -> Result<Self, MetadataError> {
        let known = RwLock::new(K::read(metadata).await?);
        Ok(Self { metadata: metadata.clone(), known, changing: tokio::sync::Mutex::default() })
    }

    /// One record.
    pub fn get(&self, key: &K::Key) -> Option<K::Record> {
        self.known.read().get(key).cloned()
    }

    /// What names them, in order.
    pub fn keys(&self) -> Vec<K::Key> {
        self.known.read().keys().cloned().collect()
    }

    /// Hands every record to `see`, in order. Changes wait meanwhile.
    pub fn each(&self, mut see: impl FnMut(&K::Key, &K::Record)) {
        self.known.read().iter().for_each(|(key, record)| see(key, record));
    }

    /// Changes one record by `change`, which sees it as it is and says what it is to be; none takes it away.
    pub async fn change<E>(
        &self,
        key: &K::Key,
        change: impl FnOnce(Option<&K::Record>) -> Result<Option<K::Record>, E>,
    ) -> Result<(), ChangeError<E>> {
        let _one_at_a_time = self.changing.lock().await;
        let held = self.get(key);
        let new = change(held.as_ref()).map_err(ChangeError::Refused)?;
        if new == held {
            return Ok(());
        }
        let replaced = K::replace(&self.metadata, key, held.as_ref(), new.as_ref()).await;
        match replaced {
            Ok(()) => {
                let mut known = self.known.write();
                match new {
                    Some(new) => known.insert(key.clone(), new),
                    None => known.remove(key),
                };
                Ok(())
            }
            Err(error @ MetadataError::Conflict { .. }) => {
                // An attempt whose outcome was unknown has been applied since.
                let read = K::read(&self.metadata).await.map_err(ChangeError::Store)?;
                *self.known.write() = read;
                Err(ChangeError::Store(error))
            }
            Err(error) => Err(ChangeError::Store(error)),
        }
    }
}

/// Settings of groups.
pub enum Groups {}
/// Settings of subscriptions to clients' metrics.
pub enum ClientMetrics {}
/// Quotas.
pub enum Quotas {}
/// Credentials.
pub enum Scram {}
/// Levels of features: one record.
pub enum Features {}

macro_rules! resource_configs {
    ($($name:ident),*) => {$(
        #[async_trait]
        impl RecordKind for $name {
            type Key = String;
            type Record = Values;

            async fn read(metadata: &Metadata) -> Result<BTreeMap<String, Values>, MetadataError> {
                metadata.resource_configs($name::KIND).await
            }

            async fn replace(
                metadata: &Metadata,
                name: &String,
                held: Option<&Values>,
                new: Option<&Values>,
            ) -> Result<(), MetadataError> {
                let none = Values::new();
                let (held, new) = (held.unwrap_or(&none), new.unwrap_or(&none));
                metadata.set_resource_configs($name::KIND, name, held, new).await
            }
        }
    )*};
}

impl Groups {
    const KIND: ResourceKind = ResourceKind::Group;
}

impl ClientMetrics {
    const KIND: ResourceKind = ResourceKind::ClientMetrics;
}

resource_configs!(Groups, ClientMetrics);

#[async_trait]
impl RecordKind for Quotas {
    type Key = QuotaEntity;
    type Record = QuotaRecord;

    async fn read(metadata: &Metadata) -> Result<BTreeMap<QuotaEntity, QuotaRecord>, MetadataError> {
        metadata.quotas().await
    }

    async fn replace(
        metadata: &Metadata,
        entity: &QuotaEntity,
        held: Option<&QuotaRecord>,
        new: Option<&QuotaRecord>,
    ) -> Result<(), MetadataError> {
        let none = QuotaRecord::default();
        metadata.set_quotas(entity, held.unwrap_or(&none), new.unwrap_or(&none)).await
    }
}

#[async_trait]
impl RecordKind for Scram {
    type Key = (u8, String);
    type Record = ScramRecord;

    async fn read(metadata: &Metadata) -> Result<BTreeMap<(u8, String), ScramRecord>, MetadataError> {
        metadata.scram_credentials().await
    }

    async fn replace(
        metadata: &Metadata,
        (mechanism, user): &(u8, String),
        held: Option<&ScramRecord>,
        new: Option<&ScramRecord>,
    ) -> Result<(), MetadataError> {
        metadata.set_scram_credential(*mechanism, user, held, new).await
    }
}

#[async_trait]
impl RecordKind for Features {
    type Key = ();
    type Record = FeaturesRecord;

    async fn read(metadata: &Metadata) -> Result<BTreeMap<(), FeaturesRecord>, MetadataError> {
        let record = metadata.features().await?;
        Ok(Some(record)
            .filter(|record| *record != FeaturesRecord::default())
            .map(|record| ((), record))
            .into_iter()
            .collect())
    }

    async fn replace(
        metadata: &Metadata,
        (): &(),
        held: Option<&FeaturesRecord>,
        new: Option<&FeaturesRecord>,
    ) -> Result<(), MetadataError> {
        let none = FeaturesRecord::default();
        metadata.set_features(held.unwrap_or(&none), new.unwrap_or(&none)).await
    }
}
