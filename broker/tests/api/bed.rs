//! A broker on an object store and a metadata store in memory, and a client of it that speaks in frames.

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use object_store::{
    memory::InMemory,
    throttle::{ThrottleConfig, ThrottledStore},
};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use thalweg_broker::{
    api::Handlers,
    broker::Broker,
    config::{Config, GroupConfig, Resolved, Source, topic_resolver},
    context::{AllowAll, Principal, Unlimited},
    dynamic,
    net::{Class, Frame, Peer, Reply, Service},
    settings::Endpoint,
};
use thalweg_fsck::{Report, Restored};
use thalweg_metadata::{MemoryKv, Metadata, MetadataError, list_snapshots};
use thalweg_protocol::{ApiKey, Request, RequestHeader, Response, client, messages::*};
use thalweg_runtime::{Budget, Charge, Clock, Inline, Random, Runtime, SystemClock, TokioSpawner};
use thalweg_segment::{LeaderEpoch, Patience, Store};

/// The answer of one API, out of the response to any.
macro_rules! answer {
    ($asked:expr, $api:ident) => {
        match $asked.await {
            Some(thalweg_protocol::Response::$api(response)) => response,
            other => panic!("not an answer of {}: {other:?}", stringify!($api)),
        }
    };
}
pub(crate) use answer;

/// Requests here never wait for a store that fails.
const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(1),
    total: Duration::from_secs(5),
    backoff: Duration::from_millis(1),
    max_backoff: Duration::from_millis(10),
};

/// The cluster's id.
const CLUSTER: &str = "a-cluster";

/// What outlives a broker.
#[derive(Clone)]
struct Durable {
    objects: Arc<ThrottledStore<InMemory>>,
    metadata: MemoryKv,
}

#[async_trait]
impl thalweg_fsck::OpenMetadata for Durable {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        Ok(Metadata::new(self.metadata.open_to_read(), Runtime::system(1)))
    }
}

/// A wall clock that can be put forward.
#[derive(Default)]
pub struct Skewed(AtomicI64);

impl Skewed {
    /// Puts it forward.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(Ordering::Relaxed)
    }
}

/// A broker, and what it is made on.
pub struct Bed {
    durable: Durable,
    settings: Vec<(String, String)>,
    pub broker: Arc<Broker>,
    pub clock: Arc<Skewed>,
    /// The store as this life of the broker sees it.
    pub store: Store,
    handlers: Handlers,
}

