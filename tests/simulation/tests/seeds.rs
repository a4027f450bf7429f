//! A few hundred seeds, and the deliberate faults.

use thalweg_simulation::scenario::run;

/// Fewer for everyday runs; `THALWEG_SEEDS=10000` for more.
fn seeds() -> u64 {
    std::env::var("THALWEG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

#[test]
fn every_promise_is_kept_whatever_dies() {
    for seed in 0..seeds() {
        let report = run(seed, None, false);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_is_repeated_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, false).trace, run(seed, None, false).trace, "seed {seed}");
    }
}

#[cfg(feature = "mutations")]
#[test]
fn every_deliberate_fault_is_noticed() {
    use thalweg_simulation::mutation::Mutation;
    for mutation in Mutation::ALL {
        let caught = (0..3000).find(|seed| run(*seed, Some(mutation), false).violation.is_some());
        println!("{mutation:?}: noticed at seed {caught:?}");
        assert!(caught.is_some(), "{mutation:?} was not noticed");
    }
}
