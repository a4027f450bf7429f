//! A small S3 client: path-style, HTTP/1.1, signature version 4 with an unsigned body.
//!
//! Measures the store itself and looks into buckets. It has nothing in common with the client of the broker.

mod bucket;
mod signature;

pub use bucket::{Bucket, Listed, today};
