//! Quotas, credentials and levels of features, as they are stored.

use crate::*;
use bytes::Bytes;
use std::collections::BTreeMap;

impl Metadata {
    /// The quotas of every entity that has some.
    pub async fn quotas(&self) -> Result<BTreeMap<QuotaEntity, QuotaRecord>, MetadataError> {
        let rows = self.call().scan(keys::QUOTA).await?;
        rows.iter().map(|(key, value)| Ok((keys::parse_quota(key)?, QuotaRecord::decode(value)?))).collect()
    }

    /// Replaces the quotas of one entity (none are no record); `Conflict` where they are no longer `held`.
    pub async fn set_quotas(
        &self,
        entity: &QuotaEntity,
        held: &QuotaRecord,
        quotas: &QuotaRecord,
    ) -> Result<(), MetadataError> {
        let stored = |record: &QuotaRecord| (!record.values.is_empty()).then(|| record.encode());
        let replaced = self.call().replace(keys::quota(entity), stored(held), stored(quotas)).await?;
        if replaced { Ok(()) } else { Err(MetadataError::conflict("a quota")) }
    }

    /// Every credential, by the number of its mechanism and the user's name.
    pub async fn scram_credentials(&self) -> Result<BTreeMap<(u8, String), ScramRecord>, MetadataError> {
        let rows = self.call().scan(keys::SCRAM).await?;
        rows.iter().map(|(key, value)| Ok((keys::parse_scram(key)?, ScramRecord::decode(value)?))).collect()
    }

    /// Replaces a credential, or takes it away; `Conflict` where it is no longer `held`.
    pub async fn set_scram_credential(
        &self,
        mechanism: u8,
        user: &str,
        held: Option<&ScramRecord>,
        credential: Option<&ScramRecord>,
    ) -> Result<(), MetadataError> {
        let stored = |record: Option<&ScramRecord>| record.map(ScramRecord::encode);
        let key = keys::scram(mechanism, user);
        let replaced = self.call().replace(key, stored(held), stored(credential)).await?;
        if replaced { Ok(()) } else { Err(MetadataError::conflict("a credential")) }
    }

    /// The levels of features that were changed.
    pub async fn features(&self) -> Result<FeaturesRecord, MetadataError> {
        let stored = self.call().get(&Bytes::from_static(keys::FEATURES)).await?;
        Ok(stored.as_deref().map(FeaturesRecord::decode).transpose()?.unwrap_or_default())
    }

    /// Replaces them; `Conflict` where they are no longer `held`.
    pub async fn set_features(
        &self,
        held: &FeaturesRecord,
        features: &FeaturesRecord,
    ) -> Result<(), MetadataError> {
        let stored =
            |record: &FeaturesRecord| (*record != FeaturesRecord::default()).then(|| record.encode());
        let key = Bytes::from_static(keys::FEATURES);
        let replaced = self.call().replace(key, stored(held), stored(features)).await?;
        if replaced { Ok(()) } else { Err(MetadataError::conflict("the levels of features")) }
    }
}
