//! Consumer groups (KIP-848): the broker assigns, members follow one by one. Rules as of Kafka 4.3.1.
//!
//! ```text
//!   group epoch      rises when members, subscriptions or topics change
//!        │  `target`: worked out anew
//!   assignment epoch what each member is to have, as of a group epoch
//!        │  `reconcile`: one step with each heartbeat
//!   member epoch     what a member has; rises when it has given up what isn't its any more
//! ```
//! A group is changed by records alone: `change` decides by what it was, and leaves records; `replay` takes them in, those just
//! appended as those of the log. Only timers, and what `group` calls soft, change at once.
//!
//! `heartbeat` and `leave` are the members' requests, `regexes` resolves what they subscribe by, `classic_members` serves those
//! of the classic protocol, and `migration` turns classic groups into these and back.

mod assignors;
mod change;
mod check;
mod classic_members;
mod commits;
mod describe;
mod group;
mod hash;
mod heartbeat;
mod leave;
mod member;
mod migration;
mod partitions;
mod re2;
mod reconcile;
mod records;
mod refusal;
mod regexes;
mod replay;
mod subscriptions;
mod target;

#[cfg(test)]
mod random_stories;
#[cfg(test)]
mod tests;

pub use assignors::Assignor;
pub use check::check_heartbeat;
pub use heartbeat::{Client, Heartbeat};
pub use refusal::Refusal;
pub use regexes::{Found, Resolving};

pub(super) use change::Change;
pub(super) use commits::{Committer, MayCommit};
pub(super) use group::ConsumerGroup;
pub(super) use member::Member;
pub(super) use records::without_group;

/// The member epoch of whoever leaves.
const LEFT_FOR_GOOD: i32 = -1;
/// The member epoch of a static member that leaves and will be back.
const LEFT_FOR_A_WHILE: i32 = -2;
