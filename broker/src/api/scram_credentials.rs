//! DescribeUserScramCredentials and AlterUserScramCredentials: what servers need to check passwords (KIP-554, RFC 5802).

use super::{
    Handlers,
    topic_admin::{Refused, sentence},
};
use crate::{
    context::{Operation, RequestContext, Resource},
    stored::ChangeError,
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeMap;
use thalweg_metadata::ScramRecord;
use thalweg_protocol::{ErrorCode, messages::*};

use alter_user_scram_credentials_request::ScramCredentialUpsertion;
use alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use describe_user_scram_credentials_response::{CredentialInfo, DescribeUserScramCredentialsResult};

/// Kafka's numbers of the mechanisms.
const SHA_256: i8 = 1;
const SHA_512: i8 = 2;

const MIN_ITERATIONS: i32 = 4096;
const MAX_ITERATIONS: i32 = 16_384;
/// Most bytes of a salt. Kafka has no limit but that of a request.
const MAX_SALT: usize = i16::MAX as usize;

const NOT_ALLOWED: &str = "Cluster authorization failed.";

/// What a request wants of one user: of which mechanism, and none to take the credential away.
struct Wanted {
    mechanism: i8,
    credential: Option<ScramRecord>,
}

impl Handlers {
    pub(super) fn describe_user_scram_credentials(
        &self,
        context: &RequestContext,
        request: &DescribeUserScramCredentialsRequest,
    ) -> DescribeUserScramCredentialsResponse {
        let response = DescribeUserScramCredentialsResponse::default();
        if !self.authorizer.allows(context, Operation::Describe, Resource::Cluster) {
            let response = response.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
            return response.with_error_message(Some(NOT_ALLOWED.into()));
        }
        let wanted = request.users.as_deref().unwrap_or_default();
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        wanted.iter().for_each(|user| *times.entry(user.name.to_string()).or_default() += 1);
        let mut found: BTreeMap<String, Vec<CredentialInfo>> = BTreeMap::new();
        self.broker.stored.scram.each(|(mechanism, user), record| {
            if wanted.is_empty() || times.contains_key(user) {
                let info = CredentialInfo::default().with_mechanism(*mechanism as i8);
                let info = info.with_iterations(i32::try_from(record.iterations).unwrap_or(i32::MAX));
                found.entry(user.clone()).or_default().push(info);
            }
        });
        if wanted.is_empty() {
            times = found.keys().map(|user| (user.clone(), 1)).collect();
        }
        let results = times.into_iter().map(|(user, times)| {
            let infos = found.remove(&user);
            let result = DescribeUserScramCredentialsResult::default();
            let refused = |code: ErrorCode, message: String| {
                result.clone().with_error_code(code.code()).with_error_message(Some(sentence(message)))
            };
            let result = match infos {
                _ if times > 1 => refused(
                    ErrorCode::DuplicateResource,
                    format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}"),
                ),
                None => refused(
                    ErrorCode::ResourceNotFound,
                    format!("Attempt to describe a user credential that does not exist: {user}"),
                ),
                Some(infos) => result.clone().with_credential_infos(infos),
            };
            result.with_user(user.into())
        });
        response.with_results(results.collect())
    }

    pub(super) async fn alter_user_scram_credentials(
        &self,
        context: &RequestContext,
        request: AlterUserScramCredentialsRequest,
    ) -> AlterUserScramCredentialsResponse {
        let allowed = self.authorizer.allows(context, Operation::Alter, Resource::Cluster);
        let mut wanted: BTreeMap<String, Result<Wanted, Refused>> = BTreeMap::new();
        let deletions = request.deletions.iter().map(|deletion| {
            let name = deletion.name.to_string();
            let checked = self.checked_deletion(&name, deletion.mechanism);
            (name, checked)
        });
        let upsertions = request.upsertions.iter().map(|upsertion| {
            let credential = checked_credential(upsertion);
            let wanted = |credential| Wanted { mechanism: upsertion.mechanism, credential: Some(credential) };
            (upsertion.name.to_string(), credential.map(wanted))
        });
        for (name, checked) in deletions.chain(upsertions) {
            let outcome = match wanted.remove(&name) {
                _ if !allowed => Err(Refused(ErrorCode::ClusterAuthorizationFailed, NOT_ALLOWED.into())),
                None => checked,
                Some(Err(refused)) => Err(refused),
                Some(Ok(_)) => Err(Refused(
                    ErrorCode::DuplicateResource,
                    "A user credential cannot be altered twice in the same request".into(),
                )),
            };
            wanted.insert(name, outcome);
        }
        let mut results = Vec::with_capacity(wanted.len());
        for (name, outcome) in wanted {
            let outcome = match outcome {
                Ok(wanted) => self.set_credential(&name, wanted).await,
                Err(refused) => Err(refused),
            };
            let (code, message) = match outcome {
                Ok(()) => (ErrorCode::None, None),
                Err(Refused(code, message)) => (code, Some(sentence(message))),
            };
            let result = AlterUserScramCredentialsResult::default().with_user(name.into());
            results.push(result.with_error_code(code.code()).with_error_message(message));
        }
        AlterUserScramCredentialsResponse::default().with_results(results)
    }

    fn checked_deletion(&self, user: &str, mechanism: i8) -> Result<Wanted, Refused> {
        check_user(user, mechanism)?;
        match self.broker.stored.scram.get(&(mechanism as u8, user.to_owned())) {
            Some(_) => Ok(Wanted { mechanism, credential: None }),
            None => {
                let message = "Attempt to delete a user credential that does not exist";
                Err(Refused(ErrorCode::ResourceNotFound, message.into()))
            }
        }
    }

    async fn set_credential(&self, user: &str, wanted: Wanted) -> Result<(), Refused> {
        let key = (wanted.mechanism as u8, user.to_owned());
        let changed = |_: Option<&ScramRecord>| Ok::<_, Refused>(wanted.credential);
        self.broker.stored.scram.change(&key, changed).await.map_err(|error| match error {
            ChangeError::Refused(refused) => refused,
            ChangeError::Store(error) => error.into(),
        })
    }
}

