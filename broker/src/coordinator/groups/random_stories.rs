//! Random requests of members that come, go, fail to sync and fall silent. Whatever happens:
//!
//! - Every parked request is answered, once.
//! - Commits are accepted from members of the current generation alone.
//! - What the group counts is what it holds.
//! - The log says the same as the state.

use super::{
    GroupSettings, OffsetsWanted,
    classic::State,
    tests::{NOBODY, Story, known, member},
};
use std::collections::BTreeMap;
use thalweg_runtime::Random;

const SEEDS: u64 = 300;
const STEPS: usize = 150;

/// What the clients know.
#[derive(Default)]
struct Clients {
    /// Member ids, each with the generation that it was told last.
    members: Vec<(String, i32)>,
    /// Parked requests, and whose they are.
    joins: Vec<(super::Ticket, String)>,
    syncs: Vec<super::Ticket>,
}

impl Clients {
    fn step(&mut self, story: &mut Story, random: &Random) {
        let whose = random.range(0..8) as usize % self.members.len().max(1);
        let (id, generation) = self.members.get(whose).cloned().unwrap_or_default();
        match random.range(0..12) {
            0 | 1 => {
                let given = story.new_id(&member(&["range"]));
                self.members.push((given, 0));
            }
            2..=4 if !id.is_empty() => {
                let ticket = story.park_join(9, &known(&id, &["range"]));
                self.joins.push((ticket, id));
            }
            5..=7 if !id.is_empty() => {
                let all: Vec<String> = self.members.iter().map(|(id, _)| id.clone()).collect();
                self.syncs.push(story.park_sync(&id, generation, &all));
            }
            8 => drop(story.beat(&id, generation)),
            9 => self.commit(story, &id, generation),
            10 if !id.is_empty() && random.range(0..3) == 0 => {
                story.leave(&[(&id, None)]);
                self.members.remove(whose);
            }
            _ => story.pass(random.range(0..8_000)),
        }
        self.hear(story);
    }

    fn commit(&self, story: &mut Story, id: &str, generation: i32) {
        let before = story.groups.classic("g").map(|group| (group.generation(), group.state()));
        if story.commit(id, generation, i64::from(generation)).is_ok() && !id.is_empty() {
            let (current, state) = before.expect("a member is one of a group");
            assert_eq!(current, generation, "a commit of an old generation was accepted in {state:?}");
        }
    }

    /// Takes the answers that have come.
    fn hear(&mut self, story: &mut Story) {
        self.joins.retain(|(ticket, id)| match story.joined(*ticket) {
            Some(answer) => {
                if answer.error_code == 0 {
                    let told = self.members.iter_mut().filter(|(known, _)| known == id);
                    told.for_each(|(_, generation)| *generation = answer.generation_id);
                }
                false
            }
            None => true,
        });
        self.syncs.retain(|ticket| story.synced(*ticket).is_none());
    }
}

fn check(story: &Story) {
    let Some(group) = story.groups.classic("g") else { return };
    group.check();
    let bytes: usize = group.bytes() + story.groups.offsets.bytes();
    assert_eq!(story.groups.bytes(), bytes);
}

fn offsets(story: &Story) -> BTreeMap<String, i64> {
    let all = story.groups.fetch_offsets("g", OffsetsWanted::All, false, NOBODY).expect("anybody may ask");
    all.iter().map(|topic| (topic.name.to_string(), topic.partitions[0].committed_offset)).collect()
}

#[test]
fn groups_keep_their_promises_whatever_their_members_do() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (random, mut story, mut clients) = (Random::from_seed(seed), Story::new(), Clients::default());
        for _ in 0..STEPS {
            clients.step(&mut story, &random);
            check(&story);
        }
        // All sessions and phases end, so nobody is left waiting.
        story.pass(600_000);
        clients.hear(&mut story);
        assert!(
            clients.joins.is_empty() && clients.syncs.is_empty(),
            "{:?} {:?}",
            clients.joins,
            clients.syncs
        );
        assert!(matches!(story.state(), None | Some(State::Empty)));
        check(&story);
        let (committed, generation) =
            (offsets(&story), story.groups.classic("g").map(|group| group.generation()));
        let reloaded = story.reloaded(GroupSettings::default());
        assert_eq!(offsets(&reloaded), committed);
        assert_eq!(reloaded.groups.classic("g").map(|group| group.generation()), generation);
    }
}
