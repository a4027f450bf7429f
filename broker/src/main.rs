//! The program: reads the settings, starts a broker, serves until it is told to stop.

use clap::Parser;
use std::process::ExitCode;
use thalweg_broker::{cli, program};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Produced records live for seconds in buffers of up to some MiB. What is given back is used again before it goes back to the
/// system, whatever its size and though it has grown together with its neighbours; every page would else be zeroed anew.
#[expect(unsafe_code, reason = "the only way to set the allocator's options is a symbol that it looks for")]
#[unsafe(export_name = "malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 70] =
    b"dirty_decay_ms:30000,oversize_threshold:0,lg_extent_max_active_fit:20\0";

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
