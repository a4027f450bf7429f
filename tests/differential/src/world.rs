//! The topics, groups and records that cases are about, made on both sides alike.

use crate::{
    batch::Batch,
    pair::{Answers, Pair},
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

/// Names of what exists, and of what doesn't.
#[derive(Clone, Debug)]
pub struct World {
    /// Makes the names unique.
    pub number: usize,
    /// A topic of two partitions; the first has three records.
    pub full: String,
    /// A topic of one partition without records.
    pub empty: String,
    /// A topic that doesn't exist.
    pub unknown: String,
    /// A group with committed offsets and no members.
    pub offsets: String,
    /// A group with one member, `$member-NUMBER`, in generation 1.
    pub joined: String,
    /// A consumer group with one member.
    pub consumers: String,
    /// A group that nobody has heard of.
    pub new: String,
    /// Whether the brokers have transactions.
    pub transactions: bool,
}

/// Settings of every topic that is made: its records never expire, whatever their timestamps.
const TOPIC_CONFIGS: [(&str, &str); 1] = [("retention.ms", "-1")];

impl World {
    /// Makes one.
    pub fn make(pair: &mut Pair, number: usize) -> Result<Self> {
        let world = Self {
            number,
            full: format!("full-{number}"),
            empty: format!("empty-{number}"),
            unknown: format!("unknown-{number}"),
            offsets: format!("offsets-{number}"),
            joined: format!("joined-{number}"),
            consumers: format!("consumers-{number}"),
            new: format!("new-{number}"),
            transactions: pair.offers("AddPartitionsToTxn"),
        };
        pair.begin("the world");
        make_topics(pair, &[(&world.full, 2), (&world.empty, 1)])?;
        for count in [1, 2] {
            produce(pair, &world.full, 0, &Batch::of(count))?;
        }
        Ok(world)
    }

    /// Adds the groups.
    pub fn make_groups(&self, pair: &mut Pair) -> Result<()> {
        commit(pair, &self.offsets, &self.full)?;
        join_alone(pair, &self.joined, &format!("member-{}", self.number))?;
        await_coordinators(pair, &self.full)?;
        let answers = join_as_consumer(pair, &self.consumers, self.consumer(), &self.full)?;
        ensure!(
            has_partitions(&answers.kafka) && has_partitions(&answers.thalweg),
            "no consumers: {answers:?}"
        );
        Ok(())
    }

    /// The member of the group `consumers`.
    pub fn consumer(&self) -> &'static str {
        "a-consumer"
    }

    /// The symbol of a topic's id.
    pub fn id_of(topic: &str) -> String {
        format!("$id:{topic}")
    }

    /// The symbol of the member of the group `joined`.
    pub fn member(&self) -> String {
        format!("$member-{}", self.number)
    }
}

/// Makes topics, and waits until both brokers serve them. Their ids and leader epochs are symbols from then on.
pub fn make_topics(pair: &mut Pair, topics: &[(&str, i32)]) -> Result<()> {
    make_topics_with(pair, topics, &TOPIC_CONFIGS)
}

/// The same with these settings.
pub fn make_topics_with(pair: &mut Pair, topics: &[(&str, i32)], configs: &[(&str, &str)]) -> Result<()> {
    let configs: Vec<_> =
        configs.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
    let topic = |(name, partitions): &(&str, i32)| json!({ "Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": configs });
    let topics_to_make: Vec<_> = topics.iter().map(topic).collect();
    let made = pair.both("CreateTopics", 7, json!({ "Topics": topics_to_make, "timeoutMs": 30_000 }))?;
    for answer in [&made.kafka, &made.thalweg] {
        let topics = answer["Topics"].as_array().into_iter().flatten();
        ensure!(topics.clone().count() > 0, "no topic was made: {answer}");
        for topic in topics {
            ensure!(topic["ErrorCode"] == 0, "a topic was not made: {topic}");
        }
    }
    wait_for_leaders(pair, topics)
}

fn wait_for_leaders(pair: &mut Pair, topics: &[(&str, i32)]) -> Result<()> {
    const ATTEMPTS: u32 = 500;
    let names: Vec<_> = topics.iter().map(|(name, _)| json!({ "Name": name })).collect();
    for _ in 0..ATTEMPTS {
        let answers =
            pair.both("Metadata", 12, json!({ "Topics": names, "AllowAutoTopicCreation": false }))?;
        let [kafka, thalweg] = [&answers.kafka, &answers.thalweg].map(|answer| serves(answer, topics));
        if kafka && thalweg && lead(pair, topics)? {
            return name_topics(pair, &answers);
        }
        sleep(Duration::from_millis(5));
    }
    anyhow::bail!("topics without leaders: {topics:?}")
}

