//! Cases made by hand, in which one request follows from another.

mod configs;
mod consumers;
mod fetch;
mod groups;
mod members;
mod produce;
mod sequences;
mod topics;

use crate::pair::{Answers, Pair};
use anyhow::{Context, Result};
use serde_json::Value;

/// A story, told in the newest versions or in older ones.
struct Story {
    name: &'static str,
    tell: fn(&mut Teller<'_>) -> Result<()>,
    /// The API that the story is about: it is told once in each of its versions.
    api: &'static str,
}

const STORIES: &[Story] = &[
    Story { name: "batches", tell: produce::batches, api: "Produce" },
    Story { name: "batches and settings", tell: produce::settings, api: "Produce" },
    Story { name: "sequences", tell: sequences::sequences, api: "Produce" },
    Story { name: "sessions", tell: fetch::sessions, api: "Fetch" },
    Story { name: "deleted records", tell: fetch::deleted_records, api: "Fetch" },
    Story { name: "limits", tell: fetch::limits, api: "Fetch" },
    Story { name: "times", tell: fetch::times, api: "ListOffsets" },
    Story { name: "topics come and go", tell: topics::come_and_go, api: "CreateTopics" },
    Story { name: "made by asking", tell: topics::made_by_asking, api: "Metadata" },
    Story { name: "partitions", tell: topics::partitions, api: "CreatePartitions" },
    Story { name: "valid and invalid settings", tell: configs::values, api: "CreateTopics" },
    Story { name: "all settings", tell: configs::all, api: "DescribeConfigs" },
    Story { name: "altered settings", tell: configs::altered, api: "IncrementalAlterConfigs" },
    Story { name: "altered broker", tell: configs::altered_broker, api: "IncrementalAlterConfigs" },
    Story { name: "a group of two", tell: groups::two_members, api: "JoinGroup" },
    Story { name: "a group's ends", tell: groups::ends, api: "LeaveGroup" },
    Story { name: "joins that fail", tell: groups::bad_joins, api: "JoinGroup" },
    Story { name: "offsets", tell: groups::offsets, api: "OffsetCommit" },
    Story { name: "deleted groups", tell: groups::deleted, api: "DeleteGroups" },
    Story { name: "static members", tell: members::static_members, api: "JoinGroup" },
    Story { name: "consumers share", tell: consumers::two_members, api: "ConsumerGroupHeartbeat" },
    Story { name: "consumers that join oddly", tell: consumers::bad_joins, api: "ConsumerGroupHeartbeat" },
    Story { name: "static consumers", tell: consumers::static_members, api: "ConsumerGroupHeartbeat" },
];

/// Tells a story in certain versions.
pub struct Teller<'a> {
    pair: &'a mut Pair,
    /// How much older than the newest the versions are.
    back: i16,
    /// Makes names unique.
    number: usize,
    story: &'static str,
}

impl Teller<'_> {
    /// A name that only this telling uses.
    fn name(&self, what: &str) -> String {
        format!("{what}-of-{}-{}", self.story.replace([' ', '\''], "-"), self.number)
    }

    /// The version of an API in this telling.
    fn version(&self, api: &str) -> Result<i16> {
        self.pair.version(api, self.back)
    }

    /// Says what happens next in the story.
    fn step(&mut self, step: &str) -> &mut Self {
        self.pair.begin(&format!("{}: {step}", self.story));
        self
    }

    /// Says what happens next, over a connection of its own.
    fn step_on(&mut self, connection: &str, step: &str) -> &mut Self {
        self.step(step);
        self.pair.on(connection);
        self
    }

    /// Asks both, in the version of this telling.
    fn ask(&mut self, api: &str, body: Value) -> Result<Answers> {
        let version = self.version(api)?;
        self.pair.ask(api, version, body)
    }

    /// Sends to both what may be answered later.
    fn send(&mut self, api: &str, body: Value) -> Result<()> {
        let version = self.version(api)?;
        self.pair.send(api, version, body)
    }

    /// Receives what was sent over `connection`.
    fn receive_on(&mut self, connection: &str, api: &str) -> Result<Answers> {
        let version = self.version(api)?;
        self.pair.on(connection).receive(api, version)
    }
}

/// Tells the stories whose name has `filter` in it, in the newest versions and in those that are older by up to `oldest`.
pub fn tell(pair: &mut Pair, filter: &str, oldest: i16) -> Result<()> {
    let mut number = 0;
    for story in STORIES.iter().filter(|story| story.name.contains(filter)) {
        if !pair.offers(story.api) {
            continue;
        }
        for back in 0..=oldest {
            number += 1;
            let version = pair.version(story.api, back)?;
            let mut teller = Teller { pair, back, number, story: story.name };
            (story.tell)(&mut teller)
                .with_context(|| format!("{} in {} {version}", story.name, story.api))?;
            if version == pair.version(story.api, i16::MAX)? {
                break;
            }
        }
    }
    Ok(())
}
