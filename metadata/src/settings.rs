//! Dynamic settings of brokers.

use crate::{
    call::{Call, Outcome},
    *,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use thalweg_segment::BrokerId;

impl Metadata {
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
        let stored = |settings: &BTreeMap<_, _>| (!settings.is_empty()).then(|| encode_settings(settings));
        let replaced = self.call().replace(keys::config(broker), stored(held), stored(&configs)).await?;
        if replaced { Ok(()) } else { Err(MetadataError::conflict("the configuration of brokers")) }
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
