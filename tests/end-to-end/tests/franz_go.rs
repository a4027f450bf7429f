//! franz-go's own tests, as far as a few minutes allow.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

mod with_franz_go {
    use tempfile::TempDir;
    use thalweg_end_to_end::{
        clients::{FranzGo, Outcome},
        servers::Options,
    };

    const RECORDS: u32 = 10_000;

    #[test]
    fn franz_gos_own_tests_pass() {
        let broker = Options::new().unwrap().set("group.initial.rebalance.delay.ms", 0).start().unwrap();
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("franz-go");
        let outcomes = FranzGo::new(broker.address(), RECORDS, false).unwrap().run(".", &log).unwrap();
        let failed: Vec<_> = outcomes.named(Outcome::Failed).collect();
        assert!(failed.is_empty(), "{failed:?}\n{}", std::fs::read_to_string(log).unwrap());
        let passed: Vec<_> = outcomes.named(Outcome::Passed).collect();
        for name in ["TestGroupETL/range", "TestGroupETL/cooperative-sticky", "TestTxnEtl"] {
            assert!(passed.iter().any(|passed| passed.starts_with(name)), "{name} did not pass: {passed:?}");
        }
    }
}
