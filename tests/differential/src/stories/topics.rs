//! Topics and partitions that are made and deleted.

use super::{Teller, fetch::fetch_body};
use crate::{
    batch::Batch,
    world::{make_topics, produce_body},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

fn create(topics: Value, validate_only: bool) -> Value {
    json!({ "Topics": topics, "timeoutMs": 30_000, "validateOnly": validate_only })
}

fn topic(name: &str) -> Value {
    json!({ "Name": name, "NumPartitions": 1, "ReplicationFactor": 1 })
}

/// Kafka applies what its controller has decided a moment after it has answered.
fn settle() {
    sleep(Duration::from_millis(150));
}

/// Made, made again, judged without being made, deleted, used after.
pub fn come_and_go(story: &mut Teller<'_>) -> Result<()> {
    let name = story.name("topic");
    let with = |field: &str, value: Value| {
        let mut topic = topic(&story.name("other"));
        topic[field] = value;
        topic
    };
    let cases = [
        ("only judged", create(json!([topic(&name)]), true)),
        ("made", create(json!([topic(&name)]), false)),
        ("made again", create(json!([topic(&name)]), false)),
        ("judged when it is there", create(json!([topic(&name)]), true)),
        ("twice in a request", create(json!([topic("twice"), topic("twice"), topic(&name)]), true)),
        ("no topics", create(json!([]), false)),
        (
            "a name that collides",
            create(json!([topic(&name.replace('-', "_")), topic(&name.replace('-', "."))]), true),
        ),
        ("names that are wrong", {
            create(json!(["", ".", "..", "a b", "ä", &"x".repeat(249), &"x".repeat(250)].map(topic)), true)
        }),
        ("no partitions", create(json!([with("NumPartitions", json!(0))]), true)),
        ("partitions by default", create(json!([with("NumPartitions", json!(-1))]), true)),
        ("negative partitions", create(json!([with("NumPartitions", json!(-2))]), true)),
        ("no replicas", create(json!([with("ReplicationFactor", json!(0))]), true)),
        ("replicas by default", create(json!([with("ReplicationFactor", json!(-1))]), true)),
        ("negative replicas", create(json!([with("ReplicationFactor", json!(-2))]), true)),
        ("all by default", {
            create(
                json!([{ "Name": story.name("default"), "NumPartitions": -1, "ReplicationFactor": -1 }]),
                false,
            )
        }),
    ];
    for (step, body) in cases {
        story.step(step).ask("CreateTopics", body)?;
    }
    settle();
    make_topics_known(story, &name)?;
    delete_and_use(story, &name)
}

/// Learns the id of a topic that is there.
fn make_topics_known(story: &mut Teller<'_>, name: &str) -> Result<()> {
    let body = json!({ "Topics": [{ "Name": name }], "AllowAutoTopicCreation": false });
    let answers = story.pair.both("Metadata", 12, body)?;
    story.pair.name(&format!("id:{name}"), &answers, "/Topics/0/TopicId")
}

fn delete_and_use(story: &mut Teller<'_>, name: &str) -> Result<()> {
    let id = format!("$id:{name}");
    let delete = |names: &[&str]| {
        let topics: Vec<_> = names.iter().map(|name| json!({ "Name": name })).collect();
        json!({ "TopicNames": names, "Topics": topics, "TimeoutMs": 30_000 })
    };
    story.step("produced to").ask("Produce", produce_body(name, 0, &Batch::of(2).hex()))?;
    story.step("deleted with others").ask("DeleteTopics", delete(&[name, "never-made", ""]))?;
    settle();
    story.step("deleted again").ask("DeleteTopics", delete(&[name]))?;
    story.step("deleted twice").ask("DeleteTopics", delete(&["never", "never"]))?;
    story.step("nothing deleted").ask("DeleteTopics", delete(&[]))?;
    story.step("produced to when it is gone").ask("Produce", produce_body(name, 0, &Batch::of(1).hex()))?;
    story.step("fetched when it is gone").ask("Fetch", fetch_body(name, 0, 0))?;
    story.step("made anew").ask("CreateTopics", create(json!([topic(name)]), false))?;
    settle();
    story.step("the old id").ask("Fetch", fetch_body(name, 0, 0))?;
    let metadata = json!({ "Topics": [{ "Name": null, "TopicId": id }], "AllowAutoTopicCreation": false });
    if story.version("Metadata")? >= 10 {
        story.step("the old id").ask("Metadata", metadata)?;
    }
    make_topics_known(story, name)?;
    story.step("empty again").ask("Fetch", fetch_body(name, 0, 0))?;
    Ok(())
}

/// Topics that Metadata makes.
pub fn made_by_asking(story: &mut Teller<'_>) -> Result<()> {
    let name = story.name("topic");
    let ask =
        |name: &str, make: bool| json!({ "Topics": [{ "Name": name }], "AllowAutoTopicCreation": make });
    if story.version("Metadata")? >= 4 {
        story.step("not made").ask("Metadata", ask(&name, false))?;
    }
    story.step("wrong names").ask("Metadata", ask("a b", true))?;
    let version = story.version("Metadata")?;
    story.pair.both("Metadata", version, ask(&name, true))?;
    settle();
    story.step("made").ask("Metadata", ask(&name, false))?;
    Ok(())
}

/// Partitions that are added.
pub fn partitions(story: &mut Teller<'_>) -> Result<()> {
    let name = story.name("topic");
    make_topics(story.pair, &[(&name, 2)])?;
    let add = |topics: Value, validate_only: bool| json!({ "Topics": topics, "TimeoutMs": 30_000, "ValidateOnly": validate_only });
    let one = |name: &str, count: i32| json!({ "Name": name, "Count": count, "Assignments": null });
    for (step, body) in [
        ("judged", add(json!([one(&name, 3)]), true)),
        ("as many as there are", add(json!([one(&name, 2)]), false)),
        ("fewer", add(json!([one(&name, 1)]), false)),
        ("none", add(json!([one(&name, 0)]), false)),
        ("a negative number", add(json!([one(&name, -1)]), false)),
        ("of no topic", add(json!([one("never-made", 3)]), false)),
        ("of a wrong name", add(json!([one("a b", 3)]), false)),
        ("twice", add(json!([one(&name, 4), one(&name, 5)]), false)),
        ("added", add(json!([one(&name, 3)]), false)),
        ("nothing", add(json!([]), false)),
    ] {
        story.step(step).ask("CreatePartitions", body)?;
    }
    settle();
    let body = json!({ "Topics": [{ "Name": name }], "AllowAutoTopicCreation": false });
    story.step("what is there").ask("Metadata", body)?;
    story.step("the new one").ask("Produce", produce_body(&name, 2, &Batch::of(1).hex()))?;
    story.ask("Fetch", fetch_body(&name, 2, 0))?;
    Ok(())
}
