//! The cache of fetched tools.
//!
//! Each entry is a folder that appears whole: it's filled under another name, marked `.complete`, then renamed. A lock
//! file per entry keeps concurrent runs from fetching the same thing twice.

use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Names the cache folder, in place of the user's own.
const FOLDER_VARIABLE: &str = "XTASK_TOOLS";

/// `$XTASK_TOOLS`, else `thalweg-tools` in the user's cache folder.
pub fn cache_folder() -> PathBuf {
    let user_cache = || match env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache"),
    };
    env::var_os(FOLDER_VARIABLE).map_or_else(|| user_cache().join("thalweg-tools"), PathBuf::from)
}

/// A folder of fetched tools.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache at [`cache_folder`].
    pub fn of_user() -> Self {
        Self::at(cache_folder())
    }

    /// A cache at `folder`, which need not exist.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder of entry `name`; `fill` puts its content into the empty folder that it is given, once.
    pub fn entry(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let entry = self.folder.join(name);
        if is_complete(&entry) {
            return Ok(entry);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        let lock = fs::File::create(self.folder.join(format!("{name}.lock")))?;
        lock.lock()?;
        if !is_complete(&entry) {
            eprintln!("fetching {name} into {} (once)", self.folder.display());
            self.fill(&entry, name, fill)?;
        }
        Ok(entry)
    }

    fn fill(&self, entry: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let staging = self.folder.join(format!("{name}.partial"));
        for leftover in [&staging, entry] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
        }
        fs::create_dir(&staging)?;
        fill(&staging).with_context(|| format!("fetching {name}"))?;
        fs::write(staging.join(COMPLETE), "")?;
        fs::rename(&staging, entry)?;
        Ok(())
    }
}

/// The file that marks a whole entry.
const COMPLETE: &str = ".complete";

fn is_complete(entry: &Path) -> bool {
    entry.join(COMPLETE).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_filled_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("deep/cache"));
        let fill = |path: &Path| Ok(fs::write(path.join("tool"), "1")?);
        let entry = cache.entry("tool-1", fill).unwrap();
        let again = cache.entry("tool-1", |_| panic!("filled twice")).unwrap();
        assert_eq!((entry.join("tool").exists(), entry), (true, again));
    }

    #[test]
    fn a_fetch_that_failed_half_way_leaves_no_entry_and_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let broken = |path: &Path| {
            fs::write(path.join("half"), "1")?;
            anyhow::bail!("connection lost")
        };
        assert!(cache.entry("tool-1", broken).is_err());
        let entry = cache.entry("tool-1", |path| Ok(fs::write(path.join("whole"), "1")?)).unwrap();
        assert!(entry.join("whole").exists() && !entry.join("half").exists());
    }
}
