//! What a coordinator's decisions look like to the shard that carries them out.

use std::fmt::Debug;
use thalweg_protocol::{ErrorCode, coordinator_records::CoordinatorRecord};

/// The state of one partition of a coordinator's topic, and its rules: no I/O, no runtime, no clock.
///
/// An operation takes a request and the time, and leaves in [`Effects`] what is to be done. Whoever runs it appends the records,
/// hands them to [`Rules::replay`] (as loading does with those of the log), and tells by [`Rules::stored`] when they are
/// durable. When an append fails because the log has another owner, the whole state is dropped.
pub trait Rules: Send + Sized + 'static {
    /// What its log holds.
    type Record: CoordinatorRecord + Send;
    /// The answer to a parked request.
    type Answer: Send;
    /// What goes on when records are durable.
    type After: Send;
    /// What is to be done elsewhere.
    type Task: Send;
    /// What the state is made of, for logs and tasks.
    const NAME: &'static str;

    /// When [`Self::expire`] has something to do, in milliseconds of [`Now::monotonic_ms`].
    fn next_deadline_ms(&self) -> Option<u64>;
    /// Bytes that the state takes, about.
    fn bytes(&self) -> usize;
    /// Takes a record into the state.
    fn replay(&mut self, record: Self::Record, at: Position);
    /// A marker stands in the log: what `producer_id` wrote in its transaction counts now, or never.
    fn transaction_ended(&mut self, producer_id: i64, committed: bool);
    /// The log has been read to its end.
    fn loaded(&mut self, now: Now, effects: &mut EffectsOf<Self>);
    /// Does what is due first. False where nothing is.
    fn expire(&mut self, now: Now, effects: &mut EffectsOf<Self>) -> bool;
    /// Goes on after the records of an operation are durable, or could not be appended.
    fn stored(
        &mut self,
        after: Self::After,
        stored: Result<(), ErrorCode>,
        now: Now,
        effects: &mut EffectsOf<Self>,
    );
}

/// The effects of operations on `R`.
pub type EffectsOf<R> =
    Effects<<R as Rules>::Record, <R as Rules>::Answer, <R as Rules>::After, <R as Rules>::Task>;

/// What is to be done.
#[derive(Debug)]
pub struct Effects<Record, Answer, After, Task> {
    /// To be appended in one batch.
    pub records: Vec<Record>,
    /// To be answered at once: these answers don't rest on the records.
    pub answers: Vec<(Ticket, Answer)>,
    /// To be handed to [`Rules::stored`] once the records are durable, or could not be appended.
    pub after: Option<After>,
    /// To be begun at once. What a task does rests only on what is durable already.
    pub tasks: Vec<Task>,
}

impl<Record, Answer, After, Task> Default for Effects<Record, Answer, After, Task> {
    fn default() -> Self {
        Self { records: Vec::new(), answers: Vec::new(), after: None, tasks: Vec::new() }
    }
}

/// The time, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch, for what is stored.
    pub wall_ms: i64,
    /// Milliseconds of a clock that only runs forward, for timers.
    pub monotonic_ms: u64,
}

/// Stands for a request that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its offset in the log.
    pub offset: i64,
    /// The producer whose transaction it belongs to; -1 for none.
    pub producer_id: i64,
    /// It is read from the log, not appended by this life of the state, which may know more than its record.
    pub loading: bool,
}
