//! A part of the comparison that takes half a minute; `cargo xtask accept differential` runs all of it.

mod with_kafka_tools {
    use thalweg_differential::{Plan, run};

    #[test]
    fn kafka_and_thalweg_answer_the_same_but_for_what_is_meant() {
        let result = run(&Plan::short()).expect("both brokers start and can be asked");
        assert!(result.apis > 50 && result.cases > 1000, "too little was compared: {result:?}");
        let without_reason = result.not_offered.iter().filter(|(_, why)| why.is_none()).count();
        assert!(result.findings.is_empty() && without_reason == 0, "{result}");
    }
}
