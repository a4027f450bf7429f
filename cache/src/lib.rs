//! What readers are served from: the log cache (the tail, in memory), and behind it the block cache.

mod log_cache;
mod metrics;
mod reader;

pub use log_cache::*;
pub use reader::*;