impl Bed {
    /// A broker with nothing in it and these settings.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let objects = Arc::new(ThrottledStore::new(InMemory::new(), ThrottleConfig::default()));
        let durable = Durable { objects, metadata: MemoryKv::exclusive() };
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::on(durable, settings.collect()).await
    }

    /// From now on every GET takes this long.
    pub fn slow_reads(&self, time: Duration) {
        self.durable.objects.config_mut(|config| config.wait_get_per_call = time);
    }

    /// The next life of the broker on the same stores. What the one before has not flushed is recovered.
    pub async fn restarted(self) -> Self {
        Self::on(self.durable, self.settings).await
    }

    /// The next life of the broker after its metadata are lost and restored.
    pub async fn restored(self) -> (Self, Restored) {
        let Self { durable: Durable { objects, metadata: _lost }, settings, broker, handlers, .. } = self;
        drop((handlers, broker));
        let runtime = Runtime::system(1);
        let store = Store::new(objects.clone(), runtime.clone(), PATIENCE);
        let durable = Durable { objects, metadata: MemoryKv::exclusive() };
        let metadata = Metadata::new(durable.metadata.open(), runtime.clone());
        let restored = thalweg_fsck::restore(&runtime, &store, &metadata, CLUSTER, 1).await;
        (Self::on(durable, settings).await, restored.expect("memory does not fail"))
    }

    /// The snapshots of the metadata, the newest first.
    pub async fn snapshots(&self) -> Vec<(LeaderEpoch, u64)> {
        let store = Store::new(self.durable.objects.clone(), Runtime::system(1), PATIENCE);
        list_snapshots(&store).await.expect("memory does not fail")
    }

    /// What a deep check of the stores says at the moment.
    pub async fn fsck(&self) -> Report {
        let runtime = Runtime::system(1);
        let store = Store::new(self.durable.objects.clone(), runtime.clone(), PATIENCE);
        let options = thalweg_fsck::Options { deep: true, orphan_age: Duration::from_secs(3600) };
        let report = thalweg_fsck::check(&runtime, &store, &self.durable, CLUSTER, options).await;
        report.expect("memory does not fail")
    }

    async fn on(durable: Durable, settings: Vec<(String, String)>) -> Self {
        let config = Config::load(vec![(Source::Argument, settings.clone())]).expect("valid settings");
        let config = Arc::new(config);
        // Computing in place, so that virtual time stands still meanwhile.
        let random = Random::from_entropy();
        let clock = Arc::new(Skewed::default());
        let runtime = Runtime::new(clock.clone(), random, Arc::new(TokioSpawner), Arc::new(Inline));
        let store = Store::new(durable.objects.clone(), runtime.clone(), PATIENCE);
        let resolved = Arc::new(RwLock::new(Resolved::default()));
        let mut settings_of_broker = config.broker_settings();
        settings_of_broker.advertised =
            vec![Endpoint { listener: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 9092 }];
        let mut registry = Registry::default();
        let broker = Broker::start(
            runtime,
            store.clone(),
            durable.metadata.open(),
            CLUSTER.into(),
            settings_of_broker,
            topic_resolver(config.clone(), resolved.clone()),
            &mut registry,
        );
        let broker = broker.await.expect("a broker in memory starts");
        dynamic::load(&broker, &config, &resolved).await.expect("memory can be read");
        let handlers = Handlers {
            broker: broker.clone(),
            config,
            resolved,
            authorizer: Arc::new(AllowAll),
            quotas: Arc::new(Unlimited),
        };
        Self { durable, settings, broker, clock, store, handlers }
    }

    /// What holds for a group.
    pub fn group_config(&self, id: &str) -> GroupConfig {
        let Handlers { config, resolved, .. } = &self.handlers;
        self.broker.stored.group_config(config, &resolved.read(), id)
    }

    /// Sends a request and takes the answer apart; none where the broker gives none.
    pub async fn ask(&self, version: i16, request: impl Into<Request>) -> Option<Response> {
        let request = request.into();
        let api = request.api_key();
        let header = RequestHeader {
            api_key: api,
            api_version: version,
            correlation_id: 42,
            client_id: "test".into(),
        };
        match self.reply(&header, request).await {
            Reply::Send(mut rope) => {
                let mut bytes = rope.copy_to_bytes(rope.remaining());
                assert_eq!(bytes.get_i32() as usize, bytes.len());
                let (correlation, response) =
                    client::decode_response(api, version, bytes).expect("the answer decodes");
                assert_eq!(correlation, 42);
                Some(response)
            }
            Reply::Nothing => None,
            Reply::Close(reason) => panic!("{api:?} {version}: the connection was closed: {reason}"),
        }
    }

    /// Sends a request; the reply as the connection gets it.
    pub async fn reply(&self, header: &RequestHeader, request: Request) -> Reply {
        let frame = client::encode_request(header, request).expect("the request fits its version");
        self.serve(header.api_key, frame.slice(4..)).await
    }

    /// Hands a frame, without its length, to the broker.
    pub async fn serve(&self, api: ApiKey, bytes: Bytes) -> Reply {
        let (class, name) = self.handlers.class(api.key());
        let budget = match class {
            Class::Produce => &self.broker.budgets.produce,
            Class::Other => &self.broker.budgets.requests,
        };
        let charge = budget.charge(bytes.len()).await;
        let peer = Peer {
            listener: "PLAINTEXT".into(),
            address: ([127, 0, 0, 1], 5).into(),
            principal: Principal::anonymous(),
        };
        self.handlers.serve(&peer, Frame { api: name, bytes, charge, class }).await.await
    }

    /// Creates a topic and returns its id.
    pub async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> uuid::Uuid {
        let configs = configs.iter().map(|(name, value)| {
            let config = create_topics_request::CreatableTopicConfig::default();
            config.with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let response = answer!(self.ask(7, request), CreateTopics);
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        response.topics[0].topic_id
    }
}

/// Takes all that is free of a budget, also what is kept for small charges.
pub fn rest_of(budget: &Budget) -> Vec<Charge> {
    let sizes = [1 << 20, 1 << 10, 1].into_iter();
    sizes.flat_map(|bytes| std::iter::from_fn(move || budget.try_charge(bytes))).collect()
}

/// A text as messages have it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as messages have it.
pub fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}
