//! Coordinators: state that lives in the log of an internal topic, owned and recovered like any other log's.
//!
//! [`groups`] and [`transactions`] decide, by the rules of [`rules`]; `shard` keeps one partition's state and its log in step,
//! `loading` reads the log at the start, [`group_coordinator`] and [`transaction_coordinator`] find the shard of a group or a
//! transactional id, and `markers` ends transactions in the logs that are part of them.

pub mod group_coordinator;
pub mod groups;
mod loading;
pub mod markers;
mod records;
pub mod rules;
mod shard;
mod shards;
pub mod transaction_coordinator;
pub mod transactions;

pub(crate) use group_coordinator::View as GroupsView;
pub use group_coordinator::{GroupCoordinator, GroupShard};
pub use records::TransactionalBatch;
pub(crate) use shard::Means;
pub use transaction_coordinator::TransactionCoordinator;
