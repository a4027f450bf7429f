//! A machine that a broker runs on: its tasks can be ended at any poll (a crash), or not polled for a while (a pause, after
//! which the broker is a zombie). What it has asked of the stores goes on without it.

use crate::world::World;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use thalweg_runtime::{Clock, Inline, Runtime, Spawner, TaskHandle};
use tokio::task::AbortHandle;

/// Polls of one machine that no healthy run comes near.
const MAX_POLLS: u64 = 3_000_000;

/// One machine. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: String,
    world: World,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    paused: bool,
    polls: u64,
    /// The poll at which it dies.
    last_poll: Option<u64>,
    /// Those who were to be polled during the pause.
    held: Vec<Waker>,
    tasks: Vec<AbortHandle>,
}

impl Node {
    /// A machine that runs.
    pub fn new(world: &World, name: String) -> Self {
        Self(Arc::new(Inner { name, world: world.clone(), state: Mutex::default() }))
    }

    /// What a broker on this machine is given; its clock is wrong by `skew_ms`.
    pub fn runtime(&self, skew_ms: i64) -> Runtime {
        let world = &self.0.world;
        let clock = SkewedClock { world: world.clone(), skew_ms };
        Runtime::new(Arc::new(clock), world.fork(), Arc::new(self.clone()), Arc::new(Inline))
    }

    /// Its name in the event log.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Ends it after so many more polls of its tasks.
    pub fn kill_after(&self, polls: u64) {
        let mut state = self.0.state.lock();
        state.last_poll = Some(state.polls + polls);
    }

    /// Takes that back.
    pub fn spare(&self) {
        self.0.state.lock().last_poll = None;
    }

    /// Ends it now: all its tasks are dropped where they stand.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.0.state.lock();
            if std::mem::replace(&mut state.dead, true) {
                return;
            }
            std::mem::take(&mut state.tasks)
        };
        self.0.world.event(format_args!("{} is dead", self.0.name));
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Whether it has been killed.
    pub fn is_dead(&self) -> bool {
        self.0.state.lock().dead
    }

    /// Stops polling its tasks.
    pub fn pause(&self) {
        self.0.world.event(format_args!("{} is paused", self.0.name));
        self.0.state.lock().paused = true;
    }

    /// Polls its tasks again.
    pub fn resume(&self) {
        self.0.world.event(format_args!("{} goes on", self.0.name));
        let held = {
            let mut state = self.0.state.lock();
            state.paused = false;
            std::mem::take(&mut state.held)
        };
        held.into_iter().for_each(Waker::wake);
    }

    /// Whether a task may be polled now.
    fn admit(&self, context: &Context<'_>) -> Admission {
        let mut state = self.0.state.lock();
        if state.dead {
            return Admission::Dead;
        }
        if state.paused {
            state.held.push(context.waker().clone());
            return Admission::Paused;
        }
        state.polls += 1;
        if state.polls == MAX_POLLS {
            self.0.world.violation(format_args!("{} spins", self.0.name));
        }
        if state.polls > state.last_poll.unwrap_or(MAX_POLLS) {
            drop(state);
            self.kill();
            return Admission::Dead;
        }
        Admission::Polled
    }
}

enum Admission {
    Dead,
    Paused,
    Polled,
}

impl Spawner for Node {
    #[expect(clippy::disallowed_methods, reason = "the simulation's spawner")]
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        let task = tokio::spawn(NodeTask { node: self.clone(), task: Some(task) });
        let mut state = self.0.state.lock();
        if state.dead {
            task.abort();
        }
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(task.abort_handle());
        TaskHandle::new(task)
    }
}

/// A task of a machine.
struct NodeTask {
    node: Node,
    task: Option<BoxFuture<'static, ()>>,
}

impl Future for NodeTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.node.admit(context) {
            Admission::Dead => {
                self.task = None;
                return Poll::Ready(());
            }
            Admission::Paused => return Poll::Pending,
            Admission::Polled => {}
        }
        let Some(task) = &mut self.task else { return Poll::Ready(()) };
        // tokio would keep a panic to itself.
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                self.node.0.world.violation(format_args!("{} panicked: {text}", self.node.0.name));
                Poll::Ready(())
            }
        }
    }
}

struct SkewedClock {
    world: World,
    skew_ms: i64,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.world.trace().now_ms()).expect("a run lasts minutes");
        1_700_000_000_000 + since + self.skew_ms
    }
}
