//! Kafka Streams with exactly-once processing, over kill -9.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

mod with_kafka_tools {
    use std::{thread, time::Duration};
    use thalweg_end_to_end::{clients::WordCount, servers::Options};

    const WORDS: u64 = 6_000;
    const WORDS_PER_SECOND: u64 = 200;
    const KILLS: u32 = 2;

    #[test]
    fn kafka_streams_counts_each_word_once_though_the_broker_is_killed() {
        let options = Options::new().unwrap().set("group.initial.rebalance.delay.ms", 0);
        let mut broker = options.start().unwrap();
        let mut word_count = WordCount::start(broker.address(), WORDS, WORDS_PER_SECOND).unwrap();
        for _ in 0..KILLS {
            thread::sleep(Duration::from_secs(10));
            assert!(word_count.is_writing().unwrap(), "the kill comes too late");
            broker.kill().unwrap();
            broker.start_again().unwrap();
        }
        word_count.check().unwrap();
    }
}
