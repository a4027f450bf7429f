//! DescribeCluster: the brokers and the cluster's id (KIP-700).

use super::Handlers;
use crate::context::RequestContext;
use thalweg_protocol::{ErrorCode, messages::*};

use describe_cluster_response::DescribeClusterBroker;

/// The kinds of endpoints that a client may want.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

impl Handlers {
    pub(super) fn describe_cluster(
        &self,
        context: &RequestContext,
        request: &DescribeClusterRequest,
    ) -> DescribeClusterResponse {
        let response = DescribeClusterResponse::default()
            .with_cluster_authorized_operations(
                self.cluster_operations(context, request.include_cluster_authorized_operations),
            )
            .with_endpoint_type(BROKERS)
            .with_controller_id((-1).into());
        if request.endpoint_type != BROKERS {
            let (code, message) = match request.endpoint_type {
                CONTROLLERS => (
                    ErrorCode::MismatchedEndpointType,
                    "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".into(),
                ),
                other => (ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
            };
            return response.with_error_code(code.code()).with_error_message(Some(message.into()));
        }
        let settings = &self.broker.settings;
        let broker = self.endpoint(context).map(|endpoint| {
            DescribeClusterBroker::default()
                .with_broker_id(settings.broker.0.into())
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(settings.rack.clone().map(StrBytes::from_string))
        });
        response
            .with_error_message(None)
            .with_cluster_id(self.cluster_id())
            .with_controller_id(settings.broker.0.into())
            .with_brokers(broker.into_iter().collect())
    }
}
