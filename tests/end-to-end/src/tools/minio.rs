//! MinIO, built from its module at a pinned version.

use super::{Cache, path};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// The commit that is built. Its project no longer publishes binaries.
pub const MINIO_VERSION: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";

/// The `minio` program; the first call compiles it, which takes some minutes.
pub fn minio() -> Result<PathBuf> {
    let go = path::require("go", "install Go 1.24 or newer, https://go.dev/dl/ (it builds MinIO)")?;
    let folder = Cache::of_user().entry(&format!("minio-{MINIO_VERSION}"), |staging| {
        let package = format!("github.com/minio/minio@{MINIO_VERSION}");
        path::run(Command::new(go).args(["install", &package]).env("GOBIN", staging).env("CGO_ENABLED", "0"))
    })?;
    Ok(folder.join("minio"))
}
