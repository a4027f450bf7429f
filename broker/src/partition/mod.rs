//! Partitions: the state of each log that this broker owns, and what is done to it.

mod ages;
mod idempotence;
mod log;
mod logs;
mod producer_memory;
mod transactions;

pub use idempotence::{NO_PRODUCER_EPOCH, SequenceError, Sequencing, judge, judge_marker};
pub use log::{AppendError, Appended, Closed, Log, LogView};
pub use logs::Logs;
pub use producer_memory::{ProducerMemory, ProducerMemoryPart};
pub use transactions::Verification;
