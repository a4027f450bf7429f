//! DescribeAcls, CreateAcls and DeleteAcls, as a Kafka without an authorizer answers them.

use super::Handlers;
use thalweg_protocol::{ErrorCode, messages::*};

use create_acls_response::AclCreationResult;
use delete_acls_response::DeleteAclsFilterResult;

const DISABLED: i16 = ErrorCode::SecurityDisabled.code();
/// What Kafka's broker says, and what its controller says.
const OF_BROKER: StrBytes = StrBytes::from_static_str("No Authorizer is configured on the broker");
const OF_CONTROLLER: StrBytes = StrBytes::from_static_str("No Authorizer is configured.");

impl Handlers {
    pub(super) fn describe_acls(&self) -> DescribeAclsResponse {
        DescribeAclsResponse::default().with_error_code(DISABLED).with_error_message(Some(OF_BROKER))
    }

    pub(super) fn create_acls(&self, request: &CreateAclsRequest) -> CreateAclsResponse {
        let result = AclCreationResult::default().with_error_code(DISABLED);
        let result = result.with_error_message(Some(OF_CONTROLLER));
        CreateAclsResponse::default().with_results(vec![result; request.creations.len()])
    }

    pub(super) fn delete_acls(&self, request: &DeleteAclsRequest) -> DeleteAclsResponse {
        let result = DeleteAclsFilterResult::default().with_error_code(DISABLED);
        let result = result.with_error_message(Some(OF_CONTROLLER));
        DeleteAclsResponse::default().with_filter_results(vec![result; request.filters.len()])
    }
}
