//! What a check finds. A finding says nothing that differs from one look to the next while its cause stays the same, so that
//! two looks can be compared.

use serde::Serialize;
use std::fmt;
use thalweg_segment::{Incarnation, LogId, Offset};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Data are lost, unreadable or in danger, or something lies there that should be gone by now.
    Problem,
    /// Worth knowing; nothing is wrong.
    Notice,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The index, or a manifest in it, refers to an object that isn't there.
    MissingObject,
    /// An object's footer or index block can't be read.
    UnreadableObject,
    /// An object is not what its record says: its size, its place in the index, its writer, its log or offsets.
    WrongRecord,
    /// A block's bytes are not those that were written. Found by `--deep`.
    CorruptBlock,
    /// A log's state can't be read, or is not that of its log's end.
    CorruptState,
    /// Offsets between the log's start and its committed end are in no object.
    Gap,
    /// Two objects of the same kind hold the same offsets.
    Overlap,
    /// A write-ahead log holds an object beyond what its writer's window allows.
    WindowPassed,
    /// Nothing refers to an object that is older than the orphan age.
    Orphan,
    /// Offsets are missing inside a segment of a topic that isn't compacted now. It may have been before.
    Hole,
    /// Records or objects of a log that no topic has: left of a topic that was deleted.
    LogWithoutTopic,
    /// An object that isn't Thalweg's.
    ForeignObject,
}

impl FindingKind {
    fn severity(self) -> Severity {
        match self {
            Self::Hole | Self::LogWithoutTopic | Self::ForeignObject => Severity::Notice,
            _ => Severity::Problem,
        }
    }

    /// In words.
    fn title(self) -> &'static str {
        match self {
            Self::MissingObject => "missing object",
            Self::UnreadableObject => "unreadable object",
            Self::WrongRecord => "object differs from its record",
            Self::CorruptBlock => "corrupt block",
            Self::CorruptState => "corrupt state",
            Self::Gap => "gap in a log",
            Self::Overlap => "overlap in a log",
            Self::WindowPassed => "write-ahead log beyond its window",
            Self::Orphan => "orphan",
            Self::Hole => "hole in a segment",
            Self::LogWithoutTopic => "log without a topic",
            Self::ForeignObject => "foreign object",
        }
    }
}

/// A log, by number and, where a topic has it, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LogName {
    /// Its number.
    pub id: u64,
    /// Its topic.
    pub topic: Option<String>,
    /// Its partition.
    pub partition: Option<u32>,
}

/// One thing that was found. What does not apply is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: FindingKind,
    /// The key of the object.
    pub object: Option<String>,
    /// The log.
    pub log: Option<LogName>,
    /// The first offset concerned.
    pub from: Option<i64>,
    /// The offset after the last one concerned.
    pub to: Option<i64>,
    /// The incarnation, as `broker@epoch`.
    pub incarnation: Option<String>,
    /// More, in words.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, detail: impl Into<String>) -> Self {
        Self {
            severity: kind.severity(),
            kind,
            object: None,
            log: None,
            from: None,
            to: None,
            incarnation: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn at(mut self, path: impl fmt::Display) -> Self {
        self.object = Some(path.to_string());
        self
    }

    /// Without its name, which is filled in at the end.
    pub(crate) fn of_log(mut self, log: LogId) -> Self {
        self.log = Some(LogName { id: log.0, topic: None, partition: None });
        self
    }

    pub(crate) fn offsets(mut self, from: Offset, to: Offset) -> Self {
        (self.from, self.to) = (Some(from.0), Some(to.0));
        self
    }

    pub(crate) fn of(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = Some(incarnation.to_string());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.title())?;
        match &self.log {
            Some(LogName { id, topic: Some(topic), partition: Some(partition) }) => {
                write!(f, ", {topic}-{partition} (log {id})")?;
            }
            Some(LogName { id, .. }) => write!(f, ", log {id}")?,
            None => {}
        }
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(f, ", offsets {from} to {}", to - 1)?;
        }
        if let Some(object) = &self.object {
            write!(f, ", {object}")?;
        }
        if let Some(incarnation) = &self.incarnation {
            write!(f, ", incarnation {incarnation}")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
