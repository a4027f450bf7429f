//! The life of the process: start, serve, stop.

use crate::{
    api::Handlers,
    broker::{Broker, StartError},
    config::{Config, ListenerSpec, Resolved, advertised},
    context::{AllowAll, Unlimited},
    http::{self, Health},
    loggers::SetFilter,
    net::{BoundListener, NetMetrics, NetSettings, Server, Service},
    settings::BrokerSettings,
};
use anyhow::{Context, anyhow};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{
    net::{SocketAddr, ToSocketAddrs},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use thalweg_metadata::{
    EmbeddedKv, EmbeddedOptions, KeyValueStore, KvError, MetadataError, MetadataErrorKind,
};
use thalweg_runtime::Runtime;
use thalweg_segment::{Patience, Purpose, Store};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// The settings are wrong; nothing was started.
pub const BAD_SETTINGS: u8 = 2;
/// The broker could not start.
const START_FAILED: u8 = 1;
/// Another process owns this broker's logs now.
const FENCED: u8 = 3;
/// Something that the broker can't do without has failed.
const FAILED: u8 = 4;
/// A second signal while shutting down.
const INTERRUPTED: i32 = 130;

/// How long object-store requests other than WAL uploads are waited for and repeated.
pub(crate) const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(20),
    total: Duration::from_secs(60),
    backoff: Duration::from_millis(50),
    max_backoff: Duration::from_secs(2),
};

/// How long requests in hand may keep an orderly end waiting: a fetch waits as long as its client likes, and so does a client
/// that doesn't take its response. As long as clients usually wait for a fetch, many times over.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long an orderly end waits for its last flush: with the above, as long as Kubernetes waits before it kills.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a broker until it is stopped or fenced.
pub fn run(config: Config) -> ExitCode {
    let set_filter = init_logging(&config);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let threads = threads(&config);
    let outcome = match tokio_runtime(threads) {
        Ok(runtime) => {
            let outcome = runtime.block_on(serve(Arc::new(config), threads, set_filter));
            // What is still running waits for stores or clients that nobody needs any more.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(Stop::Asked) => ExitCode::SUCCESS,
        Ok(Stop::Fenced(why)) => {
            eprintln!("thalweg: stopped, because another process has taken over: {why}");
            ExitCode::from(FENCED)
        }
        Ok(Stop::Failed(why)) => {
            eprintln!("thalweg: stopped, because it can't go on: {why}");
            ExitCode::from(FAILED)
        }
        Err(error) => {
            eprintln!("thalweg: {error:#}");
            ExitCode::from(if is_overtaken(&error) { FENCED } else { START_FAILED })
        }
    }
}

/// Threads that serve requests.
pub(crate) fn threads(config: &Config) -> usize {
    match config.size("threads") {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    }
}

pub(crate) fn tokio_runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

/// Whether a start has failed because another process was faster, and owns the logs now.
fn is_overtaken(error: &anyhow::Error) -> bool {
    let fenced = |error: &MetadataError| error.kind() == MetadataErrorKind::Fenced;
    error.downcast_ref().is_some_and(StartError::is_overtaken)
        || error.downcast_ref().is_some_and(fenced)
        || matches!(error.downcast_ref(), Some(KvError::Fenced { .. }))
}

enum Stop {
    Asked,
    Fenced(String),
    Failed(String),
}

async fn serve(config: Arc<Config>, threads: usize, set_filter: SetFilter) -> anyhow::Result<Stop> {
    let runtime = Runtime::system(threads);
    let mut registry = Registry::default();
    let listeners = bind(&config)?;
    let mut settings = config.broker_settings();
    settings.advertised = advertised_endpoints(&config, &listeners)?;
    let started = start_broker(&config, &runtime, settings, &mut registry).await?;
    let Started { broker, settings, resolved, store: where_records_go } = started;
    broker.loggers.connect(config.text("log.level"), set_filter);
    let handlers = Handlers {
        broker: broker.clone(),
        config: config.clone(),
        resolved,
        authorizer: Arc::new(AllowAll),
        quotas: Arc::new(Unlimited),
    };
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| Ok((listener.name().to_owned(), listener.address()?)))
        .collect::<std::io::Result<_>>()?;
    let net = net_settings(&config, &broker);
    let metrics = NetMetrics::new(&mut registry);
    crate::process_metrics::register(&mut registry, &broker);
    let service: Arc<dyn Service> = Arc::new(handlers);
    let health = Health::ready();
    let http = http::start(&runtime, config.optional("http.listener"), registry, health.clone()).await?;
    let server = Server::start(&runtime, listeners, &service, &net, &metrics);
    greet(&addresses, http, &where_records_go, &settings);
    let stop = wait_for_stop(&broker).await?;
    health.stopping();
    match stop {
        Stop::Asked => Ok(shut_down(&server, &broker).await),
        Stop::Fenced(_) | Stop::Failed(_) => Ok(stop),
    }
}

