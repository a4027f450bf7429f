//! Runs seeds of the simulation.

use anyhow::{Result, bail};
use clap::Parser;
use thalweg_simulation::scenario::{Play, run};

/// Runs seeds of the simulation, each twice, and stops at the first that breaks a promise or can't be repeated.
#[derive(Parser)]
struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Clients with transactions and groups instead of such that only produce and read.
    #[arg(long)]
    transactions: bool,
    /// Run each seed only once.
    #[arg(long)]
    once: bool,
    /// Print every event.
    #[arg(long)]
    print: bool,
    /// Go on after a failing seed.
    #[arg(long)]
    keep_going: bool,
    /// Instead: turn the deliberate faults on one after another, and print the seed by which each is noticed. With
    /// `--transactions` those of the coordinators alone.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,
    /// Of those, only the ones whose names contain this.
    #[cfg(feature = "mutations")]
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.print {
        tracing_subscriber::fmt()
            .without_time()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .init();
    }
    #[cfg(feature = "mutations")]
    if arguments.mutations {
        return try_mutations(&arguments);
    }
    let play = if arguments.transactions { Play::Transactions } else { Play::Logs };
    let (mut events, mut acknowledged, mut replaced, mut failed) = (0, 0, 0, 0);
    for seed in arguments.from..arguments.from + arguments.seeds {
        let report = run(play, seed, None, arguments.print);
        events += report.trace.1;
        acknowledged += report.counts.1;
        replaced += report.replaced;
        if let Some(violation) = &report.violation {
            println!("seed {seed}: {violation}");
            failed += 1;
        } else if !arguments.once && run(play, seed, None, false).trace != report.trace {
            println!("seed {seed}: two runs differ");
            failed += 1;
        }
        if failed > 0 && !arguments.keep_going {
            break;
        }
    }
    let what = if arguments.transactions { "transactions committed" } else { "batches acknowledged" };
    println!("{events} events, {acknowledged} {what}, {replaced} objects replaced or removed");
    if failed > 0 {
        bail!("{failed} seeds failed");
    }
    Ok(())
}

#[cfg(feature = "mutations")]
fn try_mutations(arguments: &Arguments) -> Result<()> {
    use thalweg_simulation::mutation::Mutation;
    let mut missed = 0;
    let of_transactions = |mutation: &Mutation| mutation.is_of_transactions();
    let named = |mutation: &Mutation| format!("{mutation:?}").contains(&arguments.only);
    let wanted =
        |mutation: &Mutation| named(mutation) && (!arguments.transactions || of_transactions(mutation));
    for mutation in Mutation::ALL.into_iter().filter(wanted) {
        let play = if of_transactions(&mutation) { Play::Transactions } else { Play::Logs };
        let mut seeds = arguments.from..arguments.from + arguments.seeds;
        let caught = seeds.find_map(|seed| Some((seed, run(play, seed, Some(mutation), false).violation?)));
        match caught {
            Some((seed, violation)) => println!("{mutation:?}: seed {seed}: {violation}"),
            None => {
                println!("{mutation:?}: NOT NOTICED in {} seeds", arguments.seeds);
                missed += 1;
            }
        }
    }
    if missed > 0 {
        bail!("{missed} deliberate faults were not noticed");
    }
    Ok(())
}
