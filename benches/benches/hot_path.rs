//! The hot path, piece by piece, without a network: `cargo bench`.
//!
//! ```text
//! batch/check      lengths, magic and CRC-32C of a produced batch
//! append           one small batch into a log, its cached tail and the WAL (which uploads meanwhile, to memory)
//! segment/write    8 MiB of batches of 16 logs into an object
//! segment/read     footer, index and all blocks of that object, checked
//! fetch            a Fetch frame of 16 partitions, from its bytes to those of the answer, out of the log cache
//! ```

use bytes::{Buf, Bytes};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use object_store::memory::InMemory;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{hint::black_box, sync::Arc, time::Duration};
use thalweg_broker::{
    api::Handlers,
    broker::Broker,
    config::{Config, Resolved, Source, topic_resolver},
    context::{AllowAll, Principal, Unlimited},
    net::{Class, Frame, Peer, Reply, Service},
};
use thalweg_metadata::MemoryKv;
use thalweg_protocol::{ApiKey, Request, RequestHeader, client, messages::*};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    Batch, BrokerEpoch, BrokerId, Incarnation, Kind, LogId, Patience, SegmentWriter, Store, check_block,
    read_object, split_batches, testing::BatchBuilder,
};

const LOGS: u64 = 16;
const BATCH_BYTES: usize = 64 << 10;
const OBJECT_BYTES: usize = 8 << 20;
const TOPIC: &str = "hot-path";

criterion_group! {
    name = hot_path;
    // Short, because what is appended stays in memory.
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = check, append, segment, fetch
}
criterion_main!(hot_path);

fn check(criterion: &mut Criterion) {
    let bytes = batch_of(BATCH_BYTES).bytes();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("check", |bencher| {
        bencher.iter(|| {
            let batch = Batch::split_from(&mut bytes.clone()).expect("a whole batch");
            black_box(batch.verify_crc())
        });
    });
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let bed = Bed::new();
    let _entered = bed.tokio.enter();
    let log = bed.handlers.broker.topics.by_name(TOPIC).expect("created").log(0).expect("owned").clone();
    let batch = BatchBuilder::new().records(1, 100).build();
    criterion.bench_function("append", |bencher| {
        let broker = &bed.handlers.broker;
        bencher.iter(|| log.append(batch.clone(), &broker.cache, &broker.wal).expect("the log is open"));
    });
}

fn segment(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Bytes(OBJECT_BYTES as u64));
    let per_log = OBJECT_BYTES / BATCH_BYTES / LOGS as usize;
    let batches: Vec<Batch> =
        (0..per_log as i64).map(|base| batch_of(BATCH_BYTES).base_offset(base * 1000).build()).collect();
    group.bench_function("write", |bencher| bencher.iter(|| black_box(write(&batches))));
    let object = write(&batches);
    group.bench_function("read", |bencher| bencher.iter(|| black_box(read(&object))));
    group.finish();
}

fn write(batches: &[Batch]) -> Bytes {
    let writer = Incarnation { broker: BrokerId(0), epoch: BrokerEpoch(0) };
    let mut writer = SegmentWriter::new(Kind::Shared, writer, 0);
    for log in 0..LOGS {
        batches.iter().for_each(|batch| writer.batch(LogId(log), batch));
    }
    writer.finish().payload.into()
}

fn read(object: &Bytes) -> usize {
    let (_, index) = read_object(object).expect("written above");
    let batches = index.blocks.iter().map(|block| {
        let bytes = object.slice(block.position as usize..block.end_position() as usize);
        check_block(&bytes, block).expect("written above");
        split_batches(bytes).expect("written above").len()
    });
    batches.sum()
}

