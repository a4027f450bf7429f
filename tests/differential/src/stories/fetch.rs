//! Fetch sessions, limits, deleted records, and offsets by time.

use super::Teller;
use crate::{
    batch::{Batch, TIMESTAMP},
    world::{make_topics, produce, produce_body},
};
use anyhow::Result;
use serde_json::{Value, json};

/// A Fetch of one partition, without a session.
pub fn fetch_body(topic: &str, partition: i32, offset: i64) -> Value {
    let partition = json!({ "Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20 });
    let topics = json!([{ "Topic": topic, "TopicId": format!("$id:{topic}"), "Partitions": [partition] }]);
    json!({ "MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 1 << 20, "Topics": topics })
}

/// The rules of sessions (KIP-227).
pub fn sessions(story: &mut Teller<'_>) -> Result<()> {
    if story.version("Fetch")? < 7 {
        return Ok(());
    }
    let (topic, session) = (story.name("topic"), story.name("session"));
    make_topics(story.pair, &[(&topic, 3)])?;
    produce(story.pair, &topic, 0, &Batch::of(2))?;
    produce(story.pair, &topic, 1, &Batch::of(1))?;
    let id = format!("${session}");
    let two = [fetch_body(&topic, 0, 0), fetch_body(&topic, 1, 0)].map(|body| body["Topics"][0].clone());
    let both = json!([{
        "Topic": topic,
        "TopicId": format!("$id:{topic}"),
        "Partitions": [two[0]["Partitions"][0], two[1]["Partitions"][0]],
    }]);
    let in_session = |id: &str, epoch: i32, topics: Value| {
        let mut body = fetch_body(&topic, 0, 0);
        body["SessionId"] = json!(id);
        body["SessionEpoch"] = json!(epoch);
        body["Topics"] = topics;
        body
    };
    let start = |epoch: i32| {
        let mut body = in_session("", epoch, both.clone());
        body["SessionId"] = json!(0);
        body
    };
    let first = story.step("a session begins").ask("Fetch", start(0))?;
    story.pair.name(&session, &first, "/SessionId")?;
    story.step("nothing is new").ask("Fetch", in_session(&id, 1, json!([])))?;
    story.step("the same epoch again").ask("Fetch", in_session(&id, 1, json!([])))?;
    let further = fetch_body(&topic, 0, 2)["Topics"].clone();
    story.step("one partition goes on").ask("Fetch", in_session(&id, 2, further))?;
    produce(story.pair, &topic, 0, &Batch::of(1))?;
    story.step("something is new").ask("Fetch", in_session(&id, 3, json!([])))?;
    let third = fetch_body(&topic, 2, 0)["Topics"].clone();
    story.step("a partition more").ask("Fetch", in_session(&id, 4, third))?;
    let unknown = fetch_body(&topic, 9, 0)["Topics"].clone();
    story.step("a partition that doesn't exist").ask("Fetch", in_session(&id, 5, unknown))?;
    story.step("it is told again").ask("Fetch", in_session(&id, 6, json!([])))?;
    let mut forget = in_session(&id, 7, json!([]));
    forget["ForgottenTopicsData"] =
        json!([{ "Topic": topic, "TopicId": format!("$id:{topic}"), "Partitions": [9, 0] }]);
    story.step("partitions are forgotten").ask("Fetch", forget)?;
    let beyond = fetch_body(&topic, 1, 100)["Topics"].clone();
    story.step("an offset out of range").ask("Fetch", in_session(&id, 8, beyond))?;
    story.step("it is out of range still").ask("Fetch", in_session(&id, 9, json!([])))?;
    story.step("an epoch from the future").ask("Fetch", in_session(&id, 50, json!([])))?;
    story.step("the session begins anew").ask("Fetch", in_session(&id, 0, both.clone()))?;
    story.step("its old id is gone").ask("Fetch", in_session(&id, 1, json!([])))?;
    let mut unknown = in_session("", 1, json!([]));
    unknown["SessionId"] = json!(123_456);
    story.step("an id that was never given").ask("Fetch", unknown)?;
    story.step("no id and an epoch").ask("Fetch", start(1))?;
    story.step("without a session").ask("Fetch", start(-1))?;
    story.step("a session of nothing").ask("Fetch", {
        let mut body = start(0);
        body["Topics"] = json!([]);
        body
    })?;
    Ok(())
}

/// What Fetch and others say of records that were deleted.
pub fn deleted_records(story: &mut Teller<'_>) -> Result<()> {
    let topic = story.name("topic");
    make_topics(story.pair, &[(&topic, 1)])?;
    for _ in 0..3 {
        produce(story.pair, &topic, 0, &Batch::of(4))?;
    }
    let delete = |offset: i64| {
        json!({ "TimeoutMs": 10_000, "Topics": [{
            "Name": topic,
            "Partitions": [{ "PartitionIndex": 0, "Offset": offset }],
        }] })
    };
    for (step, offset) in
        [("some", 6_i64), ("less", 2), ("too many", 13), ("a negative number", -5), ("all", -1), ("none", 12)]
    {
        story.step(&format!("{step} are deleted")).ask("DeleteRecords", delete(offset))?;
        for offset in [0, 5, 6, 7, 11, 12, 13] {
            story.ask("Fetch", fetch_body(&topic, 0, offset))?;
        }
        for time in [-1, -2, -3, TIMESTAMP, TIMESTAMP + 2, 0] {
            story.ask("ListOffsets", list_body(&topic, 0, time))?;
        }
        let partition =
            json!({ "Partition": 0, "CurrentLeaderEpoch": -1, "LeaderEpoch": format!("$epoch:{topic}") });
        let body = json!({ "Topics": [{ "Topic": topic, "Partitions": [partition] }] });
        story.ask("OffsetForLeaderEpoch", body)?;
    }
    Ok(())
}

/// How much a Fetch returns.
pub fn limits(story: &mut Teller<'_>) -> Result<()> {
    let topic = story.name("topic");
    make_topics(story.pair, &[(&topic, 3)])?;
    for partition in 0..3 {
        for _ in 0..3 {
            produce(story.pair, &topic, partition, &Batch::of(10))?;
        }
    }
    for max_bytes in [0, 1, 250, 300, 600, 1000, i32::MAX] {
        for partition_max_bytes in [0, 1, 250, 300, 600, i32::MAX] {
            let partition = |index: i32, offset: i64| json!({ "Partition": index, "FetchOffset": offset, "PartitionMaxBytes": partition_max_bytes });
            let partitions = [partition(1, 0), partition(0, 15), partition(2, 30)];
            let topics =
                json!([{ "Topic": topic, "TopicId": format!("$id:{topic}"), "Partitions": partitions }]);
            let body = json!({ "MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": max_bytes, "Topics": topics });
            story.step(&format!("{max_bytes} and {partition_max_bytes} bytes")).ask("Fetch", body)?;
        }
    }
    let mut twice = fetch_body(&topic, 0, 0);
    twice["Topics"] = json!([twice["Topics"][0], fetch_body(&topic, 0, 20)["Topics"][0]]);
    story.step("a partition twice").ask("Fetch", twice)?;
    let mut many = fetch_body(&topic, 0, 0);
    many["MinBytes"] = json!(100);
    many["MaxWaitMs"] = json!(200);
    story.step("enough is there").ask("Fetch", many.clone())?;
    many["MinBytes"] = json!(1 << 20);
    story.step("not enough is there").ask("Fetch", many)?;
    Ok(())
}

fn list_body(topic: &str, partition: i32, time: i64) -> Value {
    let partition = json!({ "PartitionIndex": partition, "CurrentLeaderEpoch": -1, "Timestamp": time });
    json!({
        "ReplicaId": -1,
        "IsolationLevel": 0,
        "Topics": [{ "Name": topic, "Partitions": [partition] }],
        "TimeoutMs": 10_000,
    })
}

/// Offsets by time, where times go up and down.
pub fn times(story: &mut Teller<'_>) -> Result<()> {
    let topic = story.name("topic");
    make_topics(story.pair, &[(&topic, 3)])?;
    let at = |time: i64| Batch { base_timestamp: time, max_timestamp: time + 4, ..Batch::of(5) };
    let offsets: [&[i64]; 2] = [&[0, 100, 200], &[200, 0, 100, 200]];
    for (partition, offsets) in offsets.into_iter().enumerate() {
        for offset in offsets {
            produce(story.pair, &topic, partition as i32, &at(TIMESTAMP + offset))?;
        }
    }
    produce(story.pair, &topic, 2, &Batch { base_timestamp: -1, max_timestamp: -1, ..Batch::of(1) })?;
    for partition in 0..3 {
        for time in [-1, -2, -3, -4, -5, -6, -7, -100, 0, 1]
            .into_iter()
            .chain([0, 2, 4, 5, 50, 100, 103, 104, 105, 200, 204, 205, 1000].map(|offset| TIMESTAMP + offset))
        {
            story.step(&format!("{time}")).ask("ListOffsets", list_body(&topic, partition, time))?;
        }
    }
    let produced = produce_body(&topic, 0, "");
    story.step("no records").ask("Produce", produced)?;
    Ok(())
}
