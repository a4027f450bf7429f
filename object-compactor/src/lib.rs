//! The life of stored data behind the flush: what is rewritten, what ends, what is deleted.
//!
//! Decisions are pure and tested without a runtime; whoever runs them commits in the name of the owner of the logs. Until its
//! commit, what was written is garbage: a crash at any step leaves garbage, never a hole.
//!
//! [`plan`] says what is worth rewriting into fewer and better sorted objects, [`execute`] reads and writes what one plan says.

pub mod clean;
pub mod collect;
pub mod deletion;
pub mod execute;
pub mod plan;
pub mod removal;
pub mod retention;
