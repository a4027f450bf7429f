//! AddRaftVoter and RemoveRaftVoter: the quorum is this broker, and stays so (KIP-853).

use super::{
    Handlers,
    topic_admin::{Refused, sentence},
};
use crate::context::{Operation, RequestContext, Resource};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use thalweg_protocol::{ErrorCode, messages::*};
use uuid::Uuid;

const LISTENER: &str = "CONTROLLER";

impl Handlers {
    pub(super) fn add_raft_voter(
        &self,
        context: &RequestContext,
        request: &AddRaftVoterRequest,
    ) -> AddRaftVoterResponse {
        let Refused(code, message) = self.cannot_add(context, request);
        AddRaftVoterResponse {
            error_code: code.code(),
            error_message: Some(sentence(message)),
            ..AddRaftVoterResponse::default()
        }
    }

    fn cannot_add(&self, context: &RequestContext, request: &AddRaftVoterRequest) -> Refused {
        if let Err(refused) = self.check_voters(context, request.cluster_id.as_deref()) {
            return refused;
        }
        let (id, directory) = (request.voter_id, request.voter_directory_id);
        let invalid = |message: String| Refused(ErrorCode::InvalidRequest, message);
        if id < 0 || directory.is_nil() {
            return invalid("Add voter request didn't include a valid voter".into());
        }
        if !request.listeners.iter().any(|listener| listener.name == *LISTENER) {
            let message = "Add voter request didn't include the endpoint (Endpoints(endpoints={})) for the default listener ListenerName(CONTROLLER)";
            return invalid(message.into());
        }
        let voter = key(id, directory);
        if id == self.broker.settings.broker.0 {
            let message =
                format!("The voter id for {voter} is already part of the set of voters {}.", self.voters());
            return Refused(ErrorCode::DuplicateVoter, message);
        }
        // Kafka says so of a controller that it can't reach.
        Refused(ErrorCode::RequestTimedOut, format!("New voter {voter} is not ready to receive requests"))
    }

    pub(super) fn remove_raft_voter(
        &self,
        context: &RequestContext,
        request: &RemoveRaftVoterRequest,
    ) -> RemoveRaftVoterResponse {
        let Refused(code, message) = self.cannot_remove(context, request);
        RemoveRaftVoterResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(sentence(message)))
    }

    fn cannot_remove(&self, context: &RequestContext, request: &RemoveRaftVoterRequest) -> Refused {
        if let Err(refused) = self.check_voters(context, request.cluster_id.as_deref()) {
            return refused;
        }
        let (id, directory) = (request.voter_id, request.voter_directory_id);
        if id < 0 || directory.is_nil() {
            return Refused(
                ErrorCode::InvalidRequest,
                "Remove voter request didn't include a valid voter".into(),
            );
        }
        // Not even the last one that there is: Kafka keeps it too.
        let message =
            format!("Cannot remove voter {} from the set of voters {}", key(id, directory), self.voters());
        Refused(ErrorCode::VoterNotFound, message)
    }

    fn check_voters(&self, context: &RequestContext, cluster: Option<&str>) -> Result<(), Refused> {
        if !self.authorizer.allows(context, Operation::Alter, Resource::Cluster) {
            let message = "Cluster authorization failed.";
            return Err(Refused(ErrorCode::ClusterAuthorizationFailed, message.into()));
        }
        let own = &self.broker.cluster_id;
        match cluster.filter(|cluster| cluster != own) {
            Some(cluster) => {
                let message = format!("The given id \"{cluster}\" doesn't match the cluster id \"{own}\"");
                Err(Refused(ErrorCode::InconsistentClusterId, message))
            }
            None => Ok(()),
        }
    }

    fn voters(&self) -> String {
        format!("[{}]", key(self.broker.settings.broker.0, self.directory_id()))
    }
}

/// As Kafka shows a voter.
fn key(id: i32, directory: Uuid) -> String {
    format!("ReplicaKey(id={id}, directoryId={})", BASE64_URL_SAFE_NO_PAD.encode(directory))
}
