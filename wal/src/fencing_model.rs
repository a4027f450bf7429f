//! Every interleaving of a writer (which may be paused or cut off), a store with conditional PUTs, a flush, and two
//! recoverers, for small sizes. What the writer acknowledges, before or after its fencing, must be in what either recovery
//! keeps. The recoverers run the code that real ones run: [`Fencing`] and [`keep`].

use crate::{
    continuity::{Objects, OwnedLog, keep},
    fencing::{Fencing, Filled},
};
use std::collections::{BTreeMap, HashSet};
use thalweg_segment::{BatchEntry, BlockEntry, Index, LeaderEpoch, LogId, Offset, ProducerId, WalSequence};

const EPOCH: LeaderEpoch = LeaderEpoch(1);

/// The logs that one object holds a batch of, as bits.
type Contents = u8;
const LOGS: [(LogId, Contents); 2] = [(LogId(0), 0b01), (LogId(1), 0b10)];

#[derive(Clone, PartialEq, Eq, Hash)]
enum Recovery {
    Idle,
    Fencing(Fencing),
    Done([i64; 2]),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    /// Sequences that the writer has issued.
    issued: usize,
    /// Sequences below this are in the object index.
    trim: usize,
    store: Vec<Option<Filled>>,
    /// Issued PUTs that have not reached the store, and those of which the writer knows that they are durable, as bits.
    inflight: u32,
    confirmed: u32,
    stopped: bool,
    recoveries: Vec<Recovery>,
}

struct Model {
    contents: Vec<Contents>,
    window: usize,
    recoverers: usize,
}

