//! Incarnations, and what is left of their write-ahead logs. Pure.

use crate::{
    contents::{Found, WalContents, unreadable},
    decide::{Decided, Look},
    findings::{Finding, FindingKind},
    listing::WalObjects,
    objects::Adopted,
    report::{Count, IncarnationReport},
};
use std::collections::BTreeSet;
use thalweg_metadata::{IncarnationRecord, IncarnationState};
use thalweg_segment::{Incarnation, WalSequence, wal_path};

pub(crate) fn decide(look: &Look<'_>, adopted: &Adopted, decided: &mut Decided) {
    let nothing = WalObjects::new();
    let known: BTreeSet<Incarnation> =
        look.view.incarnations.keys().chain(look.listing.wal.keys()).copied().collect();
    for incarnation in known {
        let record = look.view.incarnations.get(&incarnation);
        let objects = look.listing.wal.get(&incarnation).unwrap_or(&nothing);
        let report = describe(look, incarnation, record, objects, |sequence| {
            adopted.contains(&(incarnation, sequence))
        });
        if let Some(record) = look.view.unrecovered(incarnation) {
            decided.findings.extend(live_findings(look, record, objects));
        }
        decided.totals.incarnations += 1;
        // Most of those that there ever were have left nothing.
        if look.view.unrecovered(incarnation).is_some() || !objects.is_empty() {
            decided.incarnations.push(report);
        }
    }
}

fn describe(
    look: &Look<'_>,
    incarnation: Incarnation,
    record: Option<&IncarnationRecord>,
    objects: &WalObjects,
    is_adopted: impl Fn(WalSequence) -> bool,
) -> IncarnationReport {
    let mut report = IncarnationReport {
        incarnation: incarnation.to_string(),
        state: record.map_or("unknown", |record| state_name(record.state)).to_owned(),
        owner: look.view.owner.is_some_and(|owner| owner.incarnation == incarnation),
        window: record.map(|record| record.window),
        commits: record.map(|record| record.commit),
        trim: record.map(|record| record.trim.0),
        last: objects.keys().next_back().map(|sequence| sequence.0),
        ..IncarnationReport::default()
    };
    let live_from = look.view.unrecovered(incarnation).map(|record| record.trim);
    for (sequence, listed) in objects {
        let is_live = live_from.is_some_and(|trim| *sequence >= trim);
        if kind(look, incarnation, *sequence) == Some(WalContents::Fence) {
            report.fences += 1;
        } else {
            let count = match (is_adopted(*sequence), is_live) {
                (true, _) => &mut report.adopted,
                (false, true) => &mut report.unflushed,
                (false, false) => &mut report.left_over,
            };
            Count::add(count, listed.size);
        }
    }
    report
}

fn state_name(state: IncarnationState) -> &'static str {
    match state {
        IncarnationState::Open => "open",
        IncarnationState::Fencing { .. } => "fencing",
        IncarnationState::Recovered => "recovered",
    }
}

fn kind(look: &Look<'_>, incarnation: Incarnation, sequence: WalSequence) -> Option<WalContents> {
    match look.wal.get(&(incarnation, sequence)) {
        Some(Found::Sound(contents)) => Some(**contents),
        _ => None,
    }
}

/// What is wrong with a WAL that is still needed.
fn live_findings(look: &Look<'_>, record: &IncarnationRecord, objects: &WalObjects) -> Vec<Finding> {
    let incarnation = record.incarnation;
    let mut findings = Vec::new();
    for (sequence, _) in objects.range(record.trim..) {
        if let Some(Found::Unreadable(why)) = look.wal.get(&(incarnation, *sequence)) {
            findings.push(unreadable(&wal_path(incarnation, *sequence), why).of(incarnation));
        }
    }
    let data = objects.range(record.trim..).map(|(sequence, _)| *sequence);
    let data: Vec<_> =
        data.filter(|sequence| kind(look, incarnation, *sequence) != Some(WalContents::Fence)).collect();
    if let Some((missing, beyond)) = beyond_window(record, &data) {
        let detail =
            format!("{beyond} was written though {missing} is missing, with a window of {}", record.window);
        let path = wal_path(incarnation, beyond);
        findings.push(Finding::new(FindingKind::WindowPassed, detail).at(path).of(incarnation));
    }
    findings
}

/// The lowest missing sequence, and one that its writer must not have issued before that was durable.
fn beyond_window(record: &IncarnationRecord, data: &[WalSequence]) -> Option<(WalSequence, WalSequence)> {
    let mut missing = record.trim;
    for sequence in data {
        if *sequence == missing {
            missing = missing.next();
        }
    }
    let allowed = missing.0.saturating_add(u64::from(record.window.max(1)));
    data.iter().find(|sequence| sequence.0 >= allowed).map(|beyond| (missing, *beyond))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DEAD;

    fn record(trim: u64, window: u32) -> IncarnationRecord {
        let trim = WalSequence(trim);
        IncarnationRecord { incarnation: DEAD, window, commit: 0, trim, state: IncarnationState::Open }
    }

    fn beyond(trim: u64, window: u32, data: &[u64]) -> Option<(u64, u64)> {
        let data: Vec<_> = data.iter().copied().map(WalSequence).collect();
        beyond_window(&record(trim, window), &data).map(|(missing, beyond)| (missing.0, beyond.0))
    }

    #[test]
    fn what_is_in_flight_within_the_window_is_no_finding() {
        assert_eq!(beyond(5, 3, &[]), None);
        assert_eq!(beyond(5, 3, &[5, 6, 7, 8]), None);
        assert_eq!(beyond(5, 3, &[6, 7]), None);
    }

    #[test]
    fn an_object_that_the_window_forbids_is_one() {
        assert_eq!(beyond(5, 3, &[5, 9]), Some((6, 9)));
        assert_eq!(beyond(5, 3, &[8]), Some((5, 8)));
    }
}