fn check_user(user: &str, mechanism: i8) -> Result<(), Refused> {
    let unacceptable = |message: &str| Err(Refused(ErrorCode::UnacceptableCredential, message.into()));
    if user.is_empty() {
        return unacceptable("Username must not be empty");
    }
    match mechanism {
        SHA_256 | SHA_512 => Ok(()),
        _ => Err(Refused(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism".into())),
    }
}

fn checked_credential(upsertion: &ScramCredentialUpsertion) -> Result<ScramRecord, Refused> {
    check_user(&upsertion.name, upsertion.mechanism)?;
    let unacceptable = |message: &str| Err(Refused(ErrorCode::UnacceptableCredential, message.into()));
    if upsertion.iterations < MIN_ITERATIONS {
        return unacceptable("Too few iterations");
    }
    if upsertion.iterations > MAX_ITERATIONS {
        return unacceptable("Too many iterations");
    }
    if upsertion.salt.len() > MAX_SALT {
        return unacceptable("The salt is too long");
    }
    if upsertion.salted_password.is_empty() {
        // Java has no empty keys.
        return Err(Refused(ErrorCode::UnknownServerError, "Empty key".into()));
    }
    let keys = match upsertion.mechanism {
        SHA_256 => {
            (stored_key_256(&upsertion.salted_password), hmac_256(&upsertion.salted_password, SERVER_KEY))
        }
        _ => (stored_key_512(&upsertion.salted_password), hmac_512(&upsertion.salted_password, SERVER_KEY)),
    };
    Ok(ScramRecord {
        iterations: upsertion.iterations as u32,
        salt: Bytes::copy_from_slice(&upsertion.salt),
        stored_key: keys.0,
        server_key: keys.1,
    })
}

/// What RFC 5802 makes the keys of.
const CLIENT_KEY: &[u8] = b"Client Key";
const SERVER_KEY: &[u8] = b"Server Key";

macro_rules! keys_of {
    ($hash:ident, $hmac:ident, $stored_key:ident) => {
        fn $hmac(salted_password: &[u8], text: &[u8]) -> Bytes {
            let mac = Hmac::<$hash>::new_from_slice(salted_password).expect("a key of any length will do");
            mac.chain_update(text).finalize().into_bytes().to_vec().into()
        }

        fn $stored_key(salted_password: &[u8]) -> Bytes {
            $hash::digest($hmac(salted_password, CLIENT_KEY)).to_vec().into()
        }
    };
}

keys_of!(Sha256, hmac_256, stored_key_256);
keys_of!(Sha512, hmac_512, stored_key_512);

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine};

    /// The example of RFC 7677: user `user`, password `pencil`.
    #[test]
    fn the_keys_are_those_of_the_rfc() {
        let salted = BASE64_STANDARD.decode("xKSVEDI6tPlSysH6mUQZOeeOp01r6B3fcJbodRPcYV0=").expect("base64");
        assert_eq!(
            BASE64_STANDARD.encode(stored_key_256(&salted)),
            "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        );
        assert_eq!(
            BASE64_STANDARD.encode(hmac_256(&salted, SERVER_KEY)),
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
