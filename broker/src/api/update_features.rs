//! UpdateFeatures: raises and lowers the levels of features (KIP-584, KIP-1022).

use super::{
    Handlers,
    topic_admin::{Refused, sentence},
};
use crate::{
    context::{Operation, RequestContext, Resource},
    stored::ChangeError,
};
use std::collections::BTreeMap;
use thalweg_metadata::FeaturesRecord;
use thalweg_protocol::{ErrorCode, FEATURES, Feature, messages::*};

use update_features_response::UpdatableFeatureResult;

/// The kinds of changes.
const UPGRADE: i8 = 1;
const UNSAFE_DOWNGRADE: i8 = 3;

const METADATA_VERSION: &str = "metadata.version";
const KRAFT_VERSION: &str = "kraft.version";

impl Handlers {
    pub(super) async fn update_features(
        &self,
        context: &RequestContext,
        version: i16,
        request: UpdateFeaturesRequest,
    ) -> UpdateFeaturesResponse {
        // Of a feature that is named twice the last counts.
        let updates = request
            .feature_updates
            .iter()
            .map(|update| (update.feature.to_string(), (update.max_version_level, update.upgrade_type)));
        let outcome = self.change_features(context, updates.collect(), request.validate_only).await;
        let response = UpdateFeaturesResponse::default();
        if let Err(Refused(code, message)) = outcome {
            return response.with_error_code(code.code()).with_error_message(Some(sentence(message)));
        }
        let response = response.with_error_message(None);
        match version {
            ..2 => response.with_results(
                request
                    .feature_updates
                    .into_iter()
                    .map(|update| {
                        UpdatableFeatureResult::default()
                            .with_feature(update.feature)
                            .with_error_message(None)
                    })
                    .collect(),
            ),
            _ => response,
        }
    }

    async fn change_features(
        &self,
        context: &RequestContext,
        updates: BTreeMap<String, (i16, i8)>,
        validate_only: bool,
    ) -> Result<(), Refused> {
        if !self.authorizer.allows(context, Operation::Alter, Resource::Cluster) {
            let message = "Cluster authorization failed.";
            return Err(Refused(ErrorCode::ClusterAuthorizationFailed, message.into()));
        }
        let node = self.broker.settings.broker.0;
        let changed = |held: Option<&FeaturesRecord>| {
            let mut record = held.cloned().unwrap_or_default();
            for (name, (level, kind)) in &updates {
                let message = match check_update(&record, node, name, *level, *kind) {
                    Ok(()) => continue,
                    Err(message) => message,
                };
                let prefix = "The update failed for all features since the following feature had an error: ";
                return Err(Refused(ErrorCode::InvalidUpdateVersion, format!("{prefix}{message}")));
            }
            let levels = updates.iter().map(|(name, (level, _))| (name.clone(), *level));
            record.levels.extend(levels.filter(|(name, level)| level_in(held, name) != Some(*level)));
            if held.is_none_or(|held| held.levels != record.levels) && !record.levels.is_empty() {
                record.epoch += 1;
            }
            Ok(Some(record).filter(|record| *record != FeaturesRecord::default()))
        };
        let features = &self.broker.stored.features;
        if validate_only {
            return changed(features.get(&()).as_ref()).map(|_| ());
        }
        features.change(&(), changed).await.map_err(|error| match error {
            ChangeError::Refused(refused) => refused,
            ChangeError::Store(error) => error.into(),
        })
    }
}

fn feature(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// The level in force.
fn level_in(record: Option<&FeaturesRecord>, name: &str) -> Option<i16> {
    let stored = record.and_then(|record| record.levels.get(name)).copied();
    stored.or_else(|| feature(name).map(|feature| feature.finalized))
}

/// Whether a feature can be set to `level`; else the reason, as Kafka words it.
fn check_update(record: &FeaturesRecord, node: i32, name: &str, level: i16, kind: i8) -> Result<(), String> {
    let invalid =
        |message: &str| Err(format!("Invalid update version {level} for feature {name}. {message}"));
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
        return invalid("The controller does not support the given upgrade type.");
    }
    if level < 0 {
        return invalid("A feature version cannot be less than 0.");
    }
    let current = level_in(Some(record), name).unwrap_or(0);
    match feature(name) {
        None if level != 0 => {
            return invalid(&format!("Local controller {node} does not support this feature."));
        }
        Some(Feature { min, max, .. }) if !(*min..=*max).contains(&level) => {
            return invalid(&format!("Local controller {node} only supports versions {min}-{max}"));
        }
        _ => {}
    }
    if level < current && kind == UPGRADE {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        );
    }
    if level > current && kind != UPGRADE {
        return invalid("Can't downgrade to a newer version.");
    }
    match name {
        METADATA_VERSION if level < current => {
            let reason = match kind {
                UNSAFE_DOWNGRADE => "Unsafe metadata downgrade is not supported in this version.",
                _ => {
                    "Refusing to perform the requested downgrade because it might delete metadata information."
                }
            };
            Err(format!("Unsupported metadata.version downgrade from {current} to {level}. {reason}"))
        }
        KRAFT_VERSION if level < current => invalid("Can't downgrade the version of this feature."),
        _ if feature(name).is_none() => invalid(&format!("Feature {name} not found.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE_DOWNGRADE: i8 = 2;

    fn refusal(name: &str, level: i16, kind: i8) -> Option<String> {
        check_update(&FeaturesRecord::default(), 1, name, level, kind).err()
    }

    #[test]
    fn levels_are_refused_in_kafkas_words() {
        for (name, level, kind, expected) in [
            (
                "nope.version",
                1,
                UPGRADE,
                "Invalid update version 1 for feature nope.version. Local controller 1 does not support this feature.",
            ),
            (
                "nope.version",
                0,
                UPGRADE,
                "Invalid update version 0 for feature nope.version. Feature nope.version not found.",
            ),
            (
                "metadata.version",
                99,
                UPGRADE,
                "Invalid update version 99 for feature metadata.version. Local controller 1 only supports versions 7-30",
            ),
            (
                "metadata.version",
                29,
                UPGRADE,
                "Invalid update version 29 for feature metadata.version. Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
            ),
            (
                "metadata.version",
                29,
                SAFE_DOWNGRADE,
                "Unsupported metadata.version downgrade from 30 to 29. Refusing to perform the requested downgrade because it might delete metadata information.",
            ),
            (
                "metadata.version",
                29,
                UNSAFE_DOWNGRADE,
                "Unsupported metadata.version downgrade from 30 to 29. Unsafe metadata downgrade is not supported in this version.",
            ),
            (
                "metadata.version",
                -1,
                UPGRADE,
                "Invalid update version -1 for feature metadata.version. A feature version cannot be less than 0.",
            ),
            (
                "metadata.version",
                30,
                0,
                "Invalid update version 30 for feature metadata.version. The controller does not support the given upgrade type.",
            ),
            (
                "kraft.version",
                0,
                SAFE_DOWNGRADE,
                "Invalid update version 0 for feature kraft.version. Can't downgrade the version of this feature.",
            ),
        ] {
            assert_eq!(refusal(name, level, kind).as_deref(), Some(expected));
        }
        assert_eq!(refusal("metadata.version", 30, UPGRADE), None);
        assert_eq!(refusal("eligible.leader.replicas.version", 0, SAFE_DOWNGRADE), None);
    }
}
