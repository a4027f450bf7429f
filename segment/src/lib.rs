//! The one object format, and the access to the object store that every other crate goes through.
//!
//! An object holds whole record batches of one log or of many: `header | data blocks | state blocks | index block | footer`.
//! A WAL object, a flushed segment, a fence and a recovery manifest are the same format with another [`Kind`].

mod batch;
mod codec;
mod crc;
mod footer;
mod ids;
mod index;
mod index_codec;
mod keys;
mod payload;
mod producers;
mod reader;
mod state;
mod state_codec;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

pub use batch::*;
pub use footer::*;
pub use ids::*;
pub use index::*;
pub use keys::*;
pub use producers::*;
pub use reader::*;
pub use state::*;
pub use store::*;
pub use writer::*;
