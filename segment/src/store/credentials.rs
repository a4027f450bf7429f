//! Credentials for S3, from wherever AWS's own tools take them: environment, profile (process and SSO too), web identity, ECS
//! and EKS, instance metadata.
//!
//! They are loaded with the first request that needs them, and again before they expire. Requests that find them missing or
//! old wait for one and the same load. One that fails while the old ones are still good is tried again a little later.

use super::error::Fault;
use async_trait::async_trait;
use aws_config::{Region, default_provider::credentials::DefaultCredentialsChain};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use object_store::{CredentialProvider, aws::AwsCredential};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use thalweg_runtime::Runtime;
use tokio::time::timeout;

/// Credentials are renewed this long before they expire. (S3 checks them when a request arrives, so this covers the time a
/// request may wait for its connection; instance metadata has new ones five minutes ahead.)
const RENEW_BEFORE: Duration = Duration::from_secs(4 * 60);
/// After a renewal that failed, the old credentials serve this long before the next try.
const RENEW_AGAIN: Duration = Duration::from_secs(15);

/// A load that takes longer has failed. (Where there is no instance metadata, asking for it takes that long.)
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Where credentials come from.
type Source = Arc<dyn Fn() -> BoxFuture<'static, Result<Credentials, CredentialsError>> + Send + Sync>;
type Load = Shared<BoxFuture<'static, Result<Loaded, Failure>>>;

/// The standard chain of AWS as the client asks for it.
pub(super) struct ChainCredentials {
    source: Source,
    runtime: Runtime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Loaded>,
    renew_at_ms: i64,
    load: Option<Load>,
}

#[derive(Clone)]
struct Loaded {
    credential: Arc<AwsCredential>,
    /// Milliseconds since the epoch; `i64::MAX` where they don't expire.
    expires_at_ms: i64,
}

#[derive(Clone, Debug)]
struct Failure {
    permanent: bool,
    why: String,
}

impl ChainCredentials {
    /// The standard chain. `region` is where a role is assumed.
    pub(super) fn standard(region: String, runtime: Runtime) -> Self {
        let source: Source = Arc::new(move || {
            let region = Region::new(region.clone());
            async move {
                let chain = DefaultCredentialsChain::builder().region(region).build().await;
                chain.provide_credentials().await
            }
            .boxed()
        });
        Self::new(source, runtime)
    }

    fn new(source: Source, runtime: Runtime) -> Self {
        Self { source, runtime, state: Mutex::default() }
    }

    /// The current credentials where they are good for a while, else the load to wait for.
    fn current_or_load(&self) -> Result<Arc<AwsCredential>, Load> {
        let mut state = self.state.lock();
        if let Some(current) = &state.current
            && self.runtime.now_ms() < state.renew_at_ms
        {
            return Ok(current.credential.clone());
        }
        Err(state.load.get_or_insert_with(|| load(self.source.clone())).clone())
    }

    /// Takes over what `load` brought. All that waited for it come here; the first one changes the state.
    fn loaded(
        &self,
        load: &Load,
        result: Result<Loaded, Failure>,
    ) -> object_store::Result<Arc<AwsCredential>> {
        let now_ms = self.runtime.now_ms();
        let mut state = self.state.lock();
        let first = state.load.as_ref().is_some_and(|pending| pending.ptr_eq(load));
        if first {
            state.load = None;
        }
        match result {
            Ok(loaded) => {
                let credential = loaded.credential.clone();
                if first {
                    state.renew_at_ms = renew_at_ms(loaded.expires_at_ms, now_ms);
                    state.current = Some(loaded);
                }
                Ok(credential)
            }
            Err(failure) => match &state.current {
                Some(current) if now_ms < current.expires_at_ms => {
                    let credential = current.credential.clone();
                    if first {
                        tracing::warn!(error = failure.why, "the S3 credentials could not be renewed yet");
                        state.renew_at_ms = now_ms.saturating_add(millis(RENEW_AGAIN));
                    }
                    Ok(credential)
                }
                _ if failure.permanent => Err(Fault::NoCredentials(failure.why).into()),
                _ => Err(Fault::CredentialsUnavailable(failure.why).into()),
            },
        }
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.current_or_load() {
            Ok(credential) => Ok(credential),
            Err(load) => {
                let result = load.clone().await;
                self.loaded(&load, result)
            }
        }
    }
}

impl fmt::Debug for ChainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainCredentials")
    }
}

fn load(source: Source) -> Load {
    async move {
        match timeout(LOAD_TIMEOUT, source()).await {
            Ok(Ok(credentials)) => Ok(Loaded::from(&credentials)),
            Ok(Err(error)) => Err(Failure::from(&error)),
            Err(_) => Err(Failure { permanent: false, why: format!("no answer within {LOAD_TIMEOUT:?}") }),
        }
    }
    .boxed()
    .shared()
}