struct Started {
    broker: Arc<Broker>,
    settings: BrokerSettings,
    resolved: Arc<RwLock<Resolved>>,
    store: String,
}

async fn start_broker(
    config: &Config,
    runtime: &Runtime,
    settings: BrokerSettings,
    registry: &mut Registry,
) -> anyhow::Result<Started> {
    let store_config = config.object_store();
    let url = store_config.url.clone();
    let client =
        thalweg_segment::open(&store_config, runtime).await.with_context(|| format!("cannot open {url}"))?;
    let store = Store::with_bandwidth(client, runtime.clone(), PATIENCE, config.bandwidth());
    let store = store.with_metrics(registry);
    thalweg_segment::check(&store).await.with_context(|| format!("{url} can't be used"))?;
    // As Kafka writes UUIDs: in base64, URL-safe, without padding.
    let candidate = BASE64_URL_SAFE_NO_PAD.encode(runtime.random().uuid());
    let cluster = thalweg_segment::open_marker(&store, &candidate).await.with_context(|| url.clone())?;
    let options = EmbeddedOptions { local_files: url.starts_with("file:") };
    let kv: Arc<dyn KeyValueStore> = Arc::new(
        EmbeddedKv::open(
            runtime.clone(),
            store.client(Purpose::Metadata),
            thalweg_segment::metadata_path(),
            options,
        )
        .await
        .context("cannot open the metadata store")?,
    );
    let resolved = Arc::new(RwLock::new(Resolved::default()));
    let resolve = crate::config::topic_resolver(Arc::new(config.clone()), resolved.clone());
    let broker = Broker::start(runtime.clone(), store, kv, cluster, settings.clone(), resolve, registry)
        .await
        .context("cannot start")?;
    if let Some(directory) = store_config.directory() {
        sweep(runtime, directory);
    }
    crate::producer_expiry::expire(&broker);
    crate::producer_expiry::evict(&broker);
    crate::pressure::relieve(&broker);
    crate::upkeep::start(&broker);
    crate::dynamic::load(&broker, config, &resolved).await.context("cannot read the stored settings")?;
    Ok(Started { broker, settings, resolved, store: url })
}

/// Removes what a killed process left half written, now that nothing of it counts any more.
fn sweep(runtime: &Runtime, directory: std::path::PathBuf) {
    let clock = runtime.clone();
    let sweeping = runtime.spawn(async move {
        match thalweg_segment::sweep_staged(directory, &clock).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed unfinished writes of an earlier process"),
            Err(error) => {
                tracing::warn!(%error, "could not look for unfinished writes of an earlier process")
            }
        }
    });
    sweeping.detach();
}

fn bind(config: &Config) -> anyhow::Result<Vec<BoundListener>> {
    config
        .listeners()?
        .iter()
        .map(|spec| {
            let address = resolve_address(&spec.host, spec.port)?;
            BoundListener::bind(&spec.name, address)
                .with_context(|| format!("cannot listen on {}://{}:{}", spec.name, spec.host, spec.port))
        })
        .collect()
}

fn resolve_address(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut addresses = (host, port).to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?;
    addresses.next().ok_or_else(|| anyhow!("{host} has no address"))
}

fn advertised_endpoints(
    config: &Config,
    listeners: &[BoundListener],
) -> anyhow::Result<Vec<crate::settings::Endpoint>> {
    let specs = config.listeners()?;
    let bound = specs
        .into_iter()
        .zip(listeners)
        .map(|(spec, listener)| Ok(ListenerSpec { port: listener.address()?.port(), ..spec }));
    let bound: Vec<_> = bound.collect::<std::io::Result<_>>()?;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned());
    Ok(advertised(&bound, &config.advertised_listeners()?, &name))
}

