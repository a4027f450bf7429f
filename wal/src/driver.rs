//! The task that drives the write-ahead log: cuts objects, starts their uploads, and tells the observer.
//!
//! It alone calls the observer. So what the observer is told is in order: a log's durable end never goes back, and nothing
//! follows a fencing. It owns the handles of the uploads and of the flusher, so all of them end with it; it ends when it is
//! dropped with the last handle of the log, after a fencing, or after the orderly close.

use crate::{
    Observer, Rewrite,
    flush::Flushed,
    sequencer::CutObject,
    shared::{End, Shared},
    upload::Uploader,
};
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};
use thalweg_runtime::TaskHandle;
use thalweg_segment::WalSequence;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// What the driver is told by the tasks that it owns. An upload sends one event, the flusher waits for each of its own to be
/// taken in, so the window bounds the queue whatever its capacity is.
pub(crate) enum Event {
    /// An object is at its key.
    Durable(WalSequence),
    /// This incarnation is fenced: why.
    Fenced(String),
    /// Nothing can be committed any more, though nobody has fenced this incarnation: why.
    Failed(String),
    /// A flush was committed. Answered once the observer knows.
    Flushed(Box<Flushed>, oneshot::Sender<()>),
    /// A rewrite was committed. Answered likewise.
    Rewritten(Box<Rewrite>, oneshot::Sender<()>),
    /// The last commit of the incarnation was made.
    Closed,
}

/// Room in the queue of events; more wait in their tasks.
const EVENTS: usize = 64;

/// A queue of events.
pub(crate) fn events() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(EVENTS)
}

/// See the module.
pub(crate) struct Driver {
    pub shared: Arc<Shared>,
    pub uploader: Arc<Uploader>,
    pub observer: Arc<dyn Observer>,
    pub sender: mpsc::Sender<Event>,
    pub events: mpsc::Receiver<Event>,
    pub uploads: BTreeMap<WalSequence, TaskHandle>,
    /// The flusher and the probe. Held so that they end with the driver.
    pub _tasks: [TaskHandle; 2],
}

impl Driver {
    /// Runs until the log is closed or fenced.
    pub async fn run(mut self) {
        let mut stalled = false;
        loop {
            if self.wait().await.is_break() {
                return;
            }
            // Whoever is ready in this turn of the scheduler gets into the same object.
            tokio::task::yield_now().await;
            while let Some(object) = self.shared.next_cut(Instant::now()) {
                self.start_upload(object);
            }
            self.note_stall(&mut stalled);
        }
    }

    /// Waits until there may be something to cut. Breaks where nothing will be any more.
    async fn wait(&mut self) -> ControlFlow<()> {
        let deadline = self.shared.core.lock().sequencer.next_deadline();
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => self.take_in(event)?,
            () = self.shared.cut.notified() => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
        while let Ok(event) = self.events.try_recv() {
            self.take_in(event)?;
        }
        ControlFlow::Continue(())
    }

    fn take_in(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Durable(sequence) => self.durable(sequence),
            Event::Flushed(flushed, done) => {
                self.observer.flushed(&flushed.commit, flushed.shared, &flushed.ends);
                // The flusher may be gone; then nobody waits.
                let _ = done.send(());
            }
            Event::Rewritten(rewrite, done) => {
                self.observer.rewritten(&rewrite.commit, rewrite.shared.clone());
                let _ = done.send(());
            }
            Event::Fenced(why) => {
                tracing::warn!(incarnation = %self.uploader.incarnation, why, "fenced");
                self.shared.end(End::Fenced(why.as_str().into()));
                self.observer.fenced(&why);
                return ControlFlow::Break(());
            }
            Event::Failed(why) => {
                self.shared.end(End::Failed(why.as_str().into()));
                self.uploader.runtime.fail(why);
                return ControlFlow::Break(());
            }
            Event::Closed => {
                self.shared.end(End::Closed);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn durable(&mut self, sequence: WalSequence) {
        self.uploads.remove(&sequence);
        let advanced = {
            let sequencer = &mut self.shared.core.lock().sequencer;
            let advanced = sequencer.durable(sequence);
            self.uploader.metrics.in_flight.set(sequencer.in_flight() as i64);
            advanced
        };
        if !advanced.is_empty() {
            self.observer.durable(&advanced);
        }
        self.shared.flush.notify_one();
    }

    fn start_upload(&mut self, object: CutObject) {
        let (sequence, uploader, events) = (object.sequence, self.uploader.clone(), self.sender.clone());
        uploader.metrics.cut(object.cause, object.bytes);
        let runtime = uploader.runtime.clone();
        let task = runtime.spawn_essential("the upload of a WAL object", async move {
            let event = match uploader.upload(object).await {
                Ok(()) => Event::Durable(sequence),
                Err(fenced) => Event::Fenced(fenced.0),
            };
            // Without a driver nobody is acknowledged anything any more.
            let _ = events.send(event).await;
        });
        self.uploads.insert(sequence, task);
    }

    fn note_stall(&self, stalled: &mut bool) {
        let (blocked, in_flight, unflushed) = {
            let sequencer = &self.shared.core.lock().sequencer;
            (sequencer.is_blocked(), sequencer.in_flight(), sequencer.unflushed_bytes())
        };
        if blocked && !*stalled {
            self.uploader.metrics.window_stalls.inc();
        }
        *stalled = blocked;
        self.uploader.metrics.in_flight.set(in_flight as i64);
        self.uploader.metrics.unflushed_bytes.set(unflushed as i64);
    }
}
