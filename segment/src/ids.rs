//! The numbers that name things. Each is its own type, so that one cannot be taken for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One partition's log. Cluster-wide, given when the partition is created, never used again.
    LogId(u64)
}
id! {
    /// The position of a record in its log, from 0. As an end of a range it is exclusive.
    Offset(i64)
}
id! {
    /// Kafka's leader epoch: rises whenever a log changes its owner.
    LeaderEpoch(i32)
}
id! {
    /// `node.id` of a broker.
    BrokerId(i32)
}
id! {
    /// One life of a broker; cluster-wide, ever rising.
    BrokerEpoch(u64)
}
id! {
    /// The number of an object in the write-ahead log of one incarnation, from 0 without gaps.
    WalSequence(u64)
}
id! {
    /// An idempotent producer (KIP-98). Negative means none.
    ProducerId(i64)
}

impl Offset {
    /// The offset `count` records on.
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl ProducerId {
    /// The batch has no producer id.
    pub const NONE: Self = Self(-1);

    /// Whether the batch's producer is idempotent.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl WalSequence {
    /// The sequence after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One life of a broker: what owns logs and writes objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Which broker.
    pub broker: BrokerId,
    /// Which of its lives.
    pub epoch: BrokerEpoch,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.broker, self.epoch)
    }
}

/// The name of a flushed segment: its writer, and the writer's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Who wrote it.
    pub incarnation: Incarnation,
    /// Counts the writer's segments, from 0; never reused.
    pub number: u64,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.incarnation, self.number)
    }
}
