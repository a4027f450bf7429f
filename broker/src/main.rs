//! The program: reads the settings, starts a broker, serves until it is told to stop.

use clap::Parser;
use std::process::ExitCode;
use thalweg_broker::{cli, program};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let config = match arguments.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("thalweg: {error}");
            return ExitCode::from(program::BAD_SETTINGS);
        }
    };
    match arguments.command {
        Some(cli::Command::Config) => {
            cli::print_config(&config);
            ExitCode::SUCCESS
        }
        None => program::run(config),
    }
}
