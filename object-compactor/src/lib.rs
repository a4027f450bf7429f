//! The life of stored data behind the flush: what is rewritten, what ends, what is deleted.
//!
//! Decisions are pure and tested without a runtime; whoever runs them commits in the name of the owner of the logs.

pub mod collect;
pub mod deletion;
pub mod removal;
pub mod retention;
