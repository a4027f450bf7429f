//! The write-ahead log: append → WAL object → acknowledgement; flush; fencing; recovery.
//!
//! A broker has one [`Wal`] for all its logs. Appended batches are collected into objects, which are created in the object
//! store one after another, several at a time; each log is acknowledged as far as its own objects are durable. What is
//! durable stays in memory until it is flushed: written again as larger, better sorted segments and committed to the
//! object index, after which the WAL objects are deleted. What a dead broker left is taken over by [`take_over`].
//!
//! ```text
//!  append ─→ sequencer ─→ upload ─→ object store            decisions   sequencer, budget, hedge, flush_plan
//!               │  ↑         │                              tasks       driver, upload, flush
//!               │  └─ driver ┘ ─→ Observer::durable
//!               └──→ flush_plan ─→ flush ─→ object store, metadata ─→ Observer::flushed
//! ```
//!
//! What survives a crash: the WAL objects from the trim point on, the committed segments. What may leak: segments that
//! were not committed, WAL objects below the trim point. The garbage collection finds both.

mod budget;
mod cleanup;
mod config;
mod continuity;
mod driver;
mod fencing;
#[cfg(test)]
mod fencing_model;
mod flush;
mod flush_plan;
mod gathering;
mod hedge;
mod metrics;
mod mutation;
mod numbers;
mod probe;
mod recovery;
mod rewrite;
#[cfg(test)]
mod scripted_store;
mod sequencer;
mod shared;
mod upload;
mod wal;

pub use config::*;
pub use continuity::{Overlap, OwnedLog};
#[cfg(feature = "mutations")]
pub use mutation::{Mutation, set_mutation};
pub use numbers::Reservation;
pub use recovery::*;
pub use rewrite::{Rewrite, RewriteError};
pub use wal::*;
