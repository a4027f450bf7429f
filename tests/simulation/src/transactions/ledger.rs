//! What workers did and readers saw, and whether that is what was promised.
//!
//! The promises, in prose:
//! 1. *Exactly once.* In the committed output is the effect of each number below the group's committed offset once, and nothing
//!    else: no effect of an aborted transaction, of a fenced worker, or of one that died.
//! 2. A transaction whose commit was acknowledged is committed, one whose abort was acknowledged is aborted, each as a whole.
//! 3. Readers of committed data are shown nothing behind the last stable offset that they are told. What is left to them by the
//!    list of aborted transactions was asked to be committed before, and is in the committed output in the end, where it was seen.
//! 4. A last stable offset is not above the high watermark, and not below one that was seen, before it was asked for, in the same
//!    or an earlier leader epoch.
//! 5. A generation has one member whose commit is accepted. None is accepted of a member that sends it after the plan of a later
//!    generation was told.
//! 6. The markers in the log and the list of aborted transactions say the same.
//! 7. Once the faults end, workers get on, and every transaction ends: the last stable offset comes to the end of the log. The
//!    output reads the same after an orderly restart.

use super::reader::{Content, visible};
use crate::world::World;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use thalweg_protocol::messages::StrBytes;
use thalweg_segment::{Batch, LeaderEpoch, Offset};

/// A transaction, in order of beginning over all workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionNumber(usize);

impl fmt::Display for TransactionNumber {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "transaction {}", self.0)
    }
}

impl fmt::Debug for TransactionNumber {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// What a worker knows of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nobody has asked to commit it.
    Begun,
    /// It may or may not be committed.
    Asked,
    Committed,
    Aborted,
}

/// The effect of one number, as it was sent.
#[derive(Clone, Copy, Debug)]
struct Effect {
    transaction: TransactionNumber,
    number: i64,
    partition: i32,
}

