//! ListConfigResources: what has settings (KIP-1142). Version 0 knows subscriptions to clients' metrics alone.

use super::{
    Handlers,
    alter_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC},
};
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

use list_config_resources_response::ConfigResource;

/// In the order in which Kafka lists them.
const ALL: [i8; 5] = [GROUP, CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC];

impl Handlers {
    pub(super) fn list_config_resources(
        &self,
        context: &RequestContext,
        version: i16,
        request: &ListConfigResourcesRequest,
    ) -> ListConfigResourcesResponse {
        let refused = |code: ErrorCode| ListConfigResourcesResponse::default().with_error_code(code.code());
        if !self.authorizer.allows(context, Operation::DescribeConfigs, Resource::Cluster) {
            return refused(ErrorCode::ClusterAuthorizationFailed);
        }
        let known: &[i8] = if version == 0 { &[CLIENT_METRICS] } else { &ALL };
        let wanted = &request.resource_types;
        if wanted.iter().any(|kind| !known.contains(kind)) {
            return refused(ErrorCode::UnsupportedVersion);
        }
        let listed = known.iter().filter(|kind| wanted.is_empty() || wanted.contains(kind));
        let resources = listed.flat_map(|kind| {
            let resource = ConfigResource::default().with_resource_type(*kind);
            let named = move |name: String| resource.clone().with_resource_name(name.into());
            self.names_of(*kind).into_iter().map(named)
        });
        ListConfigResourcesResponse::default().with_config_resources(resources.collect())
    }

    fn names_of(&self, kind: i8) -> Vec<String> {
        match kind {
            GROUP => self.broker.stored.groups.keys(),
            CLIENT_METRICS => self.broker.stored.client_metrics.keys(),
            TOPIC => self.broker.topics.all().iter().map(|topic| topic.name().to_owned()).collect(),
            _ => vec![self.broker.settings.broker.to_string()],
        }
    }
}
