//! Objects against rows: missing, of another size, not what the row says, unreferenced. Pure.
//!
//! An object of the index is written before the row that refers to it, and deleted after that was removed. What nothing refers to
//! is, of a recovered incarnation, garbage that waits for its collection: nothing can be committed in its name any more. Of an
//! incarnation that may still commit, it may be about to be, and the check can't ask its broker. Both are told from what was
//! forgotten by their age alone, as the store has it; the collection itself goes by no clock.

use crate::{
    contents::{Contents, Found, Row, WalContents, unreadable},
    decide::{Decided, Look},
    findings::{Finding, FindingKind},
    listing::Listed,
    report::Count,
};
use std::collections::BTreeSet;
use thalweg_metadata::LogSegmentRecord;
use thalweg_segment::{Incarnation, SegmentId, WalSequence, segment_path, wal_path};

/// WAL objects that manifests of the index refer to.
pub(crate) type Adopted = BTreeSet<(Incarnation, WalSequence)>;

pub(crate) fn decide(look: &Look<'_>, adopted: &Adopted, decided: &mut Decided) {
    for row in look.view.rows() {
        check_row(look, &row, decided);
    }
    for record in &look.view.logs {
        if let Some(Found::Sound(contents)) = look.segments.get(&record.id) {
            decided.findings.extend(log_row_findings(record, contents));
        }
    }
    unreferenced(look, adopted, decided);
}

/// The WAL objects that are part of the index.
pub(crate) fn adopted(look: &Look<'_>) -> Adopted {
    let manifests = look.view.rows().filter_map(|row| Some((row.adopts?, look.segments.get(&row.id)?)));
    let sound = manifests.filter_map(|(dead, found)| match found {
        Found::Sound(contents) => Some(contents.adopted.keys().map(move |sequence| (dead, *sequence))),
        _ => None,
    });
    sound.flatten().collect()
}

fn check_row(look: &Look<'_>, row: &Row, decided: &mut Decided) {
    let Some(listed) = look.listing.segments.get(&row.id) else {
        decided.findings.insert(missing("the object index refers to it").at(&row.path));
        return;
    };
    if listed.size != row.shape.size {
        let detail = format!("it has {} bytes, its record says {}", listed.size, row.shape.size);
        decided.findings.insert(Finding::new(FindingKind::WrongRecord, detail).at(&row.path));
        return;
    }
    match look.segments.get(&row.id) {
        Some(Found::Sound(contents)) => {
            decided.totals.block_bytes += contents.bytes;
            check_adopted(look, row, contents, decided);
        }
        Some(Found::Unreadable(why)) => {
            decided.findings.insert(unreadable(&row.path, why));
        }
        Some(Found::Gone) | None => {
            decided.findings.insert(missing("the object index refers to it").at(&row.path));
        }
    }
}

fn check_adopted(look: &Look<'_>, row: &Row, contents: &Contents, decided: &mut Decided) {
    let Some(dead) = row.adopts else { return };
    for (sequence, length) in &contents.adopted {
        let path = wal_path(dead, *sequence);
        match look.listing.wal_object(dead, *sequence) {
            None => {
                let detail = format!("the manifest {} refers to it", row.path);
                decided.findings.insert(missing(&detail).at(path));
            }
            Some(listed) if listed.size < *length => {
                let detail =
                    format!("it has {} bytes, the manifest {} refers to {length}", listed.size, row.path);
                decided.findings.insert(Finding::new(FindingKind::WrongRecord, detail).at(path));
            }
            Some(_) => {}
        }
    }
}

/// What the row of a log segment says that the segment doesn't. Log compaction may take the first and last batches out of a
/// segment, which stands for their offsets all the same.
fn log_row_findings(record: &LogSegmentRecord, contents: &Contents) -> Vec<Finding> {
    let wrong = |detail: String| {
        Finding::new(FindingKind::WrongRecord, detail)
            .at(segment_path(record.id))
            .of_log(record.log)
            .offsets(record.base_offset, record.end_offset)
    };
    let mut findings = Vec::new();
    for extent in &contents.extents {
        if extent.log != record.log {
            findings.push(wrong(format!("it holds batches of log {}", extent.log)));
        } else if extent.base < record.base_offset || record.end_offset < extent.end {
            findings.push(wrong(format!("it holds offsets {} to {}", extent.base, extent.end.0 - 1)));
        } else if extent.max_timestamp > record.max_timestamp {
            let (held, said) = (extent.max_timestamp, record.max_timestamp);
            findings.push(wrong(format!("its records are as new as {held}, its record says {said}")));
        }
    }
    match contents.states.iter().find(|(log, _)| *log == record.log) {
        Some((_, end)) if *end == record.end_offset => {}
        Some((_, end)) => findings.push(wrong(format!("it has the log's state at {end}"))),
        None => findings.push(wrong("it has no state of the log".into())),
    }
    findings
}

