//! What a check says, to people and to programs. `docs/fsck.md` describes the JSON; a field's meaning never changes under one
//! version.

use crate::{Finding, LogName, Severity};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// The version of the JSON. Fields may be added under the same one.
const VERSION: u32 = 1;

/// Findings of one kind that are shown to people.
const SHOWN: usize = 20;

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What there is, and what was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Topics.
    pub topics: u64,
    /// Their partitions' logs.
    pub logs: u64,
    /// Objects in the bucket, whatever they are.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Log segments in the object index.
    pub log_segments: u64,
    /// Shared segments in it.
    pub shared_segments: u64,
    /// Manifests in it.
    pub manifests: u64,
    /// Bytes of data blocks that it refers to.
    pub block_bytes: u64,
    /// Offsets that objects of several kinds hold; readers see the better one's.
    pub hidden_offsets: u64,
    /// Snapshots of the metadata.
    pub snapshots: u64,
    /// Objects of the embedded metadata store.
    pub metadata_objects: u64,
    /// Incarnations that there were.
    pub incarnations: u64,
    /// Unreferenced objects younger than the orphan age of incarnations that may still commit them.
    pub in_flight: Count,
    /// Unreferenced objects younger than the orphan age that nobody can commit: they wait for their collection.
    pub garbage: Count,
    /// Unreferenced objects older than the orphan age.
    pub orphans: Count,
    /// Fences of incarnations that were taken over. They stay.
    pub fences: u64,
    /// State blocks that were read.
    pub states_read: u64,
    /// Data blocks that were read (`--deep`).
    pub blocks_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
}

/// An incarnation that is not recovered, or whose write-ahead log has left something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IncarnationReport {
    /// `broker@epoch`.
    pub incarnation: String,
    /// `open`, `fencing`, `recovered`, or `unknown` where the metadata have no record of it.
    pub state: String,
    /// Whether it owns the logs.
    pub owner: bool,
    /// How many WAL objects it may have outstanding.
    pub window: Option<u32>,
    /// Its commits so far.
    pub commits: Option<u64>,
    /// The lowest WAL sequence that is still needed.
    pub trim: Option<u64>,
    /// The highest WAL sequence that is there.
    pub last: Option<u64>,
    /// WAL objects from the trim point on: what is acknowledged from here is not flushed yet.
    pub unflushed: Count,
    /// WAL objects that manifests of the index refer to.
    pub adopted: Count,
    /// WAL objects that are neither.
    pub left_over: Count,
    /// Fences.
    pub fences: u64,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this shape.
    pub version: u32,
    /// `clean` or `problems`.
    pub result: String,
    /// Whose bucket it is.
    pub cluster_id: String,
    /// Whether every block was read.
    pub deep: bool,
    /// Seconds after which an unreferenced object is an orphan.
    pub orphan_age_seconds: u64,
    /// What there is.
    pub totals: Totals,
    /// The incarnations that matter.
    pub incarnations: Vec<IncarnationReport>,
    /// Problems first, then notices.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(cluster_id: String, deep: bool, orphan_age_seconds: u64) -> Self {
        Self {
            version: VERSION,
            result: String::new(),
            cluster_id,
            deep,
            orphan_age_seconds,
            totals: Totals::default(),
            incarnations: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Sorts the findings, names their logs, and says how it is.
    pub(crate) fn finish(mut self, names: &BTreeMap<thalweg_segment::LogId, (&str, u32)>) -> Self {
        for log in self.findings.iter_mut().filter_map(|finding| finding.log.as_mut()) {
            if let Some((topic, partition)) = names.get(&thalweg_segment::LogId(log.id)) {
                *log = LogName { id: log.id, topic: Some((*topic).to_owned()), partition: Some(*partition) };
            }
        }
        self.findings.sort();
        self.result = if self.is_clean() { "clean" } else { "problems" }.to_owned();
        self
    }

    /// Whether there is no problem.
    pub fn is_clean(&self) -> bool {
        self.problems().next().is_none()
    }

    /// The problems.
    pub fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Problem)
    }

    /// As JSON, on several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is made of texts and numbers")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { topics, logs, log_segments, shared_segments, manifests, .. } = self.totals;
        let totals = &self.totals;
        writeln!(f, "cluster {}: {topics} topics with {logs} logs", self.cluster_id)?;
        let (objects, bytes) = (totals.objects, size(totals.object_bytes));
        writeln!(
            f,
            "bucket: {objects} objects, {bytes}, {} of them the metadata store's",
            totals.metadata_objects
        )?;
        let blocks = size(totals.block_bytes);
        writeln!(
            f,
            "index: {log_segments} log segments, {shared_segments} shared segments, {manifests} manifests, {blocks} of blocks"
        )?;
        if totals.hidden_offsets > 0 {
            writeln!(f, "       {} offsets are in objects of several kinds", totals.hidden_offsets)?;
        }
        writeln!(f, "not referred to: {}", Unreferenced(totals))?;
        writeln!(f, "metadata: {} snapshots, {} incarnations", totals.snapshots, totals.incarnations)?;
        for incarnation in &self.incarnations {
            writeln!(f, "  {incarnation}")?;
        }
        write!(f, "read: {} states", totals.states_read)?;
        if self.deep {
            write!(f, ", {} blocks, {}", totals.blocks_read, size(totals.bytes_read))?;
        }
        writeln!(f)?;
        for findings in self.findings.chunk_by(|a, b| a.kind == b.kind) {
            let label = if findings[0].severity == Severity::Problem { "PROBLEM" } else { "notice" };
            for finding in findings.iter().take(SHOWN) {
                writeln!(f, "{label}: {finding}")?;
            }
            if let Some(more) = findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                writeln!(f, "{label}: and {more} more of that kind (--json shows all)")?;
            }
        }
        match self.problems().count() {
            0 => write!(f, "clean"),
            problems => write!(f, "{problems} problems"),
        }
    }
}

