//! A body that is counted as it passes, and whose end is noted.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// What is known of a body that passes. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Meter {
    bytes: Arc<AtomicU64>,
    ended: Arc<Mutex<Option<Instant>>>,
}

impl Meter {
    /// Bytes that have passed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the last byte passed, if it has.
    pub(super) fn ended(&self) -> Option<Instant> {
        *self.ended.lock()
    }
}

/// A streamed body with a [`Meter`]; `at_end` is called with the bytes that passed when it's dropped.
pub(super) struct Metered {
    body: Incoming,
    meter: Meter,
    at_end: Option<Box<dyn FnOnce(u64) + Send>>,
}

impl Metered {
    pub(super) fn new(body: Incoming, meter: Meter) -> Self {
        if body.is_end_stream() {
            *meter.ended.lock() = Some(Instant::now());
        }
        Self { body, meter, at_end: None }
    }

    pub(super) fn at_end(mut self, at_end: impl FnOnce(u64) + Send + 'static) -> Self {
        self.at_end = Some(Box::new(at_end));
        self
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.meter.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.meter.ended.lock().get_or_insert_with(Instant::now);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end(self.meter.bytes());
        }
    }
}
