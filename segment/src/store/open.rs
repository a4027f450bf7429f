//! From a URL to a client whose own retries are off.

use super::{credentials::ChainCredentials, part_retries::PartRetries};
use aws_config::{
    default_provider::region::DefaultRegionChain,
    environment::EnvironmentVariableRegionProvider,
    meta::region::{ProvideRegion, RegionProviderChain},
    profile::ProfileFileRegionProvider,
};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    local::LocalFileSystem,
    memory::InMemory,
    path::Path,
    prefix::PrefixStore,
};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use url::Url;

/// Where the objects lie, and how to reach them.
#[derive(Clone, Debug, Default)]
pub struct ObjectStoreConfig {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`; `file:DIRECTORY`, absolute or relative, which is created; `memory:`.
    pub url: String,
    /// The endpoint of an S3-compatible store. Else `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or AWS's own.
    pub endpoint: Option<String>,
    /// The region. Else that of the environment, the profile or the instance; else us-east-1.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request and not in its host name. Else where an endpoint is given.
    pub path_style: Option<bool>,
    /// `file:` only: writes wait for the disk. Without, a power failure (not a crash of the process) can lose them.
    pub fsync: bool,
    /// S3 only: idle connections that are kept; best the number of requests at a time in normal operation. 0 stands for 64.
    pub idle_connections: usize,
}

/// Why a configured object store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no object store.
    #[error("object store URL {url:?}: {why}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The endpoint is none.
    #[error("object store endpoint {endpoint:?}: {why}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The local directory can't be used.
    #[error("object store directory {}: {source}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client refuses its settings.
    #[error("object store {url}: {source}")]
    Client {
        /// As configured.
        url: String,
        /// What the client says.
        source: object_store::Error,
    },
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    Memory,
    Bucket { bucket: String, prefix: Path },
}

impl ObjectStoreConfig {
    /// The directory of a `file:` store.
    pub fn directory(&self) -> Option<PathBuf> {
        match Location::parse(&self.url) {
            Ok(Location::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    /// The endpoint that is configured, or else given by the environment as `lookup` reads it.
    fn endpoint(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Url>, OpenError> {
        let configured = self.endpoint.clone();
        let endpoint = configured
            .or_else(|| lookup("AWS_ENDPOINT_URL_S3"))
            .or_else(|| lookup("AWS_ENDPOINT_URL"))
            .filter(|endpoint| !endpoint.is_empty());
        endpoint.map(parse_endpoint).transpose()
    }
}

/// Opens the object store that `config` names. No request is sent to it yet.
pub async fn open(config: &ObjectStoreConfig, runtime: &Runtime) -> Result<Arc<dyn ObjectStore>, OpenError> {
    match Location::parse(&config.url)? {
        Location::Memory => Ok(Arc::new(InMemory::new())),
        Location::Directory(directory) => open_directory(directory, config.fsync),
        Location::Bucket { bucket, prefix } => {
            let s3 = open_bucket(config, bucket, runtime).await?;
            if prefix.as_ref().is_empty() {
                return Ok(Arc::new(s3));
            }
            Ok(Arc::new(PrefixStore::new(s3, prefix)))
        }
    }
}

fn open_directory(directory: PathBuf, fsync: bool) -> Result<Arc<dyn ObjectStore>, OpenError> {
    if let Err(source) = std::fs::create_dir_all(&directory) {
        return Err(OpenError::Directory { directory, source });
    }
    match LocalFileSystem::new_with_prefix(&directory) {
        Ok(store) => Ok(Arc::new(store.with_fsync(fsync))),
        Err(error) => Err(OpenError::Directory { directory, source: io::Error::other(error) }),
    }
}

async fn open_bucket(
    config: &ObjectStoreConfig,
    bucket: String,
    runtime: &Runtime,
) -> Result<PartRetries<AmazonS3>, OpenError> {
    let endpoint = config.endpoint(|name| std::env::var(name).ok())?;
    let region = region(config, endpoint.is_some()).await;
    let path_style = config.path_style.unwrap_or(endpoint.is_some());
    let credentials = ChainCredentials::standard(region.clone(), runtime.clone());
    let plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket)
        .with_region(region)
        .with_credentials(Arc::new(credentials))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Our checksums guard the content end to end, and TLS the way; a SHA-256 of every body would cost more than the rest.
        .with_unsigned_payload(true)
        .with_virtual_hosted_style_request(!path_style)
        .with_retry(no_retries())
        .with_client_options(client_options(plain, config.idle_connections));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(bucket_endpoint(endpoint, &bucket, path_style));
    }
    let build = |builder: AmazonS3Builder| {
        builder.build().map_err(|source| OpenError::Client { url: config.url.clone(), source })
    };
    Ok(PartRetries {
        plain: build(builder.clone())?,
        uploads: build(builder.with_retry(retries_of_parts()))?,
    })
}

/// An instance's metadata is asked for its region only where AWS's own S3 is meant: elsewhere there is no such service to ask,
/// and finding that out takes seconds.
async fn region(config: &ObjectStoreConfig, foreign: bool) -> String {
    if let Some(region) = &config.region {
        return region.clone();
    }
    let found = if foreign {
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .region()
            .await
    } else {
        ProvideRegion::region(&DefaultRegionChain::builder().build()).await
    };
    found.map_or_else(|| "us-east-1".to_owned(), |region| region.to_string())
}

/// A conditional PUT that is repeated unseen may meet its own first attempt and report that it has lost.
fn no_retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO }
}

