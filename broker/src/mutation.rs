//! Deliberate faults. With the feature `mutations` the simulation turns one on at a time and must notice it; without,
//! [`mutated`] is the constant `false`.

/// One deliberate fault in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Offsets are taken in a transaction from a member that the group has fenced.
    AcceptFencedMember,
    /// Markers are written before the decision that they stand for is durable.
    MarkerBeforePrepare,
    /// A transaction is complete before its markers are durable.
    CompleteBeforeMarkers,
    /// What a rewrite has removed from the index is deleted at once.
    DeleteBeforeDelay,
    /// Readers of committed data are shown all that is durable.
    ExposeOpen,
}

#[cfg(feature = "mutations")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Turns a fault on, or all off, for this thread.
#[cfg(feature = "mutations")]
pub fn set_mutation(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}

/// Whether a fault is on.
#[cfg(feature = "mutations")]
pub(crate) fn mutated(mutation: Mutation) -> bool {
    ACTIVE.get() == Some(mutation)
}

/// Whether a fault is on: never.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn mutated(_mutation: Mutation) -> bool {
    false
}
