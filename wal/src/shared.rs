//! What the handles of a write-ahead log, its driver and its flusher share.

use crate::{
    WalConfig,
    sequencer::{CutObject, Sequencer},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_segment::{Forgetting, LogId, LogState, WalSequence};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Shared state, and the bells that wake the two tasks.
pub(crate) struct Shared {
    /// Locked for moments only: an append, a decision.
    pub core: Mutex<Core>,
    /// What the next flush goes on from, of each open log. Locked after `core`, or alone.
    pub bases: Mutex<BTreeMap<LogId, Base>>,
    /// Wakes the driver: there may be something to cut.
    pub cut: Notify,
    /// Wakes the flusher: there may be something to flush.
    pub flush: Notify,
    /// What `flush` and `close` wait for.
    pub progress: watch::Sender<Progress>,
}

/// A log as of its last flush.
pub(crate) struct Base {
    pub state: Arc<LogState>,
    /// What its owner has forgotten since it was opened: a flush that was under way meanwhile knows nothing of it.
    forgetting: Forgetting,
}

/// Everything that is decided upon.
pub(crate) struct Core {
    pub sequencer: Sequencer,
    /// What was asked of the flusher.
    pub asked: Asked,
    /// Closed, closing or fenced: appends are dropped.
    pub stopped: bool,
}

/// Flushes that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Whatever is durable, now.
    pub now: bool,
    /// Everything below this sequence, once it is durable.
    pub until: WalSequence,
    /// Everything, and then the last commit.
    pub close: bool,
}

/// How far flushes have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Everything below this is committed.
    pub trim: WalSequence,
    /// Whether and how it is all over.
    pub end: Option<End>,
}

/// How a write-ahead log ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// In good order.
    Closed,
    /// Fenced: why.
    Fenced(Arc<str>),
    /// By something else that makes it useless: what.
    Failed(Arc<str>),
}

/// When to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now; with `close`, for the last time.
    Now { close: bool },
    /// Then, unless something happens before.
    At(Instant),
    /// Not before something happens.
    Unknown,
}

impl Shared {
    /// The state of a log that issues its sequences through `sequencer`.
    pub fn new(sequencer: Sequencer) -> Self {
        let trim = sequencer.trim_point();
        let core = Core { sequencer, asked: Asked::default(), stopped: false };
        Self {
            core: Mutex::new(core),
            bases: Mutex::default(),
            cut: Notify::new(),
            flush: Notify::new(),
            progress: watch::Sender::new(Progress { trim, end: None }),
        }
    }

    /// See [`Sequencer::next_cut`].
    pub fn next_cut(&self, now: Instant) -> Option<CutObject> {
        self.core.lock().sequencer.next_cut(now)
    }

    /// It is over: nothing is taken in any more, who waits is told.
    pub fn end(&self, end: End) {
        self.core.lock().stopped = true;
        self.progress.send_modify(|progress| progress.end = Some(end));
    }
}

impl Base {
    /// A log as it was opened.
    pub fn new(state: LogState) -> Self {
        Self { state: Arc::new(state), forgetting: Forgetting::default() }
    }

    /// The log's next flush is committed.
    pub fn flushed(&mut self, state: Arc<LogState>) {
        self.state = state;
        self.forget(Forgetting::default());
    }

    /// Forgets producers.
    pub fn forget(&mut self, what: Forgetting) {
        self.forgetting = self.forgetting.and(what);
        if self.state.producers.forgets_any(&self.forgetting) {
            Arc::make_mut(&mut self.state).forget_producers(&self.forgetting);
        }
    }
}

impl Core {
    /// Whether a flush is due at `now`.
    pub fn flush_due(&self, config: &WalConfig, now: Instant) -> Due {
        let (sequencer, asked) = (&self.sequencer, &self.asked);
        if asked.close {
            let all_durable = sequencer.low() >= sequencer.appended_end();
            return if all_durable { Due::Now { close: true } } else { Due::Unknown };
        }
        let Some(since) = sequencer.flushable_since() else { return Due::Unknown };
        let wanted = asked.now || (sequencer.trim_point() < asked.until && asked.until <= sequencer.low());
        let age_at = since + config.flush_interval;
        if wanted || sequencer.flushable_bytes() >= config.flush_bytes || age_at <= now {
            return Due::Now { close: false };
        }
        Due::At(age_at)
    }
}
