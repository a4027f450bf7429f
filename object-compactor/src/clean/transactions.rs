//! Which batches belong to aborted transactions, and which markers are still needed, told while reading through a log.

use std::collections::{BTreeMap, BTreeSet};
use thalweg_segment::{AbortedTransaction, Batch, BatchEntry, Offset, ProducerId};

/// The transactions that are met on the way. All of them are decided.
pub(super) struct Transactions {
    /// Those that were aborted and are still to come, the last one first.
    coming: Vec<AbortedTransaction>,
    /// Those that were aborted and have begun, and whether a batch of them was met.
    aborted: BTreeMap<ProducerId, (AbortedTransaction, bool)>,
    /// Whose batches were met that were committed.
    committed: BTreeSet<ProducerId>,
    /// Aborted transactions whose marker was met and stays because of a batch of theirs.
    still_known: Vec<AbortedTransaction>,
}

impl Transactions {
    /// `aborted` are all aborted transactions that have a record in what will be read.
    pub fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut coming = aborted.to_vec();
        coming.sort_by_key(|one| std::cmp::Reverse((one.first_offset, one.last_offset)));
        Self { coming, aborted: BTreeMap::new(), committed: BTreeSet::new(), still_known: Vec::new() }
    }

    /// Takes in the next batch of data. Whether it was aborted.
    pub fn data(&mut self, batch: &BatchEntry) -> bool {
        self.begin_up_to(batch.end_offset());
        if !batch.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id) {
            Some((_, met)) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(batch.producer_id);
                false
            }
        }
    }

    /// Takes in the next control batch. Whether it is needed no more: no batch of its transaction was met, or it is not the
    /// last word of anything. One of a type that isn't known is always needed.
    pub fn control(&mut self, batch: &Batch) -> bool {
        let entry = batch.entry();
        self.begin_up_to(entry.end_offset());
        if entry.record_count == 0 {
            return true;
        }
        match entry.marker {
            None => false,
            Some(marker) if marker.committed => !self.committed.remove(&entry.producer_id),
            Some(_) => match self.aborted.remove(&entry.producer_id) {
                Some((aborted, true)) => {
                    self.still_known.push(aborted);
                    false
                }
                Some((_, false)) | None => true,
            },
        }
    }

    fn begin_up_to(&mut self, end: Offset) {
        while let Some(next) = self.coming.pop_if(|next| next.first_offset < end) {
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
    }

    /// Aborted transactions whose marker was met since the last call and of which a batch was met: readers must know of them.
    pub fn take_still_known(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.still_known)
    }
}
