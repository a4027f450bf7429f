//! `docs/measurements.md`: the latest output of each command that measures, with machine and date.

use crate::cargo::workspace;
use anyhow::Result;
use std::fs;
use thalweg_end_to_end::s3::today;

const HEADER: &str = "# Measurements\n\n\
    The latest output of each `cargo xtask accept NAME` and of `cargo xtask bench`, each written by the command itself \
    with `--record`.\nRead them as ratios: client, broker and store share the machine.\n";

/// Puts `body` into the section `name`, in place of what stood there; all other sections stay as they are.
pub fn record(name: &str, body: &str) -> Result<()> {
    let path = workspace().join("docs/measurements.md");
    fs::create_dir_all(workspace().join("docs"))?;
    let before = fs::read_to_string(&path).unwrap_or_else(|_| HEADER.to_owned());
    let section = format!("{} ({})\n\n{}", today(), machine(), body.trim_end());
    fs::write(&path, with_section(&before, name, &section))?;
    println!("recorded in docs/measurements.md");
    Ok(())
}

/// `document` with the section `name` replaced, or added in the alphabet's order.
fn with_section(document: &str, name: &str, body: &str) -> String {
    let mut parts = document.split("\n## ");
    let head = parts.next().unwrap_or_default().trim_end().to_owned();
    let mut sections: Vec<_> = parts.map(|part| part.trim_end().to_owned()).collect();
    sections.retain(|section| section.lines().next() != Some(name));
    sections.push(format!("{name}\n\n{body}"));
    sections.sort();
    sections.into_iter().fold(head, |text, section| format!("{text}\n\n## {section}")) + "\n"
}

/// Processor, cores and memory.
fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kibibytes =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    format!("{cores} × {processor}, {} GiB", kibibytes.unwrap_or(0) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_only_itself() {
        let document = "# Head\n\n## a\n\nold a\n\n## c\n\nkept c\n";
        let once = with_section(document, "a", "new a");
        assert_eq!(once, "# Head\n\n## a\n\nnew a\n\n## c\n\nkept c\n");
        assert_eq!(with_section(&once, "b", "b"), "# Head\n\n## a\n\nnew a\n\n## b\n\nb\n\n## c\n\nkept c\n");
    }
}
