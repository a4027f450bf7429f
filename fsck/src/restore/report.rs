//! What a restoration has brought back, and what it could not.

use super::evidence::Evidence;
use serde::Serialize;
use std::fmt;
use thalweg_metadata::IncarnationRecord;
use thalweg_segment::{LeaderEpoch, LogId, Offset};

/// The version of the JSON. Fields may be added under the same one.
const VERSION: u32 = 1;
/// Lines of one kind that are shown to people.
const SHOWN: usize = 20;

/// Offsets of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Offsets {
    /// Which log.
    pub log: u64,
    /// The first.
    pub from: i64,
    /// The one after the last.
    pub to: i64,
}

impl Offsets {
    pub(crate) fn new(log: LogId, from: Offset, to: Offset) -> Self {
        Self { log: log.0, from: from.0, to: to.0 }
    }
}

/// A log whose topic was created after the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamelessLog {
    /// Its number.
    pub log: u64,
    /// The topic that has it now, as its only partition.
    pub topic: String,
    /// The end of what was flushed of it.
    pub end: i64,
}

/// A snapshot that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotUsed {
    /// Its key.
    pub path: String,
    /// When it was taken, in ms since 1970.
    pub taken_at_ms: i64,
    /// Its topics.
    pub topics: u64,
}

/// The write-ahead log that the next start takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WalRestored {
    /// `broker@epoch`.
    pub incarnation: String,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// Its window.
    pub window: u32,
    /// Its trim point.
    pub trim: u64,
    /// WAL objects that hold batches which no segment has.
    pub objects: u64,
}

