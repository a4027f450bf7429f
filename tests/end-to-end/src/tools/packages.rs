//! The Debian package index, as 50 MB of real text in paragraphs.

use super::{Cache, Missing, find_on_path, path};
use anyhow::{Context, Result, bail};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const MIRROR: &str = "http://deb.debian.org/debian/dists/stable/main/binary-amd64/Packages.gz";

/// The file `Packages` of Debian's component main, uncompressed: from apt's own lists, else from Debian's mirror.
pub fn debian_packages() -> Result<PathBuf> {
    let folder = Cache::of_user().entry("debian-packages", |staging| {
        let output = staging.join("Packages");
        from_apt(&output).or_else(|_| from_mirror(&output))
    })?;
    Ok(folder.join("Packages"))
}

/// apt knows where its lists are, and reads them however they are compressed.
fn from_apt(output: &Path) -> Result<()> {
    let targets = || -> Result<Vec<String>> {
        let listed = Command::new("apt-get")
            .args(["indextargets", "--format", "$(SITE) $(COMPONENT) $(FILENAME)", "Created-By: Packages"])
            .output()?;
        let lines = String::from_utf8(listed.stdout)?;
        Ok(lines.lines().filter_map(main_list).filter(|list| Path::new(list).exists()).collect())
    };
    let mut lists = targets()?;
    if lists.is_empty() && nix::unistd::geteuid().is_root() {
        path::run(Command::new("apt-get").arg("update"))?;
        lists = targets()?;
    }
    // Updates and security are lists of main too, but small ones.
    let size = |list: &String| std::fs::metadata(list).map_or(0, |metadata| metadata.len());
    let largest = lists.into_iter().max_by_key(size).context("apt has no lists")?;
    into_file(Command::new("/usr/lib/apt/apt-helper").args(["cat-file", &largest]), output)
}

fn main_list(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (_site, component) = (words.next()?, words.next()?);
    (component == "main").then(|| words.collect::<Vec<_>>().join(" "))
}

fn from_mirror(output: &Path) -> Result<()> {
    let curl = find_on_path("curl").ok_or_else(|| Missing {
        tool: "curl",
        remedy: "install curl; it fetches Debian's package index".into(),
    })?;
    let compressed = output.with_extension("gz");
    path::run(Command::new(curl).args(["-fsSL", MIRROR, "-o"]).arg(&compressed))?;
    into_file(Command::new("gzip").arg("-dc").arg(&compressed), output)?;
    Ok(std::fs::remove_file(compressed)?)
}

fn into_file(command: &mut Command, output: &Path) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(File::create(output)?).status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
