//! What the tests need from outside, fetched once into a cache that concurrent runs share.

mod cache;
mod franz_go;
mod java;
mod kcat;
mod minio;
mod packages;
mod path;

pub use cache::{Cache, cache_folder};
pub use franz_go::{FranzGoTests, franz_go_tests};
pub use java::{KAFKA_VERSION, KafkaJars};
pub use kcat::kcat;
pub use minio::{MINIO_VERSION, minio};
pub use packages::debian_packages;
pub use path::find_on_path;

use std::fmt;

/// A tool that isn't here and cannot be fetched, and how to get it.
#[derive(Debug)]
pub struct Missing {
    /// What is missing.
    pub tool: &'static str,
    /// What a person can do about it.
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not available: {}", self.tool, self.remedy)
    }
}

impl std::error::Error for Missing {}
