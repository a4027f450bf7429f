//! Who may use the way to the object store now.
//!
//! Uploads (the WAL, flushes) and small reads that others wait for are never held up; they are only counted. What reads old data
//! for consumers yields to them:
//! - it gets what they leave of `network.bandwidth.bytes.per.second`, where that is set: a bucket that uploads may overdraw, and
//!   in which a read must find something;
//! - while anything is being uploaded, only a few of its bytes are on their way at once, so that an upload never shares the way
//!   with more than that.
//!
//! What rewrites old data stands in the same queue for the bucket, and has bounds of its own beside.
//!
//! [`Link`] decides, without I/O or a clock; [`SharedLink`] waits.

use super::Purpose;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Bytes that may be read at once while something is uploaded (beside a read that is larger).
const READ_WHILE_UPLOADING: u64 = 8 << 20;
/// What may be saved up, in time at full rate.
const SAVED: Duration = Duration::from_millis(250);

/// How a request is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Is never held up.
    Urgent,
    /// Reads of old data for consumers.
    Cold,
    /// Rewriting of old data.
    Background,
}

impl Class {
    pub(super) fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Fetch => Self::Cold,
            Purpose::Compaction => Self::Background,
            _ => Self::Urgent,
        }
    }
}

/// Whether a read may begin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    /// Now; it counts from now on.
    Go,
    /// Not before so long.
    After(Duration),
    /// Not before something ends, or goes.
    Later,
}

/// The way to the store.
#[derive(Debug)]
struct Link {
    /// Bytes a second; none where there is no limit.
    rate: Option<f64>,
    /// Bytes that were not used yet; negative where more was.
    balance: f64,
    filled: Option<Instant>,
    uploads: usize,
    cold_bytes: u64,
    /// Who waits, by ticket, in order.
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

impl Link {
    fn new(rate: Option<u64>) -> Self {
        let rate = rate.filter(|rate| *rate > 0).map(|rate| rate as f64);
        let (waiting, next_ticket) = (VecDeque::new(), 0);
        Self { rate, balance: 0.0, filled: None, uploads: 0, cold_bytes: 0, waiting, next_ticket }
    }

    /// Somebody wants to begin.
    fn join(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(ticket);
        ticket
    }

    fn leave(&mut self, ticket: u64) {
        self.waiting.retain(|waiting| *waiting != ticket);
    }

    /// Whether a read of `bytes` bytes may begin; or, not `counted`, something that has bounds of its own.
    fn decide(&mut self, ticket: u64, bytes: u64, counted: bool, now: Instant) -> Decision {
        self.fill(now);
        let crowded = counted && self.cold_bytes > 0 && self.cold_bytes + bytes > READ_WHILE_UPLOADING;
        if self.waiting.front() != Some(&ticket) || (self.uploads > 0 && crowded) {
            return Decision::Later;
        }
        if let Some(rate) = self.rate.filter(|_| self.balance < 0.0) {
            return Decision::After(Duration::from_secs_f64(-self.balance / rate).max(MOMENT));
        }
        self.waiting.pop_front();
        self.cold_bytes += if counted { bytes } else { 0 };
        self.spend(bytes, now);
        Decision::Go
    }

    fn fill(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let since = self.filled.map_or(SAVED, |filled| now.saturating_duration_since(filled));
        self.balance = (self.balance + rate * since.as_secs_f64()).min(rate * SAVED.as_secs_f64());
        self.filled = Some(now);
    }

    fn spend(&mut self, bytes: u64, now: Instant) {
        self.fill(now);
        if self.rate.is_some() {
            self.balance -= bytes as f64;
        }
    }
}

/// The shortest wait: timers tick in milliseconds.
const MOMENT: Duration = Duration::from_millis(1);

/// The way to the store, for all who use it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SharedLink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    changed: Notify,
}

/// Something on its way. Ends when dropped.
#[derive(Debug)]
pub(super) struct OnTheWay {
    shared: Arc<Shared>,
    upload: bool,
    cold_bytes: u64,
}