/// A part that is sent twice is one part. The whole of it is bounded by [`super::Store`].
fn retries_of_parts() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: Duration::from_secs(60) }
}

/// HTTP/1.1: one connection for each request at a time, so that a large body delays no other. Whole requests are bounded by
/// [`super::Store`].
fn client_options(plain: bool, idle_connections: usize) -> ClientOptions {
    let idle_connections = if idle_connections == 0 { 64 } else { idle_connections };
    ClientOptions::new()
        .with_allow_http(plain)
        .with_http1_only()
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(3))
        // S3 closes idle connections after about 20 s; a request on one that is being closed fails.
        .with_pool_idle_timeout(Duration::from_secs(15))
        .with_pool_max_idle_per_host(idle_connections)
}

fn parse_endpoint(endpoint: String) -> Result<Url, OpenError> {
    let why = match Url::parse(&endpoint) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => "neither http:// nor https://".to_owned(),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            return Err(OpenError::Endpoint {
                endpoint: url.host_str().unwrap_or_default().to_owned(),
                why: NO_CREDENTIALS.to_owned(),
            });
        }
        Ok(url) => return Ok(url),
        Err(error) => error.to_string(),
    };
    Err(OpenError::Endpoint { endpoint, why })
}

const NO_CREDENTIALS: &str = "credentials don't belong here; they are taken from the environment, a profile or the instance, as AWS's tools do";

/// The URL below which the bucket's objects lie, as the client wants it for each style.
fn bucket_endpoint(mut endpoint: Url, bucket: &str, path_style: bool) -> String {
    if !path_style && let Some(host) = endpoint.host_str() {
        let host = format!("{bucket}.{host}");
        // An IP address takes no bucket; the client's own error tells.
        let _ = endpoint.set_host(Some(&host));
    }
    endpoint.as_str().trim_end_matches('/').to_owned()
}

