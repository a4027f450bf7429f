//! Brokers in one process, in virtual time, from a seed: with crashes, pauses, lost answers, slow and failed requests. What
//! clients saw is held against what was promised (the list stands in [`history`]).
//!
//! Everything that happens is a function of the seed: one thread, tokio's paused clock, one source of randomness, and no
//! map whose order could differ. Each run hashes its events, and a second run of the seed must have the same hash. So a
//! failing seed reproduces the failure exactly:
//!
//! ```text
//! cargo run -p thalweg-simulation --bin simulate -- --from 1234 --seeds 1 --print
//! ```
//!
//! The stores belong to the world: a request that was sent lands at its own time, whatever became of its sender. A broker
//! runs on a [`node`] that can be ended at any poll of its tasks, or paused. [`scenario`] is the play, [`mutation`] the
//! deliberate faults that show that the checker sees something.

pub mod broker;
pub mod clients;
pub mod cluster;
pub mod history;
pub mod metadata_store;
pub mod mini_broker;
pub mod mutation;
pub mod node;
pub mod object_store;
pub mod real_broker;
pub mod scenario;
pub mod stored;
pub mod trace;
pub mod transactions;
pub mod world;
