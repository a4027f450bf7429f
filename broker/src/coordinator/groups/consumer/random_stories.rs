//! Random consumers that join, lose answers, are slow to give up, leave, fall silent, come back; topics that come, grow and go;
//! brokers that load the log anew. Whatever happens:
//!
//! - A partition has one owner at most (`ConsumerGroup::check`), and what the group counts is what it holds.
//! - What a consumer believes that it has, nobody else is given, unless it is out.
//! - The log says the same as the state.
//! - Left alone, everybody comes to have what they are to have, and all is given out.

use super::{
    super::{
        GroupSettings,
        tests::{GROUP, Story},
    },
    group::State,
    tests::Consumer,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::ErrorCode;
use thalweg_runtime::Random;
use uuid::Uuid;

const SEEDS: u64 = 200;
const STEPS: usize = 150;
const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A consumer, and what it still works on though it was told to give it up.
struct Client {
    consumer: Consumer,
    working_on: BTreeMap<Uuid, BTreeSet<i32>>,
}

struct World {
    story: Story,
    random: Random,
    clients: Vec<Client>,
    names: u32,
}

impl World {
    fn step(&mut self) {
        let which = self.random.range(0..8) as usize;
        match self.random.range(0..20) {
            0 | 1 if self.clients.len() < 8 => self.join(),
            2..=12 if which < self.clients.len() => self.beat(which),
            13 if which < self.clients.len() => self.leave(which),
            14 => self.change_topics(),
            15 if self.random.range(0..6) == 0 => self.reload(),
            16 if which < self.clients.len() => drop(self.clients.remove(which)),
            _ => self.story.pass(self.random.range(0..3_000)),
        }
        self.check();
    }

    fn join(&mut self) {
        self.names += 1;
        let mut topics: Vec<&str> = TOPICS.to_vec();
        topics.retain(|_| self.random.range(0..3) > 0);
        let mut consumer = Consumer::new(&format!("member-{}", self.names), &topics);
        if self.random.range(0..4) == 0 {
            consumer.instance = Some(format!("instance-{}", self.random.range(0..2)));
        }
        if self.random.range(0..5) == 0 {
            consumer.regex = Some("a|c".into());
        }
        self.clients.push(Client { consumer, working_on: BTreeMap::new() });
        self.beat(self.clients.len() - 1);
    }

    fn beat(&mut self, which: usize) {
        let client = &mut self.clients[which];
        let mut request = client.consumer.request();
        if client.consumer.epoch > 0 && !client.working_on.is_empty() {
            // It says what it really has.
            let believed = std::mem::replace(&mut client.consumer.owned, client.working_on.clone());
            request = client.consumer.request();
            client.consumer.owned = believed;
        }
        let is_lost = self.random.range(0..6) == 0;
        match self.story.send(&request) {
            Ok(_) if is_lost => client.consumer.has_missed_one = true,
            Ok(heard) => {
                let before = client.consumer.owned.clone();
                client.consumer.hear(&heard);
                // Half of the time it works on for a while.
                let slow = heard.response.assignment.is_some() && self.random.range(0..2) == 0;
                client.working_on =
                    if slow { union(&before, &client.consumer.owned) } else { BTreeMap::new() };
                if heard.resolve {
                    self.story.resolve_now();
                }
            }
            Err(refusal) => match refusal.code {
                ErrorCode::UnreleasedInstanceId | ErrorCode::FencedInstanceId => {
                    self.clients.remove(which);
                }
                ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::GroupIdNotFound => {
                    client.consumer.epoch = 0;
                    client.consumer.owned.clear();
                    client.working_on.clear();
                }
                _ => panic!("{refusal:?}"),
            },
        }
    }

    fn leave(&mut self, which: usize) {
        let mut client = self.clients.remove(which);
        let is_static = client.consumer.instance.is_some();
        client.consumer.epoch = if is_static && self.random.range(0..2) == 0 { -2 } else { -1 };
        // It may be out already.
        let _ = self.story.send(&client.consumer.request());
    }

    fn change_topics(&mut self) {
        let topic = TOPICS[self.random.range(0..3) as usize];
        if self.random.range(0..3) == 0 {
            self.story.cluster.delete(topic);
        } else {
            let now = super::super::cluster::ClusterView::topic(&*self.story.cluster, topic);
            let more = self.random.range(1..4) as i32;
            self.story.cluster.put(topic, now.map_or(0, |topic| topic.partitions) + more);
        }
    }

    fn reload(&mut self) {
        let before = hard(&self.story);
        let story = std::mem::replace(&mut self.story, Story::new());
        self.story = story.reloaded(GroupSettings::default());
        assert_eq!(hard(&self.story), before, "the log says something else");
    }

    /// Who is a member at its epoch may believe only in what the group says is its.
    fn check(&self) {
        let Some(group) = self.story.groups.consumer(GROUP) else { return };
        group.check();
        for Client { consumer, working_on } in &self.clients {
            let Some(member) = group.members.get(&*consumer.id) else { continue };
            if consumer.epoch != member.epoch {
                continue;
            }
            for (topic, partitions) in union(&consumer.owned, working_on) {
                for partition in partitions {
                    let is_its = [&member.assigned, &member.revoking]
                        .iter()
                        .any(|owned| owned.get(&topic).is_some_and(|has| has.contains_key(&partition)));
                    let has_other = group.members.values().any(|other| {
                        other.id != member.id
                            && other.assigned.get(&topic).is_some_and(|has| has.contains_key(&partition))
                    });
                    assert!(is_its || !has_other, "{} works on {topic}-{partition} of another", consumer.id);
                }
            }
        }
    }

    /// Everybody works in good order: all must come to rest, with everything given out once.
    fn converge(&mut self) {
        for _ in 0..60 {
            self.story.pass(1_000);
            for which in (0..self.clients.len()).rev() {
                self.clients[which].working_on.clear();
                let mut client = self.clients.remove(which);
                match self.story.heartbeat(&mut client.consumer) {
                    Err(refusal) if refusal.code == ErrorCode::UnreleasedInstanceId => continue,
                    Err(refusal) if refusal.code == ErrorCode::FencedInstanceId => continue,
                    Err(_) => {
                        client.consumer.epoch = 0;
                        client.consumer.owned.clear();
                    }
                    Ok(_) => {}
                }
                self.clients.insert(which, client);
            }
            self.check();
        }
        let Some(group) = self.story.groups.consumer(GROUP) else { return };
        assert!(matches!(group.state(), State::Stable | State::Empty), "{:?}", group.state());
        let mut given = BTreeSet::new();
        for Client { consumer, .. } in &self.clients {
            for (topic, partitions) in &consumer.owned {
                partitions
                    .iter()
                    .for_each(|one| assert!(given.insert((*topic, *one)), "{topic}-{one} twice"));
            }
        }
        let cluster = &*self.story.cluster;
        let subscribed = group.subscriptions.topics();
        let topics = subscribed.filter_map(|name| super::super::cluster::ClusterView::topic(cluster, name));
        let all: usize = topics.map(|topic| topic.partitions as usize).sum();
        assert_eq!(given.len(), all, "not everything is given out");
    }
}

fn union(
    one: &BTreeMap<Uuid, BTreeSet<i32>>,
    other: &BTreeMap<Uuid, BTreeSet<i32>>,
) -> BTreeMap<Uuid, BTreeSet<i32>> {
    let mut all = one.clone();
    for (topic, partitions) in other {
        all.entry(*topic).or_default().extend(partitions);
    }
    all
}

fn hard(story: &Story) -> String {
    let Some(group) = story.groups.consumer(GROUP) else { return String::new() };
    let epochs = (group.epoch, group.assignment_epoch, group.assignment_ms, group.metadata_hash);
    format!("{epochs:?} {:?} {:?} {:?} {}", group.members, group.target, group.resolved, group.bytes())
}

#[test]
fn consumer_groups_keep_their_promises_whatever_their_members_do() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let story = Story::new();
        story.cluster.put("a", 3);
        story.cluster.put("b", 5);
        let mut world = World { story, random: Random::from_seed(seed), clients: Vec::new(), names: 0 };
        for _ in 0..STEPS {
            world.step();
        }
        world.converge();
        // When all are silent nobody is left.
        world.story.pass(600_000);
        assert!(matches!(world.story.consumer_state(), None | Some(State::Empty)));
    }
}