fn serves(metadata: &Value, topics: &[(&str, i32)]) -> bool {
    let found = metadata["Topics"].as_array().into_iter().flatten();
    let partitions = found.flat_map(|topic| topic["Partitions"].as_array().into_iter().flatten());
    let with_leader = partitions.filter(|partition| partition["ErrorCode"] == 0).count();
    with_leader == topics.iter().map(|(_, partitions)| *partitions as usize).sum::<usize>()
}

/// Whether every partition can be asked: Kafka's metadata may name a leader that doesn't know of it yet.
fn lead(pair: &mut Pair, topics: &[(&str, i32)]) -> Result<bool> {
    let topic = |(name, partitions): &(&str, i32)| {
        let partitions = (0..*partitions).map(|index| json!({ "PartitionIndex": index, "Timestamp": -1 }));
        json!({ "Name": name, "Partitions": partitions.collect::<Vec<_>>() })
    };
    let topics: Vec<_> = topics.iter().map(topic).collect();
    let answers = pair.both("ListOffsets", 6, json!({ "ReplicaId": -1, "Topics": topics }))?;
    let all_lead = |answer: &Value| {
        let topics = answer["Topics"].as_array().into_iter().flatten();
        let mut partitions = topics.flat_map(|topic| topic["Partitions"].as_array().into_iter().flatten());
        partitions.all(|partition| partition["ErrorCode"] == 0)
    };
    Ok(all_lead(&answers.kafka) && all_lead(&answers.thalweg))
}

