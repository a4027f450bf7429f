//! Cluster state and the object index, over a small key-value trait.

mod admin;
mod admin_records;
mod call;
mod codec;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod embedded;
mod embedded_reader;
#[cfg(test)]
mod embedded_tests;
#[cfg(test)]
mod faults;
mod incarnations;
#[cfg(test)]
mod interleavings;
mod keys;
mod kv;
mod memory;
mod object_index;
mod records;
#[cfg(test)]
mod records_tests;
mod restoring;
mod settings;
mod snapshot;
mod store;
#[cfg(test)]
mod store_tests;
mod topics;

pub use admin_records::*;
pub use embedded::{EmbeddedKv, EmbeddedOptions};
pub use embedded_reader::EmbeddedReader;
pub use incarnations::Commit;
pub use kv::*;
pub use memory::MemoryKv;
pub use object_index::*;
pub use records::*;
pub use restoring::NewRows;
pub use settings::ResourceKind;
pub use snapshot::*;
pub use store::*;
pub use topics::NewTopic;
