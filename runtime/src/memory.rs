use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Notify, Semaphore};

/// A bound on the bytes that one class of memory may hold. Waiters are served in order. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    name: &'static str,
    capacity: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    pressure: Notify,
}

impl Budget {
    /// A budget of `capacity` bytes (at least one), called `name` in metrics.
    pub fn new(name: &'static str, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize);
        Self(Arc::new(Inner {
            name,
            capacity,
            free: Arc::new(Semaphore::new(capacity)),
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
        self.0.capacity - self.0.free.available_permits().min(self.0.capacity)
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
        let permit =
            self.0.free.clone().acquire_many_owned(taken).await.expect("the semaphore is never closed");
        permit.forget();
        Charge::new(self.clone(), taken)
    }

    /// Takes `bytes` where they are free at once and nobody waits before us.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let taken = self.clamp(bytes);
        let permit = self.0.free.clone().try_acquire_many_owned(taken).ok()?;
        permit.forget();
        Some(Charge::new(self.clone(), taken))
    }

    fn clamp(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.0.capacity)).expect("the capacity fits 32 bits")
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
    bytes: u32,
}

impl Charge {
    fn new(budget: Budget, bytes: u32) -> Self {
        Self(Arc::new(Taken { budget, bytes }))
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.bytes as usize
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
        let kept = u32::try_from(bytes).map_or(taken.bytes, |bytes| bytes.min(taken.bytes));
        taken.budget.0.free.add_permits((taken.bytes - kept) as usize);
        taken.bytes = kept;
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charge({} of {})", self.0.bytes, self.0.budget.0.name)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.0.free.add_permits(self.bytes as usize);
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

    #[test]
    fn an_oversized_charge_takes_the_whole_budget() {
        let budget = Budget::new("test", 10);
        let charge = budget.try_charge(1000).expect("nothing else is charged");
        assert_eq!(charge.bytes(), 10);
        assert!(budget.try_charge(1).is_none());
    }
}
