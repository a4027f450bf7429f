//! Clients as people use them: kcat, Kafka's command-line tools, franz-go's own tests, Kafka Streams.

mod command;
mod franz_go;
mod kafka_tools;
mod kcat;
mod word_count;

pub use command::{Finished, latencies, run};
pub use franz_go::{FranzGo, Outcome, Outcomes};
pub use kafka_tools::KafkaTools;
pub use kcat::Kcat;
pub use word_count::WordCount;
