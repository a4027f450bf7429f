//! The program: reads the settings, starts a broker, serves until it is told to stop.

use clap::Parser;
use std::process::ExitCode;
use thalweg_broker::{cli, program, tools};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Produced records live for seconds in buffers of up to some MiB. What is given back has often grown together with its
/// neighbours; by default a much larger extent isn't taken for a small request, and every page would be zeroed anew.
///
/// A thread of the allocator's gives free memory back to the system: else what a thread has freed stays resident until that
/// thread has more to do.
#[expect(unsafe_code, reason = "the only way to set the allocator's options is a symbol that it looks for")]
#[unsafe(export_name = "malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 51] = b"lg_extent_max_active_fit:20,background_thread:true\0";

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
        Some(cli::Command::Fsck(how)) => tools::fsck(&config, &how),
        Some(cli::Command::Restore(how)) => tools::restore(&config, &how),
        None => program::run(config),
    }
}