fn fetch(criterion: &mut Criterion) {
    let bed = Bed::new();
    let request = bed.fill_and_ask();
    let Reply::Send(rope) = bed.serve(request.clone()) else { panic!("no answer") };
    let mut group = criterion.benchmark_group("log cache");
    group.throughput(Throughput::Bytes(rope.remaining() as u64));
    group.bench_function("fetch", |bencher| {
        bencher.iter_batched(|| request.clone(), |request| bed.serve(request), BatchSize::SmallInput);
    });
    group.finish();
}

/// A batch of about this size, of records of 1 KiB.
fn batch_of(bytes: usize) -> BatchBuilder {
    BatchBuilder::new().records(bytes / 1024, 1012)
}

/// A broker in memory with a topic of 16 partitions.
struct Bed {
    tokio: tokio::runtime::Runtime,
    handlers: Handlers,
}

impl Bed {
    fn new() -> Self {
        let tokio = tokio::runtime::Runtime::new().expect("threads can be started");
        let handlers = tokio.block_on(handlers());
        let bed = Self { tokio, handlers };
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(TOPIC)))
            .with_num_partitions(LOGS as i32)
            .with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        bed.serve(frame(7, create.into()));
        bed
    }

    /// Appends a batch to each partition; a request for all of them.
    fn fill_and_ask(&self) -> (ApiKey, Bytes) {
        let broker = &self.handlers.broker;
        let topic = broker.topics.by_name(TOPIC).expect("created");
        let _entered = self.tokio.enter();
        let mut asked = fetch_request::FetchTopic::default().with_topic_id(topic.id());
        for partition in 0..LOGS as i32 {
            let log = topic.log(partition).expect("owned");
            let end = log.append(batch_of(BATCH_BYTES).build(), &broker.cache, &broker.wal);
            self.tokio.block_on(log.durable(end.expect("the log is open").end)).expect("memory takes it");
            let partition = fetch_request::FetchPartition::default().with_partition(partition);
            asked.partitions.push(partition.with_partition_max_bytes(1 << 20));
        }
        let request = FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![asked]);
        frame(17, request.with_session_epoch(-1).into())
    }

    fn serve(&self, (api, bytes): (ApiKey, Bytes)) -> Reply {
        self.tokio.block_on(async {
            let (class, api) = self.handlers.class(api.key());
            let budgets = &self.handlers.broker.budgets;
            let budget = if class == Class::Produce { &budgets.produce } else { &budgets.receiving };
            let charge = budget.charge(bytes.len()).await;
            let listener = "PLAINTEXT".into();
            let peer =
                Peer { listener, address: ([127, 0, 0, 1], 5).into(), principal: Principal::anonymous() };
            self.handlers.serve(&peer, Frame { api, bytes, charge, class }).await.await
        })
    }
}

async fn handlers() -> Handlers {
    let config = Arc::new(Config::load(vec![(Source::Argument, Vec::new())]).expect("defaults are valid"));
    let second = Duration::from_secs(1);
    let patience = Patience { attempt: second, total: second, backoff: second, max_backoff: second };
    let runtime = Runtime::system(1);
    let store = Store::new(Arc::new(InMemory::new()), runtime.clone(), patience);
    let resolved = Arc::new(RwLock::new(Resolved::default()));
    let mut registry = Registry::default();
    let broker = Broker::start(
        runtime,
        store,
        MemoryKv::exclusive().open(),
        "a-cluster".into(),
        config.broker_settings(),
        topic_resolver(config.clone(), resolved.clone()),
        &mut registry,
    );
    Handlers {
        broker: broker.await.expect("a broker in memory starts"),
        config,
        resolved,
        authorizer: Arc::new(AllowAll),
        quotas: Arc::new(Unlimited),
    }
}

/// A request as it comes from the socket, without its length.
fn frame(version: i16, request: Request) -> (ApiKey, Bytes) {
    let api_key = request.api_key();
    let header =
        RequestHeader { api_key, api_version: version, correlation_id: 1, client_id: "bench".into() };
    let frame = client::encode_request(&header, request).expect("the request fits its version");
    (api_key, frame.slice(4..))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
