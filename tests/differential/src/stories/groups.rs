//! Groups of the classic protocol, from the first JoinGroup to DeleteGroups.

use super::Teller;
use crate::{
    pair::Answers,
    world::{ASSIGNMENT, SUBSCRIPTION, join_alone, make_topics},
};
use anyhow::Result;
use serde_json::{Value, json};

const MEMBER_ID_REQUIRED: i64 = 79;

/// A JoinGroup; `member` is empty, an id or a symbol.
pub fn join_body(group: &str, member: &str, protocols: &[&str]) -> Value {
    let protocols: Vec<_> =
        protocols.iter().map(|name| json!({ "Name": name, "Metadata": SUBSCRIPTION })).collect();
    json!({
        "GroupId": group,
        "SessionTimeoutMs": 60_000,
        "RebalanceTimeoutMs": 30_000,
        "MemberId": member,
        "ProtocolType": "consumer",
        "Protocols": protocols,
    })
}

pub fn sync_body(group: &str, generation: i32, member: &str, assigned: &[&str]) -> Value {
    let assignments: Vec<_> =
        assigned.iter().map(|member| json!({ "MemberId": member, "Assignment": ASSIGNMENT })).collect();
    json!({
        "GroupId": group,
        "GenerationId": generation,
        "MemberId": member,
        "ProtocolType": "consumer",
        "ProtocolName": "range",
        "Assignments": assignments,
    })
}

fn beat(group: &str, generation: i32, member: &str) -> Value {
    json!({ "GroupId": group, "GenerationId": generation, "MemberId": member })
}

fn leave_body(group: &str, member: &str) -> Value {
    json!({ "GroupId": group, "MemberId": member, "Members": [{ "MemberId": member, "Reason": "enough" }] })
}

fn describe(story: &mut Teller<'_>, group: &str) -> Result<()> {
    story.ask("DescribeGroups", json!({ "Groups": [group] }))?;
    Ok(())
}

/// Joins over `connection` as far as an answer can come at once: whether the member is in a generation by now.
fn begin_to_join(
    story: &mut Teller<'_>,
    connection: &str,
    group: &str,
    symbol: &str,
    protocols: &[&str],
) -> Result<bool> {
    let answers = story.step_on(connection, "joins").ask("JoinGroup", join_body(group, "", protocols))?;
    story.pair.name(symbol, &answers, "/MemberId")?;
    Ok(is_in(&answers))
}

fn is_in(answers: &Answers) -> bool {
    answers.kafka["ErrorCode"] != MEMBER_ID_REQUIRED
}

/// One joins, another comes, both are synchronised, one goes.
pub fn two_members(story: &mut Teller<'_>) -> Result<()> {
    let (group, topic) = (story.name("group"), story.name("topic"));
    make_topics(story.pair, &[(&topic, 1)])?;
    let (a, b) = (story.name("a"), story.name("b"));
    let (id_a, id_b) = (format!("${a}"), format!("${b}"));
    let protocols = ["range", "roundrobin"];
    if !begin_to_join(story, "a", &group, &a, &protocols)? {
        story.step_on("a", "joins with its id").ask("JoinGroup", join_body(&group, &id_a, &protocols))?;
    }
    describe(story, &group)?;
    story.step_on("a", "beats before the sync").ask("Heartbeat", beat(&group, 1, &id_a))?;
    let wrong = json!({ "ProtocolName": "roundrobin", "ProtocolType": "other" });
    for (field, value) in wrong.as_object().into_iter().flatten() {
        let mut body = sync_body(&group, 1, &id_a, &[]);
        body[field] = value.clone();
        story.step_on("a", &format!("syncs with another {field}")).ask("SyncGroup", body)?;
    }
    story.step_on("a", "syncs").ask("SyncGroup", sync_body(&group, 1, &id_a, &[&id_a]))?;
    story.step_on("a", "syncs again").ask("SyncGroup", sync_body(&group, 1, &id_a, &[]))?;
    describe(story, &group)?;
    for (step, generation, member) in [
        ("beats", 1, &*id_a),
        ("beats in another generation", 2, &id_a),
        ("beats in an old generation", 0, &id_a),
        ("a stranger beats", 1, "stranger"),
        ("nobody beats", 1, ""),
    ] {
        story.step_on("a", step).ask("Heartbeat", beat(&group, generation, member))?;
    }
    commits(story, &group, &topic, &id_a)?;
    story
        .step_on("a", "joins again without a change")
        .ask("JoinGroup", join_body(&group, &id_a, &protocols))?;
    story.step_on("a", "syncs").ask("SyncGroup", sync_body(&group, 1, &id_a, &[&id_a]))?;
    let generation = another_comes(story, &group, [&a, &b], &protocols)?;
    story.step_on("b", "the second goes").ask("LeaveGroup", leave_body(&group, &id_b))?;
    story.step_on("b", "the second goes again").ask("LeaveGroup", leave_body(&group, &id_b))?;
    story.step_on("a", "beats when the other has gone").ask("Heartbeat", beat(&group, generation, &id_a))?;
    describe(story, &group)?;
    story
        .step_on("a", "commits in a rebalance")
        .ask("OffsetCommit", commit_body(&group, generation, &id_a, &topic, 9))?;
    story.step_on("a", "joins").ask("JoinGroup", join_body(&group, &id_a, &protocols))?;
    story.step_on("a", "goes").ask("LeaveGroup", leave_body(&group, &id_a))?;
    describe(story, &group)?;
    story.pair.hang_up("a");
    story.pair.hang_up("b");
    Ok(())
}

