use anyhow::{Result, bail};
use std::net::SocketAddr;
use thalweg_end_to_end::{
    clients::KafkaTools,
    process::Usage,
    proxy::{Counts, Latency, Proxy},
    servers::{Kafka, MinIo, Options, Thalweg},
};

/// A broker that is measured, with whatever it stores into.
pub enum Subject {
    /// Apache Kafka on its own disk.
    Kafka(Box<Kafka>),
    /// Thalweg on `file:`, or on MinIO without a proxy.
    File(Box<Thalweg>),
    /// Thalweg on MinIO behind a counting proxy.
    MinIo {
        /// The broker; dropped before what it stores into.
        broker: Box<Thalweg>,
        /// Counts its requests.
        proxy: Proxy,
    },
}

impl Subject {
    /// Apache Kafka.
    pub fn kafka() -> Result<Self> {
        Ok(Self::Kafka(Box::new(Kafka::start(&[])?)))
    }

    /// Thalweg with its defaults and `settings`.
    pub fn file(settings: &[(&str, &str)]) -> Result<Self> {
        Ok(Self::File(Box::new(with(Options::new()?, settings).start()?)))
    }

    /// Thalweg in `bucket` of `minio`, behind a proxy with `latency`.
    pub fn on_minio(
        minio: &MinIo,
        bucket: &str,
        latency: Latency,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        minio.bucket(bucket)?;
        let proxy = Proxy::start(minio.address(), latency, SEED)?;
        let options = with(Options::on_s3(proxy.address(), bucket)?, settings);
        Ok(Self::MinIo { broker: Box::new(options.start()?), proxy })
    }

    /// Thalweg in `bucket` of `minio`, with nothing between them that counts, or takes processor time.
    pub fn on_minio_directly(minio: &MinIo, bucket: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Ok(Self::File(Box::new(with(Options::on_minio(minio, bucket)?, settings).start()?)))
    }

    /// Stops the broker in an orderly way, and starts it again. Kafka can't be.
    pub fn restart(&mut self) -> Result<()> {
        let broker = self.thalweg()?;
        broker.terminate()?;
        broker.start_again()
    }

    /// kill -9, then `then`, then it is started again. Kafka can't be.
    pub fn kill_and(&mut self, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let broker = self.thalweg()?;
        broker.kill()?;
        then()?;
        broker.start_again()
    }

    /// Whether the broker runs. Of Kafka nothing is known.
    pub fn is_running(&mut self) -> bool {
        self.thalweg().is_ok_and(Thalweg::is_running)
    }

    fn thalweg(&mut self) -> Result<&mut Thalweg> {
        match self {
            Self::File(broker) | Self::MinIo { broker, .. } => Ok(broker),
            Self::Kafka(_) => bail!("Kafka is started once"),
        }
    }

    /// What it's called in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "Kafka",
            Self::File(_) => "Thalweg, file:",
            Self::MinIo { .. } => "Thalweg, MinIO",
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Kafka(kafka) => kafka.address(),
            Self::File(broker) | Self::MinIo { broker, .. } => broker.address(),
        }
    }

    /// What the broker has used so far.
    pub fn usage(&self) -> Result<Usage> {
        match self {
            Self::Kafka(kafka) => kafka.process().usage(),
            Self::File(broker) | Self::MinIo { broker, .. } => broker.process().usage(),
        }
    }

    /// The S3 endpoint that it stores into, if it does: the proxy.
    pub fn store_address(&self) -> Option<SocketAddr> {
        match self {
            Self::MinIo { proxy, .. } => Some(proxy.address()),
            Self::Kafka(_) | Self::File(_) => None,
        }
    }

    /// Its requests to S3 so far; none where it uses none.
    pub fn counts(&self) -> Counts {
        match self {
            Self::MinIo { proxy, .. } => proxy.counts(),
            Self::Kafka(_) | Self::File(_) => Counts::default(),
        }
    }

    /// Kafka's tools for it.
    pub fn tools(&self) -> Result<KafkaTools> {
        KafkaTools::new(self.address())
    }
}

/// What latencies are drawn from, so that runs compare.
const SEED: u64 = 1;

fn with(options: Options, settings: &[(&str, &str)]) -> Options {
    settings.iter().fold(options, |options, (key, value)| options.set(key, value))
}
