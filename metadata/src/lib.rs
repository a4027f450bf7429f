//! Cluster state and the object index, over a small key-value trait.

#![allow(clippy::todo)]

mod kv;
mod object_index;
mod records;
mod store;

pub use kv::*;
pub use object_index::*;
pub use records::*;
pub use store::*;
