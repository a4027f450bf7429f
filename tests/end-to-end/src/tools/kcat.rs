//! kcat, the command-line client on librdkafka: the machine's own, else Debian's package.

use super::{Missing, find_on_path, path};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// The `kcat` program. Installs Debian's package where it is missing and we may.
pub fn kcat() -> Result<PathBuf> {
    if let Some(program) = find_on_path("kcat") {
        return Ok(program);
    }
    if nix::unistd::geteuid().is_root()
        && let Some(apt_get) = find_on_path("apt-get")
    {
        eprintln!("installing Debian's package kcat");
        let install = ["install", "--yes", "--no-install-recommends", "kcat"];
        // A fresh container has no package lists; one with lists needs no update.
        if path::run(Command::new(&apt_get).args(install)).is_err() {
            path::run(Command::new(&apt_get).arg("update"))?;
            path::run(Command::new(&apt_get).args(install))?;
        }
    }
    find_on_path("kcat").ok_or_else(|| {
        Missing {
            tool: "kcat",
            remedy: "install it (Debian: apt-get install kcat; macOS: brew install kcat)".into(),
        }
        .into()
    })
}
