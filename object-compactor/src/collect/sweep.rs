//! Where in the bucket the collector looks next, and what it saw there at its first look. Pure.

use object_store::{ObjectMeta, path::Path};
use std::{collections::BTreeSet, time::Duration};
use thalweg_segment::{Area, SPREADS, area_prefix, spread_prefix};
use tokio::time::Instant;

/// Keys of one look where the store lists in order: one request.
const PAGE: usize = 1000;
/// Prefixes of one look where it doesn't.
const SPREADS_AT_ONCE: usize = 16;

/// How a store lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingOrder {
    /// In order of keys, so that a page of a listing can be followed by the next one.
    Keys,
    /// Anyhow; listings are whole, of small parts.
    None,
}

/// A listing to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What keys begin with.
    pub prefix: Path,
    /// The key before the first.
    pub after: Option<Path>,
    /// How many; all where none.
    pub limit: Option<usize>,
}

/// Goes through the bucket, again and again.
#[derive(Debug)]
pub struct Sweep {
    order: ListingOrder,
    place: Place,
    /// What was garbage in this place at the first look, and from when on a second one confirms it.
    first: Option<(BTreeSet<Path>, Instant)>,
    sweeps: u64,
}

/// A piece of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    area: Area,
    after: Option<Path>,
    spread: usize,
}

impl Place {
    fn start_of(area: Area) -> Self {
        Self { area, after: None, spread: 0 }
    }
}

impl Sweep {
    /// From the beginning.
    pub fn new(order: ListingOrder) -> Self {
        Self { order, place: Place::start_of(Area::Wal), first: None, sweeps: 0 }
    }

    /// What to list for the next look.
    pub fn wanted(&self) -> Vec<Listing> {
        let Place { area, after, spread } = &self.place;
        match self.order {
            ListingOrder::Keys => {
                vec![Listing { prefix: area_prefix(*area), after: after.clone(), limit: Some(PAGE) }]
            }
            ListingOrder::None => (*spread..SPREADS.min(spread + SPREADS_AT_ONCE))
                .filter_map(|spread| u8::try_from(spread).ok())
                .map(|spread| Listing { prefix: spread_prefix(*area, spread), after: None, limit: None })
                .collect(),
        }
    }

    /// When a second look may confirm the first; none where the next look is a first one.
    pub fn not_before(&self) -> Option<Instant> {
        self.first.as_ref().map(|(_, at)| *at)
    }

    /// How many times it has been through.
    pub fn sweeps(&self) -> u64 {
        self.sweeps
    }

    /// Takes in what was `wanted`, and what of it is `garbage`. Returns what may be deleted now: what was garbage at the first
    /// look here too, at least `delay` ago.
    pub fn looked(
        &mut self,
        listing: &[ObjectMeta],
        garbage: BTreeSet<Path>,
        now: Instant,
        delay: Duration,
    ) -> BTreeSet<Path> {
        match self.first.take() {
            None if garbage.is_empty() => {
                self.advance(listing);
                BTreeSet::new()
            }
            None => {
                self.first = Some((garbage, now + delay));
                BTreeSet::new()
            }
            Some((first, at)) if now < at => {
                self.first = Some((first, at));
                BTreeSet::new()
            }
            Some((first, _)) => {
                self.advance(listing);
                first.intersection(&garbage).cloned().collect()
            }
        }
    }

    fn advance(&mut self, listing: &[ObjectMeta]) {
        let Place { area, after, spread } = &mut self.place;
        match self.order {
            ListingOrder::Keys if listing.len() >= PAGE => {
                *after = listing.last().map(|last| last.location.clone());
                return;
            }
            ListingOrder::None if *spread + SPREADS_AT_ONCE < SPREADS => {
                *spread += SPREADS_AT_ONCE;
                return;
            }
            ListingOrder::Keys | ListingOrder::None => {}
        }
        self.place = match area {
            Area::Wal => Place::start_of(Area::Segments),
            Area::Segments => {
                self.sweeps += 1;
                Place::start_of(Area::Wal)
            }
        };
    }
}