fn name_topics(pair: &mut Pair, answers: &Answers) -> Result<()> {
    let names = |answer: &Value| -> Vec<String> {
        let topics = answer["Topics"].as_array().into_iter().flatten();
        topics.map(|topic| topic["Name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (kafkas, thalwegs) = (names(&answers.kafka), names(&answers.thalweg));
    for (at, name) in kafkas.iter().enumerate() {
        let other = thalwegs.iter().position(|other| other == name).unwrap_or(at);
        for (symbol, field) in [("id", "TopicId"), ("epoch", "Partitions/0/LeaderEpoch")] {
            let [kafka, thalweg] = [at, other].map(|at| format!("/Topics/{at}/{field}"));
            pair.name_apart(&format!("{symbol}:{name}"), answers, &kafka, &thalweg)?;
        }
    }
    Ok(())
}

/// Produces a batch that must be taken.
pub fn produce(pair: &mut Pair, topic: &str, partition: i32, batch: &Batch) -> Result<()> {
    let answers = pair.both("Produce", 12, produce_body(topic, partition, &batch.hex()))?;
    for answer in [&answers.kafka, &answers.thalweg] {
        let error = answer.pointer("/Responses/0/PartitionResponses/0/ErrorCode");
        ensure!(error == Some(&json!(0)), "not produced: {answer}");
    }
    Ok(())
}

/// A Produce request up to version 12 with these records in hexadecimal.
pub fn produce_body(topic: &str, partition: i32, records: &str) -> Value {
    json!({
        "Acks": -1,
        "TimeoutMs": 10_000,
        "TopicData": [{
            "Name": topic,
            "TopicId": format!("$id:{topic}"),
            "PartitionData": [{ "Index": partition, "Records": records }],
        }],
    })
}

/// Commits offset 2 for the first partition of `topic`, without members.
fn commit(pair: &mut Pair, group: &str, topic: &str) -> Result<()> {
    let partition = json!({ "PartitionIndex": 0, "CommittedOffset": 2, "CommittedMetadata": "noted" });
    let body = json!({ "GroupId": group, "Topics": [{ "Name": topic, "Partitions": [partition] }] });
    let answers = retry_both(pair, "OffsetCommit", 8, &body, "/Topics/0/Partitions/0/ErrorCode")?;
    drop(answers);
    Ok(())
}

/// Joins as the only member and becomes stable; the member id is called `$name`. Others who join wait for it for a second.
pub fn join_alone(pair: &mut Pair, group: &str, name: &str) -> Result<()> {
    join_alone_within(pair, group, name, 1000)
}

/// Has both brokers make a group, for as long as it may take a broker that has made none before.
pub fn make_first_group(pair: &mut Pair) -> Result<()> {
    join_alone_within(pair, "the-first", "the-first-member", 60_000)
}

fn join_alone_within(pair: &mut Pair, group: &str, name: &str, rebalance_timeout_ms: i32) -> Result<()> {
    let mut body = json!({
        "GroupId": group,
        "SessionTimeoutMs": 1_800_000,
        "RebalanceTimeoutMs": rebalance_timeout_ms,
        "ProtocolType": "consumer",
        "Protocols": [{ "Name": "range", "Metadata": SUBSCRIPTION }],
    });
    let first = retry_both(pair, "JoinGroup", 5, &body, "")?;
    pair.name(name, &first, "/MemberId")?;
    body["MemberId"] = json!(format!("${name}"));
    pair.both("JoinGroup", 5, body)?;
    let body = json!({
        "GroupId": group,
        "GenerationId": 1,
        "MemberId": format!("${name}"),
        "Assignments": [{ "MemberId": format!("${name}"), "Assignment": ASSIGNMENT }],
    });
    retry_both(pair, "SyncGroup", 3, &body, "/ErrorCode")?;
    Ok(())
}

/// Waits until both coordinators of consumer groups know of a topic: Kafka's learn of it a moment after it is made.
pub fn await_coordinators(pair: &mut Pair, topic: &str) -> Result<()> {
    const ATTEMPTS: usize = 200;
    for attempt in 0..ATTEMPTS {
        let answers = join_as_consumer(pair, &format!("knows-{topic}-{attempt}"), "one", topic)?;
        if has_partitions(&answers.kafka) && has_partitions(&answers.thalweg) {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the coordinators don't know of {topic}")
}

fn has_partitions(heartbeat: &Value) -> bool {
    heartbeat.pointer("/Assignment/TopicPartitions/0/Partitions/0").is_some()
}

/// Joins a consumer group as its only member.
fn join_as_consumer(pair: &mut Pair, group: &str, member: &str, topic: &str) -> Result<Answers> {
    let body = json!({
        "GroupId": group,
        "MemberId": member,
        "MemberEpoch": 0,
        "RebalanceTimeoutMs": 60_000,
        "SubscribedTopicNames": [topic],
        "TopicPartitions": [],
    });
    retry_both(pair, "ConsumerGroupHeartbeat", 1, &body, "/ErrorCode")
}

/// A consumer's subscription to the topic `t`, version 0.
pub const SUBSCRIPTION: &str = "0000000000010001740000000000";
/// Partition 0 of the topic `t`, version 0.
pub const ASSIGNMENT: &str = "00000000000100017400000001000000000000000000";

/// Asks both until the coordinator is ready, and the error at `pointer` is none (a text without a pointer is not looked at).
fn retry_both(pair: &mut Pair, api: &str, version: i16, body: &Value, pointer: &str) -> Result<Answers> {
    const LOADING: [i64; 3] = [14, 15, 16];
    const ATTEMPTS: u32 = 1000;
    for _ in 0..ATTEMPTS {
        let answers = pair.both(api, version, body.clone())?;
        let at = if pointer.is_empty() { "/ErrorCode" } else { pointer };
        let error = |answer: &Value| answer.pointer(at).and_then(Value::as_i64).unwrap_or(-1);
        let errors = [error(&answers.kafka), error(&answers.thalweg)];
        if !errors.iter().any(|error| LOADING.contains(error)) {
            ensure!(pointer.is_empty() || errors == [0, 0], "{api}: {answers:?}");
            return Ok(answers);
        }
        sleep(Duration::from_millis(10));
    }
    anyhow::bail!("{api}: the coordinator is not ready")
}

/// Makes both brokers make the topics of coordinators, and waits until they coordinate groups and transactions.
pub fn wake_coordinators(pair: &mut Pair) -> Result<()> {
    for _ in 0..200 {
        let mut found = true;
        for kind in [0, 1] {
            let body = json!({ "KeyType": kind, "CoordinatorKeys": ["any"] });
            let answers = pair.both("FindCoordinator", 4, body)?;
            let code = |answer: &Value| answer.pointer("/Coordinators/0/ErrorCode") == Some(&json!(0));
            found &= code(&answers.kafka) && code(&answers.thalweg);
        }
        if found {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    anyhow::bail!("no coordinator")
}
