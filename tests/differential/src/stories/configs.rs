//! Settings of topics and brokers.

use super::Teller;
use crate::world::make_topics;
use anyhow::Result;
use serde_json::{Value, json};

/// A topic's settings, each with values that are valid and values that aren't.
const VALUES: &[(&str, &[&str])] = &[
    (
        "cleanup.policy",
        &["delete", "compact", "compact,delete", "delete, compact", "delete,delete", "none", "", "COMPACT"],
    ),
    ("compression.type", &["producer", "gzip", "zstd", "uncompressed", "none", "GZIP", ""]),
    ("compression.gzip.level", &["-1", "1", "9", "0", "10", "x"]),
    ("compression.lz4.level", &["1", "17", "18", "0"]),
    ("compression.zstd.level", &["-131072", "22", "23"]),
    ("delete.retention.ms", &["0", "-1", "9223372036854775807", "9223372036854775808", "1.5"]),
    ("file.delete.delay.ms", &["0", "-1"]),
    ("flush.messages", &["1", "0"]),
    ("flush.ms", &["0", "-1"]),
    ("follower.replication.throttled.replicas", &["*", "none", "0:1", "0:1,1:1", "x"]),
    ("index.interval.bytes", &["0", "-1", "2147483648"]),
    ("leader.replication.throttled.replicas", &["*", "", "0", "0:1"]),
    ("local.retention.bytes", &["-2", "-3", "100"]),
    ("local.retention.ms", &["-2", "-3", "100"]),
    ("max.compaction.lag.ms", &["1", "0"]),
    ("max.message.bytes", &["0", "-1", "100", " 100", "100 "]),
    ("message.timestamp.after.max.ms", &["0", "-1"]),
    ("message.timestamp.before.max.ms", &["0", "-1"]),
    ("message.timestamp.type", &["CreateTime", "LogAppendTime", "createtime"]),
    ("min.cleanable.dirty.ratio", &["0", "1", "1.1", "-0.1", "x", "0.5f"]),
    ("min.compaction.lag.ms", &["0", "-1"]),
    ("min.insync.replicas", &["1", "0", "5"]),
    ("preallocate", &["true", "false", "TRUE", "yes", ""]),
    ("retention.bytes", &["-1", "-2", "0"]),
    ("retention.ms", &["-1", "-2", "0", "1000"]),
    ("segment.bytes", &["1048576", "1048575", "14", "x"]),
    ("segment.index.bytes", &["4", "3"]),
    ("segment.jitter.ms", &["0", "-1"]),
    ("segment.ms", &["1", "0"]),
    ("unclean.leader.election.enable", &["true", "x"]),
    ("message.format.version", &["2.8"]),
    ("message.downconversion.enable", &["true"]),
    ("no.such.setting", &["1"]),
    ("", &["1"]),
    ("Retention.ms", &["1"]),
];

/// Each value, judged but not taken.
pub fn values(story: &mut Teller<'_>) -> Result<()> {
    let create = |name: &str, configs: Value| {
        let topic = json!({ "Name": name, "NumPartitions": 1, "ReplicationFactor": 1, "Configs": configs });
        json!({ "Topics": [topic], "timeoutMs": 30_000, "validateOnly": true })
    };
    let name = story.name("topic");
    for (setting, values) in VALUES {
        for value in *values {
            let configs = json!([{ "Name": setting, "Value": value }]);
            story.step(&format!("{setting}={value}")).ask("CreateTopics", create(&name, configs))?;
        }
        let configs = json!([{ "Name": setting, "Value": null }]);
        story.step(&format!("{setting} is null")).ask("CreateTopics", create(&name, configs))?;
    }
    let several = json!([
        { "Name": "retention.ms", "Value": "x" },
        { "Name": "no.such.setting", "Value": "x" },
        { "Name": "retention.bytes", "Value": "x" },
    ]);
    story.step("several that are wrong").ask("CreateTopics", create(&name, several))?;
    let twice = json!([{ "Name": "retention.ms", "Value": "1" }, { "Name": "retention.ms", "Value": "2" }]);
    story.step("one twice").ask("CreateTopics", create(&name, twice))?;
    let bounds = json!([{ "Name": "min.compaction.lag.ms", "Value": "5" }, { "Name": "max.compaction.lag.ms", "Value": "4" }]);
    story.step("bounds that cross").ask("CreateTopics", create(&name, bounds))?;
    Ok(())
}

/// Everything that is told of a topic and of a broker.
pub fn all(story: &mut Teller<'_>) -> Result<()> {
    let name = story.name("topic");
    make_topics(story.pair, &[(&name, 1)])?;
    let describe = |kind: i32, name: &str, synonyms: bool, documentation: bool| {
        json!({
            "Resources": [{ "ResourceType": kind, "ResourceName": name, "ConfigurationKeys": null }],
            "IncludeSynonyms": synonyms,
            "IncludeDocumentation": documentation,
        })
    };
    story.step("of a topic").ask("DescribeConfigs", describe(2, &name, false, false))?;
    story.step("of a topic, whole").ask("DescribeConfigs", describe(2, &name, true, true))?;
    story.step("of a broker").ask("DescribeConfigs", describe(4, "1", false, false))?;
    story.step("of a broker, whole").ask("DescribeConfigs", describe(4, "1", true, true))?;
    story.step("of all brokers").ask("DescribeConfigs", describe(4, "", true, false))?;
    story.step("of groups").ask("DescribeConfigs", describe(32, "some-group", true, false))?;
    story.step("of loggers").ask("DescribeConfigs", describe(8, "2", false, false))?;
    Ok(())
}

