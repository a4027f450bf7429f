//! Settings that change while the broker runs, and the periodic work that depends on them.

use crate::{
    broker::Broker,
    config::{Config, Resolved},
};
use parking_lot::RwLock;
use std::{sync::Arc, time::Duration};
use thalweg_metadata::MetadataError;

/// How often silent producers are looked for; Kafka's `producer.id.expiration.check.interval.ms`.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

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

/// Forgets silent idempotent producers, now and then, for as long as the broker lives.
pub fn expire_producers(broker: &Arc<Broker>) {
    let weak = Arc::downgrade(broker);
    let task = broker.runtime.spawn(async move {
        loop {
            tokio::time::sleep(EXPIRY_INTERVAL).await;
            let Some(broker) = weak.upgrade() else { return };
            let silence = broker.dynamic().producer_id_expiration.as_millis();
            let before = broker.runtime.now_ms().saturating_sub(i64::try_from(silence).unwrap_or(i64::MAX));
            broker.logs.all().iter().for_each(|log| log.expire_producers(before));
        }
    });
    task.detach();
}
