//! Deliberate faults. With the feature `mutations` the simulation turns one on at a time and must notice it; without,
//! [`mutated`] is the constant `false`.

/// One deliberate fault in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A PUT of unknown outcome counts as durable.
    AcknowledgeBeforeDurable,
    /// Recovery leaves the first missing sequence unfenced.
    SkipFence,
    /// Recovery fences `[g, g + W)`, g being the first sequence missing from the LIST.
    FenceFromFirstMissing,
    /// A flush moves the trim point over one object that it has not flushed.
    TrimTooEarly,
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
