//! Deliberate faults. A checker that notices none of them would notice nothing.

#[cfg(feature = "mutations")]
use thalweg_broker::Mutation as BrokerMutation;
#[cfg(feature = "mutations")]
use thalweg_wal::Mutation as WalMutation;

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// One within the write-ahead log.
    #[cfg(feature = "mutations")]
    Wal(WalMutation),
    /// One within the coordinators, or in what readers of committed data are shown.
    #[cfg(feature = "mutations")]
    Broker(BrokerMutation),
    /// Commits don't compare their incarnation's record.
    NoCommitGuard,
    /// What compaction has planned is committed whatever has changed since: another owner, other objects.
    RewriteFromOldPlan,
    /// The committed ends of a dead incarnation's logs are read before its record is raised.
    EndsBeforeRaise,
    /// After a take-over, logs are opened at their committed end instead of their recovered end.
    OpenAtCommittedEnd,
    /// A duplicate is answered although its first copy isn't durable yet.
    AnswerDuplicateEarly,
    /// What is known of producers after a take-over includes batches that were lost.
    StateFromLive,
}

impl Mutation {
    /// All of them.
    #[cfg(feature = "mutations")]
    pub const ALL: [Self; 15] = [
        Self::Wal(WalMutation::AcknowledgeBeforeDurable),
        Self::Wal(WalMutation::SkipFence),
        Self::Wal(WalMutation::FenceFromFirstMissing),
        Self::Wal(WalMutation::TrimTooEarly),
        Self::NoCommitGuard,
        Self::RewriteFromOldPlan,
        Self::Broker(BrokerMutation::DeleteBeforeDelay),
        Self::EndsBeforeRaise,
        Self::OpenAtCommittedEnd,
        Self::AnswerDuplicateEarly,
        Self::StateFromLive,
        Self::Broker(BrokerMutation::AcceptFencedMember),
        Self::Broker(BrokerMutation::MarkerBeforePrepare),
        Self::Broker(BrokerMutation::CompleteBeforeMarkers),
        Self::Broker(BrokerMutation::ExposeOpen),
    ];

    /// Whether only clients with transactions can notice it.
    #[cfg(feature = "mutations")]
    pub fn is_of_transactions(self) -> bool {
        matches!(self, Self::Broker(mutation) if mutation != BrokerMutation::DeleteBeforeDelay)
    }
}

impl Mutation {
    /// Whether the fault is built into the small broker rather than into the code of the real one.
    pub fn is_of_the_small_broker(self) -> bool {
        use Mutation::{AnswerDuplicateEarly, EndsBeforeRaise, OpenAtCommittedEnd, StateFromLive};
        matches!(self, AnswerDuplicateEarly | EndsBeforeRaise | OpenAtCommittedEnd | StateFromLive)
    }
}

/// Turns the faults within the write-ahead log and the broker on or off, for this thread.
pub fn apply(mutation: Option<Mutation>) {
    #[cfg(feature = "mutations")]
    {
        thalweg_wal::set_mutation(match mutation {
            Some(Mutation::Wal(mutation)) => Some(mutation),
            _ => None,
        });
        thalweg_broker::set_mutation(match mutation {
            Some(Mutation::Broker(mutation)) => Some(mutation),
            _ => None,
        });
    }
    #[cfg(not(feature = "mutations"))]
    let _ = mutation;
}
