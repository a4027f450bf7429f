//! The numbers of an incarnation's segments, and which of them may yet be committed.
//!
//! Counted in memory: an incarnation is one life of a process. A number that is reserved stands for an object that is being
//! written, or was written and waits for its commit; the object index doesn't know it, and it is no garbage.

use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};
use thalweg_segment::{Incarnation, SegmentId};

/// Gives numbers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Numbers {
    incarnation: Incarnation,
    issued: Arc<Mutex<Issued>>,
}

#[derive(Default)]
struct Issued {
    next: u64,
    reserved: BTreeSet<u64>,
    /// Whether a commit was given up whose outcome nobody here will learn.
    sealed: bool,
}

/// The name of a segment to be written. While this lives, the object counts as needed although the object index doesn't know
/// it: to be dropped once the index does, or when it is given up.
pub struct Reservation {
    id: SegmentId,
    issued: Arc<Mutex<Issued>>,
}

impl Numbers {
    /// Of a new incarnation.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, issued: Arc::default() }
    }

    /// The next name.
    pub fn reserve(&self) -> Reservation {
        let mut issued = self.issued.lock();
        let number = issued.next;
        issued.next += 1;
        issued.reserved.insert(number);
        let id = SegmentId { incarnation: self.incarnation, number };
        Reservation { id, issued: self.issued.clone() }
    }

    /// Whether `id` is reserved.
    pub fn is_reserved(&self, id: SegmentId) -> bool {
        let issued = self.issued.lock();
        id.incarnation == self.incarnation && (issued.sealed || issued.reserved.contains(&id.number))
    }

    /// This incarnation is at its end, and a commit may have been applied that nobody here will ever know of: from now on
    /// every segment of it counts as needed.
    pub fn seal(&self) {
        self.issued.lock().sealed = true;
    }
}

impl Reservation {
    /// The segment's name.
    pub fn id(&self) -> SegmentId {
        self.id
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.issued.lock().reserved.remove(&self.id.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_segment::{BrokerEpoch, BrokerId};

    #[test]
    fn a_name_is_given_once_and_is_reserved_until_it_is_dropped() {
        let incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) };
        let numbers = Numbers::new(incarnation);
        let (first, second) = (numbers.reserve(), numbers.reserve());
        let id = first.id();
        assert_eq!((id.incarnation, id.number, second.id().number), (incarnation, 0, 1));
        assert!(numbers.is_reserved(id) && numbers.is_reserved(second.id()));
        drop(first);
        assert!(!numbers.is_reserved(id) && numbers.is_reserved(second.id()));
        assert_eq!(numbers.reserve().id().number, 2);
        let other = Incarnation { epoch: BrokerEpoch(3), ..incarnation };
        assert!(!numbers.is_reserved(SegmentId { incarnation: other, number: 1 }));
    }

    #[test]
    fn once_a_commit_was_given_up_every_segment_may_have_been_committed() {
        let numbers = Numbers::new(Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(2) });
        let id = numbers.reserve().id();
        assert!(!numbers.is_reserved(id));
        numbers.seal();
        assert!(numbers.is_reserved(id));
    }
}