impl Location {
    fn parse(url: &str) -> Result<Self, OpenError> {
        let wrong = |why: &str| OpenError::Url { url: without_credentials(url), why: why.to_owned() };
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(wrong("no scheme; expected s3://BUCKET/PREFIX, file:DIRECTORY or memory:"));
        };
        match scheme {
            "memory" if rest.trim_start_matches('/').is_empty() => Ok(Self::Memory),
            "memory" => Err(wrong("memory: takes nothing behind it")),
            "file" => Self::directory(rest).map_err(wrong),
            "s3" => Self::bucket(rest).map_err(wrong),
            _ => Err(wrong("unknown scheme; expected s3://BUCKET/PREFIX, file:DIRECTORY or memory:")),
        }
    }

    fn directory(rest: &str) -> Result<Self, &'static str> {
        let directory = match rest.strip_prefix("//") {
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => {
                return Err("write file:DIRECTORY for a relative and file:///DIRECTORY for an absolute one");
            }
            None => rest,
        };
        if directory.is_empty() {
            return Err("no directory behind file:");
        }
        Ok(Self::Directory(PathBuf::from(directory)))
    }

    fn bucket(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").ok_or("expected s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(['@', ':']) {
            return Err(NO_CREDENTIALS);
        }
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(named) {
            return Err("no valid bucket name behind s3://");
        }
        let prefix = Path::parse(prefix).map_err(|_| "the prefix is no valid key")?;
        if prefix.as_ref().contains(['?', '#']) {
            return Err("the prefix contains ? or #; settings have their own keys");
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
    }
}

/// A URL as it may be shown.
fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(bucket: &str, prefix: &str) -> Location {
        Location::Bucket { bucket: bucket.into(), prefix: Path::from(prefix) }
    }

    #[test]
    fn each_kind_of_url_names_its_place() {
        let cases = [
            ("memory:", Location::Memory),
            ("file:data", Location::Directory("data".into())),
            ("file:./data/x", Location::Directory("./data/x".into())),
            ("file:/var/data", Location::Directory("/var/data".into())),
            ("file:///var/data", Location::Directory("/var/data".into())),
            ("s3://logs", bucket("logs", "")),
            ("s3://logs/", bucket("logs", "")),
            ("s3://logs/a/b/", bucket("logs", "a/b")),
        ];
        for (url, location) in cases {
            assert_eq!(Location::parse(url).expect(url), location, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_told_in_one_line_without_its_credentials() {
        let urls =
            ["", "data", "gs://b", "file:", "file://data", "s3:", "s3://", "s3:logs", "s3:///p", "memory:x"];
        for url in urls.into_iter().chain(["s3://key:secret@logs", "s3://logs/a//b", "s3://logs/a?region=x"])
        {
            let error = Location::parse(url).expect_err(url).to_string();
            assert!(!error.contains('\n') && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_endpoint_of_s3_comes_before_that_of_all_services() {
        let config = ObjectStoreConfig::default();
        let both = |name: &str| Some(format!("http://{}", name.to_lowercase().replace('_', "-")));
        let endpoint = config.endpoint(both).expect("both are URLs").expect("one is given");
        assert_eq!(endpoint.as_str(), "http://aws-endpoint-url-s3/");
        let configured = ObjectStoreConfig { endpoint: Some("https://minio:9000".into()), ..config };
        let endpoint = configured.endpoint(both).expect("a URL").expect("it is configured");
        assert_eq!(endpoint.as_str(), "https://minio:9000/");
    }

    #[test]
    fn the_bucket_stands_in_the_host_name_or_in_the_path() {
        let endpoint = || Url::parse("https://s3.example.com:9000/").expect("a URL");
        assert_eq!(bucket_endpoint(endpoint(), "logs", true), "https://s3.example.com:9000");
        assert_eq!(bucket_endpoint(endpoint(), "logs", false), "https://logs.s3.example.com:9000");
    }

    #[tokio::test]
    async fn a_relative_directory_is_created() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a/b");
        let config = ObjectStoreConfig { url: format!("file:{}", directory.display()), ..Default::default() };
        open(&config, &Runtime::system(1)).await.expect("it can be created");
        assert!(directory.is_dir());
        assert_eq!(config.directory(), Some(directory));
    }
}
