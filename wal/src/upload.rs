//! The upload of one WAL object: encode it, then PUT it at its key until it is known to be there.
//!
//! A PUT is never skipped and the object never cut anew: batches behind it in the same logs can be acknowledged only after
//! it. So it is repeated for ever, with the same key and the same bytes, until one of two things is known: the object is
//! at its key, or something else is, and this incarnation is fenced.
//!
//! `AlreadyExists` shows neither. It may be our own PUT whose answer was lost, a fence, or (S3's 409) another attempt in
//! progress that may yet fail. Only what is *read* at the key decides.

use crate::{
    WalConfig,
    hedge::HedgePolicy,
    metrics::Metrics,
    mutation::{Mutation, mutated},
    sequencer::{Batches, CutObject},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use thalweg_runtime::Runtime;
use thalweg_segment::{
    Encoded, ErrorKind, Footer, Incarnation, Kind, Purpose, ReadError, SegmentWriter, Store, StoreError,
    WalSequence, read_footer, transfer_time, wal_path,
};
use tokio::time::{Instant, sleep, timeout};

/// Objects of this many bytes are encoded on the computing pool: their checksums take a millisecond and more.
const COMPUTE_BYTES: usize = 1 << 20;
/// Wait after the store has refused a PUT in a way that repeating won't change by itself: a person must act first.
const REJECTED_BACKOFF: Duration = Duration::from_secs(5);
/// Back-off doubles at most this often.
const MAX_DOUBLINGS: u32 = 16;

/// Uploads the objects of one incarnation. Shared by the tasks that do so, one for each object.
pub(crate) struct Uploader {
    pub runtime: Runtime,
    pub store: Store,
    pub incarnation: Incarnation,
    pub config: WalConfig,
    pub metrics: Metrics,
    pub hedges: Mutex<HedgePolicy>,
    /// Draws a token for a hedge from the budget.
    pub draw_hedge: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the last answer of the store was that it won't take our PUTs; so that this is logged once.
    pub rejected: AtomicBool,
}

/// Something else stands at an object's key: what it is.
#[derive(Debug)]
pub(crate) struct Fenced(pub String);

/// What one PUT has shown.
#[derive(Debug)]
enum Answer {
    /// The object is at its key.
    Durable,
    /// Something else is.
    Fenced(String),
    /// Neither is known. To be repeated after this back-off at least.
    Unknown(Duration),
}

impl Uploader {
    /// Returns once the object is durable. Ends early only where something else stands at its key.
    pub async fn upload(&self, object: CutObject) -> Result<(), Fenced> {
        let (sequence, started) = (object.sequence, Instant::now());
        let encoded = self.encode(object).await;
        let mut repetition = 0;
        loop {
            match self.attempt(sequence, &encoded).await {
                Answer::Durable => break,
                Answer::Unknown(_) if mutated(Mutation::AcknowledgeBeforeDurable) => break,
                Answer::Fenced(why) => return Err(Fenced(why)),
                Answer::Unknown(least) => {
                    let backoff = backoff(self.config.backoff, repetition).max(least);
                    sleep(self.runtime.random().jitter(backoff)).await;
                    repetition += 1;
                }
            }
        }
        self.metrics.durable(started.elapsed());
        Ok(())
    }

    async fn encode(&self, object: CutObject) -> Encoded {
        let (incarnation, bytes) = (self.incarnation, object.bytes);
        let encode = move || encode(incarnation, object.sequence, &object.batches);
        if bytes < COMPUTE_BYTES { encode() } else { self.runtime.compute(encode).await }
    }

    /// One PUT and, where it is slow, a second one of the same key and bytes. The first that shows anything decides; the
    /// other is dropped, which does no harm even if it arrives much later: it is the same object, or it loses.
    async fn attempt(&self, sequence: WalSequence, object: &Encoded) -> Answer {
        let started = Instant::now();
        let hedge_at = sleep(self.hedges.lock().delay(object.size));
        tokio::pin!(hedge_at);
        let mut hedged = false;
        let mut puts: FuturesUnordered<BoxFuture<'_, (Purpose, Answer)>> = FuturesUnordered::new();
        puts.push(Box::pin(self.put(sequence, object, Purpose::Wal)));
        loop {
            tokio::select! {
                biased;
                Some((purpose, answer)) = puts.next() => {
                    let last = puts.is_empty();
                    if !matches!(answer, Answer::Unknown(_)) || last {
                        self.observe(object.size, started.elapsed(), purpose, &answer);
                        return answer;
                    }
                }
                () = &mut hedge_at, if !hedged => {
                    hedged = true;
                    if self.may_hedge() {
                        puts.push(Box::pin(self.put(sequence, object, Purpose::Hedge)));
                    }
                }
            }
        }
    }

    fn may_hedge(&self) -> bool {
        let allowed = self.hedges.lock().try_take() && (self.draw_hedge)();
        if allowed {
            self.metrics.hedges.inc();
        }
        allowed
    }

    fn observe(&self, bytes: u64, duration: Duration, purpose: Purpose, answer: &Answer) {
        if let Answer::Durable = answer {
            self.hedges.lock().observe(bytes, duration);
            if purpose == Purpose::Hedge {
                self.metrics.hedges_won.inc();
            }
        }
    }

    /// One PUT, and a look at the key where the PUT lost.
    async fn put(&self, sequence: WalSequence, object: &Encoded, purpose: Purpose) -> (Purpose, Answer) {
        let path = wal_path(self.incarnation, sequence);
        let put = self.store.create_once(&path, object.payload.clone(), purpose);
        let patience = self.config.attempt_timeout + transfer_time(object.size);
        let answer = match timeout(patience, put).await {
            Ok(Ok(())) => Answer::Durable,
            Ok(Err(StoreError::AlreadyExists { .. })) => self.read_back(sequence, &object.footer).await,
            Ok(Err(error)) => self.failed(&error),
            Err(_) => {
                tracing::debug!(%sequence, "a PUT was not answered in time");
                self.metrics.attempts_failed.inc();
                Answer::Unknown(Duration::ZERO)
            }
        };
        if let Answer::Durable = answer
            && self.rejected.swap(false, Ordering::Relaxed)
        {
            tracing::info!(incarnation = %self.incarnation, "the object store accepts WAL objects again");
        }
        (purpose, answer)
    }

    /// What stands at the key decides. Nothing may stand there: then the write that we met has failed since, or is going on.
    async fn read_back(&self, sequence: WalSequence, ours: &Footer) -> Answer {
        match read_footer(&self.store, &wal_path(self.incarnation, sequence)).await {
            Ok(found) if is_same(&found, ours) => Answer::Durable,
            Ok(found) => Answer::Fenced(format!(
                "at WAL sequence {sequence} stands a {:?} object of {}",
                found.kind, found.writer
            )),
            Err(ReadError::Store(StoreError::NotFound { .. })) => Answer::Unknown(Duration::ZERO),
            Err(ReadError::Store(error)) => self.failed(&error),
            // Not ours, as objects appear whole or not at all; and since it is there, ours never will be.
            Err(ReadError::Format { path, source }) => Answer::Fenced(format!("{path}: {source}")),
        }
    }

    fn failed(&self, error: &StoreError) -> Answer {
        self.metrics.attempts_failed.inc();
        if error.kind() != ErrorKind::Rejected {
            tracing::debug!(%error, "a PUT of a WAL object failed");
            return Answer::Unknown(Duration::ZERO);
        }
        if !self.rejected.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the object store refuses WAL objects; nothing is acknowledged until it takes them");
        }
        Answer::Unknown(REJECTED_BACKOFF)
    }
}

pub(crate) fn encode(incarnation: Incarnation, sequence: WalSequence, batches: &Batches) -> Encoded {
    let mut writer = SegmentWriter::new(Kind::Wal, incarnation, sequence.0);
    for (log, batches) in batches {
        batches.iter().for_each(|batch| writer.batch(*log, batch));
    }
    writer.finish()
}

/// The index block holds the checksum of every other block, so its own stands for the whole content.
fn is_same(found: &Footer, ours: &Footer) -> bool {
    found.kind == ours.kind
        && found.writer == ours.writer
        && found.number == ours.number
        && found.index_crc == ours.index_crc
}

/// The wait before repetition `repetition` (from 0), without jitter: doubles from the first to the longest.
pub(crate) fn backoff((first, longest): (Duration, Duration), repetition: u32) -> Duration {
    first.saturating_mul(1 << repetition.min(MAX_DOUBLINGS)).min(longest)
}

#[cfg(test)]
mod tests;