/// Credentials that live shorter than twice the margin are renewed after half their life.
fn renew_at_ms(expires_at_ms: i64, now_ms: i64) -> i64 {
    let life_ms = expires_at_ms.saturating_sub(now_ms).max(0);
    expires_at_ms.saturating_sub(millis(RENEW_BEFORE).min(life_ms / 2))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<&Credentials> for Loaded {
    fn from(credentials: &Credentials) -> Self {
        let expiry = credentials.expiry().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            credential: Arc::new(AwsCredential {
                key_id: credentials.access_key_id().to_owned(),
                secret_key: credentials.secret_access_key().to_owned(),
                token: credentials.session_token().map(str::to_owned),
            }),
            expires_at_ms: expiry.map_or(i64::MAX, millis),
        }
    }
}

impl From<&CredentialsError> for Failure {
    fn from(error: &CredentialsError) -> Self {
        let permanent = matches!(
            error,
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
        );
        let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
        let why = causes.fold(error.to_string(), |why, cause| format!("{why}: {cause}"));
        Self { permanent, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicI64, AtomicUsize, Ordering},
        time::SystemTime,
    };
    use thalweg_runtime::{Clock, Inline, Random, TokioSpawner};

    #[derive(Clone, Default)]
    struct At(Arc<AtomicI64>);

    impl Clock for At {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// The error of all loads, while there is one.
    type Failing = Arc<Mutex<Option<fn() -> CredentialsError>>>;

    struct Fixture {
        clock: At,
        loads: Arc<AtomicUsize>,
        failing: Failing,
        credentials: ChainCredentials,
    }

    /// Every load takes a second and brings credentials, named by its number, that live an hour.
    fn fixture() -> Fixture {
        let (clock, loads) = (At::default(), Arc::new(AtomicUsize::new(0)));
        let failing = Failing::default();
        let source: Source = {
            let (clock, loads, failing) = (clock.clone(), loads.clone(), failing.clone());
            Arc::new(move || {
                let number = loads.fetch_add(1, Ordering::Relaxed);
                let failing = failing.lock().map(|error| error());
                let expiry = SystemTime::UNIX_EPOCH + Duration::from_millis(clock.now_ms() as u64 + HOUR_MS);
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let credentials =
                        Credentials::new(format!("key-{number}"), "secret", None, Some(expiry), "test");
                    failing.map_or(Ok(credentials), Err)
                }
                .boxed()
            })
        };
        let runtime = Runtime::new(
            Arc::new(clock.clone()),
            Random::from_seed(1),
            Arc::new(TokioSpawner),
            Arc::new(Inline),
        );
        Fixture { clock, loads, failing, credentials: ChainCredentials::new(source, runtime) }
    }

    const HOUR_MS: u64 = 3_600_000;
    const MINUTE_MS: i64 = 60_000;

    async fn key(fixture: &Fixture) -> String {
        fixture.credentials.get_credential().await.expect("credentials").key_id.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_one_load() {
        let fixture = fixture();
        let keys = futures::future::join_all((0..10).map(|_| key(&fixture))).await;
        assert_eq!(keys, vec!["key-0"; 10]);
        assert_eq!(fixture.loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_they_expire() {
        let fixture = fixture();
        assert_eq!(key(&fixture).await, "key-0");
        fixture.clock.0.store(55 * MINUTE_MS, Ordering::Relaxed);
        assert_eq!(key(&fixture).await, "key-0");
        fixture.clock.0.store(57 * MINUTE_MS, Ordering::Relaxed);
        assert_eq!(key(&fixture).await, "key-1");
    }

    #[tokio::test(start_paused = true)]
    async fn old_credentials_serve_while_new_ones_cannot_be_had() {
        let fixture = fixture();
        assert_eq!(key(&fixture).await, "key-0");
        *fixture.failing.lock() = Some(|| CredentialsError::provider_error("503"));
        fixture.clock.0.store(57 * MINUTE_MS, Ordering::Relaxed);
        assert_eq!(key(&fixture).await, "key-0");
        assert_eq!(key(&fixture).await, "key-0");
        assert_eq!(fixture.loads.load(Ordering::Relaxed), 2, "the failed renewal isn't repeated at once");
        fixture.clock.0.store(61 * MINUTE_MS, Ordering::Relaxed);
        let error = fixture.credentials.get_credential().await.expect_err("they have expired");
        assert_eq!(super::super::Outcome::of(&error), super::super::Outcome::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn no_source_of_credentials_is_a_refusal() {
        let fixture = fixture();
        *fixture.failing.lock() = Some(|| CredentialsError::not_loaded("none configured"));
        let error = fixture.credentials.get_credential().await.expect_err("nothing to load");
        assert_eq!(super::super::Outcome::of(&error), super::super::Outcome::Rejected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_load_does_not_block_the_next_request() {
        let fixture = fixture();
        let waited = tokio::time::timeout(Duration::from_millis(10), key(&fixture)).await;
        assert!(waited.is_err());
        assert_eq!(key(&fixture).await, "key-0");
    }
}
