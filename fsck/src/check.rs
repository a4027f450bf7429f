//! The check itself: two looks, then states and, if asked for, every block.

use crate::{
    contents::{Found, Objects, Row},
    decide::{Decided, Look, decide},
    deep::{self, Target},
    findings::{Finding, FindingKind},
    listing::Listing,
    logs, objects,
    report::Report,
    states,
    view::View,
};
use async_trait::async_trait;
use object_store::path::Path;
use std::{collections::BTreeSet, time::Duration};
use thalweg_metadata::{Metadata, MetadataError};
use thalweg_runtime::Runtime;
use thalweg_segment::{Store, StoreError, segment_path, wal_path};

/// Opens the metadata as they are at the moment, to be read only.
#[async_trait]
pub trait OpenMetadata: Send + Sync {
    /// Each call sees what was committed before it.
    async fn open(&self) -> Result<Metadata, MetadataError>;
}

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether every block is read.
    pub deep: bool,
    /// How much older than the newest object one must be, that nothing refers to, to be a problem.
    pub orphan_age: Duration,
}

/// Why a check did not come to an end. It says nothing of the data.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The metadata could not be read.
    #[error("the metadata can't be read: {0}")]
    Metadata(#[from] MetadataError),
    /// The bucket could not be read.
    #[error("the object store can't be read: {0}")]
    Store(#[from] StoreError),
}

/// Checks the bucket `store` of the cluster `cluster_id` against `metadata`. Reads only, beside any broker.
pub async fn check(
    runtime: &Runtime,
    store: &Store,
    metadata: &dyn OpenMetadata,
    cluster_id: &str,
    options: Options,
) -> Result<Report, CheckError> {
    let mut check = Check { runtime, store, metadata, options, objects: Objects::new(store.clone()) };
    let (mut view, mut listing, mut decided) = check.look().await?;
    if decided.has_problems() {
        let earlier = decided;
        (view, listing, decided) = check.look().await?;
        decided.confirm(&earlier);
    }
    check.read_blocks(&view, &listing, &mut decided).await?;
    let mut report = Report::new(cluster_id.to_owned(), options.deep, options.orphan_age.as_secs());
    report.totals = decided.totals;
    report.incarnations = decided.incarnations;
    report.findings = decided.findings.into_iter().collect();
    Ok(report.finish(&view.names()))
}

struct Check<'a> {
    runtime: &'a Runtime,
    store: &'a Store,
    metadata: &'a dyn OpenMetadata,
    options: Options,
    objects: Objects,
}

impl Check<'_> {
    /// Rows, then keys, then what the objects say.
    async fn look(&mut self) -> Result<(View, Listing, Decided), CheckError> {
        let view = self.view().await?;
        let listing = Listing::read(self.store).await?;
        let readable =
            |row: &Row| listing.segments.get(&row.id).is_some_and(|listed| listed.size == row.shape.size);
        self.objects.read_segments(view.rows().filter(readable)).await?;
        let wanted = objects::wal_to_read(&self.look_at(&view, &listing));
        self.objects.read_wal(wanted.into_iter()).await?;
        let decided = decide(&self.look_at(&view, &listing));
        Ok((view, listing, decided))
    }

    async fn view(&self) -> Result<View, CheckError> {
        let metadata = self.metadata.open().await?;
        let view = View::read(&metadata).await?;
        if let Err(error) = metadata.close().await {
            tracing::debug!(%error, "the metadata did not close in good order");
        }
        Ok(view)
    }

    fn look_at<'a>(&'a self, view: &'a View, listing: &'a Listing) -> Look<'a> {
        let Objects { segments, wal, .. } = &self.objects;
        Look { view, listing, segments, wal, orphan_age: self.options.orphan_age }
    }

    /// The states that logs are opened from, or else every block of every object.
    async fn read_blocks(
        &self,
        view: &View,
        listing: &Listing,
        decided: &mut Decided,
    ) -> Result<(), CheckError> {
        let look = self.look_at(view, listing);
        let sound = |row: &Row| matches!(self.objects.segments.get(&row.id), Some(Found::Sound(_)));
        let mut gone: BTreeSet<Path> = BTreeSet::new();
        if self.options.deep {
            let indexed = view.rows().filter(sound).map(Target::Indexed);
            let live =
                objects::live_wal(&look).map(|(incarnation, sequence)| Target::Wal(incarnation, sequence));
            let read = deep::read(self.runtime, self.store, indexed.chain(live).collect()).await?;
            decided.findings.extend(read.findings);
            decided.totals.states_read = read.states;
            decided.totals.blocks_read = read.blocks;
            decided.totals.bytes_read = read.bytes;
            gone.extend(read.gone);
        } else {
            let newest = logs::newest_states(&look);
            let read = states::read_newest(self.store, view.rows().filter(sound), newest).await?;
            decided.findings.extend(read.findings);
            decided.totals.states_read = read.states;
            gone.extend(read.gone.into_iter().map(segment_path));
        }
        decided.findings.extend(self.still_missing(gone).await?);
        Ok(())
    }

    /// Which of the objects that were gone by the time they were read are still referred to.
    async fn still_missing(&self, gone: BTreeSet<Path>) -> Result<Vec<Finding>, CheckError> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let view = self.view().await?;
        let listing = Listing::default();
        let look = self.look_at(&view, &listing);
        let indexed = view.rows().map(|row| row.path.clone());
        let adopted = objects::adopted(&look);
        let adopted = adopted.iter().map(|(incarnation, sequence)| wal_path(*incarnation, *sequence));
        let wanted: BTreeSet<Path> = indexed.chain(adopted).collect();
        let missing =
            |path: &Path| Finding::new(FindingKind::MissingObject, "it was gone when it was read").at(path);
        Ok(gone.intersection(&wanted).map(missing).collect())
    }
}
