//! One look's findings, from what it has read. Pure.

use crate::{
    contents::{Contents, Found, WalContents},
    findings::{Finding, FindingKind},
    listing::Listing,
    logs, objects,
    report::{IncarnationReport, Totals},
    view::View,
    wal,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use thalweg_segment::{Incarnation, SegmentId, WalSequence};

/// What one look has read.
pub(crate) struct Look<'a> {
    pub view: &'a View,
    pub listing: &'a Listing,
    pub segments: &'a BTreeMap<SegmentId, Found<Contents>>,
    pub wal: &'a BTreeMap<(Incarnation, WalSequence), Found<WalContents>>,
    pub orphan_age: Duration,
}

/// What follows from it.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub findings: BTreeSet<Finding>,
    pub totals: Totals,
    pub incarnations: Vec<IncarnationReport>,
}

impl Decided {
    pub fn has_problems(&self) -> bool {
        self.findings.iter().any(is_problem)
    }

    /// Keeps what `earlier` has found too.
    pub fn confirm(&mut self, earlier: &Self) {
        self.findings.retain(|finding| !is_problem(finding) || earlier.findings.contains(finding));
    }
}

pub(crate) fn is_problem(finding: &Finding) -> bool {
    finding.severity == crate::Severity::Problem
}

/// Everything that a look shows.
pub(crate) fn decide(look: &Look<'_>) -> Decided {
    let mut decided = Decided::default();
    count(look, &mut decided.totals);
    let adopted = objects::adopted(look);
    objects::decide(look, &adopted, &mut decided);
    wal::decide(look, &adopted, &mut decided);
    logs::decide(look, &mut decided);
    let foreign = look.listing.foreign.iter();
    decided.findings.extend(foreign.map(|path| Finding::new(FindingKind::ForeignObject, "").at(path)));
    decided
}

fn count(look: &Look<'_>, totals: &mut Totals) {
    let (view, listing) = (look.view, look.listing);
    totals.topics = view.topics.len() as u64;
    totals.logs = view.topics.iter().map(|topic| u64::from(topic.partitions())).sum();
    totals.objects = listing.objects;
    totals.object_bytes = listing.bytes;
    totals.log_segments = view.logs.len() as u64;
    totals.manifests = view.shared.iter().filter(|record| record.adopts.is_some()).count() as u64;
    totals.shared_segments = view.shared.len() as u64 - totals.manifests;
    totals.snapshots = listing.snapshots as u64;
    totals.metadata_objects = listing.metadata as u64;
}
