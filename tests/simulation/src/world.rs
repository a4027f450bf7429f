//! What a run has outside of its brokers: randomness, the event log, the faults of the moment, what went wrong.

use crate::trace::Trace;
use parking_lot::Mutex;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use thalweg_runtime::Random;

/// How often requests to a store go wrong, in per mille.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Fails and was not carried out.
    pub refused: u64,
    /// Carried out, but the answer is lost: the caller is told of a failure.
    pub lost: u64,
    /// Carried out long after the caller was told of a failure, or never.
    pub late: u64,
    /// Carried out and answered after seconds.
    pub slow: u64,
    /// For a conditional PUT: "another write is in progress", whether it is then carried out or not.
    pub conflict: u64,
}

impl Rates {
    /// No faults.
    pub const NONE: Self = Self { refused: 0, lost: 0, late: 0, slow: 0, conflict: 0 };

    /// Rates drawn at random, often none at all.
    pub fn draw(random: &Random) -> Self {
        let scale = [0, 5, 30, 150][random.range(0..4) as usize];
        let rate = || if scale == 0 { 0 } else { random.range(0..scale) };
        Self { refused: rate(), lost: rate(), late: rate(), slow: rate(), conflict: rate() }
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Carried out after the first wait, answered after the second.
    Done(Duration, Duration),
    /// Not carried out; a failure is reported after the wait.
    Refused(Duration),
    /// Reported as failed after the second wait; carried out after the first, which may be much longer, or never.
    Unknown(Option<Duration>, Duration),
    /// Reported as in conflict with another write after the second wait; carried out after the first, or never.
    Conflict(Option<Duration>, Duration),
}

/// Everything that the parts of a run share. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    random: Random,
    trace: Trace,
    rates: Mutex<(Rates, Rates)>,
    violations: Mutex<Vec<String>>,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, print: bool) -> Self {
        Self(Arc::new(Inner {
            random: Random::from_seed(seed),
            trace: Trace::new(print),
            rates: Mutex::default(),
            violations: Mutex::default(),
        }))
    }

    /// Randomness of the world.
    pub fn random(&self) -> &Random {
        &self.0.random
    }

    /// A new, independent sequence of randomness: so that what one part draws does not depend on others.
    pub fn fork(&self) -> Random {
        Random::from_seed(self.0.random.u64())
    }

    /// True once in `n` times.
    pub fn one_in(&self, n: u64) -> bool {
        self.0.random.range(0..n) == 0
    }

    /// A duration between `from` and `to` milliseconds.
    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.random.range(from..to))
    }

    /// The event log.
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Adds an event to the log.
    pub fn event(&self, event: fmt::Arguments<'_>) {
        self.0.trace.event(event);
    }

    /// From now on, requests to the object store and to the metadata store go wrong this often.
    pub fn set_rates(&self, store: Rates, metadata: Rates) {
        *self.0.rates.lock() = (store, metadata);
    }

    /// The fate of the next request to the object store.
    pub fn store_fate(&self) -> Fate {
        let rates = self.0.rates.lock().0;
        self.fate(rates)
    }

    /// The fate of the next request to the metadata store.
    pub fn metadata_fate(&self) -> Fate {
        let rates = self.0.rates.lock().1;
        self.fate(rates)
    }

    fn fate(&self, rates: Rates) -> Fate {
        let (there, back) = (self.millis(1, 12), self.millis(0, 4));
        let dice = self.0.random.range(0..1000);
        let mut below = 0;
        let mut is = |rate| {
            below += rate;
            dice < below
        };
        if is(rates.refused) {
            Fate::Refused(there)
        } else if is(rates.lost) {
            Fate::Unknown(Some(there), there + self.millis(0, 3000))
        } else if is(rates.late) {
            let arrives = (!self.one_in(3)).then(|| self.millis(100, 60_000));
            Fate::Unknown(arrives, self.millis(1, 3000))
        } else if is(rates.slow) {
            Fate::Done(self.millis(50, 20_000), back)
        } else if is(rates.conflict) {
            let arrives = self.one_in(2).then(|| self.millis(1, 5_000));
            Fate::Conflict(arrives, there)
        } else {
            Fate::Done(there, back)
        }
    }

    /// Runs `task` outside of every broker: no crash ends it.
    #[expect(clippy::disallowed_methods, reason = "the world's tasks belong to no broker")]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    /// Notes that a promise was broken.
    pub fn violation(&self, what: fmt::Arguments<'_>) {
        self.event(format_args!("VIOLATION {what}"));
        self.0.violations.lock().push(what.to_string());
    }

    /// The first broken promise.
    pub fn first_violation(&self) -> Option<String> {
        self.0.violations.lock().first().cloned()
    }
}