impl Model {
    /// Explores all states; returns how many, or the world in which something acknowledged was not kept.
    fn explore(&self) -> Result<usize, String> {
        let start = World {
            issued: 0,
            trim: 0,
            store: vec![None; self.contents.len() + 2 * self.window + 1],
            inflight: 0,
            confirmed: 0,
            stopped: false,
            recoveries: vec![Recovery::Idle; self.recoverers],
        };
        let mut seen = HashSet::from([start.clone()]);
        let mut open = vec![start];
        while let Some(world) = open.pop() {
            self.check(&world)?;
            for next in self.steps(&world) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        Ok(seen.len())
    }

    fn check(&self, world: &World) -> Result<(), String> {
        let acknowledged = self.acknowledged(world);
        for recovery in &world.recoveries {
            let Recovery::Done(ends) = recovery else { continue };
            if acknowledged.iter().zip(ends).any(|(acknowledged, end)| acknowledged > end) {
                let (contents, store) = (&self.contents, &world.store);
                return Err(format!(
                    "contents {contents:?}, store {store:?}: acknowledged {acknowledged:?}, kept {ends:?}"
                ));
            }
        }
        Ok(())
    }

    /// Per log, the end of its acknowledged batches: those below the trim point or known durable, without a gap.
    fn acknowledged(&self, world: &World) -> [i64; 2] {
        LOGS.map(|(_, bit)| {
            let held = (0..world.issued).filter(|at| self.contents[*at] & bit != 0);
            held.take_while(|at| *at < world.trim || world.confirmed & 1 << at != 0).count() as i64
        })
    }

    fn steps(&self, world: &World) -> Vec<World> {
        let mut next = self.writer_steps(world);
        for sequence in (0..world.issued).filter(|at| world.inflight & 1 << at != 0) {
            next.extend(arrivals(world, sequence));
        }
        for who in 0..world.recoveries.len() {
            next.extend(self.recovery_steps(world, who));
        }
        next
    }

    fn writer_steps(&self, world: &World) -> Vec<World> {
        let mut next = Vec::new();
        let low = (0..).find(|at| *at >= world.trim && world.confirmed & 1 << at == 0).expect("finite");
        let issued = world.issued;
        if !world.stopped && issued < self.contents.len() && issued < low + self.window {
            next.push(World { issued: issued + 1, inflight: world.inflight | 1 << issued, ..world.clone() });
        }
        // A flush writes from memory, durable in the log or not; its commit fails once the record is raised.
        if world.trim < issued && world.recoveries.iter().all(|recovery| *recovery == Recovery::Idle) {
            next.push(World { trim: issued, ..world.clone() });
        }
        next
    }

    fn recovery_steps(&self, world: &World, who: usize) -> Vec<World> {
        let with = |recovery| {
            let mut next = world.clone();
            next.recoveries[who] = recovery;
            next
        };
        match &world.recoveries[who] {
            Recovery::Idle => {
                let listed = (0..world.store.len()).filter(|at| world.store[*at].is_some());
                let listed = listed.map(|at| WalSequence(at as u64));
                let window = u32::try_from(self.window).expect("small");
                vec![with(Recovery::Fencing(Fencing::new(WalSequence(world.trim as u64), window, listed)))]
            }
            Recovery::Fencing(fencing) => {
                let wanted = fencing.wanted();
                if wanted.is_empty() {
                    return vec![with(Recovery::Done(self.kept(world)))];
                }
                let step = |sequence: WalSequence| {
                    let (mut fencing, at) = (fencing.clone(), sequence.0 as usize);
                    let found = world.store[at].unwrap_or(Filled::Fence);
                    fencing.fill(sequence, found);
                    let mut next = with(Recovery::Fencing(fencing));
                    next.store[at] = Some(found);
                    next
                };
                wanted.into_iter().map(step).collect()
            }
            Recovery::Done(_) => Vec::new(),
        }
    }

    /// Where each log ends after a recovery that sees the store as it is now.
    fn kept(&self, world: &World) -> [i64; 2] {
        let data = |at: &usize| *at >= world.trim && world.store[*at] == Some(Filled::Data);
        let objects: Objects = (0..self.contents.len())
            .filter(data)
            .map(|at| (WalSequence(at as u64), self.index_of(at)))
            .collect();
        let committed = LOGS.map(|(log, bit)| (log, self.batches_before(world.trim, bit)));
        let owned: BTreeMap<_, _> = committed
            .iter()
            .map(|(log, end)| (*log, OwnedLog { committed_end: Offset(*end), leader_epoch: EPOCH }))
            .collect();
        let kept = keep(&objects, &owned).expect("the writer gives each offset once");
        committed.map(|(log, end)| kept.ends.get(&log).map_or(end, |end| end.0))
    }

    fn batches_before(&self, sequence: usize, bit: Contents) -> i64 {
        self.contents[..sequence].iter().filter(|contents| *contents & bit != 0).count() as i64
    }

    fn index_of(&self, at: usize) -> Index {
        let logs = LOGS.iter().filter(|(_, bit)| self.contents[at] & bit != 0);
        let blocks = logs.map(|(log, bit)| block(*log, &[batch(self.batches_before(at, *bit), 1, EPOCH)]));
        Index { blocks: blocks.collect(), ..Index::default() }
    }
}

/// A PUT reaches the store, now or much later: it is answered, its answer is lost, or it meets a fence.
fn arrivals(world: &World, sequence: usize) -> Vec<World> {
    let mut landed = world.clone();
    landed.inflight &= !(1 << sequence);
    if landed.store[sequence].is_some() {
        return vec![World { stopped: true, ..landed }];
    }
    landed.store[sequence] = Some(Filled::Data);
    let answered = World { confirmed: landed.confirmed | 1 << sequence, ..landed.clone() };
    vec![landed, answered]
}

/// A batch of `count` records from `base` on.
pub(crate) fn batch(base: i64, count: i32, leader_epoch: LeaderEpoch) -> BatchEntry {
    BatchEntry {
        base_offset: Offset(base),
        last_offset_delta: count - 1,
        record_count: count,
        size: 100,
        leader_epoch,
        attributes: 0,
        max_timestamp: base,
        producer_id: ProducerId::NONE,
        producer_epoch: -1,
        base_sequence: -1,
        marker: None,
    }
}

/// A block of `batches`, which have 100 bytes each.
pub(crate) fn block(log: LogId, batches: &[BatchEntry]) -> BlockEntry {
    BlockEntry {
        log,
        base_offset: batches[0].base_offset,
        end_offset: batches[batches.len() - 1].end_offset(),
        record_count: batches.iter().map(|batch| batch.record_count.unsigned_abs()).sum(),
        object: 0,
        position: 1000,
        size: batches.iter().map(|batch| batch.size).sum(),
        crc: 7,
        max_timestamp: batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(0),
        batches: batches.to_vec(),
    }
}

/// Every choice of contents for `objects` objects.
fn all_contents(objects: u32) -> impl Iterator<Item = Vec<Contents>> {
    (0..3usize.pow(objects)).map(move |mut choice| {
        (0..objects)
            .map(|_| {
                let contents = [0b01, 0b10, 0b11][choice % 3];
                choice /= 3;
                contents
            })
            .collect()
    })
}

#[test]
fn whatever_the_writer_acknowledges_is_kept_in_every_interleaving() {
    for (objects, window, recoverers) in [(3, 2, 1), (4, 1, 1), (3, 1, 2), (2, 2, 2)] {
        for contents in all_contents(objects) {
            let explored = Model { contents, window, recoverers }.explore();
            explored.expect("nothing acknowledged is lost");
        }
    }
}

#[cfg(feature = "mutations")]
#[test]
fn wrong_rules_of_fencing_are_caught() {
    use crate::mutation::{Mutation, set_mutation};
    for wrong in [Mutation::SkipFence, Mutation::FenceFromFirstMissing] {
        set_mutation(Some(wrong));
        let caught =
            all_contents(3).any(|contents| Model { contents, window: 2, recoverers: 1 }.explore().is_err());
        set_mutation(None);
        assert!(caught, "{wrong:?} loses nothing");
    }
}
