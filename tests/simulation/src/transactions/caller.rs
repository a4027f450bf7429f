//! A client's way to the brokers: whom it asks, and how often.

use super::Workers;
use crate::cluster::Server;
use std::sync::Arc;
use thalweg_protocol::{ErrorCode, Request, Response};
use thalweg_segment::LeaderEpoch;
use tokio::time::{Instant, sleep};

/// Why a request had no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer, or none that tells what became of it, for as long as the client had patience.
    Unanswered,
    /// An answer that is no reason to try again.
    Refused(ErrorCode),
}

/// What an answer says: what was asked for, or an error.
pub type Outcome<T> = Result<T, ErrorCode>;

/// One client's connections. It never goes back to a broker that is older than one that has served it: clients know leader
/// epochs, and stay with their coordinator. Whom it has not left yet may be a zombie all the same.
pub struct Caller {
    workers: Workers,
    newest: LeaderEpoch,
}

impl Caller {
    /// A client that has talked to nobody.
    pub fn new(workers: &Workers) -> Self {
        Self { workers: workers.clone(), newest: LeaderEpoch(i32::MIN) }
    }

    /// Asks again and again, for some time.
    pub async fn ask<T>(
        &mut self,
        version: i16,
        request: impl Into<Request>,
        take: impl Fn(Response) -> Outcome<T>,
    ) -> Result<T, Failure> {
        self.ask_with(version, request, true, take).await
    }

    /// The same, but gives up at once where there is no answer to be had.
    pub async fn ask_once<T>(
        &mut self,
        version: i16,
        request: impl Into<Request>,
        take: impl Fn(Response) -> Outcome<T>,
    ) -> Result<T, Failure> {
        self.ask_with(version, request, false, take).await
    }

    async fn ask_with<T>(
        &mut self,
        version: i16,
        request: impl Into<Request>,
        repeats: bool,
        take: impl Fn(Response) -> Outcome<T>,
    ) -> Result<T, Failure> {
        let (world, request) = (self.workers.world.clone(), request.into());
        let deadline = Instant::now() + world.millis(3000, 30_000);
        while Instant::now() < deadline {
            let Some((server, epoch)) = self.pick() else {
                sleep(world.millis(50, 500)).await;
                continue;
            };
            let patience = world.millis(1000, 15_000);
            match self.workers.cluster.ask(&server, version, request.clone(), patience).await.map(&take) {
                None if !repeats => return Err(Failure::Unanswered),
                Some(Ok(answer)) => {
                    self.newest = epoch.max(self.newest);
                    return Ok(answer);
                }
                Some(Err(code)) if !code.is_retriable() => return Err(Failure::Refused(code)),
                None | Some(Err(_)) => sleep(world.millis(20, 500)).await,
            }
        }
        Err(Failure::Unanswered)
    }

    fn pick(&self) -> Option<(Arc<Server>, LeaderEpoch)> {
        let server = self.workers.cluster.pick()?;
        let epoch = server.broker()?.leader_epoch();
        (epoch >= self.newest).then_some((server, epoch))
    }
}

/// The answer, or the error that stands in it.
pub(super) fn unless_error<T>(code: i16, answer: T) -> Outcome<T> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(answer),
        code => Err(code),
    }
}

/// An answer to something else: none at all, for whoever asked.
pub(super) const NO_ANSWER: ErrorCode = ErrorCode::UnknownServerError;
