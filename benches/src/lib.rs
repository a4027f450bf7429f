//! The macro benchmark: Kafka's own perf clients against Thalweg and Apache Kafka, beside the store alone.
//!
//! ```text
//! perf        one run of Kafka's perf producer: rate, latencies, and what the broker used meanwhile
//! consume     a consumer that does nothing but fetch
//! group_consume  Kafka's perf consumer, in a group
//! subject     what is measured: Apache Kafka, Thalweg on `file:`, Thalweg on MinIO behind the counting proxy
//! raw_put, raw_get  what the store alone takes, and gives
//! ceiling     what five requests in flight, answered in order, allow at given latencies
//! warm_up     what a virtual machine must have done before it is fair to measure
//! comparison  all of it, interleaved, as a table
//! ```
//!
//! The micro benchmarks of the hot path are Cargo benchmarks of this crate (`cargo bench`).
#![expect(clippy::disallowed_methods, reason = "this crate measures real processes in real time")]

mod ceiling;
mod comparison;
mod consume;
mod group_consume;
mod perf;
mod raw_get;
mod raw_put;
mod subject;
mod warm_up;

pub use ceiling::in_order_ceiling;
pub use comparison::{Comparison, compare};
pub use consume::{Consumed, consume, end_offsets, read_to};
pub use group_consume::consume_in_group;
pub use perf::{Load, Produced, Run, produce};
pub use raw_get::raw_get;
pub use raw_put::{RawPut, raw_put};
pub use subject::Subject;
pub use warm_up::warm_up;
