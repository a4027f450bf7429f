//! Cluster state and the object index, over a small key-value trait.

#![allow(clippy::todo)]

mod call;
mod codec;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod incarnations;
mod keys;
mod kv;
mod memory;
mod object_index;
mod records;
mod settings;
mod store;
mod topics;

pub use incarnations::Commit;
pub use kv::*;
pub use memory::MemoryKv;
pub use object_index::*;
pub use records::*;
pub use store::*;
pub use topics::NewTopic;
