//! Coordinators: state that lives in the log of an internal topic, owned and recovered like any other log's.
//!
//! [`groups`] decides, `shard` keeps one partition's state and its log in step, `loading` reads the log at the start,
//! [`group_coordinator`] finds the shard of a group.

pub mod group_coordinator;
pub mod groups;
mod loading;
mod records;
mod shard;

pub use group_coordinator::GroupCoordinator;