impl WalRestored {
    pub(crate) fn new(record: &IncarnationRecord, leader_epoch: LeaderEpoch, objects: usize) -> Self {
        Self {
            incarnation: record.incarnation.to_string(),
            leader_epoch: leader_epoch.0,
            window: record.window,
            trim: record.trim.0,
            objects: objects as u64,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The version of this shape.
    pub version: u32,
    /// The snapshot; none where there was none that could be read: then no topic has its name or settings.
    pub snapshot: Option<SnapshotUsed>,
    /// Snapshots that could not be read, and why.
    pub unreadable_snapshots: Vec<String>,
    /// Segments and manifests that were read.
    pub objects: u64,
    /// Log segments in the new index.
    pub log_segments: u64,
    /// Shared segments in it.
    pub shared_segments: u64,
    /// Manifests in it.
    pub manifests: u64,
    /// Objects whose content others hold: they were replaced, or never committed.
    pub not_needed: u64,
    /// Objects that hold only what topics had that were deleted before the snapshot.
    pub of_deleted_topics: u64,
    /// Manifests of recoveries of whose WAL nothing is left.
    pub manifests_without_wal: u64,
    /// Segments of compacted topics that stand for offsets before their first batch.
    pub closed_gaps: u64,
    /// Incarnations that were recorded.
    pub incarnations: u64,
    /// The write-ahead log that is to be recovered.
    pub wal: Option<WalRestored>,
    /// Logs whose topics were created after the snapshot.
    pub nameless: Vec<NamelessLog>,
    /// Offsets that are in no object.
    pub gaps: Vec<Offsets>,
    /// Logs that the snapshot knows, of which the records up to an offset are in no object. Retention may have removed them since.
    pub later_starts: Vec<Offsets>,
    /// Logs of which nothing is left although the snapshot says that they do not begin at 0.
    pub unknown_ends: Vec<Offsets>,
    /// Offsets that two objects of one kind hold still, whatever order they are looked at in.
    pub overlaps: Vec<Offsets>,
    /// WAL objects that manifests need and that are gone.
    pub missing_wal: Vec<String>,
    /// Incarnations before the last owner's whose WAL holds batches that no segment has.
    pub doubtful: Vec<String>,
    /// Objects that could not be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// Rows that were written.
    pub rows: u64,
    /// Milliseconds that the reading took.
    pub read_ms: u64,
    /// Milliseconds that the writing took.
    pub write_ms: u64,
}

impl Restored {
    pub(crate) fn begin(evidence: &Evidence) -> Self {
        let snapshot = evidence.remembered.as_ref().map(|all| SnapshotUsed {
            path: all.snapshot.path().to_string(),
            taken_at_ms: all.snapshot.taken_at_ms,
            topics: all.topics.len() as u64,
        });
        Self {
            version: VERSION,
            snapshot,
            unreadable_snapshots: evidence.unreadable_snapshots.clone(),
            objects: evidence.segments.len() as u64,
            unreadable: evidence.unreadable.clone(),
            ..Self::default()
        }
    }

    /// Whether everything came back that the bucket and the snapshot know of. What changed after the snapshot and left no trace (settings,
    /// empty topics, deletions) nobody can know.
    pub fn is_complete(&self) -> bool {
        self.snapshot.is_some()
            && self.nameless.is_empty()
            && self.gaps.is_empty()
            && self.later_starts.is_empty()
            && self.unknown_ends.is_empty()
            && self.overlaps.is_empty()
            && self.missing_wal.is_empty()
            && self.doubtful.is_empty()
            && self.unreadable.is_empty()
    }

    /// As JSON, on several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is made of texts and numbers")
    }

    /// What could not be restored, line by line.
    fn losses(&self) -> Vec<String> {
        let offsets = |what: &str, all: &[Offsets]| -> Vec<String> {
            all.iter()
                .map(|of| format!("log {}, offsets {} to {}: {what}", of.log, of.from, of.to - 1))
                .collect()
        };
        let mut kinds = vec![
            self.unreadable.iter().map(|(path, why)| format!("{path} can't be read: {why}")).collect(),
            self.missing_wal.iter().map(|path| format!("{path} is gone, and a manifest needs it")).collect(),
            offsets("they are in no object", &self.gaps),
            offsets("they are in no object; retention may have removed them since the snapshot", &self.later_starts),
            offsets("nothing is left of the log, so that its end is not known", &self.unknown_ends),
            offsets("two objects hold them, and which is the right one is not known", &self.overlaps),
            self.doubtful.iter().map(|who| format!("the WAL of {who} holds batches that no segment has, but others owned the logs after it")).collect(),
        ];
        let nameless = self.nameless.iter().map(|of| {
            let NamelessLog { log, topic, end } = of;
            format!("log {log} (flushed up to offset {end}) is newer than the snapshot: its topic's name and settings are lost; it is topic {topic} now")
        });
        kinds.push(nameless.collect());
        kinds.into_iter().flat_map(shorten).collect()
    }
}

/// The first few lines.
fn shorten(mut lines: Vec<String>) -> Vec<String> {
    if let Some(more) = lines.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.truncate(SHOWN);
        lines.push(format!("… and {more} more like that (--json shows all)"));
    }
    lines
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.snapshot {
            Some(SnapshotUsed { path, topics, taken_at_ms }) => {
                writeln!(f, "snapshot {path}, taken at {taken_at_ms} (ms since 1970): {topics} topics")?;
                writeln!(
                    f,
                    "  what administrators changed after it is lost: settings, topics without records, deletions, log starts"
                )?;
            }
            None => {
                writeln!(f, "no snapshot: no topic has its name or settings, nor is any other setting left")?
            }
        }
        for unreadable in &self.unreadable_snapshots {
            writeln!(f, "  not used: {unreadable}")?;
        }
        let Self { objects, log_segments, shared_segments, manifests, not_needed, of_deleted_topics, .. } =
            self;
        writeln!(
            f,
            "{objects} objects read: {log_segments} log segments, {shared_segments} shared segments and {manifests} manifests are the index; {not_needed} were replaced or never committed, {of_deleted_topics} are of deleted topics"
        )?;
        match &self.wal {
            Some(WalRestored { incarnation, trim, window, objects, .. }) => writeln!(
                f,
                "WAL of {incarnation}: {objects} objects to be recovered by the next start, from {trim} on, window {window}"
            )?,
            None => writeln!(f, "WAL: nothing to be recovered")?,
        }
        writeln!(
            f,
            "{} rows written; {} ms to read, {} ms to write",
            self.rows, self.read_ms, self.write_ms
        )?;
        for loss in self.losses() {
            writeln!(f, "NOT RESTORED: {loss}")?;
        }
        if self.is_complete() { write!(f, "complete") } else { write!(f, "incomplete, see above") }
    }
}