fn missing(detail: &str) -> Finding {
    Finding::new(FindingKind::MissingObject, detail)
}

fn unreferenced(look: &Look<'_>, adopted: &Adopted, decided: &mut Decided) {
    let indexed: BTreeSet<SegmentId> = look.view.rows().map(|row| row.id).collect();
    for (id, listed) in look.listing.segments.iter().filter(|(id, _)| !indexed.contains(id)) {
        unreferenced_object(look, decided, id.incarnation, segment_path(*id).to_string(), *listed);
    }
    for (incarnation, sequence, listed) in unindexed_wal(look, adopted) {
        match look.wal.get(&(incarnation, sequence)) {
            Some(Found::Sound(contents)) if **contents == WalContents::Fence => decided.totals.fences += 1,
            _ => {
                let path = wal_path(incarnation, sequence).to_string();
                unreferenced_object(look, decided, incarnation, path, listed);
            }
        }
    }
}

/// WAL objects that nobody needs: neither part of the index nor of a WAL that is still to be flushed or recovered.
pub(crate) fn unindexed_wal<'a>(
    look: &'a Look<'_>,
    adopted: &'a Adopted,
) -> impl Iterator<Item = (Incarnation, WalSequence, Listed)> + 'a {
    let live = |incarnation: Incarnation, sequence: WalSequence| {
        look.view.unrecovered(incarnation).is_some_and(|record| sequence >= record.trim)
    };
    let all = look.listing.wal.iter().flat_map(|(incarnation, objects)| {
        objects.iter().map(move |(sequence, listed)| (*incarnation, *sequence, *listed))
    });
    all.filter(move |(incarnation, sequence, _)| {
        !live(*incarnation, *sequence) && !adopted.contains(&(*incarnation, *sequence))
    })
}

fn unreferenced_object(
    look: &Look<'_>,
    decided: &mut Decided,
    incarnation: Incarnation,
    path: String,
    listed: Listed,
) {
    let may_commit = look.view.unrecovered(incarnation).is_some();
    if listed.age > look.orphan_age {
        let detail = match (may_commit, look.view.incarnations.contains_key(&incarnation)) {
            (true, _) => "its incarnation is open, but it is too old to be in flight",
            (false, true) => "its incarnation is recovered; the collection of garbage should have deleted it",
            (false, false) => "the metadata know nothing of its incarnation",
        };
        decided.findings.insert(Finding::new(FindingKind::Orphan, detail).at(path).of(incarnation));
        decided.totals.orphans.add(listed.size);
    } else if may_commit {
        decided.totals.in_flight.add(listed.size);
    } else {
        decided.totals.garbage.add(listed.size);
    }
}

impl Count {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Which WAL objects a look must read to decide: what may have to be recovered, and what may be a fence.
pub(crate) fn wal_to_read(look: &Look<'_>) -> Vec<(Incarnation, WalSequence)> {
    let adopted = adopted(look);
    let unindexed = unindexed_wal(look, &adopted).map(|(incarnation, sequence, _)| (incarnation, sequence));
    live_wal(look).chain(unindexed).collect()
}

/// WAL objects that are still to be flushed or recovered.
pub(crate) fn live_wal<'a>(look: &'a Look<'_>) -> impl Iterator<Item = (Incarnation, WalSequence)> + 'a {
    let live = look.listing.wal.iter().filter_map(|(incarnation, objects)| {
        let trim = look.view.unrecovered(*incarnation)?.trim;
        Some(objects.range(trim..).map(move |(sequence, _)| (*incarnation, *sequence)))
    });
    live.flatten()
}
