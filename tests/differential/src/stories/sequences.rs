//! What a log does with the sequences of idempotent producers.

use super::{Teller, fetch::fetch_body};
use crate::{
    symbols::BATCH,
    world::{make_topics, produce_body},
};
use anyhow::Result;
use serde_json::{Value, json};

/// In order, repeated, with gaps, of old and new epochs, wrapped.
pub fn sequences(story: &mut Teller<'_>) -> Result<()> {
    let (topic, producer) = (story.name("topic"), format!("producer-{}", story.number));
    make_topics(story.pair, &[(&topic, 3)])?;
    let body = json!({ "TransactionalId": null, "TransactionTimeoutMs": 60_000 });
    let given = story.step("a producer").ask("InitProducerId", body)?;
    story.pair.name(&producer, &given, "/ProducerId")?;
    let id = format!("${producer}");
    let batch = |epoch: i32, sequence: i32, count: i32| {
        json!({ BATCH: {
            "ProducerId": id, "ProducerEpoch": epoch, "BaseSequence": sequence, "Count": count,
        } })
    };
    let to = |partition: i32, records: Value| {
        let mut body = produce_body(&topic, partition, "");
        body["TopicData"][0]["PartitionData"][0]["Records"] = records;
        body
    };
    let steps: [(&str, i32, i32, i32); 24] = [
        ("in between", 0, 3, 2),
        ("the first", 0, 0, 2),
        ("the first again", 0, 0, 2),
        ("the first, cut", 0, 0, 1),
        ("the first, longer", 0, 0, 3),
        ("the second", 0, 2, 3),
        ("the first once more", 0, 0, 2),
        ("a gap", 0, 9, 1),
        ("the third", 0, 5, 1),
        ("the fourth", 0, 6, 1),
        ("the fifth", 0, 7, 1),
        ("the sixth", 0, 8, 1),
        ("the seventh", 0, 9, 1),
        ("the first, long ago", 0, 0, 2),
        ("the second, long ago", 0, 2, 3),
        ("the fourth again", 0, 6, 1),
        ("part of the second", 0, 3, 1),
        ("a new epoch in between", 1, 10, 1),
        ("a new epoch", 1, 0, 1),
        ("the old epoch", 0, 10, 1),
        ("the new epoch goes on", 1, 1, 1),
        ("an epoch left out", 5, 0, 1),
        ("a negative epoch", -2, 0, 1),
        ("a negative sequence", 5, -3, 1),
    ];
    for (step, epoch, sequence, count) in steps {
        story.step(step).ask("Produce", to(0, batch(epoch, sequence, count)))?;
    }
    story.step("what is there").ask("Fetch", fetch_body(&topic, 0, 0))?;
    for (step, sequence, count) in [
        ("the end", i32::MAX - 1, 2),
        ("the end again", i32::MAX - 1, 2),
        ("from the beginning", 0, 1),
        ("beyond the end", i32::MAX, 3),
    ] {
        story.step(step).ask("Produce", to(1, batch(0, sequence, count)))?;
    }
    story.step("what is there").ask("Fetch", fetch_body(&topic, 1, 0))?;
    let mut twice = to(2, batch(0, 0, 1));
    let partition = &mut twice["TopicData"][0]["PartitionData"];
    *partition = json!([partition[0], partition[0]]);
    story.step("a partition twice in a request").ask("Produce", twice)?;
    story.step("what is there").ask("Fetch", fetch_body(&topic, 2, 0))?;
    if story.pair.offers("DescribeProducers") {
        let body = json!({ "Topics": [{ "Name": topic, "PartitionIndexes": [0, 1, 2] }] });
        story.step("who is known").ask("DescribeProducers", body)?;
    }
    Ok(())
}
