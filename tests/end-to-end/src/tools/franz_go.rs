//! franz-go's own tests, built from its module at a pinned version.

use super::{Cache, path};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const VERSION: &str = "v1.22.2";

/// The client's tests as a program, and the folder that it wants to run in.
#[derive(Clone, Debug)]
pub struct FranzGoTests {
    /// The program.
    pub program: PathBuf,
    /// Where it runs: some tests read files of their package.
    pub folder: PathBuf,
}

/// Finds them; the first call fetches and compiles them, which takes a minute.
pub fn franz_go_tests() -> Result<FranzGoTests> {
    let go =
        path::require("go", "install Go 1.24 or newer, https://go.dev/dl/ (it builds franz-go's tests)")?;
    let entry = Cache::of_user().entry(&format!("franz-go-{VERSION}"), |staging| build(&go, staging))?;
    Ok(FranzGoTests { program: entry.join("kgo.test"), folder: entry.join("pkg/kgo") })
}

/// The tests are part of the module, which Go's cache holds read-only: they are built there, and the package is copied
/// because what runs in a cache could spoil it.
fn build(go: &Path, staging: &Path) -> Result<()> {
    let project = tempfile::tempdir()?;
    fs::write(project.path().join("go.mod"), "module fetch\n\ngo 1.24\n")?;
    let module = format!("github.com/twmb/franz-go@{VERSION}");
    let answer = project.path().join("answer");
    let status = Command::new(go)
        .args(["mod", "download", "-json", &module])
        .current_dir(project.path())
        .stdout(fs::File::create(&answer)?)
        .status()?;
    anyhow::ensure!(status.success(), "fetching {module} ended with {status}");
    let answer = fs::read_to_string(answer)?;
    let source = source_folder(&answer).with_context(|| format!("no folder in {answer}"))?;
    path::run(Command::new("cp").args(["-r", "--no-preserve=mode", &format!("{source}/.")]).arg(staging))?;
    let package = staging.join("pkg/kgo");
    path::run(
        Command::new(go)
            .args(["test", "-c", "-o"])
            .arg(staging.join("kgo.test"))
            .arg(".")
            .current_dir(package),
    )
}

/// The field `Dir` of what `go mod download -json` prints: where the module's files are.
fn source_folder(answer: &str) -> Option<&str> {
    let line = answer.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \""))?;
    line.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_read_off_gos_answer() {
        let answer = "{\n\t\"Path\": \"a/b\",\n\t\"Dir\": \"/go/pkg/mod/a/b@v1\",\n\t\"Sum\": \"x\"\n}\n";
        assert_eq!(source_folder(answer), Some("/go/pkg/mod/a/b@v1"));
    }
}
