//! The broker that the program runs, without its sockets: requests come in as Kafka's messages.

use crate::broker::{Broker, Fetched, Means, Refusal, StartError};
use crate::{
    mini_broker::{of_index, of_metadata, of_recovery},
    stored::DELETE_DELAY,
    transactions,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use thalweg_broker::{
    api::{Answer, Handlers},
    broker::{self, Broker as Core},
    config::{Config, Resolved, Source, topic_resolver},
    context::{AllowAll, Principal, RequestContext, Unlimited},
    settings::BrokerSettings,
    upkeep::{self, compaction::CompactionSettings},
};
use thalweg_metadata::MetadataError;
use thalweg_object_compactor::plan::Sizes;
use thalweg_protocol::{ApiKey, ErrorCode, Request, RequestHeader, Response, messages::*};
use thalweg_runtime::Runtime;
use thalweg_segment::{Batch, Incarnation, LeaderEpoch, LogId, Offset, Patience, Store, split_batches};

use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use fetch_request::{FetchPartition, FetchTopic as WantedTopic};
use produce_request::{PartitionProduceData, TopicProduceData};

const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(3),
    total: Duration::from_secs(20),
    backoff: Duration::from_millis(20),
    max_backoff: Duration::from_secs(1),
};
/// The topic whose partitions are the logs.
const TOPIC: &str = "simulated";
/// Last versions that name topics by their names.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const DELETE_RECORDS_VERSION: i16 = 2;
const FETCH_BYTES: i32 = 4000;
/// The cluster's id.
pub const CLUSTER: &str = "simulation";
/// Of the topic of each coordinator.
const COORDINATOR_PARTITIONS: u32 = 2;
/// The clients of the simulation have a patience of their own.
const PRODUCE_TIMEOUT_MS: i32 = 3_600_000;

struct RealBroker {
    handlers: Handlers,
    logs: Vec<LogId>,
}

/// Starts one, and has it create the topic if nobody has.
pub async fn start(means: Means) -> Result<Arc<dyn Broker>, StartError> {
    let store = Store::new(means.store.clone(), means.runtime.clone(), PATIENCE);
    let config = Arc::new(load_config()?);
    let resolved = Arc::new(RwLock::new(Resolved::default()));
    let resolve = topic_resolver(config.clone(), resolved.clone());
    let mut settings = BrokerSettings { broker: means.broker, wal: means.config, ..config.broker_settings() };
    // What it would write is no part of the play.
    settings.snapshot_interval = None;
    settings.groups.topic_partitions = COORDINATOR_PARTITIONS;
    settings.groups.initial_rebalance_delay_ms = 0;
    settings.transactions.topic_partitions = COORDINATOR_PARTITIONS;
    settings.transactions.abort_interval = Duration::from_secs(1);
    settings.retention_check_interval = Duration::from_millis(means.runtime.random().range(500..20_000));
    settings.compaction = draw_compaction(&means.runtime, settings.compaction);
    let mut registry = prometheus_client::registry::Registry::default();
    let cluster = CLUSTER.to_owned();
    let core = Core::start(means.runtime, store, means.kv, cluster, settings, resolve, &mut registry);
    let broker = core.await.map_err(of_start)?;
    upkeep::start(&broker);
    create_topic(&broker, TOPIC, means.logs.len()).await?;
    if means.transactional {
        create_topic(&broker, transactions::OUTPUT, transactions::OUTPUT_PARTITIONS as usize).await?;
        broker.offsets_topic().await.map_err(of_topic)?;
        broker.transactions_topic().await.map_err(of_topic)?;
    }
    let handlers =
        Handlers { broker, config, resolved, authorizer: Arc::new(AllowAll), quotas: Arc::new(Unlimited) };
    Ok(Arc::new(RealBroker { handlers, logs: means.logs }))
}

fn load_config() -> Result<Config, StartError> {
    let settings = BTreeMap::from([
        // The records of the clients are old from the start.
        ("log.retention.ms", "-1".to_owned()),
        ("log.segment.delete.delay.ms", DELETE_DELAY.as_millis().to_string()),
    ]);
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    Config::load(vec![(Source::Argument, settings.collect())])
        .map_err(|error| StartError::Broken(error.to_string()))
}

/// Often, and with sizes at which flushes of a few batches are worth rewriting.
fn draw_compaction(runtime: &Runtime, defaults: CompactionSettings) -> CompactionSettings {
    let random = runtime.random();
    let pick = |choices: &[u64]| choices[random.range(0..choices.len() as u64) as usize];
    let sizes = Sizes {
        own: pick(&[200, 1000, 10_000]),
        log: pick(&[1000, 5000]),
        shared: pick(&[1000, 5000]),
        plan: pick(&[1000, 5000]),
        index: pick(&[500, 5000]),
        growth: pick(&[125, 200, 400]),
        final_growth: 125,
        manifests: pick(&[1, 2, 8]) as usize,
    };
    let (interval, memory) =
        (Duration::from_millis(pick(&[100, 1000, 5000])), pick(&[1, 1000, 100_000]) as usize);
    CompactionSettings { interval, memory, sizes, ..defaults }
}

async fn create_topic(broker: &Core, name: &str, partitions: usize) -> Result<(), StartError> {
    if broker.topics.by_name(name).is_none() {
        let partitions = u32::try_from(partitions).expect("a few");
        broker.topics.create(name, partitions, Default::default()).await.map_err(of_topic)?;
    }
    Ok(())
}

