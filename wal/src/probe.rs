//! Finds out that this incarnation is fenced while it has nothing to write.
//!
//! A writer learns of its fencing by the PUT that loses. One that is idle would go on serving reads for ever: so it looks now
//! and then at the key that it would write next, where a take-over puts a fence. Nothing rests on this but that an old
//! process says so and ends: what it may acknowledge or commit is decided by the PUT and the commit themselves.

use crate::{driver::Event, shared::Shared};
use std::{sync::Arc, time::Duration};
use thalweg_segment::{Incarnation, Store, WalSequence, read_footer, wal_path};
use tokio::{sync::mpsc, time::sleep};

/// One GET in this time is what an idle broker pays for it.
const INTERVAL: Duration = Duration::from_secs(60);

/// The task that looks.
pub(crate) struct Probe {
    pub shared: Arc<Shared>,
    pub store: Store,
    pub incarnation: Incarnation,
    pub events: mpsc::Sender<Event>,
}

impl Probe {
    /// Looks until it finds a fence, of which it tells the driver.
    pub async fn run(self) {
        let mut seen = None;
        loop {
            sleep(INTERVAL).await;
            let next = self.shared.core.lock().sequencer.next_sequence();
            let idle = seen.replace(next) == Some(next);
            if idle && let Some(why) = self.fence_at(next).await {
                // Without a driver nobody waits for the news.
                let _ = self.events.send(Event::Fenced(why)).await;
                return;
            }
        }
    }

    async fn fence_at(&self, next: WalSequence) -> Option<String> {
        let footer = read_footer(&self.store, &wal_path(self.incarnation, next)).await.ok()?;
        let other = footer.writer != self.incarnation;
        other
            .then(|| format!("at WAL sequence {next} stands a {:?} object of {}", footer.kind, footer.writer))
    }
}
