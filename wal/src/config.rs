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
    /// W: uploads that may be outstanding, counted from the lowest sequence that isn't durable. What counts is the window
    /// in the incarnation's record, which recovery reads; a smaller one here narrows it.
    pub window: u32,
    /// Bytes that may be in flight to the store. A single larger object goes alone.
    pub inflight_bytes: usize,
    /// Longest a first PUT is waited for before a second one of the same key and bytes is sent. The hedge goes out at the
    /// observed P99 or this, whichever is earlier; never before `hedge_min`.
    pub hedge_max: Duration,
    /// See `hedge_max`.
    pub hedge_min: Duration,
    /// One attempt of a PUT is given up after this long, and a second for each MiB; its outcome is then unknown, and it is repeated.
    pub attempt_timeout: Duration,
    /// First and longest wait between attempts.
    pub backoff: (Duration, Duration),
    /// The tail is flushed when this much is unflushed …
    pub flush_bytes: usize,
    /// … or when the oldest of it is this old.
    pub flush_interval: Duration,
    /// A log with this many bytes in a flush gets a segment of its own.
    pub flush_log_bytes: usize,
    /// A flush whose WAL objects hold blocks of this many bytes on average, in batches of a 32nd of it, commits the objects by
    /// reference in place of writing their bytes again.
    pub flush_adopt_block_bytes: usize,
}

impl Default for WalConfig {
    /// For S3.
    ///
    /// - 20 PUTs a second, 40 at once: at most $263 a month.
    /// - Objects of 8 MiB: a PUT's fixed latency is small against its transfer, and five a second carry 40 MiB/s.
    /// - A window of 128: at 20 PUTs a second a PUT of 3 s is ridden out by 60; above that rate only full objects are cut,
    ///   which `inflight_bytes` bounds long before. It also bounds the fences that a recovery has to write.
    /// - 64 MiB in flight: eight full objects in parallel, more than one connection's worth of bandwidth each.
    /// - A hedge between 50 and 400 ms: S3 answers a small PUT in 15–30 ms, P99 60–200 ms, and one in 10,000 takes over a
    ///   second. Below 50 ms a hedge can't win anything worth its price; a second PUT after 400 ms turns a stall of
    ///   seconds into about half a second.
    /// - An attempt of 10 s: a PUT of 8 MiB that isn't answered by then has most likely lost its connection.
    /// - Attempts no more than a second and a half apart (with jitter): a store that is back is noticed within two seconds.
    /// - Blocks of 128 KiB are large enough to be read where they are: a bulk load is written once, and sorted later. In smaller
    ///   ones a reader of one log would need thousands of GETs a GiB.
    /// - A flush at 500 MiB or 60 s bounds what a recovery has to read; 8 MiB of one log are worth an object of their own.
    fn default() -> Self {
        Self {
            put_rate: Some(20.0),
            put_burst: 40,
            object_bytes: 8 << 20,
            window: 128,
            inflight_bytes: 64 << 20,
            hedge_max: Duration::from_millis(400),
            hedge_min: Duration::from_millis(50),
            attempt_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(50), Duration::from_secs(1)),
            flush_bytes: 500 << 20,
            flush_interval: Duration::from_secs(60),
            flush_log_bytes: 8 << 20,
            flush_adopt_block_bytes: 128 << 10,
        }
    }
}
