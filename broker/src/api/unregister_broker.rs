//! UnregisterBroker: forgets a broker that is no more (KIP-500).

use super::Handlers;
use crate::context::{Operation, RequestContext, Resource};
use thalweg_protocol::{ErrorCode, messages::*};

impl Handlers {
    pub(super) fn unregister_broker(
        &self,
        context: &RequestContext,
        request: &UnregisterBrokerRequest,
    ) -> UnregisterBrokerResponse {
        let own = self.broker.settings.broker;
        let (code, message) = if !self.authorizer.allows(context, Operation::Alter, Resource::Cluster) {
            (ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed.".to_owned())
        } else if request.broker_id.0 == own.0 {
            // Kafka forgets it, and takes it in again when it is started anew. Here it answers, so it is there.
            (ErrorCode::InvalidRequest, format!("Broker ID {own} is alive; stop it first"))
        } else {
            let id = request.broker_id.0;
            (ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
        };
        let response = UnregisterBrokerResponse::default().with_error_code(code.code());
        response.with_error_message(Some(message.into()))
    }
}