fn net_settings(config: &Config, broker: &Broker) -> NetSettings {
    NetSettings {
        max_connections: config.size("max.connections"),
        max_connections_per_ip: config.size("max.connections.per.ip"),
        max_idle: Duration::from_millis(
            u64::try_from(config.number("connections.max.idle.ms")).unwrap_or(u64::MAX / 2),
        ),
        max_produce_frame: config.size("socket.request.max.bytes"),
        max_other_frame: config.size("request.other.max.bytes"),
        max_in_flight: MAX_IN_FLIGHT,
        budgets: broker.budgets.clone(),
    }
}

/// Requests of one connection that may be unanswered; clients keep 5 by default.
const MAX_IN_FLIGHT: usize = 128;

/// Returns what changes the filter.
pub(crate) fn init_logging(config: &Config) -> SetFilter {
    let filter = tracing_subscriber::EnvFilter::try_new(config.text("log.level"))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.text("log.format") {
        "json" => lines.json().boxed(),
        _ => lines.with_ansi(false).boxed(),
    };
    // A second subscriber in the same process (tests) is not an error.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Box::new(move |text| {
        // One that was given by hand may be none at all; then it stays as it is.
        if let Ok(filter) = tracing_subscriber::EnvFilter::try_new(text) {
            let _ = handle.reload(filter);
        }
    })
}

fn greet(
    addresses: &[(String, SocketAddr)],
    http: Option<SocketAddr>,
    store: &str,
    settings: &BrokerSettings,
) {
    println!("Thalweg {} · broker {}", env!("CARGO_PKG_VERSION"), settings.broker);
    for (name, address) in addresses {
        println!("  listening on {name}://{address}");
    }
    if let Some(address) = http {
        println!("  metrics on   http://{address}/metrics");
    }
    println!("  records in   {store}");
    if let Some(endpoint) = settings.advertised.first() {
        println!("  try          echo hello | kcat -P -b {}:{} -t greetings", endpoint.host, endpoint.port);
    }
}

async fn wait_for_stop(broker: &Broker) -> anyhow::Result<Stop> {
    let mut fenced = broker.fenced();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        why = fenced.wait_for(Option::is_some) => {
            let why = why.ok().and_then(|why| why.clone());
            Ok(Stop::Fenced(why.unwrap_or_default()))
        }
        why = failure(broker) => Ok(Stop::Failed(why)),
        _ = terminate.recv() => Ok(Stop::Asked),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Stop::Asked).map_err(Into::into),
    }
}

/// Returns why the broker can't go on, once it can't.
async fn failure(broker: &Broker) -> String {
    let mut failed = broker.runtime.failed();
    match failed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        // The broker keeps the sender.
        Err(_) => std::future::pending().await,
    }
}

/// Finishes what is in hand and flushes, unless it can't. A second signal ends the process at once.
async fn shut_down(server: &Server, broker: &Arc<Broker>) -> Stop {
    tracing::info!("stopping: finishing requests in hand, then flushing");
    let orderly = async {
        if timeout(DRAIN_PATIENCE, server.drain()).await.is_err() {
            tracing::info!("some requests are still in hand; they are answered that this broker has stopped");
        }
        match timeout(CLOSE_PATIENCE, broker.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not flush; the next start recovers from the write-ahead log");
            }
            Err(_) => tracing::warn!(
                "the object store takes no flush; the next start recovers from the write-ahead log"
            ),
        }
    };
    tokio::select! {
        biased;
        () = orderly => Stop::Asked,
        why = failure(broker) => Stop::Failed(why),
        () = second_signal() => std::process::exit(INTERRUPTED),
    }
}

async fn second_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_overtaken_in_its_start_is_told_from_who_failed() {
        let fenced = || KvError::Fenced { reason: "newer".into() };
        let lost = || KvError::Unavailable { reason: "gone".into() };
        let context = |error: anyhow::Error| error.context("cannot start");
        assert!(is_overtaken(&context(anyhow!(fenced()))));
        assert!(is_overtaken(&context(anyhow!(MetadataError::from(fenced())))));
        assert!(is_overtaken(&context(anyhow!(StartError::from(MetadataError::from(fenced()))))));
        assert!(!is_overtaken(&context(anyhow!(StartError::from(MetadataError::from(lost()))))));
        assert!(!is_overtaken(&context(anyhow!("no such bucket"))));
    }
}
