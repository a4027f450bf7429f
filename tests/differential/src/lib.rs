//! The same requests to a real Kafka and to Thalweg, and their answers held against one another, field by field.
//!
//! ```text
//! schema    what Kafka's schemas say of every request and response
//! codec     messages as JSON, by those schemas: independent of the broker's own codec
//! batch     record batches, right and wrong
//! connection, side, pair    one connection, one broker, both
//! symbols   ids, ports, epochs and times: each broker's own, compared by the names that both share
//! world     the topics and groups that cases are about
//! generate  cases from the schemas and a seed
//! stories   cases made by hand, in which one request follows from another
//! compare, meant    where answers differ, and the differences that are meant (`meant.toml`)
//! run       everything, and what came of it
//! ```
#![expect(clippy::disallowed_methods, reason = "this crate drives real processes from outside, in real time")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod batch;
mod codec;
mod compare;
mod connection;
mod generate;
mod meant;
mod meant_of_tools;
mod pair;
mod run;
mod schema;
mod side;
mod stories;
mod symbols;
mod world;

pub use meant_of_tools::{MeantOfTools, Spoken};
pub use pair::{Finding, Outcome};
pub use run::{Plan, Result, run};
