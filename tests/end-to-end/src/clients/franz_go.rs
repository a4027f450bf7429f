use crate::{
    process::Process,
    tools::{FranzGoTests, franz_go_tests},
};
use anyhow::{Result, bail, ensure};
use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command, time::Duration};

/// Longer than a run of all tests takes anywhere; the tests end themselves before.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const TIMEOUT: &str = "25m";
/// Queues for Kafka (KIP-932) are another feature with another coordinator.
const NOT_RUN: &str = "Share";

/// franz-go's own tests, which produce, consume in groups of every kind and copy in transactions, pointed at a broker.
#[derive(Clone)]
pub struct FranzGo {
    tests: FranzGoTests,
    address: SocketAddr,
    /// Records of each of its chains of topics.
    records: u32,
    chaos: bool,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It says that the broker lacks what it tests.
    Skipped,
}

/// How each test and each of its parts ended, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes(BTreeMap<String, Outcome>);

impl FranzGo {
    /// The tests for the broker at `address`, with chains of `records` records. With `chaos` the client cuts its own
    /// connections now and then.
    pub fn new(address: SocketAddr, records: u32, chaos: bool) -> Result<Self> {
        Ok(Self { tests: franz_go_tests()?, address, records, chaos })
    }

    /// Runs the tests whose names match `filter`, except those of share groups; the output goes to `log`.
    pub fn run(&self, filter: &str, log: &Path) -> Result<Outcomes> {
        let mut command = Command::new(&self.tests.program);
        command.current_dir(&self.tests.folder);
        command.args(["-test.v", "-test.timeout", TIMEOUT, "-test.run", filter, "-test.skip", NOT_RUN]);
        command.env("KGO_SEEDS", self.address.to_string()).env("KGO_TEST_RF", "1");
        command.env("KGO_TEST_RECORDS", self.records.to_string()).env("KGO_LOG_LEVEL", "none");
        // Tests of what only a broker of one's own may be asked.
        command.env("KGO_TEST_UNSAFE", "1");
        if self.chaos {
            command.env("KGO_TEST_CHAOS", "1");
        }
        let mut process = Process::spawn(&mut command, log)?;
        let status = process.wait_for_exit(PATIENCE)?;
        let outcomes = Outcomes::read(&process.output());
        if !status.success() && outcomes.count(Outcome::Failed) == 0 {
            bail!("franz-go's tests ended with {status}\n{}", process.output_tail());
        }
        ensure!(!outcomes.0.is_empty(), "no test has the name {filter}");
        Ok(outcomes)
    }
}

impl Outcomes {
    /// Reads lines such as `    --- PASS: TestGroupETL/range (5.12s)`.
    fn read(output: &str) -> Self {
        let outcome = |line: &str| {
            let (outcome, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
            let outcome = match outcome {
                "PASS" => Outcome::Passed,
                "FAIL" => Outcome::Failed,
                "SKIP" => Outcome::Skipped,
                _ => return None,
            };
            Some((rest.split(' ').next()?.to_owned(), outcome))
        };
        Self(output.lines().filter_map(outcome).collect())
    }

    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.named(outcome).count()
    }

    /// The names of those that ended so.
    pub fn named(&self, outcome: Outcome) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, ended)| **ended == outcome).map(|(name, _)| name.as_str())
    }

    /// The names of those that passed in `other` and not here.
    pub fn missing_of(&self, other: &Self) -> Vec<String> {
        let passed_here = |name: &str| self.0.get(name) == Some(&Outcome::Passed);
        other.named(Outcome::Passed).filter(|name| !passed_here(name)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_off_gos_output() {
        let here = Outcomes::read(
            "=== RUN   TestA\n--- PASS: TestA (0.10s)\n--- FAIL: TestB (1.00s)\n    --- FAIL: TestB/part (0.5s)\n\
             --- SKIP: TestC (0.00s)\nPASS\n",
        );
        assert_eq!(here.named(Outcome::Failed).collect::<Vec<_>>(), ["TestB", "TestB/part"]);
        assert_eq!((here.count(Outcome::Passed), here.count(Outcome::Skipped)), (1, 1));
        let other =
            Outcomes::read("--- PASS: TestA (0.10s)\n--- PASS: TestC (0.10s)\n--- PASS: TestD (0.10s)\n");
        assert_eq!(here.missing_of(&other), ["TestC", "TestD"]);
    }
}
