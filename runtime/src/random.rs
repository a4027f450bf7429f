use parking_lot::Mutex;
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::{ops::Range, sync::Arc, time::Duration};
use uuid::Uuid;

/// A shared source of randomness. Clones draw from the same sequence.
#[derive(Clone)]
pub struct Random(Arc<Mutex<SmallRng>>);

impl Random {
    /// Seeded by the system's entropy.
    pub fn from_entropy() -> Self {
        Self(Arc::new(Mutex::new(SmallRng::from_os_rng())))
    }

    /// The same sequence for the same seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// Any 64 bits.
    pub fn u64(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// A number of a half-open, non-empty range.
    pub fn range(&self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range has no member");
        // The bias of the remainder is below 2^-32 for the small ranges that this is for.
        range.start + self.u64() % (range.end - range.start)
    }

    /// A random (version 4) UUID; never one that Kafka reserves (all zero, or 1).
    pub fn uuid(&self) -> Uuid {
        let (high, low) = (self.u64(), self.u64());
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
    }

    /// `base` ± 50 %, so that retries of many callers spread out.
    pub fn jitter(&self, base: Duration) -> Duration {
        let half = u64::try_from(base.as_micros() / 2).unwrap_or(u64::MAX / 4);
        Duration::from_micros(half + self.range(0..half.saturating_mul(2).max(1)))
    }
}
