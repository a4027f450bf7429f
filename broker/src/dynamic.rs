//! Settings that change while the broker runs.

use crate::{
    broker::Broker,
    config::{Config, Resolved},
};
use parking_lot::RwLock;
use std::sync::Arc;
use thalweg_metadata::MetadataError;

/// Where eligible leader replicas are on (KIP-966), Kafka has one value of this for the whole cluster, taken from the first start's
/// settings, and shows it with every topic. It means nothing here.
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Reads what AlterConfigs has stored and puts it in force.
pub async fn load(
    broker: &Broker,
    config: &Config,
    resolved: &RwLock<Resolved>,
) -> Result<(), MetadataError> {
    let mut cluster = broker.metadata.broker_configs(None).await?;
    if broker.stored.has_eligible_replicas() && !cluster.contains_key(MIN_INSYNC_REPLICAS) {
        let held = cluster.clone();
        cluster.insert(MIN_INSYNC_REPLICAS.to_owned(), config.text(MIN_INSYNC_REPLICAS).to_owned());
        broker.metadata.set_broker_configs(None, &held, cluster.clone()).await?;
    }
    let of_broker = broker.metadata.broker_configs(Some(broker.settings.broker)).await?;
    *resolved.write() = Resolved { broker: of_broker, cluster };
    apply(broker, config, resolved).await;
    Ok(())
}

/// Puts the settings of `resolved` in force.
pub async fn apply(broker: &Broker, config: &Config, resolved: &RwLock<Resolved>) {
    let dynamic = Arc::new(resolved.read().dynamic(config));
    *broker.dynamic.write() = dynamic;
    broker.topics.refresh_settings().await;
}
