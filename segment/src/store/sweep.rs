//! Removes what a killed process left of unfinished writes in a local directory.
//!
//! The client of `file:` stages each write as `<key>#<number>` and then links or renames it. A staged file is never an object,
//! so it may go, but not while its writer lives: a second writer of the same key would take the same name, and the first would
//! publish the second's unfinished bytes. Hence two rules, both needed:
//!
//! - The caller has taken over all older incarnations (their WAL windows are filled, their commits and metadata fenced), so that
//!   nothing that an older writer may still publish counts.
//! - Only files that nobody has written to for an hour go. Our own attempts end after seconds.

use std::{
    ffi::OsStr,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};
use thalweg_runtime::Runtime;

/// Staged files younger than this stay.
const MIN_AGE: Duration = Duration::from_secs(3600);

/// Removes old staged files below `directory` and returns how many there were. See the module's head for when it may be called.
pub async fn sweep_staged(directory: PathBuf, runtime: &Runtime) -> io::Result<usize> {
    let min_age_ms = i64::try_from(MIN_AGE.as_millis()).unwrap_or(i64::MAX);
    let before_ms = runtime.now_ms().saturating_sub(min_age_ms);
    runtime.compute(move || sweep(directory, before_ms)).await
}

fn sweep(directory: PathBuf, before_ms: i64) -> io::Result<usize> {
    let (mut removed, mut directories) = (0, vec![directory]);
    while let Some(directory) = directories.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let entry = entry?;
            // The type of the entry itself: a link is neither followed nor removed.
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && is_staged(&entry.file_name()) && is_old(&entry.path(), before_ms)? {
                removed += usize::from(unless_gone(fs::remove_file(entry.path()))?.is_some());
            }
        }
    }
    Ok(removed)
}

/// `<key>#<digits>`, as the client names them.
fn is_staged(name: &OsStr) -> bool {
    let suffix = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_old(path: &Path, before_ms: i64) -> io::Result<bool> {
    let Some(metadata) = unless_gone(fs::metadata(path))? else { return Ok(false) };
    let age = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(age.as_millis()).unwrap_or(i64::MAX) < before_ms)
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_staged_files_are_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("wal/00");
        fs::create_dir_all(&directory).expect("created");
        for name in ["1", "1#1", "2#17", "2#x", "3#"] {
            fs::write(directory.join(name), name).expect("written");
        }
        assert_eq!(sweep(root.path().into(), 0).expect("swept"), 0, "all are younger than 1970");
        assert_eq!(sweep(root.path().into(), i64::MAX).expect("swept"), 2);
        let left = |name: &str| directory.join(name).exists();
        assert!(left("1") && left("2#x") && left("3#"));
        assert!(!left("1#1") && !left("2#17"));
    }

    #[test]
    fn a_missing_directory_has_nothing_to_sweep() {
        assert_eq!(sweep("/nonexistent/thalweg".into(), i64::MAX).expect("swept"), 0);
    }
}
