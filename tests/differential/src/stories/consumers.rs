//! Consumer groups by the protocol of KIP-848.

use super::Teller;
use crate::world::{World, await_coordinators, make_topics};
use anyhow::Result;
use serde_json::{Value, json};

/// The topics and the group of a story, and its heartbeats.
struct Consumers {
    topic: String,
    group: String,
}

impl Consumers {
    /// Makes a topic of four partitions.
    fn begin(story: &mut Teller<'_>) -> Result<Self> {
        let consumers = Self { topic: story.name("topic"), group: story.name("group") };
        make_topics(story.pair, &[(&consumers.topic, 4)])?;
        await_coordinators(story.pair, &consumers.topic)?;
        Ok(consumers)
    }

    /// A heartbeat with which `member` joins.
    fn joining(&self, member: &str) -> Value {
        json!({
            "GroupId": self.group,
            "MemberId": member,
            "MemberEpoch": 0,
            "RebalanceTimeoutMs": 60_000,
            "SubscribedTopicNames": [self.topic],
            "TopicPartitions": [],
        })
    }

    /// A heartbeat of a member that says nothing but that it is there.
    fn beating(&self, member: &str, epoch: impl Into<Value>) -> Value {
        json!({ "GroupId": self.group, "MemberId": member, "MemberEpoch": epoch.into() })
    }

    /// A heartbeat of a member that has these partitions.
    fn owning(&self, member: &str, epoch: impl Into<Value>, partitions: &[i32]) -> Value {
        let mut body = self.beating(member, epoch);
        body["TopicPartitions"] = json!([{ "TopicId": World::id_of(&self.topic), "Partitions": partitions }]);
        body
    }

    /// Asks what is known of the group.
    fn describe(&self, story: &mut Teller<'_>) -> Result<()> {
        let body = json!({ "GroupIds": [self.group], "IncludeAuthorizedOperations": true });
        story.ask("ConsumerGroupDescribe", body)?;
        Ok(())
    }

