//! Does what the metadata say agree with what lies in the bucket? And: the metadata anew, from what lies in the bucket.
//!
//! [`check()`] reads both, beside a running broker, and writes nothing. The broker goes on meanwhile: objects are committed,
//! replaced and deleted between two requests of ours. So it looks twice, and what it calls a problem was found both times:
//!
//! ```text
//! view (all rows) ─→ LIST ─→ index blocks ─→ decide ─┐   what the first look finds wrong …
//!      └───────────── once more ─────────────────────┴─→ … and the second one too, is reported
//! ```
//! The order within a look matters: an object that the rows refer to was written before they did. Objects are written once and
//! their keys never used again, so one that is referred to, then missing, then still referred to is missing indeed.
//!
//! What is decided is pure: `logs` (gaps, overlaps, states), `objects` (missing, unreferenced), `wal` (incarnations and what is
//! left of their write-ahead logs). What is read: `view` (rows), `listing` (keys), `contents` (index blocks), `deep` (every byte).
//!
//! [`restore()`] makes the metadata anew after they were lost, see its module.

mod check;
mod contents;
mod decide;
mod deep;
mod findings;
mod listing;
mod logs;
mod objects;
mod report;
mod restore;
mod states;
#[cfg(test)]
mod testing;
mod view;
mod wal;

pub use check::{CheckError, OpenMetadata, Options, check};
pub use findings::{Finding, FindingKind, LogName, Severity};
pub use report::{Count, IncarnationReport, Report, Totals};
pub use restore::{NamelessLog, Offsets, RestoreError, Restored, SnapshotUsed, WalRestored, restore};