const SET: i32 = 0;
const DELETE: i32 = 1;
const APPEND: i32 = 2;
const SUBTRACT: i32 = 3;

/// Changes of a topic's settings, one upon another.
pub fn altered(story: &mut Teller<'_>) -> Result<()> {
    let name = story.name("topic");
    make_topics(story.pair, &[(&name, 1)])?;
    let change = |setting: &str, operation: i32, value: Value| json!({ "Name": setting, "ConfigOperation": operation, "Value": value });
    let steps = [
        ("set", vec![change("retention.bytes", SET, json!("1000"))]),
        ("set to what it is", vec![change("retention.bytes", SET, json!("1000"))]),
        ("set to a wrong value", vec![change("retention.bytes", SET, json!("x"))]),
        ("set to null", vec![change("retention.bytes", SET, Value::Null)]),
        ("appended to a list", vec![change("cleanup.policy", APPEND, json!("compact"))]),
        ("appended again", vec![change("cleanup.policy", APPEND, json!("compact"))]),
        ("subtracted", vec![change("cleanup.policy", SUBTRACT, json!("delete"))]),
        ("subtracted what isn't there", vec![change("cleanup.policy", SUBTRACT, json!("delete"))]),
        ("subtracted the last", vec![change("cleanup.policy", SUBTRACT, json!("compact"))]),
        ("appended to a number", vec![change("retention.bytes", APPEND, json!("5"))]),
        ("twice in a request", {
            vec![change("segment.ms", SET, json!("5000")), change("segment.ms", DELETE, Value::Null)]
        }),
        ("one right and one wrong", {
            vec![change("segment.ms", SET, json!("5000")), change("no.such.setting", SET, json!("1"))]
        }),
        ("deleted", vec![change("retention.bytes", DELETE, Value::Null)]),
        ("deleted again", vec![change("retention.bytes", DELETE, Value::Null)]),
        ("deleted what doesn't exist", vec![change("no.such.setting", DELETE, Value::Null)]),
        ("an operation that doesn't exist", vec![change("retention.bytes", 7, json!("1"))]),
        ("nothing", vec![]),
    ];
    let described = json!({
        "Resources": [{
            "ResourceType": 2,
            "ResourceName": name,
            "ConfigurationKeys": ["retention.bytes", "cleanup.policy", "segment.ms"],
        }],
        "IncludeSynonyms": true,
    });
    for (step, changes) in steps {
        for validate_only in [true, false] {
            let resource = json!({ "ResourceType": 2, "ResourceName": name, "Configs": changes });
            let body = json!({ "Resources": [resource], "ValidateOnly": validate_only });
            story.step(step).ask("IncrementalAlterConfigs", body)?;
        }
        story.ask("DescribeConfigs", described.clone())?;
    }
    for (step, configs) in [
        ("all replaced", json!([{ "Name": "segment.ms", "Value": "7000" }])),
        ("replaced by something wrong", json!([{ "Name": "segment.ms", "Value": "x" }])),
        ("replaced by null", json!([{ "Name": "segment.ms", "Value": null }])),
        ("replaced by nothing", json!([])),
    ] {
        let resource = json!({ "ResourceType": 2, "ResourceName": name, "Configs": configs });
        story.step(step).ask("AlterConfigs", json!({ "Resources": [resource], "ValidateOnly": false }))?;
        story.ask("DescribeConfigs", described.clone())?;
    }
    let same = json!({ "ResourceType": 2, "ResourceName": name, "Configs": [] });
    story.step("a topic twice").ask("IncrementalAlterConfigs", json!({ "Resources": [same, same] }))?;
    Ok(())
}

/// Changes of a broker's settings and of all brokers'.
pub fn altered_broker(story: &mut Teller<'_>) -> Result<()> {
    let names =
        ["log.retention.ms", "message.max.bytes", "node.id", "no.such.setting", "log.cleaner.threads"];
    let described = |broker: &str| {
        json!({
            "Resources": [{ "ResourceType": 4, "ResourceName": broker, "ConfigurationKeys": names }],
            "IncludeSynonyms": true,
        })
    };
    for (step, broker, setting, operation, value) in [
        ("of all brokers", "", "log.retention.ms", SET, json!("500000000")),
        ("of one broker", "1", "log.retention.ms", SET, json!("400000000")),
        ("only one broker's", "", "listeners", SET, json!("PLAINTEXT://:9")),
        ("read-only", "1", "node.id", SET, json!("5")),
        ("unknown", "1", "no.such.setting", SET, json!("5")),
        ("wrong", "1", "message.max.bytes", SET, json!("x")),
        ("null", "1", "message.max.bytes", SET, Value::Null),
        ("of a broker that isn't there", "7", "message.max.bytes", SET, json!("5000")),
        ("of a broker without a number", "x", "message.max.bytes", SET, json!("5000")),
        ("deleted for one", "1", "log.retention.ms", DELETE, Value::Null),
        ("deleted for all", "", "log.retention.ms", DELETE, Value::Null),
    ] {
        let change = json!({ "Name": setting, "ConfigOperation": operation, "Value": value });
        let resource = json!({ "ResourceType": 4, "ResourceName": broker, "Configs": [change] });
        let body = json!({ "Resources": [resource], "ValidateOnly": false });
        story.step(step).ask("IncrementalAlterConfigs", body)?;
        story.ask("DescribeConfigs", described("1"))?;
        story.ask("DescribeConfigs", described(""))?;
    }
    Ok(())
}
