//! `cargo xtask lint`.

use crate::cargo::{self, cargo};
use anyhow::Result;

/// Formatting, clippy, documentation.
pub fn run() -> Result<()> {
    cargo::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    cargo::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))?;
    let mut documentation =
        cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    cargo::run(documentation.env("RUSTDOCFLAGS", "--deny warnings"))?;
    println!("lint: no warnings");
    Ok(())
}
