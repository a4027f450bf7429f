//! One connection: a task that takes requests in, and one that gives answers out in the same order.

use super::{
    Class, NetMetrics, Peer, Reply, Rope, Service,
    frame::{FrameError, read_frame},
    limits::NetSettings,
    low_water::Incoming,
    pace::{LOOK, is_too_slow},
};
use bytes::Buf;
use futures::future::BoxFuture;
use std::{io, sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

/// What connections of one server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub runtime: Runtime,
    pub service: Arc<dyn Service>,
    pub settings: NetSettings,
    pub metrics: NetMetrics,
    /// Becomes true when no new request may be taken in.
    pub draining: watch::Receiver<bool>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("could not write: {0}")]
    Write(io::Error),
    #[error("the client does not take its responses")]
    Stuck,
    #[error("the client takes its response too slowly, while others wait for the memory")]
    Slow,
    #[error("{0}")]
    Refused(String),
    #[error("shutting down")]
    Draining,
}

impl End {
    /// Whether the broker closed it for a reason of its own, rather than the client.
    pub fn by_us(&self) -> bool {
        match self {
            Self::Frame(FrameError::Closed | FrameError::Io(_)) | Self::Write(_) | Self::Draining => false,
            Self::Frame(_) | Self::Stuck | Self::Slow | Self::Refused(_) => true,
        }
    }
}

struct Pending {
    api: &'static str,
    since: Instant,
    reply: BoxFuture<'static, Reply>,
}

/// Serves a connection until it ends.
pub(super) async fn serve<R, W>(shared: Shared, peer: Peer, reader: R, writer: W) -> End
where
    R: Incoming + Send + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (queue, pending) = mpsc::channel(shared.settings.max_in_flight);
    let answered = watch::Sender::new(0u64);
    let reading = take_in(&shared, &peer, reader, queue, answered.subscribe());
    let writing = give_out(&shared, writer, pending, answered);
    tokio::pin!(reading, writing);
    tokio::select! {
        biased;
        // The writer ends by an error, or when the reader has ended and everything is answered.
        end = &mut writing => end.err().unwrap_or(End::Draining),
        end = &mut reading => match end {
            End::Draining => writing.await.err().unwrap_or(End::Draining),
            end => end,
        },
    }
}

async fn take_in<R: Incoming>(
    shared: &Shared,
    peer: &Peer,
    mut reader: R,
    queue: mpsc::Sender<Pending>,
    mut answered: watch::Receiver<u64>,
) -> End {
    let mut taken = 0;
    let mut last = Class::Other;
    let mut draining = shared.draining.clone();
    loop {
        let frame = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => return End::Draining,
            frame = read_frame(&mut reader, &shared.settings, &*shared.service) => frame,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        shared.metrics.received(frame.api, frame.bytes.len());
        let overlaps = frame.class == Class::Produce && last == Class::Produce;
        if !overlaps && answered.wait_for(|answered| *answered == taken).await.is_err() {
            return End::Draining;
        }
        last = frame.class;
        taken += 1;
        let (api, since) = (frame.api, Instant::now());
        let reply = shared.service.serve(peer, frame).await;
        if queue.send(Pending { api, since, reply }).await.is_err() {
            return End::Draining;
        }
    }
}

async fn give_out<W: AsyncWrite + Unpin>(
    shared: &Shared,
    mut writer: W,
    mut pending: mpsc::Receiver<Pending>,
    answered: watch::Sender<u64>,
) -> Result<(), End> {
    while let Some(next) = pending.recv().await {
        let reply = next.reply.await;
        shared.metrics.answered(next.api, next.since.elapsed());
        answered.send_modify(|answered| *answered += 1);
        match reply {
            Reply::Send(rope) => {
                shared.metrics.sent(rope.len());
                write(&mut writer, rope, shared.settings.max_idle).await?;
            }
            Reply::Nothing => {}
            Reply::Close(reason) => return Err(End::Refused(reason)),
        }
    }
    Ok(())
}

/// Writes a response. A client that takes nothing for `patience` is given up, as Kafka does; one that takes it slowly only while
/// others wait for what it keeps in memory.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, mut rope: Rope, patience: Duration) -> Result<(), End> {
    let begun = Instant::now();
    let whole = rope.remaining();
    let mut moved = begun;
    while rope.has_remaining() {
        if let Ok(written) = timeout(LOOK.min(patience), writer.write_buf(&mut rope)).await {
            if written.map_err(End::Write)? == 0 {
                return Err(End::Write(io::ErrorKind::WriteZero.into()));
            }
            moved = Instant::now();
        }
        if moved.elapsed() >= patience {
            return Err(End::Stuck);
        }
        if is_too_slow(begun, whole - rope.remaining()) && rope.is_wanted() {
            return Err(End::Slow);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::pace::GRACE;
    use bytes::Bytes;
    use thalweg_runtime::Budget;
    use tokio::io::AsyncReadExt;

    const PATIENCE: Duration = Duration::from_secs(600);

    /// A response of a megabyte to a client that takes a byte every five seconds, and then nothing.
    #[expect(clippy::disallowed_methods, reason = "a test's tasks")]
    fn trickle(budget: &Budget) -> tokio::task::JoinHandle<Result<(), End>> {
        let charge = budget.try_charge(1 << 20).expect("there is room");
        let rope = Rope::new([Bytes::from(vec![0; 1 << 20])], vec![charge]);
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            for _ in 0..1000 {
                theirs.read_u8().await.expect("there is more");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            std::future::pending::<()>().await;
        });
        tokio::spawn(async move { write(&mut ours, rope, PATIENCE).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_be_slow_while_nobody_waits_for_its_memory_and_not_silent() {
        let budget = Budget::new("responses", 1 << 20);
        let began = Instant::now();
        let ended = trickle(&budget).await.expect("no panic");
        assert!(matches!(ended, Err(End::Stuck)));
        assert!(began.elapsed() >= Duration::from_secs(4990) + PATIENCE);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_given_up_once_somebody_waits_for_its_memory() {
        let budget = Budget::new("responses", 1 << 20);
        let slow = trickle(&budget);
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert!(!slow.is_finished());
        let waited = Instant::now();
        drop(budget.charge(1).await);
        assert!(waited.elapsed() <= 5 * LOOK, "{:?}", waited.elapsed());
        assert!(matches!(slow.await.expect("no panic"), Err(End::Slow)));

        // One that has begun just now has its time.
        let slow = trickle(&budget);
        let waited = Instant::now();
        drop(budget.charge(1).await);
        assert!(waited.elapsed() >= GRACE, "{:?}", waited.elapsed());
        assert!(matches!(slow.await.expect("no panic"), Err(End::Slow)));
    }
}
