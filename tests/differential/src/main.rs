//! Asks a real Kafka and Thalweg the same, and prints where they differ; for work on the broker.
//! `cargo xtask accept differential` is the check.

use anyhow::Result;
use clap::Parser;
use thalweg_differential::{Plan, run};

/// Compares Thalweg with Kafka.
#[derive(Parser)]
struct Arguments {
    /// Generated cases for each version of each API
    #[arg(long, default_value_t = 24)]
    cases: usize,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only generated cases of this API
    #[arg(long)]
    api: Option<String>,
    /// Only stories whose name has this in it
    #[arg(long, default_value = "")]
    stories: String,
    /// No stories
    #[arg(long)]
    no_stories: bool,
    /// Older versions that the stories are told in
    #[arg(long, default_value_t = i16::MAX)]
    versions: i16,
    /// Generated cases only in the first and the last version of each API
    #[arg(long)]
    outer: bool,
    /// Prints what each rule of meant.toml was met by, too
    #[arg(long)]
    meant: bool,
}

fn main() -> Result<()> {
    let Arguments { cases, seed, api, stories, no_stories, versions, outer, meant } = Arguments::parse();
    let stories = (!no_stories).then_some(stories);
    let result = run(&Plan { cases, seed, api, stories, versions, outer })?;
    for (rule, differences) in result.met.iter().filter(|_| meant) {
        println!("{rule}\n    {}", differences.join("\n    "));
    }
    print!("{result}");
    println!(
        "{} APIs, {} versions, {} answers: {} differences meant, {} not",
        result.apis,
        result.versions,
        result.cases,
        result.meant,
        result.findings.len() + result.not_examined.len()
    );
    Ok(())
}
