//! What the simulation needs of a broker: the real one or a small one can stand behind it.

use crate::{mutation::Mutation, world::World};
use async_trait::async_trait;
use object_store::ObjectStore;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::KeyValueStore;
use thalweg_protocol::{Request, Response};
use thalweg_runtime::Runtime;
use thalweg_segment::{Batch, BrokerId, Incarnation, LeaderEpoch, LogId, Offset, Producers};
use thalweg_wal::WalConfig;

/// Why a broker did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not own the log (any more).
    NotLeader,
    /// The batch's sequence number does not follow its producer's last.
    OutOfOrder,
    /// It can't at the moment.
    Unavailable,
}

/// What a fetch returned.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches from the one that holds the offset on.
    pub batches: Vec<Batch>,
    /// The log's high watermark.
    pub high_watermark: Offset,
}

/// A running broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Which life of which broker.
    fn incarnation(&self) -> Incarnation;

    /// The epoch under which it owns its logs; rises with every change of the owner, as the broker epoch need not.
    fn leader_epoch(&self) -> LeaderEpoch;

    /// Appends a batch; returns its base offset once it is durable.
    async fn produce(&self, log: LogId, batch: Batch) -> Result<Offset, Refusal>;

    /// Reads below the high watermark.
    async fn fetch(&self, log: LogId, from: Offset) -> Result<Fetched, Refusal>;

    /// Where the log begins, as this broker has it.
    fn start(&self, log: LogId) -> Offset {
        let _ = log;
        Offset(0)
    }

    /// Deletes the records before an offset; returns where the log begins from then on.
    async fn delete_before(&self, log: LogId, before: Offset) -> Result<Offset, Refusal> {
        let _ = (log, before);
        Err(Refusal::Unavailable)
    }

    /// Carries any request out, in a version of its API. None where there is no answer, or no way to ask.
    async fn ask(&self, version: i16, request: Request) -> Option<Response> {
        let _ = (version, request);
        None
    }

    /// Asks for a flush.
    fn request_flush(&self);

    /// The orderly end; false where it was fenced before.
    async fn close(&self) -> bool;

    /// Whether it can neither acknowledge nor commit any more.
    fn is_fenced(&self) -> bool;
}

/// Why a broker did not start.
#[derive(Debug)]
pub enum StartError {
    /// Somebody else was faster, or a store did not answer: may be tried again.
    Again(String),
    /// This access to the metadata store is of no use any more.
    Fenced(String),
    /// Something that was stored can't be right.
    Broken(String),
}

/// What a broker is given to start.
pub struct Means {
    /// For events and violations.
    pub world: World,
    /// Clock, randomness, tasks.
    pub runtime: Runtime,
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The metadata store.
    pub kv: Arc<dyn KeyValueStore>,
    /// `node.id`.
    pub broker: BrokerId,
    /// How it writes.
    pub config: WalConfig,
    /// All logs there are, but for those of transactional clients and coordinators.
    pub logs: Vec<LogId>,
    /// Whether the clients have transactions.
    pub transactional: bool,
    /// A deliberate fault.
    pub mutation: Option<Mutation>,
    /// For a deliberate fault only: what live brokers know of producers.
    pub live_states: LiveStates,
}

/// What brokers know of producers, durable or not.
pub type LiveStates = Arc<Mutex<BTreeMap<LogId, Producers>>>;
