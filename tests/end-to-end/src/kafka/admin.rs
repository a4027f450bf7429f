//! Metadata, CreateTopics, DescribeConfigs, InitProducerId.

use super::{
    batch::Producer,
    code,
    connection::{Api, Connection},
    wire::Writer,
};
use crate::wait;
use anyhow::{Result, ensure};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

const METADATA: Api = Api { key: 3, version: 4 };
const CREATE_TOPICS: Api = Api { key: 19, version: 2 };
const DESCRIBE_CONFIGS: Api = Api { key: 32, version: 1 };
const INIT_PRODUCER_ID: Api = Api { key: 22, version: 0 };

/// How long a new topic may take until it can be written to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What Metadata says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Error code.
    pub error: i16,
    /// Name.
    pub name: String,
    /// (Partition, error code, leader).
    pub partitions: Vec<(i32, i16, i32)>,
}

impl Connection {
    /// Metadata of one topic, which is not created.
    pub async fn metadata(&mut self, topic: &str) -> Result<TopicMetadata> {
        let body = Writer::default().i32(1).string(topic).i8(0).finish();
        let mut answer = self.call(METADATA, &body).await?;
        answer.i32()?;
        answer.array(|from| Ok((from.i32()?, from.string()?, from.i32()?, from.string()?)))?;
        answer.string()?;
        answer.i32()?;
        let topics = answer.array(|from| {
            let (error, name, _internal) = (from.i16()?, from.string()?.unwrap_or_default(), from.i8()?);
            let partitions = from.array(|from| {
                let (error, partition, leader) = (from.i16()?, from.i32()?, from.i32()?);
                from.array(|from| from.i32())?;
                from.array(|from| from.i32())?;
                Ok((partition, error, leader))
            })?;
            Ok(TopicMetadata { error, name, partitions })
        })?;
        topics.into_iter().next().ok_or_else(|| anyhow::anyhow!("Metadata says nothing of {topic}"))
    }

    /// Creates a topic; its error code.
    pub async fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<i16> {
        let (replication, timeout_ms) = (1, 30_000);
        let body = Writer::default().i32(1).string(topic).i32(partitions).i16(replication).i32(0);
        let body = body.array(configs.iter(), |to, (key, value)| to.string(key).string(value));
        let mut answer = self.call(CREATE_TOPICS, &body.i32(timeout_ms).i8(0).finish()).await?;
        answer.i32()?;
        let results = answer.array(|from| Ok((from.string()?, from.i16()?, from.string()?)))?;
        ensure!(results.len() == 1, "CreateTopics answers {results:?}");
        Ok(results[0].1)
    }

    /// Every setting of a topic.
    pub async fn topic_configs(&mut self, topic: &str) -> Result<BTreeMap<String, Option<String>>> {
        let (of_topic, all_names, no_synonyms) = (2, -1, 0);
        let body = Writer::default().i32(1).i8(of_topic).string(topic).i32(all_names).i8(no_synonyms);
        let mut answer = self.call(DESCRIBE_CONFIGS, &body.finish()).await?;
        answer.i32()?;
        let results = answer.array(|from| {
            let (error, _message, _kind, _name) = (from.i16()?, from.string()?, from.i8()?, from.string()?);
            let configs = from.array(|from| {
                let setting = (from.string()?.unwrap_or_default(), from.string()?);
                let (_read_only, _source, _sensitive) = (from.i8()?, from.i8()?, from.i8()?);
                from.array(|from| Ok((from.string()?, from.string()?, from.i8()?)))?;
                Ok(setting)
            })?;
            Ok((error, configs))
        })?;
        ensure!(results.len() == 1 && results[0].0 == code::NONE, "DescribeConfigs answers {results:?}");
        Ok(results.into_iter().flat_map(|(_, configs)| configs).collect())
    }

    /// A producer id for an idempotent producer.
    pub async fn init_producer_id(&mut self) -> Result<Producer> {
        let mut answer =
            self.call(INIT_PRODUCER_ID, &Writer::default().null_string().i32(60_000).finish()).await?;
        let (_throttle, error) = (answer.i32()?, answer.i16()?);
        ensure!(error == code::NONE, "InitProducerId: error {error}");
        Ok(Producer { id: answer.i64()?, epoch: answer.i16()? })
    }
}

/// Creates a topic (fine if it exists) and waits until all its partitions can be written to.
pub async fn create_topic(address: SocketAddr, topic: &str, partitions: i32) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let error = connection.create_topic(topic, partitions, &[]).await?;
    ensure!(matches!(error, code::NONE | code::TOPIC_ALREADY_EXISTS), "CreateTopics {topic}: error {error}");
    wait::until_ok("the new topic has leaders", PATIENCE, || async {
        let mut connection = Connection::open(address).await?;
        let metadata = connection.metadata(topic).await?;
        ensure!(i32::try_from(metadata.partitions.len())? == partitions, "{metadata:?}");
        for (partition, ..) in metadata.partitions {
            connection.list_offset(topic, partition, -1).await?;
        }
        Ok(())
    })
    .await
}