/// The second member joins a stable group: the first must join again. The generation that both are in.
fn another_comes(
    story: &mut Teller<'_>,
    group: &str,
    [a, b]: [&String; 2],
    protocols: &[&str],
) -> Result<i32> {
    let (id_a, id_b) = (format!("${a}"), format!("${b}"));
    let version = story.version("JoinGroup")?;
    // Before version 4 the first JoinGroup of a member is its last: its id comes with the answer.
    let knows_its_id = version >= 4;
    if knows_its_id {
        begin_to_join(story, "b", group, b, protocols)?;
        story.step_on("b", "the second joins");
        story.send("JoinGroup", join_body(group, &id_b, protocols))?;
    } else {
        story.step_on("b", "the second joins");
        story.send("JoinGroup", join_body(group, "", protocols))?;
    }
    await_rebalance(story, group, &id_a)?;
    story.step_on("a", "is told by its heartbeat").ask("Heartbeat", beat(group, 1, &id_a))?;
    story.step_on("a", "the first joins again");
    story.send("JoinGroup", join_body(group, &id_a, protocols))?;
    let answers = story.receive_on("b", "JoinGroup")?;
    if !knows_its_id {
        story.pair.name(b, &answers, "/MemberId")?;
    }
    story.step_on("a", "the first is in again").receive_on("a", "JoinGroup")?;
    story.step_on("b", "the second syncs first");
    story.send("SyncGroup", sync_body(group, 2, &id_b, &[]))?;
    story.step_on("a", "the leader syncs").ask("SyncGroup", sync_body(group, 2, &id_a, &[&id_a, &id_b]))?;
    story.step_on("b", "the second has its share").receive_on("b", "SyncGroup")?;
    describe(story, group)?;
    for id in [&id_a, &id_b] {
        story.step_on("a", "beats in the new generation").ask("Heartbeat", beat(group, 2, id))?;
    }
    Ok(2)
}

