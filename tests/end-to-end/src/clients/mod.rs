//! Clients as people use them: kcat and Kafka's command-line tools.

mod command;
mod kafka_tools;
mod kcat;

pub use command::{Finished, run};
pub use kafka_tools::KafkaTools;
pub use kcat::Kcat;
