//! What readers are served from: the log cache (the tail, in memory), and behind it the block cache (memory, then a local disk).

mod disk;
mod log_cache;
mod metrics;
mod reader;

pub use disk::DiskSettings;
pub use log_cache::*;
pub use reader::*;
