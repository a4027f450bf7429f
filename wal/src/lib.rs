//! The write-ahead log: append → WAL object → acknowledgement; flush; fencing; recovery.

#![allow(clippy::todo)]

mod config;
mod continuity;
mod fencing;
#[cfg(test)]
mod fencing_model;
mod flush;
mod mutation;
mod recovery;
mod wal;

pub use config::*;
pub use continuity::{Overlap, OwnedLog};
pub use flush::*;
#[cfg(feature = "mutations")]
pub use mutation::{Mutation, set_mutation};
pub use recovery::*;
pub use wal::*;
