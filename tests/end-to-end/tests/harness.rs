//! What the other tests rest on: the raw client against Apache Kafka itself, the proxy against MinIO.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use bytes::Bytes;
use thalweg_end_to_end::{
    kafka::{self, Batch, Connection, IdempotentProducer, ProduceRequest},
    proxy::{Faults, Kind, Latency, Operation, Proxy},
    s3::Bucket,
    servers::{Kafka, MinIo},
    wait,
};

mod with_kafka_tools {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_raw_client_speaks_with_apache_kafka() {
        let kafka = Kafka::start(&[]).unwrap();
        let address = kafka.address();
        kafka::create_topic(address, "plain", 2).await.unwrap();
        let batch = Batch::plain(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")]).encode();
        let request =
            ProduceRequest { topic: "plain", acks: -1, partitions: &[(0, batch.clone()), (1, batch)] };
        let produced = Connection::open(address).await.unwrap().produce(&request).await.unwrap();
        assert!(produced.iter().all(|answer| answer.error == 0 && answer.base_offset == 0), "{produced:?}");
        let read = kafka::read_all(address, "plain", 1).await.unwrap();
        assert_eq!(read.iter().map(|record| &record.value[..]).collect::<Vec<_>>(), [b"one", b"two"]);

        kafka::create_topic(address, "idempotent", 3).await.unwrap();
        let mut producer = IdempotentProducer::new(address, "idempotent", 0..3, 7, 100).await.unwrap();
        let mut requests = 0..40;
        producer.run(|_| requests.next().is_none()).await.unwrap();
        producer.check_all().await.unwrap();
        assert_eq!(producer.acknowledged().records[&2], 280);
    }
}

mod on_minio {
    use super::*;

    const BODY: usize = 3 << 20;

    async fn bucket_behind(proxy: &Proxy) -> Bucket {
        let bucket = Bucket::new(proxy.address(), "proxied");
        bucket.create().await.unwrap();
        bucket
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_pass_the_proxy_unchanged_and_are_counted() {
        let minio = MinIo::start().unwrap();
        let proxy = Proxy::start(minio.address(), Latency::NONE, 1).unwrap();
        let bucket = bucket_behind(&proxy).await;
        let before = proxy.counts();
        let body: Bytes = vec![5; BODY].into();
        bucket.put("x/wal/1", body.clone()).await.unwrap();
        assert_eq!(bucket.get("x/wal/1").await.unwrap(), body);
        assert_eq!(bucket.list("x/wal/").await.unwrap().len(), 1);
        let counts = &proxy.counts() - &before;
        assert_eq!(counts.of(Operation::Put, Kind::Wal).bytes_up, BODY as u64);
        assert_eq!(counts.of(Operation::Get, Kind::Wal).bytes_down, BODY as u64);
        assert_eq!(counts.of(Operation::List, Kind::Wal).requests, 1);
        assert_eq!(counts.total().requests, 3, "{counts}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_whose_answer_is_lost_has_happened() {
        let minio = MinIo::start().unwrap();
        let proxy = Proxy::start(minio.address(), Latency::NONE, 1).unwrap();
        let bucket = bucket_behind(&proxy).await;
        proxy.set_faults(Faults { lose_write_answers: 1.0, ..Faults::default() });
        bucket.put("key", Bytes::from_static(b"there")).await.unwrap_err();
        assert_eq!(bucket.get("key").await.unwrap(), "there");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_throttled_store_answers_503_and_an_unreachable_one_not_at_all() {
        let mut minio = MinIo::start().unwrap();
        let proxy = Proxy::start(minio.address(), Latency::NONE, 1).unwrap();
        let bucket = bucket_behind(&proxy).await;
        proxy.set_faults(Faults { slow_down: true, ..Faults::default() });
        let error = bucket.put("key", Bytes::new()).await.unwrap_err();
        assert!(error.to_string().contains("SlowDown"), "{error}");
        proxy.set_faults(Faults::default());
        minio.stop().unwrap();
        bucket.put("key", Bytes::new()).await.unwrap_err();
        minio.start_again().unwrap();
        bucket.put("key", Bytes::new()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_paused_proxy_answers_once_it_goes_on() {
        let minio = MinIo::start().unwrap();
        let proxy = Proxy::start(minio.address(), Latency::NONE, 1).unwrap();
        let bucket = bucket_behind(&proxy).await;
        proxy.set_faults(Faults { paused: true, ..Faults::default() });
        let put = tokio::spawn(async move { bucket.put("key", Bytes::new()).await });
        wait::until("the request arrives", std::time::Duration::from_secs(10), || {
            Ok((proxy.waiting() > 0).then_some(()))
        })
        .unwrap();
        assert!(!put.is_finished());
        proxy.set_faults(Faults::default());
        put.await.unwrap().unwrap();
    }
}
