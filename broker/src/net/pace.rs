//! How slowly bytes may move while others wait for the memory that they keep.

use std::time::Duration;
use tokio::time::Instant;

/// A transfer has this long …
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// … and a second for so many bytes that have moved.
const BYTES_A_SECOND: f64 = 1024.0 * 1024.0;
/// How often one that stands still is to be looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Whether a transfer that began at `begun` and has moved `bytes` since is too slow for others to wait for.
pub(super) fn is_too_slow(begun: Instant, bytes: usize) -> bool {
    begun.elapsed() >= GRACE + Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND)
}
