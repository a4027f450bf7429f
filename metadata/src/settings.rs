//! Dynamic settings of brokers, groups and subscriptions to clients' metrics.

use crate::{
    call::{Call, Outcome},
    *,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use thalweg_segment::BrokerId;

/// What has settings of its own, other than topics and brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// A group, by its id (KIP-848).
    Group,
    /// A subscription to clients' metrics, by its name (KIP-714).
    ClientMetrics,
}

impl Metadata {
    /// The settings of every resource of a kind that has some, by name.
    pub async fn resource_configs(
        &self,
        kind: ResourceKind,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, MetadataError> {
        let rows = self.call().scan(keys::resources(kind)).await?;
        rows.iter()
            .map(|(key, value)| Ok((keys::parse_resource(kind, key)?, decode_settings(value)?)))
            .collect()
    }

    /// Replaces those of one; `Conflict` where they are no longer `held`.
    pub async fn set_resource_configs(
        &self,
        kind: ResourceKind,
        name: &str,
        held: &BTreeMap<String, String>,
        configs: &BTreeMap<String, String>,
    ) -> Result<(), MetadataError> {
        let key = keys::resource(kind, name);
        self.replace_settings(key, held, configs, "the configuration of a resource").await
    }

    /// Dynamic settings of one broker, or with none the default of all.
    pub async fn broker_configs(
        &self,
        broker: Option<BrokerId>,
    ) -> Result<BTreeMap<String, String>, MetadataError> {
        let stored = self.call().get(&keys::config(broker)).await?;
        Ok(stored.as_deref().map(decode_settings).transpose()?.unwrap_or_default())
    }

    /// Replaces them; `Conflict` where they are no longer `held`.
    pub async fn set_broker_configs(
        &self,
        broker: Option<BrokerId>,
        held: &BTreeMap<String, String>,
        configs: BTreeMap<String, String>,
    ) -> Result<(), MetadataError> {
        self.replace_settings(keys::config(broker), held, &configs, "the configuration of brokers").await
    }

    /// No settings at all are no record.
    async fn replace_settings(
        &self,
        key: Bytes,
        held: &BTreeMap<String, String>,
        configs: &BTreeMap<String, String>,
        what: &str,
    ) -> Result<(), MetadataError> {
        let stored = |settings: &BTreeMap<_, _>| (!settings.is_empty()).then(|| encode_settings(settings));
        let replaced = self.call().replace(key, stored(held), stored(configs)).await?;
        if replaced { Ok(()) } else { Err(MetadataError::conflict(what)) }
    }
}

impl Call<'_> {
    /// Replaces `old` by `new` at `key` (none for no such key). False where something else stands there. That `new` stands
    /// there already counts as done: an earlier attempt, or somebody else who wanted the same.
    pub async fn replace(
        &mut self,
        key: Bytes,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, MetadataError> {
        let transaction = Transaction::default().compare(key.clone(), old.clone());
        let transaction = match new.clone() {
            Some(value) => transaction.put(key.clone(), value),
            None => transaction.delete(key.clone()),
        };
        while self.transact(transaction.clone()).await? != Outcome::Applied {
            match self.get(&key).await? {
                found if found == new => return Ok(true),
                found if found == old => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
