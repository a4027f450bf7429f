//! Cases made by hand, in which one request follows from another.

mod produce;

use crate::pair::Pair;
use anyhow::{Context, Result};

/// A story, told in the newest versions or in older ones.
struct Story {
    name: &'static str,
    tell: fn(&mut Teller<'_>) -> Result<()>,
    /// The API with the most versions in it: the story is told once in each of them.
    api: &'static str,
}

const STORIES: &[Story] = &[Story { name: "batches", tell: produce::batches, api: "Produce" }];

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
        format!("{what}-{}-{}", self.story.replace(' ', "-"), self.number)
    }

    /// The version of an API in this telling.
    fn version(&self, api: &str) -> Result<i16> {
        self.pair.version(api, self.back)
    }

    /// Says what happens next in the story.
    fn step(&mut self, step: &str) {
        self.pair.begin(&format!("{}: {step}", self.story));
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
            (story.tell)(&mut teller).with_context(|| format!("{} in {} {version}", story.name, story.api))?;
            if version == pair.version(story.api, i16::MAX)? {
                break;
            }
        }
    }
    Ok(())
}
