//! Real servers and real clients, started by the tests themselves.
//!
//! ```text
//! tools     fetched once into a cache: MinIO, Apache Kafka's jars, kcat, franz-go's own tests
//! servers   MinIO, Kafka and the real `thalweg` binary, each in its own process and temporary folder
//! clients   kcat, Kafka's own command-line tools, Kafka Streams, franz-go's own tests; `java/` has programs of ours for Kafka's clients
//! kafka     a raw Kafka client, written from the protocol pages alone: what checks Thalweg must not share its codec
//! s3        a signed S3 client, small enough to measure the store and nothing else
//! proxy     an S3 proxy with the latency of real S3, counters, lost answers, 503s and pauses
//! ```
//!
//! Everything here runs in real time on real sockets. Readiness is a condition that is polled, never a fixed sleep.
//! Whatever is started is stopped by its process id when its handle is dropped.
#![expect(clippy::disallowed_methods, reason = "this crate drives real processes from outside, in real time")]

pub mod clients;
pub mod kafka;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod servers;
pub mod tools;
pub mod wait;
