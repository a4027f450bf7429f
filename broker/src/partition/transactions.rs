//! What a log knows of its transactions beside its state: endings that aren't durable yet, aborted ones that aren't flushed
//! yet, and who has asked its coordinator whether it may begin one.

use super::Log;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use thalweg_segment::{AbortedTransaction, Offset, ProducerId};

/// The transactions of a log's tail.
#[derive(Debug, Default)]
pub(super) struct TailTransactions {
    /// First offset and end of the marker of each transaction whose marker isn't durable: until it is, the transaction is as
    /// open as before. In order of the marker.
    ending: VecDeque<(Offset, Offset)>,
    /// Those whose abort marker no flushed segment has, in order of the marker.
    aborted: VecDeque<AbortedTransaction>,
    /// Verifications under way.
    verifying: BTreeSet<(ProducerId, u64)>,
    verifications: u64,
}

impl TailTransactions {
    /// A marker was appended up to `end`, for a transaction that began at `first`.
    pub(super) fn ended(&mut self, first: Offset, end: Offset, aborted: Option<AbortedTransaction>) {
        self.ending.push_back((first, end));
        self.aborted.extend(aborted);
    }

    /// The log is durable up to `high_watermark`.
    pub(super) fn durable(&mut self, high_watermark: Offset) {
        while self.ending.pop_front_if(|(_, end)| *end <= high_watermark).is_some() {}
    }

    /// Flushed segments tell what the log holds up to `end`.
    pub(super) fn flushed(&mut self, end: Offset) {
        while self.aborted.pop_front_if(|aborted| aborted.last_offset < end).is_some() {}
    }

    /// First offset of a transaction whose marker isn't durable.
    pub(super) fn first_ending(&self) -> Option<Offset> {
        self.ending.iter().map(|(first, _)| *first).min()
    }

    /// Aborted transactions that a reader of `[from, to)` needs.
    pub(super) fn aborted(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        let needed = |one: &&AbortedTransaction| one.last_offset >= from && one.first_offset < to;
        self.aborted.iter().filter(needed).copied().collect()
    }

    pub(super) fn begin_verification(&mut self, producer: ProducerId) -> u64 {
        self.verifications += 1;
        self.verifying.insert((producer, self.verifications));
        self.verifications
    }

    pub(super) fn end_verification(&mut self, producer: ProducerId, number: u64) {
        self.verifying.remove(&(producer, number));
    }

    /// What was verified before a marker says nothing of what comes behind it.
    pub(super) fn end_verifications_of(&mut self, producer: ProducerId) {
        let all = (producer, 0)..=(producer, u64::MAX);
        let ended: Vec<_> = self.verifying.range(all).copied().collect();
        for verification in &ended {
            self.verifying.remove(verification);
        }
    }

    pub(super) fn is_verified(&self, verification: &Verification) -> bool {
        self.verifying.contains(&(verification.producer, verification.number))
    }
}

/// The right to begin a transaction in a log once its coordinator has said that the log is part of it (KIP-890). A marker that
/// is appended meanwhile ends it: else a late batch would open a transaction that nobody ends.
pub struct Verification {
    log: Arc<Log>,
    producer: ProducerId,
    number: u64,
    from_zero: bool,
}

impl Verification {
    pub(super) fn new(log: Arc<Log>, producer: ProducerId, number: u64, from_zero: bool) -> Self {
        Self { log, producer, number, from_zero }
    }

    /// Begins anew, before the coordinator is asked again: what it says then is said after whatever marker came meanwhile.
    pub fn renew(&mut self) {
        self.number = self.log.renew_verification(self.producer, self.number);
    }

    /// Whether a producer that the log doesn't know must begin with sequence 0, since every transaction has an epoch of its own.
    pub(super) fn is_from_zero(&self) -> bool {
        self.from_zero
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.log.end_verification(self.producer, self.number);
    }
}