/// The ledger of a run. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    world: World,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    transactions: Vec<Known>,
    by_records: BTreeMap<Bytes, Effect>,
    /// What readers of committed data were shown, by partition and base offset.
    seen: BTreeMap<(i32, Offset), Bytes>,
    /// Highest last stable offset, by partition and leader epoch.
    stable: BTreeMap<(i32, LeaderEpoch), Offset>,
    newest_generation: i32,
    /// By generation, whose commit was accepted.
    owners: BTreeMap<i32, StrBytes>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(world: &World) -> Self {
        Self(Arc::new(Inner { world: world.clone(), state: Mutex::default() }))
    }

    /// A worker begins a transaction.
    pub fn begins(&self) -> TransactionNumber {
        let mut state = self.0.state.lock();
        state.transactions.push(Known::Begun);
        TransactionNumber(state.transactions.len() - 1)
    }

    /// A worker sends an effect for the first time.
    pub fn sends(&self, transaction: TransactionNumber, number: i64, partition: i32, records: &Bytes) {
        let effect = Effect { transaction, number, partition };
        self.0.state.lock().by_records.insert(records.clone(), effect);
    }

    /// A worker is about to ask for its transaction to be committed.
    pub fn asks_to_commit(&self, transaction: TransactionNumber) {
        self.0.state.lock().transactions[transaction.0] = Known::Asked;
    }

    /// A worker was told that its transaction is committed, or else aborted.
    pub fn ended(&self, transaction: TransactionNumber, committed: bool) {
        let known = if committed { Known::Committed } else { Known::Aborted };
        self.0.world.event(format_args!("{transaction}: {known:?}"));
        self.0.state.lock().transactions[transaction.0] = known;
    }

    /// A member was told the plan of a generation.
    pub fn assigned(&self, generation: i32) {
        let mut state = self.0.state.lock();
        state.newest_generation = generation.max(state.newest_generation);
    }

    /// The newest generation that a plan was told of.
    pub fn newest_generation(&self) -> i32 {
        self.0.state.lock().newest_generation
    }

    /// A member's commit was accepted; `before` is what [`Self::newest_generation`] said when it was sent.
    pub fn commit_accepted(&self, generation: i32, member: &StrBytes, before: i32) {
        if generation < before {
            self.violation(format_args!("a commit of generation {generation} is accepted in {before}"));
        }
        let mut state = self.0.state.lock();
        let owner = state.owners.entry(generation).or_insert_with(|| member.clone()).clone();
        drop(state);
        if owner != *member {
            self.violation(format_args!("{owner} and {member} own the input in generation {generation}"));
        }
    }

    /// The highest last stable offset that was seen so far in leader epochs up to `epoch`.
    pub fn highest_stable(&self, partition: i32, epoch: LeaderEpoch) -> Offset {
        let state = self.0.state.lock();
        let seen = state.stable.range((partition, LeaderEpoch(i32::MIN))..=(partition, epoch));
        seen.map(|(_, stable)| *stable).max().unwrap_or_default()
    }

    /// A reader of committed data got an answer; `before` is what [`Self::highest_stable`] said when the reader asked.
    pub fn fetched(&self, partition: i32, epoch: LeaderEpoch, content: &Content, before: Offset) {
        let Content { batches, high_watermark, last_stable, .. } = content;
        let told = format_args!("output {partition} in leader epoch {epoch}").to_string();
        if last_stable > high_watermark {
            self.violation(format_args!("{told}: {last_stable} is stable, high watermark {high_watermark}"));
        }
        if *last_stable < before {
            self.violation(format_args!("{told}: {before} was stable, then {last_stable}"));
        }
        if let Some(batch) = batches.iter().find(|batch| batch.end_offset() > *last_stable) {
            let at = batch.base_offset();
            self.violation(format_args!("{told}: {last_stable} is stable, and {at} is shown"));
        }
        let mut state = self.0.state.lock();
        let highest = state.stable.entry((partition, epoch)).or_default();
        *highest = (*highest).max(*last_stable);
        drop(state);
        visible(content).for_each(|batch| self.saw(partition, batch));
    }

    fn saw(&self, partition: i32, batch: &Batch) {
        let mut state = self.0.state.lock();
        let at = batch.base_offset();
        state.seen.insert((partition, at), batch.records().clone());
        let effect = state.by_records.get(batch.records()).copied();
        let known = effect.map(|effect| state.transactions[effect.transaction.0]);
        drop(state);
        match known {
            Some(Known::Asked | Known::Committed) => {}
            Some(known) => self.violation(format_args!("{effect:?} is shown at {at}, and it is {known:?}")),
            None => self.violation(format_args!("nobody sent what is shown at {at}")),
        }
    }

    /// Number of transactions, and of those that are known to be committed.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        let committed = state.transactions.iter().filter(|known| **known == Known::Committed);
        (state.transactions.len(), committed.count())
    }

    /// Notes that a promise was broken.
    pub fn violation(&self, what: fmt::Arguments<'_>) {
        self.0.world.violation(what);
    }

    /// Holds everything against the whole output, by partition, and the group's committed offset. `all` has what readers of
    /// anything see, `committed` what readers of committed data see.
    pub fn check(&self, all: &[Content], committed: &[Content], offset: i64) {
        for (partition, (all, committed)) in (0..).zip(all.iter().zip(committed)) {
            self.check_markers(partition, all, committed);
            self.check_seen(partition, committed);
        }
        let of_all = self.effects(all, |content| Box::new(data(content)));
        let of_committed = self.effects(committed, |content| Box::new(visible(content)));
        self.check_once(&of_committed, offset);
        self.check_outcomes(&of_all, &of_committed);
    }

    fn check_markers(&self, partition: i32, all: &Content, committed: &Content) {
        let by_markers: Vec<Offset> = committed_by_markers(&all.batches);
        let by_list: Vec<Offset> = visible(committed).map(Batch::base_offset).collect();
        if by_markers != by_list {
            let differ = by_markers.iter().zip(&by_list).find(|(one, other)| one != other);
            self.violation(format_args!(
                "output {partition}: markers and aborted list differ, at {differ:?}"
            ));
        }
    }

    fn check_seen(&self, partition: i32, committed: &Content) {
        let content: BTreeMap<_, _> =
            visible(committed).map(|batch| (batch.base_offset(), batch.records())).collect();
        let state = self.0.state.lock();
        let seen = state.seen.range((partition, Offset(0))..=(partition, Offset(i64::MAX)));
        let missing = seen.map(|((_, at), records)| (*at, content.get(at) == Some(&records)));
        let missing = missing.filter(|(_, is_there)| !is_there).map(|(at, _)| at).next();
        drop(state);
        if let Some(at) = missing {
            self.violation(format_args!("output {partition}: what was shown at {at} is not committed"));
        }
    }

    fn effects<'a>(
        &self,
        content: &'a [Content],
        of: impl Fn(&'a Content) -> Box<dyn Iterator<Item = &'a Batch> + 'a>,
    ) -> Vec<Effect> {
        let state = self.0.state.lock();
        let batches =
            (0..).zip(content).flat_map(|(partition, content)| of(content).map(move |one| (partition, one)));
        let (mut effects, mut unknown) = (Vec::new(), Vec::new());
        for (partition, batch) in batches {
            match state.by_records.get(batch.records()).filter(|effect| effect.partition == partition) {
                Some(effect) => effects.push(*effect),
                None => unknown.push((partition, batch.base_offset())),
            }
        }
        drop(state);
        for (partition, at) in unknown {
            self.violation(format_args!("output {partition}: nobody sent what is at {at}"));
        }
        effects
    }

    fn check_once(&self, committed: &[Effect], offset: i64) {
        let mut times: BTreeMap<i64, Vec<TransactionNumber>> = BTreeMap::new();
        for effect in committed {
            times.entry(effect.number).or_default().push(effect.transaction);
        }
        for number in 0..offset {
            match times.remove(&number).unwrap_or_default()[..] {
                [_] => {}
                [] => self.violation(format_args!("{number} of {offset} has no effect")),
                ref more => self.violation(format_args!("{number} has its effect more than once: {more:?}")),
            }
        }
        if let Some((number, by)) = times.first_key_value() {
            self.violation(format_args!("{number} has an effect by {by:?}, and {offset} is committed"));
        }
    }

    fn check_outcomes(&self, all: &[Effect], committed: &[Effect]) {
        let in_log: BTreeSet<_> = all.iter().map(|effect| (effect.transaction, effect.number)).collect();
        let in_committed: BTreeSet<_> =
            committed.iter().map(|effect| (effect.transaction, effect.number)).collect();
        if in_log.len() < all.len() {
            self.violation(format_args!("an effect is in the log twice"));
        }
        let state = self.0.state.lock();
        let wrong = state.by_records.values().find(|effect| {
            let place = (effect.transaction, effect.number);
            match state.transactions[effect.transaction.0] {
                Known::Committed => !in_committed.contains(&place),
                Known::Aborted | Known::Begun => in_committed.contains(&place),
                Known::Asked => false,
            }
        });
        let wrong = wrong.map(|effect| (*effect, state.transactions[effect.transaction.0]));
        drop(state);
        if let Some((effect, known)) = wrong {
            self.violation(format_args!("{effect:?} should be {known:?}"));
        }
    }
}

fn data(content: &Content) -> impl Iterator<Item = &Batch> {
    content.batches.iter().filter(|batch| !batch.entry().is_control())
}

/// Base offsets of the batches whose transaction ends with a commit, by the markers alone.
fn committed_by_markers(batches: &[Batch]) -> Vec<Offset> {
    let mut open: BTreeMap<_, Vec<Offset>> = BTreeMap::new();
    let mut committed = Vec::new();
    for batch in batches {
        let of_producer = open.entry(batch.producer_id()).or_default();
        match batch.entry().marker {
            None => of_producer.push(batch.base_offset()),
            Some(marker) => {
                let ended = std::mem::take(of_producer);
                committed.extend(ended.into_iter().filter(|_| marker.committed));
            }
        }
    }
    committed.sort_unstable();
    committed
}
