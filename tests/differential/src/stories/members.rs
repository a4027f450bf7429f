//! Static members (KIP-345).

use super::{
    Teller,
    groups::{join_body, sync_body},
};
use anyhow::Result;
use serde_json::{Value, json};

/// A static member comes, comes again under a new id, is fenced under its old one, and is removed by its name.
pub fn static_members(story: &mut Teller<'_>) -> Result<()> {
    if story.version("JoinGroup")? < 5 {
        return Ok(());
    }
    let (group, first, second) = (story.name("group"), story.name("first"), story.name("second"));
    let join = |member: &str, instance: &str, protocols: &[&str]| {
        let mut body = join_body(&group, member, protocols);
        body["GroupInstanceId"] = json!(instance);
        body
    };
    let with_instance = |mut body: Value, instance: &str| {
        body["GroupInstanceId"] = json!(instance);
        body
    };
    let answers = story.step("comes").ask("JoinGroup", join("", "one", &["range"]))?;
    story.pair.name(&first, &answers, "/MemberId")?;
    let id = format!("${first}");
    let sync = with_instance(sync_body(&group, 1, &id, &[&id]), "one");
    story.step("syncs").ask("SyncGroup", sync)?;
    let describe = json!({ "Groups": [group] });
    story.ask("DescribeGroups", describe.clone())?;
    let answers = story.step("comes again").ask("JoinGroup", join("", "one", &["range"]))?;
    story.pair.name(&second, &answers, "/MemberId")?;
    let new_id = format!("${second}");
    story.ask("DescribeGroups", describe.clone())?;
    let beat = |member: &str, instance: &str| json!({ "GroupId": group, "GenerationId": 1, "MemberId": member, "GroupInstanceId": instance });
    if story.version("Heartbeat")? >= 3 {
        for (step, member, instance) in [
            ("beats under its old id", &*id, "one"),
            ("beats under its new id", &new_id, "one"),
            ("beats under another name", &new_id, "two"),
        ] {
            story.step(step).ask("Heartbeat", beat(member, instance))?;
        }
    }
    if story.version("SyncGroup")? >= 3 {
        story
            .step("syncs under its old id")
            .ask("SyncGroup", with_instance(sync_body(&group, 1, &id, &[]), "one"))?;
        story
            .step("syncs under its new id")
            .ask("SyncGroup", with_instance(sync_body(&group, 1, &new_id, &[]), "one"))?;
    }
    story.step("joins under its old id").ask("JoinGroup", join(&id, "one", &["range"]))?;
    story
        .step("joins a name that isn't there with an id")
        .ask("JoinGroup", join("stranger", "two", &["range"]))?;
    let answers =
        story.step("comes with other protocols").ask("JoinGroup", join("", "one", &["range", "other"]))?;
    story.pair.name(&second, &answers, "/MemberId")?;
    story.ask("DescribeGroups", describe.clone())?;
    if story.version("LeaveGroup")? >= 3 {
        for (step, member, instance) in [
            ("removed by a name that isn't there", "", "two"),
            ("removed under its old id", &*id, "one"),
            ("removed by its name", "", "one"),
            ("removed again", "", "one"),
        ] {
            let members = json!([{ "MemberId": member, "GroupInstanceId": instance }]);
            story.step(step).ask("LeaveGroup", json!({ "GroupId": group, "Members": members }))?;
        }
    }
    story.ask("DescribeGroups", describe)?;
    Ok(())
}