/// A read that waits for its turn.
struct Ticket<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl SharedLink {
    /// Of so many bytes a second; of no limit where there is none.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self(Arc::new(Shared { link: Mutex::new(Link::new(rate)), changed: Notify::new() }))
    }

    /// An upload begins.
    pub(super) fn upload(&self, bytes: u64) -> OnTheWay {
        let mut link = self.0.link.lock();
        link.uploads += 1;
        link.spend(bytes, Instant::now());
        OnTheWay { shared: self.0.clone(), upload: true, cold_bytes: 0 }
    }

    /// A read that nobody holds up has brought `bytes`.
    pub(super) fn read(&self, bytes: u64) {
        self.0.link.lock().spend(bytes, Instant::now());
    }

    /// Waits until something of `bytes` bytes may begin, where its class is one that waits.
    pub(super) async fn turn(&self, class: Class, bytes: u64) -> Option<OnTheWay> {
        match class {
            Class::Urgent => None,
            Class::Cold => Some(self.wait(bytes, true).await),
            Class::Background => Some(self.wait(bytes, false).await),
        }
    }

    async fn wait(&self, bytes: u64, counted: bool) -> OnTheWay {
        let shared = &*self.0;
        let ticket = Ticket { shared, ticket: shared.link.lock().join() };
        loop {
            let changed = shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on, no change is missed.
            changed.as_mut().enable();
            let decision = shared.link.lock().decide(ticket.ticket, bytes, counted, Instant::now());
            match decision {
                Decision::Go => {
                    let cold_bytes = if counted { bytes } else { 0 };
                    return OnTheWay { shared: self.0.clone(), upload: false, cold_bytes };
                }
                Decision::Later => changed.await,
                Decision::After(wait) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep(wait) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.link.lock().leave(self.ticket);
        // The next in the queue may be able to go.
        self.shared.changed.notify_waiters();
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        let mut link = self.shared.link.lock();
        link.uploads -= usize::from(self.upload);
        link.cold_bytes -= self.cold_bytes;
        drop(link);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::pin::pin;

    const MIB: u64 = 1 << 20;

    async fn cold(link: &SharedLink, bytes: u64) -> OnTheWay {
        link.turn(Class::Cold, bytes).await.expect("it waits for its turn")
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_and_uploads_nothing_waits() {
        let link = SharedLink::new(None);
        let began = Instant::now();
        let mut all = Vec::new();
        for _ in 0..100 {
            all.push(cold(&link, 100 * MIB).await);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_get_what_uploads_leave_of_the_rate() {
        let link = SharedLink::new(Some(10 * MIB));
        let began = Instant::now();
        let mut read = 0;
        for _ in 0..40 {
            // 5 MiB a second are uploaded, at once each time.
            drop(link.upload(MIB));
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                tokio::select! {
                    _ = cold(&link, MIB / 4) => read += MIB / 4,
                    () = tokio::time::sleep_until(until) => {}
                }
            }
        }
        let rate = read as f64 / MIB as f64 / began.elapsed().as_secs_f64();
        assert!((4.5..=5.5).contains(&rate), "{rate} MiB a second");
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_never_wait_however_much_is_read() {
        let link = SharedLink::new(Some(MIB));
        drop(cold(&link, 100 * MIB).await);
        let began = Instant::now();
        let upload = link.upload(100 * MIB);
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(upload);
        drop(cold(&link, 1).await);
        assert!((198..=202).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn while_something_is_uploaded_only_a_few_bytes_are_read_at_once() {
        let link = SharedLink::new(None);
        let upload = link.upload(1);
        let first = cold(&link, 20 * MIB).await;
        let mut second = pin!(cold(&link, 4 * MIB));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let third = cold(&link, 4 * MIB).await;
        let mut fourth = pin!(cold(&link, 1));
        assert!(poll!(&mut fourth).is_pending());
        drop(upload);
        drop((second, third, fourth.await));
    }

    #[tokio::test(start_paused = true)]
    async fn reads_go_in_order_and_one_that_gives_up_holds_up_nobody() {
        let link = SharedLink::new(Some(MIB));
        drop(cold(&link, 10 * MIB).await);
        let mut first = Box::pin(cold(&link, 1));
        let mut second = pin!(cold(&link, 1));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let began = Instant::now();
        drop(first);
        drop(second.await);
        assert!(began.elapsed() <= Duration::from_secs(10));
        assert!(link.0.link.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_uploaded_long_ago_holds_up_nobody() {
        let link = SharedLink::new(Some(10 * MIB));
        for _ in 0..1000 {
            drop(link.upload(9 * MIB));
            sleep(Duration::from_secs(1)).await;
        }
        let began = Instant::now();
        drop(cold(&link, MIB).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_rewrites_old_data_waits_for_the_rate_alone() {
        let link = SharedLink::new(Some(MIB));
        let _upload = link.upload(MIB);
        let began = Instant::now();
        let rewriting = link.turn(Class::Background, 100 * MIB).await;
        assert!(began.elapsed() >= Duration::from_millis(750));
        drop(cold(&link, 1).await);
        assert!((100..=102).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        drop(rewriting);
    }

    #[test]
    fn old_data_for_consumers_is_what_yields() {
        let cold = Purpose::ALL.into_iter().filter(|purpose| Class::of(*purpose) == Class::Cold);
        assert_eq!(cold.collect::<Vec<_>>(), [Purpose::Fetch]);
    }
}
