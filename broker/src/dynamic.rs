//! Settings that change while the broker runs.

use crate::{
    broker::Broker,
    config::{Config, GroupConfig, Resolved},
    coordinator::groups::cluster::GroupOverrides,
};
use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};
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
    broker.group_configs.set_assignment_interval_ms(dynamic.consumer_assignment_interval_ms);
    *broker.dynamic.write() = dynamic;
    apply_groups(broker, config, resolved);
    broker.topics.refresh_settings().await;
}

/// Puts the settings of single groups in force.
pub fn apply_groups(broker: &Broker, config: &Config, resolved: &RwLock<Resolved>) {
    let resolved = resolved.read();
    let mut all = BTreeMap::new();
    broker.stored.groups.each(|id, own| {
        let group = GroupConfig::resolve(config, &resolved, own);
        let overrides = GroupOverrides {
            session_timeout_ms: Some(group.consumer_session_timeout_ms),
            heartbeat_interval_ms: Some(group.consumer_heartbeat_interval_ms),
            assignment_interval_ms: Some(group.consumer_assignment_interval_ms),
        };
        all.insert(id.clone(), overrides);
    });
    broker.group_configs.replace(all);
}
