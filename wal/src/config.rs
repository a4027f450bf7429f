//! Settings of the write-ahead log, with their units.

use std::time::Duration;

/// How WAL objects are cut and uploaded, and when they are flushed.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// PUTs a second that the budget allows on average; none for no limit. Cuts for size are never held by it.
    pub put_rate: Option<f64>,
    /// PUTs that the budget allows at once.
    pub put_burst: u32,
    /// An object is cut when it holds this many bytes.
    pub object_bytes: usize,
    /// W: uploads that may be outstanding, counted from the lowest sequence that isn't durable.
    pub window: u32,
    /// Bytes that may be in flight to the store.
    pub inflight_bytes: usize,
    /// Longest a first PUT is waited for before a second one of the same key and bytes is sent. The hedge goes out at the
    /// observed P99 or this, whichever is earlier; never before `hedge_min`.
    pub hedge_max: Duration,
    /// See `hedge_max`.
    pub hedge_min: Duration,
    /// One attempt of a PUT is given up after this long; its outcome is then unknown, and it is repeated.
    pub attempt_timeout: Duration,
    /// First and longest wait between attempts.
    pub backoff: (Duration, Duration),
    /// The tail is flushed when this much is unflushed …
    pub flush_bytes: usize,
    /// … or when the oldest of it is this old.
    pub flush_interval: Duration,
    /// A log with this many bytes in a flush gets a segment of its own.
    pub flush_log_bytes: usize,
}