    /// Sends a heartbeat, and calls the epoch that it comes to `$name`.
    fn beat(&self, story: &mut Teller<'_>, step: &str, name: &str, body: Value) -> Result<()> {
        let answers = story.step(step).ask("ConsumerGroupHeartbeat", body)?;
        story.pair.name(name, &answers, "/MemberEpoch")?;
        self.describe(story)
    }
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// Two members share a topic, and leave it to one another.
pub fn two_members(story: &mut Teller<'_>) -> Result<()> {
    let group = Consumers::begin(story)?;
    let (one, two) = (story.name("epoch-one"), story.name("epoch-two"));
    let (of_one, of_two) = (format!("${one}"), format!("${two}"));
    group.beat(story, "one joins", &one, group.joining("one"))?;
    group.beat(story, "one has its partitions", &one, group.owning("one", &*of_one, &[0, 1, 2, 3]))?;
    group.beat(story, "one beats", &one, group.beating("one", &*of_one))?;
    group.beat(story, "one joins again", &one, group.joining("one"))?;
    group.beat(story, "two joins", &two, group.joining("two"))?;
    group.beat(story, "one learns of two", &one, group.beating("one", &*of_one))?;
    group.beat(story, "two waits", &two, group.beating("two", &*of_two))?;
    group.beat(story, "one gives up", &one, group.owning("one", &*of_one, &[0, 1]))?;
    group.beat(story, "two takes", &two, group.beating("two", &*of_two))?;
    for (step, member, epoch) in [
        ("an epoch to come", "two", 1000),
        ("an epoch long past", "two", 1),
        ("an epoch that there is not", "two", -3),
        ("a stranger", "three", 5),
        ("a stranger leaves", "three", -1),
        ("leaves for a while without a name", "two", -2),
        ("nobody", "", 1),
    ] {
        story.step(step).ask("ConsumerGroupHeartbeat", group.beating(member, epoch))?;
        group.describe(story)?;
    }
    group.beat(story, "one leaves", "left", group.beating("one", -1))?;
    group.beat(story, "two has all", &two, group.beating("two", &*of_two))?;
    story.step("deleted while in use").ask("DeleteGroups", json!({ "GroupsNames": [group.group] }))?;
    group.beat(story, "two leaves", "left", group.beating("two", -1))?;
    story.step("deleted").ask("DeleteGroups", json!({ "GroupsNames": [group.group] }))?;
    group.describe(story)
}

/// What is wrong in a first heartbeat, and what is odd but right.
pub fn bad_joins(story: &mut Teller<'_>) -> Result<()> {
    let group = Consumers::begin(story)?;
    let join = || group.joining("one");
    let odd = [
        ("without a time-out", with(join(), "RebalanceTimeoutMs", json!(-1))),
        ("without topics", with(join(), "SubscribedTopicNames", Value::Null)),
        ("without partitions", with(join(), "TopicPartitions", Value::Null)),
        ("with partitions", group.owning("one", 0, &[1])),
        ("with an empty name", with(join(), "InstanceId", json!(""))),
        ("with an empty rack", with(join(), "RackId", json!(""))),
        ("with an assignor that there is not", with(join(), "ServerAssignor", json!("sticky"))),
        ("with an empty assignor", with(join(), "ServerAssignor", json!(""))),
        ("with no group", with(join(), "GroupId", json!(""))),
        ("with a blank group", with(join(), "GroupId", json!(" "))),
        ("before the group is there", group.beating("one", 1)),
        ("to no topics", with(join(), "SubscribedTopicNames", json!([]))),
        ("to a topic that is not there", with(join(), "SubscribedTopicNames", json!(["nowhere"]))),
        ("to one topic twice", with(join(), "SubscribedTopicNames", json!([group.topic, group.topic]))),
        ("with another assignor", with(join(), "ServerAssignor", json!("range"))),
        ("with a rack", with(join(), "RackId", json!("r"))),
    ];
    for (step, body) in odd {
        story.step(step).ask("ConsumerGroupHeartbeat", body)?;
        group.describe(story)?;
    }
    if story.version("ConsumerGroupHeartbeat")? >= 1 {
        for (step, regex) in [("by a bad regex", "("), ("by an empty regex", "")] {
            let body = with(group.joining("two"), "SubscribedTopicRegex", json!(regex));
            story.step(step).ask("ConsumerGroupHeartbeat", body)?;
            group.describe(story)?;
        }
    }
    Ok(())
}

/// A static member leaves for a while, comes back under another id, and leaves for good.
pub fn static_members(story: &mut Teller<'_>) -> Result<()> {
    let group = Consumers::begin(story)?;
    let epoch = story.name("epoch");
    let of_it = format!("${epoch}");
    let named = |body: Value| with(body, "InstanceId", json!("fixed"));
    group.beat(story, "comes", &epoch, named(group.joining("first")))?;
    group.beat(story, "has", &epoch, named(group.owning("first", &*of_it, &[0, 1, 2, 3])))?;
    story.step("somebody else of its name").ask("ConsumerGroupHeartbeat", named(group.joining("second")))?;
    group.describe(story)?;
    story.step("leaves for a while").ask("ConsumerGroupHeartbeat", named(group.beating("first", -2)))?;
    group.describe(story)?;
    group.beat(story, "comes back", &epoch, named(group.joining("second")))?;
    story.step("under its old id").ask("ConsumerGroupHeartbeat", named(group.beating("first", &*of_it)))?;
    let other = with(group.beating("second", &*of_it), "InstanceId", json!("other"));
    story.step("under another name").ask("ConsumerGroupHeartbeat", other)?;
    group.beat(story, "leaves for good", "left", named(group.beating("second", -1)))?;
    story.step("leaves again").ask("ConsumerGroupHeartbeat", named(group.beating("second", -1)))?;
    Ok(())
}