/// Waits until the group of both brokers has taken in the second member's request.
fn await_rebalance(story: &mut Teller<'_>, group: &str, member: &str) -> Result<()> {
    story.pair.on("main");
    for _ in 0..200 {
        let answers = story.pair.both("Heartbeat", 3, beat(group, 1, member))?;
        if answers.kafka["ErrorCode"] == 27 && answers.thalweg["ErrorCode"] == 27 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

fn commit_body(group: &str, generation: i32, member: &str, topic: &str, offset: i64) -> Value {
    let partition = json!({
        "PartitionIndex": 0,
        "CommittedOffset": offset,
        "CommittedLeaderEpoch": -1,
        "CommittedMetadata": "noted",
    });
    json!({
        "GroupId": group,
        "GenerationIdOrMemberEpoch": generation,
        "GenerationId": generation,
        "MemberId": member,
        "RetentionTimeMs": -1,
        "Topics": [{ "Name": topic, "TopicId": format!("$id:{topic}"), "Partitions": [partition] }],
    })
}

fn fetch_offsets(story: &mut Teller<'_>, group: &str, topic: &str) -> Result<()> {
    let topics = json!([{ "Name": topic, "TopicId": format!("$id:{topic}"), "PartitionIndexes": [0, 1, 7] }]);
    for (topics, stable) in [(topics.clone(), false), (Value::Null, false), (topics, true)] {
        if topics.is_null() && story.version("OffsetFetch")? < 2 {
            continue;
        }
        let one = json!({ "GroupId": group, "MemberId": null, "MemberEpoch": -1, "Topics": topics });
        let mut body = json!({ "GroupId": group, "Topics": topics, "Groups": [one] });
        if story.version("OffsetFetch")? >= 7 {
            body["RequireStable"] = json!(stable);
        }
        story.ask("OffsetFetch", body)?;
    }
    Ok(())
}

fn commits(story: &mut Teller<'_>, group: &str, topic: &str, id: &str) -> Result<()> {
    for (step, generation, member) in [
        ("commits", 1, id),
        ("commits in another generation", 2, id),
        ("commits in an old generation", 0, id),
        ("commits without a generation", -1, id),
        ("a stranger commits", 1, "stranger"),
        ("nobody commits", -1, ""),
        ("nobody commits in a generation", 1, ""),
    ] {
        let offset = i64::from(generation) + 10;
        story
            .step_on("a", step)
            .ask("OffsetCommit", commit_body(group, generation, member, topic, offset))?;
        fetch_offsets(story, group, topic)?;
    }
    Ok(())
}

/// Who leaves what, and how groups that have ended look.
pub fn ends(story: &mut Teller<'_>) -> Result<()> {
    let (group, member) = (story.name("group"), story.name("member"));
    join_alone(story.pair, &group, &member)?;
    let id = format!("${member}");
    for (step, group, member) in [
        ("a stranger leaves", &*group, "stranger"),
        ("nobody leaves", &group, ""),
        ("from a group that isn't there", "never-seen", &id),
        ("from no group", "", &id),
        ("the member leaves", &group, &id),
        ("it leaves again", &group, &id),
    ] {
        story.step(step).ask("LeaveGroup", leave_body(group, member))?;
        describe(story, group)?;
    }
    story.step("beats after the end").ask("Heartbeat", beat(&group, 1, &id))?;
    story.step("syncs after the end").ask("SyncGroup", sync_body(&group, 1, &id, &[]))?;
    story.step("joins after the end").ask("JoinGroup", join_body(&group, &id, &["range"]))?;
    story.step("many leave").ask("LeaveGroup", {
        let members = ["x", "y", "x"].map(|member| json!({ "MemberId": member }));
        json!({ "GroupId": group, "MemberId": "x", "Members": members })
    })?;
    Ok(())
}

/// JoinGroup requests that are refused.
pub fn bad_joins(story: &mut Teller<'_>) -> Result<()> {
    let (group, member) = (story.name("group"), story.name("member"));
    join_alone(story.pair, &group, &member)?;
    let id = format!("${member}");
    let with = |member: &str, field: &str, value: Value| {
        let mut body = join_body(&group, member, &["range"]);
        body[field] = value;
        body
    };
    let cases = [
        ("a stranger", with("stranger", "MemberId", json!("stranger"))),
        ("a group without a name", with("", "GroupId", json!(""))),
        ("a session too short", with("", "SessionTimeoutMs", json!(10))),
        ("a session too long", with("", "SessionTimeoutMs", json!(i32::MAX))),
        ("another protocol type", with("", "ProtocolType", json!("connect"))),
        ("no protocol type", with("", "ProtocolType", json!(""))),
        ("no protocols", with("", "Protocols", json!([]))),
        ("other protocols", with("", "Protocols", json!([{ "Name": "other", "Metadata": "" }]))),
        ("a member with another type", with(&id, "ProtocolType", json!("connect"))),
        (
            "a member with other protocols",
            with(&id, "Protocols", json!([{ "Name": "other", "Metadata": "" }])),
        ),
        ("a member with no protocols", with(&id, "Protocols", json!([]))),
    ];
    for (step, body) in cases {
        story.step_on("other", step).ask("JoinGroup", body)?;
        describe(story, &group)?;
        story.pair.hang_up("other");
    }
    Ok(())
}

/// Commits without members, deletions of offsets, and what is read after.
pub fn offsets(story: &mut Teller<'_>) -> Result<()> {
    let (group, topic) = (story.name("group"), story.name("topic"));
    make_topics(story.pair, &[(&topic, 2)])?;
    fetch_offsets(story, &group, &topic)?;
    for (step, generation, member, offset) in [
        ("an offset", -1, "", 5),
        ("a lower one", -1, "", 3),
        ("a negative one", -1, "", -1),
        ("the lowest", -1, "", i64::MIN),
        ("the highest", -1, "", i64::MAX),
        ("of a member", -1, "member", 6),
        ("of a generation", 0, "", 6),
        ("of a member and a generation", 1, "member", 6),
    ] {
        story.step(step).ask("OffsetCommit", commit_body(&group, generation, member, &topic, offset))?;
        fetch_offsets(story, &group, &topic)?;
    }
    let mut unknown = commit_body(&group, -1, "", &topic, 1);
    unknown["Topics"][0]["Partitions"][0]["PartitionIndex"] = json!(7);
    story.step("a partition that isn't there").ask("OffsetCommit", unknown)?;
    let mut unknown = commit_body(&group, -1, "", &topic, 1);
    unknown["Topics"][0]["Name"] = json!("never-made");
    unknown["Topics"][0]["TopicId"] = json!("00000000-0000-1000-8000-00000000beef");
    story.step("a topic that isn't there").ask("OffsetCommit", unknown)?;
    story.step("a group without a name").ask("OffsetCommit", commit_body("", -1, "", &topic, 1))?;
    let mut long = commit_body(&group, -1, "", &topic, 1);
    for (step, length) in [("metadata as long as allowed", 4096), ("metadata too long", 4097)] {
        long["Topics"][0]["Partitions"][0]["CommittedMetadata"] = json!("m".repeat(length));
        story.step(step).ask("OffsetCommit", long.clone())?;
    }
    let delete = |group: &str, topic: &str, partition: i32| {
        json!({ "GroupId": group, "Topics": [{
            "Name": topic,
            "Partitions": [{ "PartitionIndex": partition }],
        }] })
    };
    for (step, body) in [
        ("deleted from a topic that isn't there", delete(&group, "never-made", 0)),
        ("deleted from a group that isn't there", delete("never-seen", &topic, 0)),
        ("deleted from no group", delete("", &topic, 0)),
        ("deleted what isn't committed", delete(&group, &topic, 1)),
        ("deleted from a partition that isn't there", delete(&group, &topic, 7)),
        ("deleted", delete(&group, &topic, 0)),
        ("deleted again", delete(&group, &topic, 0)),
    ] {
        story.step(step).ask("OffsetDelete", body)?;
        fetch_offsets(story, &group, &topic)?;
        describe(story, &group)?;
    }
    Ok(())
}

/// DeleteGroups in every state of a group.
pub fn deleted(story: &mut Teller<'_>) -> Result<()> {
    let (group, topic, member) = (story.name("group"), story.name("topic"), story.name("member"));
    make_topics(story.pair, &[(&topic, 1)])?;
    let delete = |groups: &[&str]| json!({ "GroupsNames": groups });
    story.step("never seen").ask("DeleteGroups", delete(&[&group]))?;
    story.step("without a name").ask("DeleteGroups", delete(&[""]))?;
    story.step("none").ask("DeleteGroups", delete(&[]))?;
    join_alone(story.pair, &group, &member)?;
    let id = format!("${member}");
    story.step("a commit").ask("OffsetCommit", commit_body(&group, 1, &id, &topic, 4))?;
    story.step("with a member").ask("DeleteGroups", delete(&[&group]))?;
    story.step("the member goes").ask("LeaveGroup", leave_body(&group, &id))?;
    story.step("empty, twice").ask("DeleteGroups", delete(&[&group, &group]))?;
    fetch_offsets(story, &group, &topic)?;
    describe(story, &group)?;
    story.step("deleted again").ask("DeleteGroups", delete(&[&group]))?;
    story.step("beats").ask("Heartbeat", beat(&group, 1, &id))?;
    story.step("a group of offsets").ask("OffsetCommit", commit_body(&group, -1, "", &topic, 4))?;
    story.step("with offsets").ask("DeleteGroups", delete(&[&group, "never-seen"]))?;
    fetch_offsets(story, &group, &topic)
}
