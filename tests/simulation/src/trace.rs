//! The log of everything that happens in a run, as a hash. Two runs of one seed must have the same.

use parking_lot::Mutex;
use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
};
use tokio::time::Instant;

/// The log of one run.
pub struct Trace {
    began: Instant,
    print: bool,
    state: Mutex<(DefaultHasher, u64)>,
}

impl Trace {
    /// An empty log. With `print`, every event goes to standard output too.
    pub fn new(print: bool) -> Self {
        // Its keys are fixed, unlike those of a hash map's hasher.
        Self { began: Instant::now(), print, state: Mutex::new((DefaultHasher::new(), 0)) }
    }

    /// Adds one event at the current virtual time.
    pub fn event(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>10.3} {event}", self.began.elapsed().as_secs_f64());
        if self.print {
            println!("{line}");
        }
        let (hasher, events) = &mut *self.state.lock();
        hasher.write(line.as_bytes());
        *events += 1;
    }

    /// The hash of all events so far, and their number.
    pub fn summary(&self) -> (u64, u64) {
        let (hasher, events) = &*self.state.lock();
        (hasher.finish(), *events)
    }

    /// Virtual milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("a run lasts minutes")
    }
}
