//! The APIs of delegation tokens, as Kafka answers them on a connection that has not proved who it is: not at all (KIP-48).

use super::Handlers;
use crate::context::RequestContext;
use thalweg_protocol::{ErrorCode, messages::*};

const NOT_ALLOWED: i16 = ErrorCode::DelegationTokenRequestNotAllowed.code();
/// A time that isn't one.
const NEVER: i64 = -1;

impl Handlers {
    pub(super) fn create_delegation_token(
        &self,
        context: &RequestContext,
        version: i16,
        request: CreateDelegationTokenRequest,
    ) -> CreateDelegationTokenResponse {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let requester = (text(&context.principal.kind), text(&context.principal.name));
        let owner = match request.owner_principal_name.filter(|name| !name.is_empty()) {
            Some(name) => (request.owner_principal_type.unwrap_or_default(), name),
            None => requester.clone(),
        };
        let response = CreateDelegationTokenResponse::default()
            .with_error_code(NOT_ALLOWED)
            .with_principal_type(owner.0)
            .with_principal_name(owner.1)
            .with_issue_timestamp_ms(NEVER)
            .with_expiry_timestamp_ms(NEVER)
            .with_max_timestamp_ms(NEVER);
        match version {
            ..3 => response,
            _ => response
                .with_token_requester_principal_type(requester.0)
                .with_token_requester_principal_name(requester.1),
        }
    }

    pub(super) fn renew_delegation_token(&self) -> RenewDelegationTokenResponse {
        let response = RenewDelegationTokenResponse::default();
        response.with_error_code(NOT_ALLOWED).with_expiry_timestamp_ms(NEVER)
    }

    pub(super) fn expire_delegation_token(&self) -> ExpireDelegationTokenResponse {
        let response = ExpireDelegationTokenResponse::default();
        response.with_error_code(NOT_ALLOWED).with_expiry_timestamp_ms(NEVER)
    }

    pub(super) fn describe_delegation_token(&self) -> DescribeDelegationTokenResponse {
        DescribeDelegationTokenResponse::default().with_error_code(NOT_ALLOWED)
    }
}
