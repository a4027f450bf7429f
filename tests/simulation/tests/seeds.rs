//! A few hundred seeds, and the deliberate faults.

use thalweg_simulation::scenario::{Play, run};

/// Fewer for everyday runs; `THALWEG_SEEDS=10000` for more.
fn seeds() -> u64 {
    std::env::var("THALWEG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

#[test]
fn every_promise_is_kept_whatever_dies() {
    let mut replaced = 0;
    for seed in 0..seeds() {
        let report = run(Play::Logs, seed, None, false);
        assert_eq!(report.violation, None, "seed {seed}");
        replaced += report.replaced;
    }
    assert!(replaced as u64 > seeds(), "compaction has replaced {replaced} objects in {} runs", seeds());
}

#[test]
fn transactions_take_effect_exactly_once_whatever_dies() {
    for seed in 0..seeds() {
        let report = run(Play::Transactions, seed, None, false);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_is_repeated_exactly() {
    for play in [Play::Logs, Play::Transactions] {
        for seed in 0..20 {
            let (first, second) = (run(play, seed, None, false), run(play, seed, None, false));
            assert_eq!(first.trace, second.trace, "{play:?} {seed}");
        }
    }
}

#[cfg(feature = "mutations")]
#[test]
fn every_deliberate_fault_is_noticed() {
    use thalweg_simulation::mutation::Mutation;
    for mutation in Mutation::ALL {
        let play = if mutation.is_of_transactions() { Play::Transactions } else { Play::Logs };
        let caught = (0..3000).find(|seed| run(play, *seed, Some(mutation), false).violation.is_some());
        println!("{mutation:?}: noticed at seed {caught:?}");
        assert!(caught.is_some(), "{mutation:?} was not noticed");
    }
}
