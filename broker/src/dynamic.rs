//! Settings that change while the broker runs.

use crate::{
    broker::Broker,
    config::{Config, Resolved},
};
use parking_lot::RwLock;
use std::sync::Arc;
use thalweg_metadata::MetadataError;

/// Reads what AlterConfigs has stored and puts it in force.
pub async fn load(
    broker: &Broker,
    config: &Config,
    resolved: &RwLock<Resolved>,
) -> Result<(), MetadataError> {
    let stored = Resolved {
        broker: broker.metadata.broker_configs(Some(broker.settings.broker)).await?,
        cluster: broker.metadata.broker_configs(None).await?,
    };
    *resolved.write() = stored;
    apply(broker, config, resolved).await;
    Ok(())
}

/// Puts the settings of `resolved` in force.
pub async fn apply(broker: &Broker, config: &Config, resolved: &RwLock<Resolved>) {
    let dynamic = Arc::new(resolved.read().dynamic(config));
    *broker.dynamic.write() = dynamic;
    broker.topics.refresh_settings().await;
}