struct Unreferenced<'a>(&'a Totals);

impl fmt::Display for Unreferenced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { in_flight, garbage, orphans, fences, .. } = self.0;
        write!(
            f,
            "{} objects that may be in flight, {} that wait for their collection ({}), {} orphans ({}), {fences} fences",
            in_flight.objects,
            garbage.objects,
            size(garbage.bytes),
            orphans.objects,
            size(orphans.bytes),
        )
    }
}

impl fmt::Display for IncarnationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.incarnation, self.state)?;
        if self.owner {
            write!(f, ", owner of the logs")?;
        }
        if let (Some(window), Some(commits), Some(trim)) = (self.window, self.commits, self.trim) {
            write!(f, ", window {window}, {commits} commits, trim point {trim}")?;
        }
        if let Some(last) = self.last {
            write!(f, ", WAL up to {last}")?;
        }
        for (what, count) in
            [("unflushed", self.unflushed), ("adopted", self.adopted), ("left over", self.left_over)]
        {
            if count.objects > 0 {
                write!(f, ", {} objects {what} ({})", count.objects, size(count.bytes))?;
            }
        }
        if self.fences > 0 {
            write!(f, ", {} fences", self.fences)?;
        }
        Ok(())
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FindingKind;
    use expect_test::expect;
    use thalweg_segment::{LogId, Offset};

    fn report() -> Report {
        let mut report = Report::new("abc".into(), true, 3600);
        report.totals = Totals { topics: 1, logs: 2, objects: 3, object_bytes: 4096, ..Totals::default() };
        report.totals.garbage = Count { objects: 2, bytes: 100 };
        report.incarnations.push(IncarnationReport {
            incarnation: "1@7".into(),
            state: "open".into(),
            owner: true,
            window: Some(128),
            commits: Some(3),
            trim: Some(10),
            last: Some(12),
            unflushed: Count { objects: 3, bytes: 2 << 20 },
            ..IncarnationReport::default()
        });
        report.findings = vec![
            Finding::new(FindingKind::LogWithoutTopic, "").of_log(LogId(9)),
            Finding::new(FindingKind::Gap, "they are in no object")
                .of_log(LogId(4))
                .offsets(Offset(10), Offset(20)),
        ];
        report.finish(&[(LogId(4), ("orders", 1))].into())
    }

    #[test]
    fn people_read_problems_before_notices_and_logs_by_their_names() {
        expect![[r#"
            cluster abc: 1 topics with 2 logs
            bucket: 3 objects, 4.0 KiB, 0 of them the metadata store's
            index: 0 log segments, 0 shared segments, 0 manifests, 0 B of blocks
            not referred to: 0 objects that may be in flight, 2 that wait for their collection (100 B), 0 orphans (0 B), 0 fences
            metadata: 0 snapshots, 0 incarnations
              1@7 open, owner of the logs, window 128, 3 commits, trim point 10, WAL up to 12, 3 objects unflushed (2.0 MiB)
            read: 0 states, 0 blocks, 0 B
            PROBLEM: gap in a log, orders-1 (log 4), offsets 10 to 19: they are in no object
            notice: log without a topic, log 9
            1 problems"#]]
        .assert_eq(&report().to_string());
    }

    #[test]
    fn programs_read_this_shape() {
        expect_test::expect_file!["../tests/golden/report.v1.json"].assert_eq(&report().to_json());
    }

    #[test]
    fn people_are_shown_a_few_of_each_kind() {
        let mut report = report();
        let gap = |n| Finding::new(FindingKind::Gap, "").offsets(Offset(n), Offset(n + 1));
        report.findings = (0..30).map(gap).collect();
        let text = report.to_string();
        assert_eq!(text.matches("PROBLEM: gap").count(), SHOWN);
        assert!(text.contains("and 10 more of that kind"), "{text}");
    }
}
