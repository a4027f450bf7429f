//! A Kafka-compatible broker whose only durable store is object storage.
//!
//! The flow of a request: [`net`] reads a frame → [`api`] decodes, authorizes and executes it on the [`broker`]'s
//! [`partition`]s, its log cache and its write-ahead log → the answer goes out in order.

pub mod api;
pub mod broker;
pub mod cli;
pub mod config;
pub mod context;
pub mod coordinator;
pub mod dynamic;
pub mod fetch_sessions;
pub mod http;
pub mod loggers;
mod mutation;
pub mod net;
pub mod partition;
pub mod pressure;
pub mod process_metrics;
pub mod producer_expiry;
pub mod producer_ids;
pub mod program;
pub mod reading;
pub mod settings;
pub mod stored;
pub mod tools;
pub mod topics;
pub mod upkeep;

#[cfg(feature = "mutations")]
pub use mutation::{Mutation, set_mutation};