/// Another broker may have been faster to create a topic; then this one does not know it, and starts again.
fn of_topic(error: MetadataError) -> StartError {
    match error {
        MetadataError::TopicExists { name } => StartError::Again(format!("{name} exists")),
        error => of_metadata(error),
    }
}

fn of_start(error: broker::StartError) -> StartError {
    match error {
        broker::StartError::Metadata(error) => of_metadata(error),
        broker::StartError::Index(error) => of_index(error),
        broker::StartError::Recovery(error) => of_recovery(error),
    }
}

impl RealBroker {
    fn partition(&self, log: LogId) -> i32 {
        let at = self.logs.iter().position(|known| *known == log).expect("clients use logs that there are");
        i32::try_from(at).expect("a few")
    }

    async fn handle(&self, api_version: i16, request: Request) -> Answer {
        let header = RequestHeader {
            api_key: request.api_key(),
            api_version,
            correlation_id: 0,
            client_id: String::new(),
        };
        let context = RequestContext {
            principal: Principal::anonymous(),
            listener: "PLAINTEXT".into(),
            client_id: None,
            client: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        };
        let budgets = &self.handlers.broker.budgets;
        let budget = if header.api_key == ApiKey::Produce { &budgets.produce } else { &budgets.requests };
        let charge = budget.charge(1).await;
        self.handlers.handle(context, &header, request, charge).await.await
    }
}

fn refusal(code: i16) -> Refusal {
    match ErrorCode::from_code(code) {
        ErrorCode::NotLeaderOrFollower => Refusal::NotLeader,
        ErrorCode::OutOfOrderSequenceNumber => Refusal::OutOfOrder,
        _ => Refusal::Unavailable,
    }
}

#[async_trait]
impl Broker for RealBroker {
    fn incarnation(&self) -> Incarnation {
        self.handlers.broker.topics.owner().incarnation
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        self.handlers.broker.topics.owner().leader_epoch
    }

    async fn produce(&self, log: LogId, mut batch: Batch) -> Result<Offset, Refusal> {
        // As clients send them.
        batch.place(Offset(0), LeaderEpoch(-1));
        let records = Bytes::from([&batch.head()[..], batch.records()].concat());
        let data =
            PartitionProduceData::default().with_index(self.partition(log)).with_records(Some(records));
        let name = TopicName(StrBytes::from_static_str(TOPIC));
        let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(PRODUCE_TIMEOUT_MS);
        let answer = self.handle(PRODUCE_VERSION, request.with_topic_data(vec![topic]).into()).await;
        let Some(Response::Produce(response)) = answer.response else { return Err(Refusal::Unavailable) };
        let partition = &response.responses[0].partition_responses[0];
        match partition.error_code {
            0 => Ok(Offset(partition.base_offset)),
            code => Err(refusal(code)),
        }
    }

    async fn fetch(&self, log: LogId, from: Offset) -> Result<Fetched, Refusal> {
        let partition = FetchPartition::default()
            .with_partition(self.partition(log))
            .with_fetch_offset(from.0)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(FETCH_BYTES);
        let name = TopicName(StrBytes::from_static_str(TOPIC));
        let topic = WantedTopic::default().with_topic(name).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(FETCH_BYTES).with_topics(vec![topic]);
        let answer = self.handle(FETCH_VERSION, request.with_session_epoch(-1).into()).await;
        let Some(Response::Fetch(response)) = answer.response else { return Err(Refusal::Unavailable) };
        let partition = &response.topics[0].partitions[0];
        if partition.error_code != 0 {
            return Err(refusal(partition.error_code));
        }
        let batches = split_batches(partition.records.concat().into()).map_err(|_| Refusal::Unavailable)?;
        Ok(Fetched { batches, high_watermark: Offset(partition.high_watermark) })
    }

    fn start(&self, log: LogId) -> Offset {
        self.handlers.broker.logs.get(log).map(|log| log.view().start).unwrap_or_default()
    }

    async fn delete_before(&self, log: LogId, before: Offset) -> Result<Offset, Refusal> {
        let partition =
            DeleteRecordsPartition::default().with_partition_index(self.partition(log)).with_offset(before.0);
        let name = TopicName(StrBytes::from_static_str(TOPIC));
        let topic = DeleteRecordsTopic::default().with_name(name).with_partitions(vec![partition]);
        let request =
            DeleteRecordsRequest::default().with_timeout_ms(PRODUCE_TIMEOUT_MS).with_topics(vec![topic]);
        let answer = self.handle(DELETE_RECORDS_VERSION, request.into()).await;
        let Some(Response::DeleteRecords(response)) = answer.response else {
            return Err(Refusal::Unavailable);
        };
        let partition = &response.topics[0].partitions[0];
        match partition.error_code {
            0 => Ok(Offset(partition.low_watermark)),
            code => Err(refusal(code)),
        }
    }

    async fn ask(&self, version: i16, request: Request) -> Option<Response> {
        self.handle(version, request).await.response
    }

    fn request_flush(&self) {
        self.handlers.broker.wal.request_flush();
    }

    async fn close(&self) -> bool {
        self.handlers.broker.close().await.is_ok()
    }

    fn is_fenced(&self) -> bool {
        self.handlers.broker.fenced().borrow().is_some()
    }
}
