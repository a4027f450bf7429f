use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What is a small charge where some of a budget is kept for those.
const SMALL: u32 = 16 * 1024;
/// The part of a budget that is kept for small charges: one in so many bytes.
const KEPT: usize = 16;

/// A bound on the bytes that one class of memory may hold. Waiters are served in order. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    name: &'static str,
    capacity: usize,
    /// The largest charge: all but what is kept for small ones.
    largest: u32,
    free: Arc<Semaphore>,
    kept: Arc<Semaphore>,
    waiting: AtomicUsize,
    pressure: Notify,
}

impl Budget {
    /// A budget of `capacity` bytes (at least one), called `name` in metrics.
    pub fn new(name: &'static str, capacity: usize) -> Self {
        Self::with(name, capacity, 0)
    }

    /// The same, with some of it kept for small charges: they don't wait behind one that takes all else there is.
    pub fn keeping_some_for_small(name: &'static str, capacity: usize) -> Self {
        Self::with(name, capacity, capacity / KEPT)
    }

    fn with(name: &'static str, capacity: usize, kept: usize) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize);
        let largest = u32::try_from(capacity - kept).expect("the capacity fits 32 bits");
        Self(Arc::new(Inner {
            name,
            capacity,
            largest,
            free: Arc::new(Semaphore::new(capacity - kept)),
            kept: Arc::new(Semaphore::new(kept)),
            waiting: AtomicUsize::new(0),
            pressure: Notify::new(),
        }))
    }

    /// The class of memory that this bounds, as metrics name it.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The bound in bytes.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Bytes charged at the moment.
    pub fn used(&self) -> usize {
        let free = self.0.free.available_permits() + self.0.kept.available_permits();
        self.0.capacity.saturating_sub(free)
    }

    /// Callers that wait for bytes to become free.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Returns when a caller has to wait, so that whoever can free memory does so.
    pub async fn pressure(&self) {
        self.0.pressure.notified().await;
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget counts as the whole budget, so that one
    /// oversized piece of work proceeds alone instead of waiting for ever.
    pub async fn charge(&self, bytes: usize) -> Charge {
        if let Some(charge) = self.try_charge(bytes) {
            return charge;
        }
        let taken = self.clamp(bytes);
        let _waiting = Waiting::begin(&self.0);
        let acquire = |from: &Arc<Semaphore>| from.clone().acquire_many_owned(taken);
        let permit = if self.may_take_kept(taken) {
            tokio::select! {
                biased;
                permit = acquire(&self.0.free) => permit,
                permit = acquire(&self.0.kept) => permit,
            }
        } else {
            acquire(&self.0.free).await
        };
        Charge::new(self.clone(), permit.expect("the semaphores are never closed"))
    }

    /// Takes `bytes` where they are free at once and nobody waits before us.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let taken = self.clamp(bytes);
        let acquire = |from: &Arc<Semaphore>| from.clone().try_acquire_many_owned(taken).ok();
        let kept = || if self.may_take_kept(taken) { acquire(&self.0.kept) } else { None };
        let permit = acquire(&self.0.free).or_else(kept)?;
        Some(Charge::new(self.clone(), permit))
    }

    fn may_take_kept(&self, bytes: u32) -> bool {
        bytes <= SMALL && bytes as usize <= self.0.capacity - self.0.largest as usize
    }

    fn clamp(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).map_or(self.0.largest, |bytes| bytes.min(self.0.largest))
    }
}

/// One waiting caller; counted until it is served or gives up.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        inner.pressure.notify_one();
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken from a [`Budget`], given back when the last clone is dropped. A slice of a buffer holds a clone of the
/// buffer's charge, so memory counts for as long as any slice keeps the allocation alive.
#[derive(Clone)]
pub struct Charge(Arc<Taken>);

struct Taken {
    budget: Budget,
    permit: OwnedSemaphorePermit,
}

impl Charge {
    fn new(budget: Budget, permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Taken { budget, permit }))
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.permit.num_permits()
    }

    /// Whether it is taken from `budget`.
    pub fn is_of(&self, budget: &Budget) -> bool {
        Arc::ptr_eq(&self.0.budget.0, &budget.0)
    }

    /// Whether somebody waits for what it is taken from.
    pub fn is_wanted(&self) -> bool {
        self.0.budget.waiting() > 0
    }

    /// Gives back what is held beyond `bytes`. Changes nothing where there are clones.
    pub fn shrink_to(&mut self, bytes: usize) {
        let Some(taken) = Arc::get_mut(&mut self.0) else { return };
        let beyond = taken.permit.num_permits().saturating_sub(bytes);
        drop(taken.permit.split(beyond));
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charge({} of {})", self.bytes(), self.0.budget.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_given_back_with_its_last_clone() {
        let budget = Budget::new("test", 10);
        let charge = budget.try_charge(8).expect("8 of 10 are free");
        let clone = charge.clone();
        assert!(budget.try_charge(3).is_none());
        drop(charge);
        assert_eq!(budget.used(), 8);
        drop(clone);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_charge_gives_back_what_it_was_too_large_by() {
        let budget = Budget::new("test", 10);
        let mut charge = budget.try_charge(8).expect("8 of 10 are free");
        charge.shrink_to(20);
        assert_eq!((charge.bytes(), budget.used()), (8, 8));
        charge.shrink_to(3);
        assert_eq!((charge.bytes(), budget.used()), (3, 3));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_small_charge_does_not_wait_behind_a_large_one() {
        let budget = Budget::keeping_some_for_small("test", 1 << 20);
        let all = budget.try_charge(usize::MAX).expect("nothing else is charged");
        let mut large = std::pin::pin!(budget.charge(SMALL as usize + 1));
        assert!(futures::poll!(&mut large).is_pending());
        let small: Vec<_> = (0..4).map_while(|_| budget.try_charge(SMALL as usize)).collect();
        assert_eq!((small.len(), budget.used()), (4, 1 << 20));
        // With nothing kept left, it takes what is free first, of either.
        let mut waiting = std::pin::pin!(budget.charge(1));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(small);
        assert_eq!(waiting.await.bytes(), 1);
        drop(all);
        assert_eq!(large.await.bytes(), SMALL as usize + 1);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_oversized_charge_takes_the_whole_budget() {
        let budget = Budget::new("test", 10);
        let charge = budget.try_charge(1000).expect("nothing else is charged");
        assert_eq!(charge.bytes(), 10);
        assert!(budget.try_charge(1).is_none());
    }
}
