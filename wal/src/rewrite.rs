//! Rewrites: commits of those who replace objects of the index by others (compaction, retention, cleaning).
//!
//! They go through the flusher, which alone commits in the name of its incarnation, one commit after the other. So a rewrite
//! that was planned before a hand-over, or whose broker is fenced, can't be committed, and one whose objects were replaced
//! meanwhile is refused as a whole.

use crate::{WalError, numbers::Reservation};
use std::sync::Arc;
use thalweg_metadata::Commit;
use thalweg_segment::Index;
use tokio::sync::{mpsc, oneshot};

/// Rewrites that wait for the flusher; more wait in their tasks.
const WAITING: usize = 16;

/// What replaces what.
pub struct Rewrite {
    /// Its added objects are in the store. Its trim point and `close` are not looked at.
    pub commit: Commit,
    /// The index of its shared segment.
    pub shared: Option<Arc<Index>>,
    /// The names of its added objects, held until the index knows them.
    pub reservations: Vec<Reservation>,
}

/// Why a rewrite was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RewriteError {
    /// What it was to replace was replaced or removed before; plan anew. What it wrote is garbage.
    #[error("the plan is out of date")]
    Stale,
    /// Nothing can be committed any more.
    #[error(transparent)]
    Ended(#[from] WalError),
}

/// A rewrite on its way to the flusher.
pub(crate) struct Request {
    pub rewrite: Rewrite,
    pub done: oneshot::Sender<Result<(), RewriteError>>,
}

/// A queue of them.
pub(crate) fn requests() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(WAITING)
}

/// Hands `rewrite` to the flusher, and waits for what becomes of it. None where the flusher has ended.
pub(crate) async fn ask(
    requests: &mpsc::Sender<Request>,
    rewrite: Rewrite,
) -> Option<Result<(), RewriteError>> {
    let (done, outcome) = oneshot::channel();
    requests.send(Request { rewrite, done }).await.ok()?;
    outcome.await.ok()
}
