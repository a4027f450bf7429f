//! The write-ahead log: append → WAL object → acknowledgement; flush; fencing; recovery.

#![allow(clippy::todo)]

mod config;
mod flush;
mod recovery;
mod wal;

pub use config::*;
pub use flush::*;
pub use recovery::*;
pub use wal::*;
