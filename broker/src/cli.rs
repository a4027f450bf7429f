//! The command line.

use crate::config::{
    Config, ConfigError, Key, Source, broker_keys, from_environment, parse_properties, split_argument,
};
use crate::tools::{FsckArguments, RestoreArguments};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A Kafka-compatible broker whose only durable store is object storage.
///
/// Without arguments it keeps its records in ./thalweg-data and listens on 127.0.0.1:9092.
#[derive(Parser)]
#[command(name = "thalweg", version)]
pub struct Arguments {
    /// Settings in the syntax of Kafka's server.properties.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; goes before the file and the environment (THALWEG_ADVERTISED_LISTENERS=… for advertised.listeners).
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the program does.
#[derive(Subcommand)]
pub enum Command {
    /// Lists every setting: its type, default and meaning, and what is in force and from where.
    Config,
    /// Checks the object index against the bucket, beside a running broker: exit code 0 clean, 1 problems, 2 not checked.
    Fsck(FsckArguments),
    /// Makes the metadata anew after they were lost (no broker may run): exit code 0 complete, 1 incomplete, 2 not done.
    Restore(RestoreArguments),
}

impl Arguments {
    /// Puts all sources of settings together.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut sources = Vec::new();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable(format!("{}: {error}", path.display())))?;
            sources.push((Source::File(path.display().to_string()), parse_properties(&text)));
        }
        // Read here and nowhere else: the rest of the program sees settings only.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        sources.push((Source::Environment, from_environment(&broker_keys(), variables)?));
        let set: Vec<_> =
            self.set.iter().map(|argument| split_argument(argument)).collect::<Result<_, _>>()?;
        sources.push((Source::Argument, set));
        let config = Config::load(sources)?;
        config.advertised_listeners()?;
        config.check_store()?;
        Ok(config)
    }
}

/// Prints every key that acts, then the names of those that are accepted without effect.
pub fn print_config(config: &Config) {
    for key in config.keys().values().filter(|key| key.acts()) {
        println!("{}\n", describe(config, key));
    }
    let ignored: Vec<&str> = config.keys().values().filter(|key| !key.acts()).map(|key| key.name).collect();
    println!("# Accepted for the sake of existing files, without effect:\n# {}", ignored.join(", "));
}

fn describe(config: &Config, key: &Key) -> String {
    let default = if key.default.is_empty() { "none" } else { key.default };
    let source = config.given(key.name).map_or("default".to_owned(), |setting| setting.source.to_string());
    let change =
        if key.update == crate::config::Update::ReadOnly { "" } else { ", can change while running" };
    format!(
        "# {doc}\n# type {kind}, default {default}{change}; from {source}\n{name}={value}",
        doc = key.doc,
        kind = key.kind.name(),
        name = key.name,
        value = config.text(key.name),
    )
}
